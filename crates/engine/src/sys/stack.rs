//! How much of its stack a thread has left.

use std::cell::Cell;

/// Reserved for code that does not check: the C library, and foreign code that runs meanwhile.
const RESERVE: usize = 16 * 1024;

/// No stack ends at this address.
const UNKNOWN: usize = usize::MAX;

thread_local! {
    /// Where this thread's stack ends; stacks grow downwards.
    static END: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// Whether so little of this thread's stack is left that nothing should recurse on it.
///
/// On a stack that the C library does not know, such as that of some coroutines, this cannot be told: false.
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

/// The address where the stack ends; 0 if the C library does not say, or has no memory.
#[cold]
fn end() -> usize {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: fills the attributes of the calling thread into our buffer, or fails.
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

    /// How deep it gets, and how many bytes of stack there were. The C library may provide more than was asked for.
    fn in_thread(stack: usize) -> (usize, usize) {
        let look = || {
            let here = 0_u8;
            (depth(), (&raw const here).addr() - end())
        };
        let thread = std::thread::Builder::new().stack_size(stack).spawn(look);
        thread.unwrap().join().unwrap()
    }

    #[test]
    fn a_stack_is_low_when_little_more_than_the_reserve_is_left() {
        assert!(!is_low());
        for stack in [64 * 1024, 512 * 1024] {
            let (levels, room) = in_thread(stack);
            assert!(levels > 0, "there was something above the reserve");
            assert!(
                levels * 1024 < room,
                "{levels} kilobytes and more of {room} bytes"
            );
            // A level takes its kilobyte, and less than three of its own.
            assert!(
                levels * 4096 > room - RESERVE,
                "{levels} levels in {room} bytes"
            );
        }
    }
}
