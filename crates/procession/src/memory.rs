//! Reports and limits the shared memory of a program.

use procession_engine::process;

use crate::error::Error;

/// The shared memory that a program and its processes use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// Bytes of the queues, values, messages and other objects in use.
    pub in_use: u64,
    /// Bytes obtained from the system: what is in use, free memory kept for reuse, and a few tables.
    pub resident: u64,
    /// The limit of `resident` in bytes: the smaller of the value given to [`set_memory_limit`] and the
    /// environment variable `PROCESSION_MEMORY`.
    pub limit: Option<u64>,
}

/// Returns how much shared memory this program and its processes use.
///
/// The call visits every segment. Use it for an occasional report, not once per message.
///
/// # Errors
/// Returns an error when no shared memory can be created.
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

/// Returns all free shared memory to the system now, and returns the number of bytes freed.
///
/// Without this call, free memory returns to the system about a second after its last use, except for a reserve
/// of a quarter of the memory in use (at least 16 MiB). All of it returns when the program drops its last
/// queue, pipe or pool.
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

/// Limits the shared memory of this program and all its processes to `bytes` in total, at once. `None` removes
/// the limit.
///
/// Without a limit, the bounds are those of the machine and of the process's cgroups, minus a reserve, so that
/// the kernel kills no process for lack of memory. The environment variable `PROCESSION_MEMORY` (for example
/// `PROCESSION_MEMORY=512M`) sets a limit without a call. Memory kept for reuse is freed before a limit
/// applies.
///
/// An allocation over the limit fails with an error for which [`Error::is_out_of_memory`] returns `true`, and
/// whose text says how much is left. Creating an object fails, and a message comes back in
/// [`PutError::Failed`](crate::PutError::Failed). Existing objects keep working. To make a producer wait for
/// its consumers, use a [bounded queue](crate::Queue::bounded) or a pipe.
///
/// Processes that allocate at the same moment may together exceed the limit by the sizes they asked for.
///
/// # Errors
/// Returns an error when no shared memory can be created.
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
