//! Locks, semaphores, events and barriers between processes.
//!
//! Each is one object in shared memory: `new` makes it, `handle` names it, and `open` opens it in
//! another process. Waiting takes a [`Deadline`](crate::Deadline) and ends early, with nothing
//! changed, when a signal arrives. A process may be killed at any instruction. A process that waits
//! for what the dead one held is told ([`LockError::OwnerDied`](crate::error::LockError)); other
//! waiters are not affected.

mod barrier;
mod condition;
mod event;
mod lock;
pub(crate) mod lock_state;
mod rlock;
pub(crate) mod robust_lock;
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

pub(crate) use robust_lock::holder_of;
