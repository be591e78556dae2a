//! The number of the calling thread.

use std::cell::Cell;

use crate::arena::owner::ProcId;

/// The thread's number, unique within its process. The system is asked once per thread. A forked
/// child notices from its new process id that the number it remembers is its parent's.
pub(crate) fn number(me: ProcId) -> u32 {
    thread_local! {
        static KNOWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    let (owner, thread) = KNOWN.get();
    if owner == me.as_u32() {
        return thread;
    }
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    KNOWN.set((me.as_u32(), thread));
    thread
}
