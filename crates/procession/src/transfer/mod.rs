//! How values, functions and shared objects reach another process.
//!
//! [`codec`] turns values into bytes. [`call`] is a call as bytes: a request and its response. [`function`] says which
//! functions can be called that way, and [`closure`] gives them captures. [`context`] attaches the shared objects that
//! a value refers to, which [`shared`] serialises. [`worker_state`] is the state that tasks of a pool reach.

pub(crate) mod call;
pub(crate) mod closure;
pub(crate) mod codec;
pub(crate) mod context;
pub(crate) mod function;
pub(crate) mod panic;
pub(crate) mod shared;
pub(crate) mod worker_state;
