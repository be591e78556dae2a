//! What all classes of the module are built with.

pub mod blocking;
pub mod errors;
pub mod fd;
pub mod late_init;
