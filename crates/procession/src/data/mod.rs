//! Values in shared memory, read and written in place.
//!
//! [`plain`] says which types can lie there; [`derive`] is for the code of `#[derive(Plain)]`.

pub(crate) mod array;
pub(crate) mod atomic;
pub mod derive;
pub(crate) mod plain;
pub(crate) mod value;
