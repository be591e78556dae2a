//! How much shared memory a program uses, and may use.

use procession_engine::process;

use crate::error::Error;

/// How much shared memory a program and its processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// Bytes behind the queues, values, messages and so on that somebody has.
    pub in_use: u64,
    /// Bytes that the system has given: what is in use, what lies free for the next, and a few tables.
    pub resident: u64,
    /// How many bytes those may be: what [`set_memory_limit`] said, or the environment variable
    /// `PROCESSION_MEMORY` if that is less.
    pub limit: Option<u64>,
}

/// How much shared memory this program and its processes use. It looks at every piece: for a report now and
/// then, not for every message.
///
/// # Errors
/// When there is no shared memory to be had at all.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::new()?;
/// let before = procession::memory_usage()?.in_use;
/// queue.put(vec![0u8; 100_000])?;
/// assert!(procession::memory_usage()?.in_use >= before + 100_000);
/// # Ok(())
/// # }
/// ```
pub fn memory_usage() -> Result<MemoryUsage, Error> {
    let memory = process::memory()?;
    Ok(MemoryUsage {
        in_use: memory.in_use,
        resident: memory.resident,
        limit: memory.limit,
    })
}

/// Gives all free shared memory back to the system now, and says how many bytes that were.
///
/// Without it, memory goes back about a second after it was used last, but for a quarter of what is in use, or 16 MiB
/// if that is more; and all of it with the program's last queue, pipe or pool.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::new()?;
/// queue.put(vec![0u8; 1 << 20])?;
/// queue.get()?;
/// assert!(procession::trim_memory() >= 1 << 20);
/// # Ok(())
/// # }
/// ```
pub fn trim_memory() -> u64 {
    process::trim()
}

/// Limits the shared memory of this program and its processes to so many bytes in all, at once and for all of
/// them; `None` takes the limit away.
///
/// Without one, the limits are the machine's and those of the cgroups that the process is in, with a reserve, so
/// that nobody is killed for want of memory; and `PROCESSION_MEMORY`, for programs that say nothing:
/// `PROCESSION_MEMORY=512M`. Free memory that was kept for the next message is given back before a limit is met.
///
/// What is beyond the limit is refused with an error for which [`Error::is_out_of_memory`] holds, and which says
/// how much is left: making an object fails, and a message that was to be put or sent comes back in
/// [`PutError::Failed`](crate::PutError::Failed). What was there before stays and works on. To have a producer
/// wait until a consumer made room, use a [bounded queue](crate::Queue::bounded) or a pipe.
///
/// Processes that take memory at the same moment may together go beyond the limit by what each of them asked for.
///
/// # Errors
/// When there is no shared memory to be had at all.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::new()?;
/// let before = procession::memory_usage()?;
/// procession::set_memory_limit(before.resident + (4 << 20))?;
/// let refused = queue.put(vec![0u8; 8 << 20]).unwrap_err();
/// let message = refused.into_inner(); // nothing is lost
/// procession::set_memory_limit(None)?;
/// queue.put(message)?;
/// # Ok(())
/// # }
/// ```
pub fn set_memory_limit(bytes: impl Into<Option<u64>>) -> Result<(), Error> {
    Ok(process::set_memory_limit(bytes.into())?)
}
