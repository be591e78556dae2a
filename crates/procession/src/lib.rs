//! Process-based parallelism: processes, pools, queues, pipes and shared values that survive
//! each other.
//!
//! # Hello, world!
//!
//! ```
//! use procession::Pool;
//!
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! fn main() -> procession::Result<()> {
//!     procession::init(); // children enter here
//!     let pool = Pool::new(3)?;
//!     assert_eq!(pool.map(square, [1, 2, 3, 4, 5])?, [1, 4, 9, 16, 25]);
//!     Ok(())
//! }
//! ```
//!
//! A program calls [`init()`] first in `main`. Nothing else is needed: no build script, no registration, no
//! files and no server. Tests use [`test_support!`] instead.
//!
//! # Processes
//!
//! [`Process::spawn`] runs a function in a new process, and [`Process::join`] returns its result. The process
//! is a fresh run of this program that enters at [`init()`]. The function is a plain `fn` whose arguments and
//! result are owned (no references) and implement serde's traits. Pass several arguments as a tuple, and none
//! as `()`. Pass paths that may not be UTF-8 as `OsString`.
//!
//! ```
//! use procession::Process;
//!
//! fn longest(words: Vec<String>, at_least: usize) -> Option<String> {
//!     let long = words.into_iter().filter(|word| word.len() >= at_least);
//!     long.max_by_key(|word| word.len())
//! }
//!
//! # fn main() -> procession::Result<()> {
//! # procession::init();
//! let words = ["many", "processes"].map(str::to_owned).to_vec();
//! let process = Process::spawn(longest, (words, 5))?;
//! assert_eq!(process.join()?.as_deref(), Some("processes"));
//! # Ok(())
//! # }
//! ```
//!
//! A closure without captures is rejected at run time, because the crate cannot see what it captures. A closure
//! with captures does not compile:
//!
//! ```compile_fail
//! let offset = 5;
//! procession::Process::spawn(move |n: u64| n + offset, 1); // captures: does not compile
//! ```
//!
//! [`closure!`] names the captured values, and [`spawn!`] starts a process with such a closure:
//!
//! ```
//! # fn main() -> procession::Result<()> {
//! # procession::init();
//! let offset = 5;
//! let process = procession::spawn!(|offset: u64| -> u64 { 1 + offset })?;
//! assert_eq!(process.join()?, 6);
//! # Ok(())
//! # }
//! ```
//!
//! [`Process::fork`] runs any closure in a copy of this process; the caller must follow the rules of `fork`.
//! [`Process::builder`] sets the name, environment, directory, streams and user, and whether the process dies
//! with its parent.
//!
//! ## How they end
//!
//! A panic comes back as an error with its message and backtrace ([`JoinError::Panicked`]), a signal as
//! [`JoinError::Killed`], and an exit as [`JoinError::Exited`] with its code.
//!
//! ```
//! use procession::{JoinError, Process};
//!
//! fn crash() {
//!     std::process::abort();
//! }
//!
//! # fn main() -> procession::Result<()> {
//! # procession::init();
//! match Process::spawn(crash, ())?.join() {
//!     Err(JoinError::Killed { signal, .. }) => assert_eq!(signal, 6), // SIGABRT
//!     other => panic!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Ctrl-C needs no handling: the workers of pools and [daemons](Builder::daemon) die with this process, however
//! it ends.
//!
//! # Pools
//!
//! A [`Pool`] keeps worker processes and gives them tasks. [`Pool::map`](PoolHandle::map) returns all results in
//! order, [`Pool::imap`](PoolHandle::imap) and [`Pool::imap_unordered`](PoolHandle::imap_unordered) yield results
//! while others are computed, and [`Pool::submit`](PoolHandle::submit) returns a [`Task`] to wait for later.
//! [`Pool::with_timeout`](PoolHandle::with_timeout) and [`Pool::with_retries`](PoolHandle::with_retries) set options
//! for some of the tasks. Workers may keep [state](PoolBuilder::state) of any type, and tasks of a
//! [scope](PoolHandle::scope) may borrow their arguments. When a worker dies, its task fails with
//! [`TaskError::WorkerDied`] and the worker is replaced; other tasks are not affected.
//!
//! ```
//! use procession::{Pool, TaskError};
//! use std::time::Duration;
//!
//! fn parse(text: String) -> Result<u32, String> {
//!     assert!(text != "13", "an unlucky number");
//!     text.parse().map_err(|error| format!("{text:?}: {error}"))
//! }
//!
//! # fn main() -> procession::Result<()> {
//! # procession::init();
//! let pool = Pool::builder().workers(2).task_timeout(Duration::from_secs(60)).build()?;
//! let texts = ["1", "two", "13"].map(str::to_owned);
//! let results: Vec<_> = pool.imap(parse, texts)?.collect();
//! assert!(matches!(results[0], Ok(Ok(1))));
//! assert!(matches!(&results[1], Ok(Err(_)))); // an error of its own, which serde has to carry
//! assert!(matches!(&results[2], Err(TaskError::Panicked(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # What processes share
//!
//! | to | use |
//! |---|---|
//! | pass messages, many to many | [`Queue`], [`JoinableQueue`] |
//! | pass messages between two sides | [`pipe()`], [`channel()`] |
//! | pass large arrays without a copy | [`Loan`], through any of these |
//! | wait for the first of several | [`Select`], [`select!`] |
//! | share numbers, and [plain structs](Plain) | [`Value`], [`Array`] |
//! | share a value of any type | [`Mutex`], [`RwLock`], [`OnceLock`] |
//! | do something once | [`Once`] |
//! | take turns | [`Lock`], [`RLock`], [`Semaphore`] |
//! | wait for each other | [`Condvar`], [`Event`], [`Barrier`] |
//!
//! Pass these objects to a process as arguments. All but the ends of a pipe can also be sent in messages of a
//! queue or pipe. An object lives as long as a process or a message holds it. Serialising one in any other way
//! fails with [`Error::NotSpawning`]. Clones refer to the same object.
//!
//! The objects outlive any one process, and a process killed at any point does not block the others. The next
//! process to take its lock gets [`LockError::OwnerDied`]. A message it was still writing is never seen; a
//! message it had put is delivered.
//!
//! ## Messages
//!
//! A [`Queue`] is unbounded or [bounded](Queue::bounded); putting into a full bounded queue waits for room. A
//! queue has no two sides, so it ends only when some process [closes](Queue::close) it: then getting fails once
//! the queue is empty. A pipe ends like a channel of crossbeam: when the last sender is gone, however its
//! process died, receiving fails with [`GetError::Closed`], and likewise in the other direction.
//!
//! ```
//! use procession::{Process, Sender};
//!
//! fn count(upto: u32, sender: Sender<u32>) {
//!     (1..=upto).for_each(|n| sender.send(n).unwrap());
//! }
//!
//! # fn main() -> procession::Result<()> {
//! # procession::init();
//! let (sender, receiver) = procession::channel()?;
//! let processes = [3, 4].map(|upto| Process::spawn(count, (upto, sender.clone())));
//! drop(sender); // those of the processes are left
//! let sum: u32 = receiver.iter().map(|number| number.unwrap()).sum();
//! assert_eq!(sum, 6 + 10);
//! # for process in processes { process?.join()?; }
//! # Ok(())
//! # }
//! ```
//!
//! [`select!`] waits for the first of several queues, pipes and processes.
//!
//! ## Values
//!
//! A [`Value`] or [`Array`] of numbers or [plain structs](Plain) lies in shared memory as it is. Processes
//! read and write it in place, under its lock or [atomically](Value::atomic). A value with pointers goes into a
//! [`Mutex`], which keeps it serialised. Each change is one step, so a process that dies while holding the lock
//! leaves the old value.
//!
//! # Waiting
//!
//! Each call that waits has a variant with a timeout and one that does not wait. Signals do not interrupt them.
//! With the feature `async` each also has a future, which works with any executor:
//! [`get_async`](Queue#method.get_async), `recv_async`, `put_async`, `send_async`, `join_async`. Dropping a
//! future loses nothing.
//!
//! # Python
//!
//! With the feature `python`, the module `python` starts Python functions as processes, lets Python programs
//! start functions of this program, and shares queues with them.
//!
//! # Memory
//!
//! All shared objects of a tree of processes lie in one unnamed memory, which is freed when the last process
//! ends. [`memory_usage`] reports its size, and [`set_memory_limit`] bounds it. An allocation over the limit
//! fails with an error, and a message that does not fit comes back to the sender.
//!
//! # More
//!
//! The folder `examples` has a tour, a web scraper, crash isolation of a C library, checksums of a large file,
//! a word count, and a Monte Carlo simulation with a progress bar. With the feature `python`, Rust and Python
//! programs run each other's functions and share queues.
//!
//! How the crate compares with others, why it is as it is, and what has changed: see
//! [comparison](_documentation::comparison), [design](_documentation::design) and
//! [changelog](_documentation::changelog).
//!
//! # Where it runs
//!
//! Linux 5.4 or newer, with Rust 1.90 or newer. All processes of a tree must use the same version of this
//! crate; a process with another version is refused. [Platforms and limits](_documentation::platforms) has the
//! details.

#![forbid(unsafe_code)]

// From the bottom up: error; transfer; sync; data and reactor; channel and process; select, pool, python and codec;
// init. A module uses only modules below it, and `tests/floors.rs` checks that.
mod channel;
pub mod codec;
mod data;
mod error;
mod init;
mod memory;
mod pool;
mod process;
#[cfg(feature = "python")]
pub mod python;
#[cfg(feature = "async")]
mod reactor;
mod select;
mod sync;
mod transfer;

pub use channel::loan::{Loan, Received};
pub use channel::pipe::{Connection, Receiver, Sender, channel, pipe};
pub use channel::queue::Iter;
pub use channel::{JoinableQueue, Queue};
pub use data::array::{Array, ArrayGuard, ArraySlice};
pub use data::atomic::{AtomicFlag, AtomicPrimitive};
#[doc(hidden)]
pub use data::derive as __derive;
pub use data::plain::Plain;
pub use data::value::{Value, ValueGuard};
pub use error::{
    BarrierError, Error, GetError, JoinError, LockError, Panic, PutError, Result, TaskError,
    TooMany,
};
#[doc(hidden)]
pub use init::enter_test;
pub use init::init;
pub use memory::{MemoryUsage, memory_usage, set_memory_limit, trim_memory};
pub use pool::{
    Imap, ImapUnordered, MapUnordered, Pool, PoolBuilder, PoolHandle, Scope, ScopedTask, SendAs,
    Task,
};
pub use process::{Builder, Process, Stdio, name as process_name};
#[doc(inline)]
pub use procession_engine::InPlace;
pub use procession_engine::process::child::{ForkSafe, PreExec};
#[doc(hidden)]
pub use select::take_if_ready;
pub use select::{Select, SelectRecv, SelectSend};
pub use sync::barrier::{Barrier, BarrierWaitResult};
pub use sync::condvar::{Condvar, CondvarGuard};
pub use sync::event::Event;
pub use sync::guard_error::GuardError;
pub use sync::lock::{Lock, LockGuard};
pub use sync::mutex::{Mutex, MutexGuard};
pub use sync::once::{Once, OnceLock};
pub use sync::rlock::{RLock, RLockGuard};
pub use sync::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use sync::semaphore::{Permit, Semaphore};
pub use transfer::closure::Closure;
pub use transfer::function::{Function, TaskFunction};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

/// Longer pages: how the crate compares, why it is as it is, where it runs, and what has changed.
///
/// They are files in the folder of the crate. This module is in the documentation alone.
// The first definition of a link counts: what is defined here stands in for the name of a file.
#[cfg(doc)]
pub mod _documentation {
    /// [Unreleased]: #unreleased
    #[doc = include_str!("../CHANGELOG.md")]
    pub mod changelog {}

    #[doc = include_str!("../COMPARE.md")]
    pub mod comparison {}

    /// [GLOSSARY.md]: crate::_documentation::glossary
    #[doc = include_str!("../DESIGN.md")]
    pub mod design {}

    #[doc = include_str!("../GLOSSARY.md")]
    pub mod glossary {}

    #[doc = include_str!("../PLATFORMS.md")]
    pub mod platforms {}
}
