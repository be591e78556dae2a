//! How much of its stack a thread has left.

use std::cell::Cell;

/// So much belongs to what does not look: the C library, and code of others that runs meanwhile.
const RESERVE: usize = 16 * 1024;

/// No place of a stack begins there.
const UNKNOWN: usize = usize::MAX;

thread_local! {
    /// Where this thread's stack ends; stacks grow downwards.
    static END: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// Whether so little of this thread's stack is left that nothing should recurse on it.
///
/// On a stack that the C library does not know, as some coroutines have, there is no telling: false.
#[inline]
pub fn is_low() -> bool {
    let here = 0_u8;
    let here = (&raw const here).addr();
    END.with(|known| {
        if known.get() == UNKNOWN {
            known.set(end());
        }
        here.wrapping_sub(known.get()) < RESERVE
    })
}

/// Where the stack ends; 0 if the C library does not say, and there is no memory.
#[cold]
fn end() -> usize {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: fills the attributes of the calling thread in, which are ours, or fails.
    let failed = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if failed != 0 {
        return 0;
    }
    let (mut address, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: the attributes were filled in, and are destroyed once.
    unsafe {
        let attributes = attributes.as_mut_ptr();
        libc::pthread_attr_getstack(attributes, &raw mut address, &raw mut size);
        libc::pthread_attr_getguardsize(attributes, &raw mut guard);
        libc::pthread_attr_destroy(attributes);
    }
    // Some C libraries count the guard as part of the stack.
    address.addr() + guard
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;

    /// How deep a recursion gets until the stack is low, one kilobyte at a time.
    fn depth() -> usize {
        let block = std::hint::black_box([0_u8; 1024]);
        if is_low() {
            return 0;
        }
        let deeper = depth();
        deeper + usize::from(std::hint::black_box(block)[0] == 0)
    }

    fn in_thread(stack: usize) -> usize {
        let thread = std::thread::Builder::new().stack_size(stack).spawn(depth);
        thread.unwrap().join().unwrap()
    }

    #[test]
    fn a_larger_stack_is_low_later() {
        assert!(!is_low());
        // Larger than those of other tests: the C library hands stacks of ended threads on to those that ask for less.
        let (small, large) = (in_thread(4 << 20), in_thread(32 << 20));
        assert!(small > 0, "there was something above the reserve");
        assert!(large >= 4 * small, "{small} and {large} levels");
        assert!(
            large < 32 << 10,
            "{large} kilobytes and more of 32 megabytes"
        );
    }
}
