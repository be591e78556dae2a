//! The types that are generic over the codec of their messages.
//!
//! Programs rarely name them, because each has a name for each codec:
//!
//! | generic over the codec | between Rust processes | between Rust and Python (feature `python`) |
//! |---|---|---|
//! | [`Queue<T, C>`] | [`procession::Queue<T>`](crate::Queue) | `procession::python::Queue<T>` |
//! | [`Queue<T, C, Joinable>`](Queue) | [`procession::JoinableQueue<T>`](crate::JoinableQueue) | |
//! | [`Process<R, C>`] | [`procession::Process<R>`](crate::Process) | `procession::python::Process<R>` |
//! | [`Builder<C>`] | [`procession::Builder`](crate::Builder) | `procession::python::Builder` |
//!
//! The codecs are [`RustCodec`] and `procession::python::PythonCodec`. A function for both takes the generic type:
//!
//! ```
//! use procession::PutError;
//! use procession::codec::{Codec, Queue};
//!
//! fn count<C: Codec>(numbers: &Queue<u32, C>, upto: u32) -> Result<(), PutError<u32>> {
//!     (0..upto).try_for_each(|number| numbers.put(number))
//! }
//!
//! # fn main() -> procession::Result<()> {
//! let numbers = procession::Queue::new()?;
//! count(&numbers, 3)?;
//! assert_eq!(numbers.len(), 3);
//! # Ok(())
//! # }
//! ```

pub use crate::channel::joinable::{Joinable, NotJoinable, QueueKind};
pub use crate::channel::queue::Queue;
pub use crate::process::builder::Builder;
pub use crate::process::handle::Process;
pub use crate::transfer::codec::{Codec, RustCodec};
