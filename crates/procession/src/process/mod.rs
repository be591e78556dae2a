//! Functions that run in processes of their own.

pub(crate) mod builder;
mod fork;
#[cfg(feature = "async")]
mod futures;
pub(crate) mod handle;
pub(crate) mod init;
mod serve;
mod spawn_macro;
mod stdio;

use crate::transfer::codec::RustCodec;

#[cfg(feature = "python")]
pub(crate) use builder::{put_message, reserve};
pub use serve::name;
#[cfg(feature = "python")]
pub(crate) use serve::set_process_name;
pub(crate) use serve::{Respond, serve};
pub use stdio::Stdio;

/// A function running in another process.
///
/// The process is a fresh run of this program that enters at [`init`](crate::init()). It shares no memory with
/// this one except the shared objects in its arguments. Arguments and result are carried by serde.
///
/// A process started with [`Process::fork`] is a copy of this one and runs a closure.
///
/// Dropping a `Process` does not stop it and does not wait for it, unless
/// [`kill_on_drop`](Builder::kill_on_drop) is set. The process continues, its result is discarded, and it is
/// reaped when a later process is started. A leaked `Process` (`std::mem::forget`) continues as well, is never
/// killed, and stays a zombie until this process ends. A process outlives its parent unless it is a
/// [`daemon`](Builder::daemon).
///
/// # Examples
/// ```
/// use procession::Process;
///
/// fn divide(a: i64, b: i64) -> i64 {
///     a / b
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     assert_eq!(Process::spawn(divide, (6, 3))?.join()?, 2);
///
///     // A panic comes back as an error.
///     let error = Process::spawn(divide, (1, 0))?.join().unwrap_err();
///     assert!(error.to_string().contains("attempt to divide by zero"));
///     Ok(())
/// }
/// ```
pub type Process<R> = handle::Process<R, RustCodec>;

/// Configures and starts a [`Process`].
///
/// # Examples
/// ```
/// use procession::Process;
///
/// fn where_am_i() -> (String, String) {
///     let directory = std::env::current_dir().unwrap();
///     (directory.display().to_string(), std::env::var("GREETING").unwrap())
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let process = Process::builder()
///         .name("scout")
///         .current_dir("/")
///         .env("GREETING", "hello")
///         .kill_on_drop(true)
///         .spawn(where_am_i, ())?;
///     assert_eq!(process.name(), "scout");
///     assert_eq!(process.join()?, ("/".to_owned(), "hello".to_owned()));
///     Ok(())
/// }
/// ```
pub type Builder = builder::Builder<RustCodec>;
