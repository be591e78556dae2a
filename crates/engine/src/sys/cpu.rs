//! Questions and hints to the processor: whether spinning can pay, and which memory will be read soon.

use std::ptr::NonNull;
use std::sync::OnceLock;

/// The number of processors this process may use at once: its affinity mask, limited by a cgroup's `cpu.max`.
pub(crate) fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    // `available_parallelism` reads both the mask and the cgroup quotas of version 1 and 2.
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Prefetches a cache line that will be read. A hint, on processors that have one.
#[inline(always)]
pub(crate) fn prefetch(address: NonNull<u8>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint touches no memory, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.as_ptr().cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address.as_ptr(),
            options(nostack, readonly, preserves_flags)
        );
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _no_hint = address;
}
