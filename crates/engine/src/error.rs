//! Errors, one small type for each kind of call.

use std::io;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Making, opening or growing something failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is not enough memory. Nothing was taken.
    #[error(
        "out of shared memory: {asked} bytes asked, {left} left under {limit}; free some or raise the limit"
    )]
    OutOfMemory {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that were still available.
        left: u64,
        /// The limit that was reached, and how to raise it.
        limit: String,
    },
    /// The kernel, or a filter around this process, refuses a call that the engine needs.
    #[error(
        "this system refuses {call} (errno {errno}); Procession needs Linux 5.4 or later and a sandbox that allows the call"
    )]
    MissingCall {
        /// The system call.
        call: &'static str,
        /// The error it returned.
        errno: i32,
    },
    /// A call of the operating system failed.
    #[error("could not {what}: {source}")]
    Os {
        /// What was being done.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The program closed the descriptor of its shared memory, and the engine could not recover it.
    #[error(
        "this process closed the descriptor of its shared memory (number {number}), and no other process of its tree has it to give it back; existing objects keep working, here and in processes that it forks, but no other program can join it: leave that descriptor open, or make the first queue, lock or value after closing the others"
    )]
    MemoryClosed {
        /// The number that the descriptor had.
        number: i32,
    },
    /// The handle names something in the memory of another process tree.
    #[error(
        "this handle belongs to another process tree; pass it to a process started from the one that made it"
    )]
    ForeignHandle,
    /// The object behind the handle is gone.
    #[error("this handle is stale: nobody held the object any more and it was freed")]
    StaleHandle,
    /// The handle names an object of another kind.
    #[error("this handle names an object of the kind {found}, not {wanted}")]
    WrongKind {
        /// The kind that was to be opened.
        wanted: &'static str,
        /// The kind that it is.
        found: &'static str,
    },
    /// The bytes are not a handle.
    #[error("these bytes are no handle")]
    BadHandle,
    /// The shared memory contains an impossible value.
    #[error(
        "the shared memory of this process tree is damaged: one of its processes wrote where it should not"
    )]
    Damaged,
    /// Every entry of the process table, or every segment, is in use.
    #[error("no free {0} left in the shared memory of this process tree")]
    TableFull(&'static str),
    /// The shared memory has the layout of another version of the engine.
    #[error(
        "the shared memory has layout {found}, this engine speaks layout {ours}; use one version of Procession in all processes of a tree"
    )]
    Version {
        /// The layout of the memory.
        found: u32,
        /// The layout of this engine.
        ours: u32,
    },
    /// The process that started this one uses another version of the engine.
    #[error(
        "this process was started by version {found} of Procession and has version {ours} in it; use one version of Procession in all processes of a tree"
    )]
    Release {
        /// The version of the process that started this one.
        found: String,
        /// The version of this engine.
        ours: &'static str,
    },
    /// A program with rights that its starter may lack was to be started as a child, or is one.
    #[error(
        "this program has rights that its starter may lack (it is setuid or setgid, or its file has capabilities), so it accepts no requests and no memory from the process that starts it, and cannot be started anew as a child; its own forked children (in Rust Process::fork) can be, and so can other programs"
    )]
    Elevated,
    /// This process was forked, and does not own what its parent had open.
    #[error(
        "this process does not hold the object, which its parent had open when it was forked: {0}"
    )]
    NotInherited(&'static str),
    /// The entry that was reserved for a child is no longer its own.
    #[error(
        "the process table entry reserved for this process was released; was its parent killed?"
    )]
    SeatGone,
    /// A copy of a pool's worker, which one of its tasks forked, continued as the worker.
    #[error(
        "this process is a copy of a pool's worker, forked by a task: tasks and their results belong to the worker"
    )]
    NotTheWorker,
    /// An invalid argument.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn os(what: &'static str, errno: rustix::io::Errno) -> Error {
        Error::Os {
            what,
            source: errno.into(),
        }
    }
}

/// A lock was not acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The deadline passed.
    #[error("timed out waiting for the lock")]
    TimedOut,
    /// A signal arrived; nothing was changed.
    #[error("interrupted by a signal while waiting for the lock")]
    Interrupted,
    /// The holder died. The lock is free now, and what it guards may be half changed.
    #[error(
        "the process that held the lock died; the lock is free again, check what it guards and acquire it anew"
    )]
    OwnerDied,
}

/// A wait ended without the event that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("timed out")]
    TimedOut,
    /// A signal arrived; nothing was changed.
    #[error("interrupted by a signal")]
    Interrupted,
}

/// A message was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// There was no room before the deadline.
    #[error("full")]
    Full,
    /// A signal arrived; nothing was put.
    #[error("interrupted by a signal")]
    Interrupted,
    /// Nobody can receive any more.
    #[error("closed: nobody can receive any more")]
    Closed,
    /// There was no memory for the message, or another failure.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// No message was received.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No message arrived before the deadline.
    #[error("empty")]
    Empty,
    /// A signal arrived; nothing was taken.
    #[error("interrupted by a signal")]
    Interrupted,
    /// All messages were received and nobody can send any more.
    #[error("closed: end of the stream")]
    Closed,
    /// A message could not be read.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Released more often than acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("released too many times")]
pub struct TooMany;

/// Released while nobody held it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lock is not held")]
pub struct NotHeld;

/// Released by a thread that does not own it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lock is owned by another thread or by nobody")]
pub struct NotOwner;

impl From<WaitError> for LockError {
    fn from(error: WaitError) -> LockError {
        match error {
            WaitError::TimedOut => LockError::TimedOut,
            WaitError::Interrupted => LockError::Interrupted,
        }
    }
}
