//! Values in shared memory, read and written in place.
//!
//! [`plain`] says which types can lie there, and [`plain_macro`] declares more of them.

pub(crate) mod array;
pub(crate) mod atomic;
pub(crate) mod plain;
pub(crate) mod plain_macro;
pub(crate) mod value;
