//! What the bindings need of the interpreter and cannot have in safe Rust.
//!
//! The bindings have no unsafe code; what PyO3 offers nothing safe for is here, behind types that make it so:
//! memory of the engine as a Python object with the buffer protocol ([`SharedBuffer`]), a buffer that is another
//! object's ([`BufferOf`]) or writable on request ([`Thawed`]), methods that the interpreter calls without anything in
//! between ([`prompt`]), calls that it makes when it comes to it ([`in_a_moment`]), and the secret of its hashes
//! ([`environment_of_same_hashes`]).

mod compare;
mod hashing;
mod kinds;
mod later;
mod of;
pub mod prompt;
mod shared;
mod thawed;

pub use compare::is_equal;
pub use hashing::{Environment, environment_of_same_hashes};
pub use kinds::is_made_by_python;
pub use later::in_a_moment;
pub use of::BufferOf;
pub use shared::SharedBuffer;
pub use thawed::Thawed;
