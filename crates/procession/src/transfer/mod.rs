//! How values, functions and shared objects reach another process.

pub(crate) mod call;
pub(crate) mod closure;
pub(crate) mod codec;
pub(crate) mod context;
pub(crate) mod function;
pub(crate) mod panic;
pub(crate) mod shared;
