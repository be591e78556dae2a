//! What the bindings need from the interpreter and cannot have in safe Rust.
//!
//! The bindings (`crates/python`) contain no unsafe code. Where PyO3 offers nothing safe, the code is here, behind types
//! that make it safe:
//!
//! * [`BorrowedBuffer`]: memory of the engine as a Python object with the buffer protocol;
//! * [`BufferProxy`]: the buffer of another object, and [`WritableOnRequest`]: one that its receivers may write to;
//! * [`fastcall`]: methods that the interpreter calls without PyO3's layer in between;
//! * [`in_a_moment`]: a call that the main thread makes between two bytecodes;
//! * [`is_equal`]: whether a buffer that may change has certain bytes; [`is_made_by_python`]: whether a class is one of a
//!   `class` statement;
//! * [`environment_of_same_hashes`]: starts interpreters with the same hash secret.

mod buffers;
pub mod fastcall;
mod hashing;
mod interpreter;

pub use buffers::{BorrowedBuffer, BufferProxy, WritableOnRequest};
pub use hashing::{Environment, environment_of_same_hashes};
pub use interpreter::{in_a_moment, is_equal, is_made_by_python};
