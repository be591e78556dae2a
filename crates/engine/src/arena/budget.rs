//! Running out of memory as an error, before the kernel kills somebody for it.
//!
//! Before new pages are touched the engine looks at what the machine, every memory cgroup above this
//! process and `PROCESSION_MEMORY` leave, less a reserve. Reading that costs microseconds, so a
//! process looks once for each [`STEP`] it takes, and every time when little is left. A limit that the program
//! sets is in shared memory, holds for all its processes at once, and is looked at every time.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Arena;
use crate::error::{Error, Result};
use crate::sys::elevated::variable;

/// The most that is taken between two looks.
const STEP: i64 = 64 << 20;
/// What is left to the programs of the machine.
const RESERVE: u64 = 32 << 20;

/// Bytes this process may still take before it looks again.
static CREDIT: AtomicI64 = AtomicI64::new(0);

/// Sets what the memory of the whole tree may take.
pub(crate) fn set_limit(arena: &Arena, limit: Option<u64>) {
    // Zero says that there is none.
    let word = limit.map_or(0, |bytes| bytes.max(1));
    arena.root().memory_limit.store(word, Ordering::Relaxed);
}

/// The tighter of what was set and `PROCESSION_MEMORY`.
pub(crate) fn limit(arena: &Arena) -> Option<u64> {
    set_limit_of(arena).into_iter().chain(own_limit()).min()
}

fn set_limit_of(arena: &Arena) -> Option<u64> {
    Some(arena.root().memory_limit.load(Ordering::Relaxed)).filter(|&limit| limit > 0)
}

/// Makes sure that `bytes` of new memory may be touched.
pub(crate) fn check(arena: &Arena, bytes: u64) -> Result<()> {
    check_set_limit(arena, bytes)?;
    let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
    if CREDIT.fetch_sub(wanted, Ordering::Relaxed) >= wanted {
        return Ok(());
    }
    let (left, limit) = left(arena);
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

/// Reads what is read once, so that no fork catches a thread at it.
pub(crate) fn warm() {
    cgroups();
}

/// The bytes left under the tightest limit, and that limit's name.
fn left(arena: &Arena) -> (u64, String) {
    let mut tightest = (u64::MAX, String::from("no limit"));
    let mut narrow = |left: u64, name: String| {
        if left < tightest.0 {
            tightest = (left, name);
        }
    };
    if let Some(available) = mem_available() {
        narrow(
            available.saturating_sub(RESERVE),
            "the machine's available memory".into(),
        );
    }
    for group in cgroups() {
        if let Some(left) = group_left(group) {
            narrow(
                left.saturating_sub(RESERVE.min(left / 8)),
                format!("the memory limit of the cgroup {group}"),
            );
        }
    }
    if let Some(limit) = own_limit() {
        narrow(
            limit.saturating_sub(arena.resident()),
            "PROCESSION_MEMORY".into(),
        );
    }
    tightest
}

fn mem_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The folders of this process's memory cgroup and of every group above it.
fn cgroups() -> &'static [String] {
    static GROUPS: OnceLock<Vec<String>> = OnceLock::new();
    GROUPS.get_or_init(|| {
        let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut found = Vec::new();
        for line in table.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let root = match controllers {
                "" => "/sys/fs/cgroup",
                c if c.split(',').any(|c| c == "memory") => "/sys/fs/cgroup/memory",
                _ => continue,
            };
            let mut path = path.trim_end_matches('/');
            loop {
                found.push(format!("{root}{path}"));
                match path.rfind('/') {
                    Some(cut) => path = &path[..cut],
                    None => break,
                }
            }
        }
        found.retain(|group| group_left(group).is_some());
        found
    })
}

fn group_left(group: &str) -> Option<u64> {
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("{group}/{file}")).ok()?;
        text.trim().parse().ok()
    };
    let (limit, used) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?),
        None => (
            number("memory.limit_in_bytes")?,
            number("memory.usage_in_bytes")?,
        ),
    };
    Some(limit.saturating_sub(used))
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
    use super::parse_size;

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
