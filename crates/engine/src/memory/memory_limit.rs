//! Reports running out of memory as an error, before the kernel kills a process for it.
//!
//! Before new pages are touched, the engine checks what remains under the limits of the machine, of every memory cgroup
//! above this process, and of `PROCESSION_MEMORY`, less a reserve. Memory that the kernel can reclaim on demand counts
//! as available (`sys/memory_left.rs`): a container whose limit is full of page cache has memory. The kernel itself
//! cannot be asked: when it has none left, it kills a process. Reading all this costs microseconds, so a process checks
//! once for each [`STEP`] it takes, and every time when little is left. A limit that the program sets lies in shared
//! memory, applies to all its processes together, and is checked every time.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::sys::elevated::variable;
use crate::sys::memory_left::Kernel;

/// The most that is taken between two checks.
const STEP: i64 = 64 << 20;
/// What is left to the other programs of the machine.
const RESERVE: u64 = 32 << 20;

/// Bytes this process may still take before it checks again.
static CREDIT: AtomicI64 = AtomicI64::new(0);

/// Limits the memory of the whole process tree.
pub(crate) fn set_limit(arena: &Arena, limit: Option<u64>) {
    // Zero means no limit.
    let word = limit.map_or(0, |bytes| bytes.max(1));
    arena.root().memory_limit.store(word, Ordering::Relaxed);
}

/// The lower of the limit that the program set and `PROCESSION_MEMORY`.
pub(crate) fn limit(arena: &Arena) -> Option<u64> {
    set_limit_of(arena).into_iter().chain(own_limit()).min()
}

fn set_limit_of(arena: &Arena) -> Option<u64> {
    Some(arena.root().memory_limit.load(Ordering::Relaxed)).filter(|&limit| limit > 0)
}

/// Checks that `bytes` of new memory may be touched.
pub(crate) fn check(arena: &Arena, bytes: u64) -> Result<()> {
    check_set_limit(arena, bytes)?;
    let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
    if CREDIT.fetch_sub(wanted, Ordering::Relaxed) >= wanted {
        return Ok(());
    }
    let enough = bytes.saturating_add(8 * STEP as u64 + RESERVE);
    let (left, limit) = left(arena, enough);
    if left < bytes {
        CREDIT.store(0, Ordering::Relaxed);
        return Err(Error::OutOfMemory {
            asked: bytes,
            left,
            limit,
        });
    }
    let spare = i64::try_from(left - bytes).unwrap_or(i64::MAX);
    CREDIT.store((spare / 8).min(STEP), Ordering::Relaxed);
    Ok(())
}

fn check_set_limit(arena: &Arena, bytes: u64) -> Result<()> {
    let Some(limit) = set_limit_of(arena) else {
        return Ok(());
    };
    match limit.saturating_sub(arena.resident()) {
        left if left < bytes => Err(Error::OutOfMemory {
            asked: bytes,
            left,
            limit: "the limit that this program set (set_memory_limit)".into(),
        }),
        _ => Ok(()),
    }
}

/// Where the kernel reports memory. Found once, early, so that a fork never happens while a thread is initialising it.
fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| Kernel::new(Path::new("/")))
}

/// Finds out where the kernel reports memory.
pub(crate) fn init() {
    kernel();
}

/// How much memory others can take at this moment without being slowed down or killed.
pub(crate) fn available_without_pressure() -> Option<u64> {
    kernel().available_without_pressure()
}

/// The bytes left under the tightest limit, and the name of that limit. Skips the closer look while more than `enough`
/// is left.
fn left(arena: &Arena, enough: u64) -> (u64, String) {
    let of_kernel = kernel().left(enough).map(|left| {
        let spared = left.bytes - RESERVE.min(left.bytes / 8);
        (spared, left.name)
    });
    let own = own_limit().map(|limit| {
        let left = limit.saturating_sub(arena.resident());
        (left, String::from("PROCESSION_MEMORY"))
    });
    let tightest = of_kernel
        .into_iter()
        .chain(own)
        .min_by_key(|(left, _)| *left);
    tightest.unwrap_or((u64::MAX, String::from("no limit")))
}

/// `PROCESSION_MEMORY`: bytes, or with a suffix K, M, G or T.
pub(crate) fn own_limit() -> Option<u64> {
    let text = variable("PROCESSION_MEMORY")?;
    parse_size(&text)
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches("iB").trim_end_matches('B');
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift > 0 {
        &text[..text.len() - 1]
    } else {
        text
    };
    let number: f64 = digits.trim().parse().ok()?;
    (number >= 0.0).then_some((number * (1u64 << shift) as f64) as u64)
}

#[cfg(test)]
mod tests {
    use crate::memory::memory_limit::parse_size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("1048576"), Some(1 << 20));
        assert_eq!(parse_size("64M"), Some(64 << 20));
        assert_eq!(parse_size("1.5GiB"), Some(3 << 29));
        assert_eq!(parse_size("2 k"), Some(2048));
        assert_eq!(parse_size("lots"), None);
        assert_eq!(parse_size(""), None);
    }
}
