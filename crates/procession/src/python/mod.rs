//! Python functions as processes of a Rust program, and Rust functions as processes of a Python program.
//!
//! Both languages use the same engine, so Rust and Python processes belong to one tree. Shared objects outlive
//! any one process, and the death of a process is an error for the others, not a hang.
//!
//! # Python from Rust
//!
//! [`Process::spawn`](Process#method.spawn) starts an interpreter that calls a function of a module. The package
//! `procession` must be installed there, in the same version as this crate.
//!
//! ```no_run
//! use procession::python;
//!
//! # fn main() -> procession::Result<()> {
//! let process = python::Process::<f64>::spawn("statistics", "mean", ([1.0, 2.0, 6.0],))?;
//! assert_eq!(process.join()?, 3.0);
//! # Ok(())
//! # }
//! ```
//!
//! # Rust from Python
//!
//! [`export!`] names functions that a Python program may start with `procession.rust.Process`:
//!
//! ```
//! fn square(n: i64) -> i64 {
//!     n * n
//! }
//!
//! fn main() {
//!     procession::python::export!(square);
//!     procession::init(); // processes that Python starts enter here
//! }
//! ```
//!
//! ```python
//! from procession.rust import Process
//!
//! process = Process("target/release/program", "square", args=(4,))
//! process.start()
//! assert process.result() == 16
//! ```
//!
//! # What travels
//!
//! Plain data: Python's `None`, `bool`, `int`, `float`, `str`, `bytes`, `tuple`, `list`, `dict`, and sets from
//! Python to Rust. Serde maps it as it maps JSON: a struct is a dict, a variant is its name or a dict of its
//! name and content, a `Result` is the dict `{"Ok": ..}` or `{"Err": ..}`. Beyond JSON, bytes are [`Bytes`],
//! tuples stay tuples, keys of a dict may be numbers or tuples, and an int may have as many bits as Rust's
//! integers.
//!
//! As arguments only: a [`Queue`], an [`Event`](crate::Event), a [`Lock`](crate::Lock) or an
//! [`RLock`](crate::RLock). In Python they are objects of its own classes with these names.

mod builder;
mod bytes;
mod codec;
mod export;
mod message;
mod wire;

#[doc(inline)]
pub use crate::__export_to_python as export;
pub use crate::error::Exception;
pub use bytes::Bytes;
pub use codec::PythonCodec;
pub use export::export;
pub(crate) use export::serve;

use crate::channel::queue;
use crate::process::{builder as process_builder, handle};

/// A Python function running in another process.
///
/// The process is a fresh interpreter, in which the package `procession` must be installed in the same version
/// as this crate. It shares no memory with this process except the shared objects in its arguments.
///
/// Dropping a `Process` does not stop it and does not wait for it, unless
/// [`kill_on_drop`](Builder::kill_on_drop) is set. A process outlives its parent unless it is a
/// [`daemon`](Builder::daemon).
///
/// # Examples
/// ```no_run
/// use procession::python;
///
/// # fn main() -> procession::Result<()> {
/// let process = python::Process::<u64>::spawn("math", "factorial", (20,))?;
/// assert_eq!(process.join()?, 2_432_902_008_176_640_000);
///
/// // An exception comes back as an error.
/// let error = python::Process::<u64>::spawn("math", "factorial", (-1,))?.join().unwrap_err();
/// assert_eq!(error.to_string(), "ValueError: factorial() not defined for negative values");
/// # Ok(())
/// # }
/// ```
pub type Process<R> = handle::Process<R, PythonCodec>;

/// Configures and starts a [`Process`].
///
/// In Python the name is `procession.current_process().name`, and the arguments are those of `sys.argv` after the
/// program's name. Python looks for modules in the working directory first, then where `PYTHONPATH` says.
///
/// # Examples
/// ```no_run
/// use procession::python;
///
/// # fn main() -> procession::Result<()> {
/// let process: python::Process<String> = python::Process::builder()
///     .interpreter("venv/bin/python")
///     .env("PYTHONPATH", "scripts")
///     .kill_on_drop(true)
///     .spawn("report", "render", ("monthly", 2026))?;
/// println!("{}", process.join()?);
/// # Ok(())
/// # }
/// ```
pub type Builder = process_builder::Builder<PythonCodec>;

/// Like [`procession::Queue`](crate::Queue), for messages of plain data that Python reads and writes too.
///
/// In Python it is a `procession.Queue`. Pass it as an argument to [`Process::spawn`](Process#method.spawn), to an
/// [exported](export!) function, or to processes of this program. A queue that is [closed](Queue::close) and empty
/// raises `EOFError` in Python.
///
/// A message that does not decode as a `T` is an error for its receiver, and is removed; the queue continues.
/// That includes pickles, which Python sends for instances of classes.
///
/// # Examples
/// ```no_run
/// use procession::python;
///
/// # fn main() -> procession::Result<()> {
/// let results: python::Queue<Vec<f64>> = python::Queue::new()?;
/// let worker = python::Process::<()>::spawn("worker", "main", (results.clone(),))?;
/// println!("{:?}", results.get()?);
/// worker.join()?;
/// # Ok(())
/// # }
/// ```
pub type Queue<T> = queue::Queue<T, PythonCodec>;

/// An iterator over the messages of a [`Queue`].
pub type Iter<'a, T> = queue::Iter<'a, T, PythonCodec>;
