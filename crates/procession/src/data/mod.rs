//! Values in shared memory.

pub(crate) mod array;
pub(crate) mod atomic;
pub(crate) mod plain;
pub(crate) mod plain_macro;
pub(crate) mod serialized_cell;
pub(crate) mod value;
