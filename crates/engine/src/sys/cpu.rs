//! Whether spinning can pay here.

use std::sync::OnceLock;

/// The processors this process may use at once: its affinity mask, cut by a cgroup's `cpu.max`.
pub(crate) fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    // `available_parallelism` reads both the mask and the cgroup quotas of version 1 and 2.
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
