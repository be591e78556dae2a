//! What the bindings need of the interpreter and cannot have in safe Rust.
//!
//! The bindings have no unsafe code; what PyO3 offers nothing safe for is here, behind types that make it so:
//! memory of the engine as a Python object with the buffer protocol ([`SharedBuffer`]), a buffer that is another
//! object's ([`BufferOf`]), and methods that the interpreter calls without anything in between ([`prompt`]).

mod of;
pub mod prompt;
mod shared;

pub use of::BufferOf;
pub use shared::SharedBuffer;
