//! Locks, semaphores, events, conditions and barriers.

pub mod barrier;
pub mod condition;
pub mod event;
pub mod fastcall;
pub mod lock;
pub mod locking;
pub mod semaphore;
