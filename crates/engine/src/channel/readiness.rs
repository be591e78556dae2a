//! The readiness of a pipe's end: what makes the end's descriptor readable exactly while a message is there. (A queue's is
//! the same, where somebody asked for one: see `queue_readiness.rs`.)
//!
//! Messages travel through memory. A receiver that sleeps on the descriptor, or a program that polls it,
//! learns of them by bytes in the socket. Those belong to no message: there is at least one while a message
//! is there, and none while none is. Every process that has the end has the same socket, so this holds for
//! all of them, whoever takes the messages out.
//!
//! ```text
//! sender:   claim a slot;  not SIGNALLED?  one byte, then SIGNALLED;  publish
//! receiver: take the message;  WATCHED, and none is left?  clear
//! clear:    not SIGNALLED any more;  count the bytes;  is a message due?  SIGNALLED while that was so?
//!           neither: take out as many bytes as were counted
//! ```
//!
//! SIGNALLED says that a byte is there, so that a sender can spare its own. It is only ever set when a byte
//! is, and a sender that sees it relies on that byte until its message is received. That is safe: `clear`
//! takes out what it counted *before* it saw that no message was due and nobody had signalled. A byte that
//! was counted and is relied on was either sent by somebody who is due until it has signalled, or was there
//! before `clear` began, and then whoever relies on it had claimed its slot before.
//!
//! The byte comes before its message. One that came behind would be left over when the message was received in
//! between, and a program that trusts the descriptor would wait for a message that is not there.
//!
//! A pipe that nobody watches is cleared by nobody: its first message costs a system call and no other does.
//!
//! One process at a time clears. Another that comes meanwhile says AGAIN, and the first one looks once more.
//! A process that dies before it is done leaves bytes at most; the next one that looks takes them out.

use crate::memory::owner::ProcId;
use crate::sys::atomic::{AtomicU32, Ordering, total_order};

/// Somebody has a descriptor: receivers clear when they took the last message. For good.
const WATCHED: u32 = 1;
/// A byte is in the socket.
const SIGNALLED: u32 = 2;
/// Somebody found another process clearing.
const AGAIN: u32 = 4;

/// Bytes taken out by one call.
pub(super) const CHUNK: usize = 64;

/// How long a receiver that was rung for in vain goes without looking.
#[cfg(not(loom))]
pub(super) const RING_NAP: std::time::Duration = std::time::Duration::from_micros(50);

/// So often does a receiver nap for a message that was rung for.
#[cfg(not(loom))]
pub(super) const MOST_NAPS: usize = 200;

/// What `look` finds of a message whose byte is there and that is yet to be written, as long as it `is_announced`. A
/// sender that was stopped in between is not waited for.
#[cfg(not(loom))]
pub(super) fn await_announced<T>(
    readiness: &Readiness,
    is_announced: impl Fn() -> bool,
    mut look: impl FnMut() -> crate::error::Result<Option<T>>,
) -> crate::error::Result<Option<T>> {
    for _ in 0..MOST_NAPS {
        if !readiness.is_watched() || !is_announced() {
            break;
        }
        std::thread::sleep(RING_NAP);
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The words of one direction's readiness, in shared memory.
#[repr(C)]
pub(crate) struct Readiness {
    state: AtomicU32,
    /// Who takes bytes out of the socket just now; zero for nobody.
    clearing: AtomicU32,
}

/// The bytes in the socket of a receiving end.
pub(crate) trait Bytes {
    fn count(&self) -> usize;

    /// Takes out up to `count`; false when that cannot be.
    fn take(&self, count: usize) -> bool;
}

impl Readiness {
    #[cfg(loom)]
    pub(crate) fn new() -> Readiness {
        Readiness {
            state: AtomicU32::new(0),
            clearing: AtomicU32::new(0),
        }
    }

    /// Whether a sender must put a byte into the socket. To be asked with a slot claimed.
    #[inline]
    pub(crate) fn wants_byte(&self) -> bool {
        total_order();
        self.state.load(Ordering::SeqCst) & SIGNALLED == 0
    }

    /// Says that a byte is there. To be called before the message is published.
    pub(crate) fn note_byte(&self) {
        self.state.fetch_or(SIGNALLED, Ordering::SeqCst);
        total_order();
    }

    /// From now on the descriptor is kept in line with the messages. To be followed by [`Readiness::clear`].
    pub(crate) fn watch(&self) {
        self.state.fetch_or(WATCHED, Ordering::SeqCst);
        total_order();
    }

    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        total_order();
        self.state.load(Ordering::SeqCst) & WATCHED != 0
    }

    /// Takes the bytes out unless a message `is_due`: is there, or may yet be.
    pub(crate) fn clear(
        &self,
        me: ProcId,
        is_dead: impl Fn(ProcId) -> bool,
        bytes: &impl Bytes,
        is_due: impl Fn() -> bool,
    ) {
        loop {
            if !self.begin(me, &is_dead) {
                self.state.fetch_or(AGAIN, Ordering::SeqCst);
                total_order();
                if !self.begin(me, &is_dead) {
                    return;
                }
            }
            self.take_out(bytes, &is_due);
            // Not a store: the turn of one that was taken for dead is another's.
            let _ =
                self.clearing
                    .compare_exchange(me.as_u32(), 0, Ordering::SeqCst, Ordering::SeqCst);
            total_order();
            let asked = self.state.load(Ordering::SeqCst) & AGAIN != 0
                && self.state.fetch_and(!AGAIN, Ordering::SeqCst) & AGAIN != 0;
            if !asked {
                return;
            }
        }
    }

    fn take_out(&self, bytes: &impl Bytes, is_due: impl Fn() -> bool) {
        loop {
            self.state.fetch_and(!SIGNALLED, Ordering::SeqCst);
            total_order();
            let count = bytes.count();
            if count == 0 {
                return;
            }
            if is_due() {
                // Only this process takes bytes out: those that were counted are still there.
                self.state.fetch_or(SIGNALLED, Ordering::SeqCst);
                return;
            }
            total_order();
            if self.state.load(Ordering::SeqCst) & SIGNALLED != 0 {
                continue;
            }
            #[cfg(not(loom))]
            crate::failpoint::hit("pipe.silencing");
            // Of several one stays until the next look: a sender that found the socket full relies on it.
            let is_last = count == 1;
            let taken = bytes.take((count - 1).clamp(1, CHUNK));
            if is_last || !taken {
                return;
            }
        }
    }

    fn begin(&self, me: ProcId, is_dead: impl Fn(ProcId) -> bool) -> bool {
        let seen = self.clearing.load(Ordering::SeqCst);
        ProcId::from_u32(seen).is_none_or(is_dead)
            && self
                .clearing
                .compare_exchange(seen, me.as_u32(), Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }
}

#[cfg(not(loom))]
pub(super) use socket::{has_bytes, notify, peer_is_gone, sleep};

/// The socket behind an end.
#[cfg(not(loom))]
mod socket {
    use std::os::fd::BorrowedFd;

    use rustix::event::{self, PollFd, PollFlags};
    use rustix::net::{self, RecvFlags, SendFlags};

    use super::{Bytes, CHUNK};
    use crate::deadline::Deadline;
    use crate::sys::futex::{NAP, Slept};
    use crate::sys::{poll, signals};

    impl Bytes for BorrowedFd<'_> {
        fn count(&self) -> usize {
            rustix::io::ioctl_fionread(self).unwrap_or(0) as usize
        }

        fn take(&self, count: usize) -> bool {
            let mut bytes = [0u8; CHUNK];
            net::recv(self, &mut bytes[..count], RecvFlags::DONTWAIT).is_ok()
        }
    }

    /// Puts a byte into the other end's socket; false when it is full, or closed.
    pub(in crate::channel) fn notify(socket: BorrowedFd<'_>) -> bool {
        net::send(socket, b"!", SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
    }

    /// Whether every copy of the other end is closed.
    pub(in crate::channel) fn peer_is_gone(socket: BorrowedFd<'_>) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
        let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        matches!(
            event::poll(&mut fds, Some(&rustix::time::Timespec::default())),
            Ok(1..)
        ) && fds[0].revents().intersects(gone)
    }

    pub(in crate::channel) fn has_bytes(socket: BorrowedFd<'_>) -> bool {
        socket.count() > 0
    }

    /// Sleeps until a byte is there or the peer is gone; false when a signal came. A signal that is handled on another
    /// thread does not end it, so where that may be it is cut into naps.
    pub(in crate::channel) fn sleep(socket: BorrowedFd<'_>, deadline: Deadline) -> bool {
        let deadline = match signals::may_go_elsewhere() {
            true => deadline.min(Deadline::after(NAP)),
            false => deadline,
        };
        poll::wait(socket, deadline.remaining()) != Slept::Interrupted
    }
}
