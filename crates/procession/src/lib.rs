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
//! It takes [`init()`] as the first thing in `main`, and nothing else: no build script, no registration, no
//! files, no server. In tests [`test_support!`] takes its place.
//!
//! # Processes
//!
//! [`Process::spawn`] runs a function in a process of its own, and [`Process::join`] gives what it
//! returned. The process is a fresh run of this program that enters at [`init()`]. Any plain
//! function will do whose arguments and result are owned (no references) and can be carried by serde. Several arguments
//! are a tuple, and none is `()`. Paths that may not be UTF-8 go as `OsString`.
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
//! A bare closure is refused, since nobody can see what it captures; one that captures does not even compile:
//!
//! ```compile_fail
//! let offset = 5;
//! procession::Process::spawn(move |n: u64| n + offset, 1); // captures: does not compile
//! ```
//!
//! [`closure!`] makes one that says what it captures, and [`spawn!`] runs one at once:
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
//! [`Process::fork`] runs any closure, in a copy of this process, for those who accept the rules of `fork`.
//! [`Process::builder`] sets name, environment, directory, streams, user, and whether it dies with its parent.
//!
//! ## How they end
//!
//! A panic comes back as an error with its message and backtrace ([`JoinError::Panicked`]), a
//! signal as that signal ([`JoinError::Killed`]), an exit as its code ([`JoinError::Exited`]).
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
//! Ctrl-C needs nothing: pools' workers and [daemons](Builder::daemon) are gone with this process, however it ends.
//!
//! # Pools
//!
//! A [`Pool`] keeps processes at hand and gives them work. [`Pool::map`] returns all results in their order,
//! [`Pool::imap`] and [`Pool::imap_unordered`] hand them out while others are computed, and [`Pool::submit`]
//! gives a [`Task`] to wait for later. Workers may keep a [state](PoolBuilder::state) of any type, and in a
//! [scope](Pool::scope) arguments may be borrowed. A worker that dies fails the task it held, with
//! [`TaskError::WorkerDied`], and is replaced; nothing else notices.
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
//! | share numbers, and [plain structs](plain!) | [`Value`], [`Array`] |
//! | share a value of any type | [`Mutex`], [`RwLock`], [`OnceLock`] |
//! | do something once | [`Once`] |
//! | take turns | [`Lock`], [`RLock`], [`Semaphore`] |
//! | wait for each other | [`Condvar`], [`Event`], [`Barrier`] |
//!
//! All of them are passed to a process as arguments, and all but the ends of a pipe in messages of a queue
//! or pipe as well: an object lives for as long as a process or a message holds it. Sent any other way, they
//! are refused with [`Error::NotSpawning`]. Clones are the same object.
//!
//! They outlive any one process. One that is killed in the middle of anything leaves the others
//! going on: a lock it held is given to the next with [`LockError::OwnerDied`], a message it was
//! writing is never seen, one that it had put is.
//!
//! ## Messages
//!
//! A [`Queue`] is without a bound, or [bounded](Queue::bounded): then putting waits for room. It has no two sides, so it
//! does not end by itself: somebody [closes](Queue::close) it, and getting is an error once all is gone. The two
//! sides of a pipe end like a channel of crossbeam: when the last sender is gone, in whatever process and by
//! whatever death, receiving is [`GetError::Closed`], and the other way round.
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
//! A [`Value`] or [`Array`] of numbers or [plain structs](plain!) lies in shared memory as it is, and is read and
//! written in place: under its lock, or [atomically](Value::atomic). What has pointers goes under a [`Mutex`], which
//! holds it serialised; each change is one step, so a process that dies under the lock leaves the value as it was.
//!
//! # Waiting
//!
//! Calls that wait have a twin with a timeout and one that does not wait; signals do not end them. With the feature
//! `async` they have a future as well, of any executor: [`get_async`](Queue#method.get_async), `recv_async`,
//! `put_async`, `send_async`, `join_async`. Dropping one loses nothing.
//!
//! # Python
//!
//! With the feature `python`, the module `python` starts Python functions as processes, lets Python programs start
//! functions of this one, and shares queues with them.
//!
//! # Memory
//!
//! Everything shared lies in one memory of the tree of processes, which has no name and is gone with the last
//! of them. [`memory_usage`] says how much there is, and [`set_memory_limit`] how much may be: what would go beyond
//! fails with an error, and what was to be sent is given back.
//!
//! # More
//!
//! The folder `examples` has a tour, a web scraper, crash isolation of a C library, checksums of a large file, a word
//! count, and a Monte Carlo simulation with a progress bar. With the feature `python`, programs in Rust and in Python run
//! each other's functions and share queues.
//!
//! # Where it runs
//!
//! On Linux 5.4 or newer, with Rust 1.90 or newer. All processes of a tree need the same version of this crate;
//! another one is refused.

#![forbid(unsafe_code)]

mod channel;
mod data;
mod error;
mod memory;
mod pool;
mod process;
#[cfg(feature = "python")]
pub mod python;
mod sync;
mod transfer;

pub use bytemuck;
pub use channel::joinable::JoinableQueue;
pub use channel::loan::{Loan, Received};
pub use channel::pipe::{Connection, Receiver, Sender, channel, pipe};
pub use channel::queue::{Iter, Queue};
#[doc(hidden)]
pub use channel::select::take_if_ready;
pub use channel::select::{Select, SelectRecv, SelectSend};
pub use data::array::{Array, ArrayGuard, ArraySlice};
pub use data::atomic::{AtomicFlag, AtomicPrimitive};
pub use data::plain::Plain;
#[doc(hidden)]
pub use data::plain_macro::{Fields, FieldsMut};
pub use data::value::{Value, ValueGuard};
pub use error::{
    BarrierError, Error, GetError, JoinError, LockError, Panic, PutError, Result, TaskError,
    TooMany,
};
pub use memory::{MemoryUsage, memory_usage, set_memory_limit, trim_memory};
pub use pool::{
    Imap, ImapUnordered, MapUnordered, Pool, PoolBuilder, Scope, ScopedTask, SendAs, Task,
    TaskOptions,
};
#[doc(hidden)]
pub use process::init::enter_test;
pub use process::init::init;
pub use process::{Builder, Process, Stdio, name as process_name};
pub use procession_engine::process::child::{ForkSafe, PreExec};
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
