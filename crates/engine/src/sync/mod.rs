//! Locks, semaphores, events: what processes wait for each other with.
//!
//! Each is one object in shared memory, made with `new`, named by `handle`, opened elsewhere with
//! `open`. Waiting takes a [`Deadline`](crate::Deadline) and ends early, with nothing changed, when a
//! signal arrives. A process may be killed at any instruction: who waits for what it held is told
//! ([`LockError::OwnerDied`](crate::error::LockError)), who waits beside it is not concerned.

mod barrier;
mod condition;
mod event;
pub(crate) mod eventcount;
mod lock;
pub(crate) mod lock_state;
mod rlock;
mod robust_lock;
mod rwlock;
mod semaphore;
pub(crate) mod spin;
mod thread;

pub use barrier::{Barrier, BarrierError, OpenGuard, Place, WaitOutcome};
pub use condition::{Condition, Ticket, Turns};
pub use event::{Event, Since};
pub use lock::{Acquired, Lock};
pub use rlock::RLock;
pub use rwlock::{ReadHold, RwLock};
pub use semaphore::Semaphore;

pub(crate) use robust_lock::{holder_of, keep_held};
