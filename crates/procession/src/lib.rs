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
//! # Processes
//!
//! [`Process::spawn`] runs a function in a process of its own, and [`Process::join`] gives what it
//! returned. The process is a fresh run of this program that enters at [`init()`]. Any plain
//! function will do whose arguments and result serde can carry; nothing has to be registered.
//! A closure of Rust is refused, since nobody can see what it captures:
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
//!
//! A panic comes back as an error with its message and backtrace ([`JoinError::Panicked`]), a
//! signal as that signal ([`JoinError::Killed`]), an exit as its code ([`JoinError::Exited`]).
//!
//! [`Pool`] keeps processes at hand and gives them work: [`Pool::map`], [`Pool::imap`],
//! [`Pool::imap_unordered`], [`Pool::apply`], [`Pool::apply_async`].
//!
//! # What processes share
//!
//! | to | use |
//! |---|---|
//! | pass messages, many to many | [`Queue`], [`JoinableQueue`] |
//! | pass messages, one to one | [`pipe()`], [`one_way()`] |
//! | pass large arrays without a copy | [`Loan`], through any of these |
//! | share numbers, and [plain structs](plain!) | [`Value`], [`Array`] |
//! | share a value of any type | [`Mutex`], [`RwLock`], [`OnceLock`] |
//! | do something once | [`Once`] |
//! | wait for the first of several | [`Select`], [`select!`] |
//! | take turns | [`Lock`], [`RLock`], [`Semaphore`] |
//! | wait for each other | [`Condvar`], [`Event`], [`Barrier`] |
//!
//! All of them are passed to a process as arguments, and all but the ends of a pipe in messages of a queue
//! or pipe as well: an object lives for as long as a process or a message holds it. Sent any other way, they
//! are refused with [`Error::NotSpawning`].
//!
//! They outlive any one process. One that is killed in the middle of anything leaves the others
//! going on: a lock it held is given to the next with [`LockError::OwnerDied`], a message it was
//! writing is never seen, one that it had put is.
//!
//! # Python
//!
//! With the feature `python`, the module `python` starts Python functions as processes, lets Python programs start
//! functions of this one, and shares queues with them.
//!
//! # Memory
//!
//! [`memory_usage`] says how much of it is shared, and [`set_memory_limit`] how much may be.
//!
//! # In tests
//!
//! [`test_support!`] lets the `#[test]` functions of an executable start processes.
//!
//! # Blocking
//!
//! Calls that wait have a twin with a timeout and one that does not wait. Signals do not end them.

#![forbid(unsafe_code)]

mod array;
mod atomic;
mod barrier;
mod call;
mod closure;
mod codec;
mod condvar;
mod error;
mod event;
mod function;
#[cfg(feature = "async")]
mod futures;
mod guard_error;
mod handing;
mod init;
mod joinable;
mod loan;
mod lock;
mod memory;
mod mutex;
mod once;
mod panic;
mod pipe;
mod place;
mod plain;
mod plain_macro;
mod pool;
mod process;
#[cfg(feature = "python")]
pub mod python;
mod queue;
#[cfg(feature = "async")]
mod reactor;
mod rlock;
mod rwlock;
mod select;
mod semaphore;
mod shared;
mod value;

pub use array::{Array, ArrayGuard, ArraySlice};
pub use atomic::{AtomicFlag, AtomicPrimitive};
pub use barrier::{Barrier, BarrierWaitResult};
pub use bytemuck;
pub use closure::Closure;
pub use condvar::{Condvar, CondvarGuard};
pub use error::{
    BarrierError, Error, GetError, JoinError, LockError, Panic, PutError, Result, TaskError,
    TooMany,
};
pub use event::Event;
pub use function::Function;
pub use guard_error::GuardError;
#[doc(hidden)]
pub use init::enter_test;
pub use init::init;
pub use joinable::JoinableQueue;
pub use loan::{Loan, Received};
pub use lock::{Lock, LockGuard};
pub use memory::{MemoryUsage, memory_usage, set_memory_limit};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceLock};
pub use pipe::{Connection, Receiver, Sender, one_way, pipe};
pub use plain::Plain;
#[doc(hidden)]
pub use plain_macro::{Fields, FieldsMut};
pub use pool::{Imap, ImapUnordered, Pool, PoolBuilder, Task};
pub use process::{Builder, Process, Stdio, name as process_name};
pub use procession_engine::process::child::{ForkSafe, PreExec};
pub use queue::{Iter, Queue};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[doc(hidden)]
pub use select::take_if_there;
pub use select::{Select, SelectRecv, SelectSend};
pub use semaphore::{Permit, Semaphore};
pub use value::{Value, ValueGuard};
