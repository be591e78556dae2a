//! The readiness of a pipe's end: it makes the end's descriptor readable exactly while a message is
//! there. A queue's descriptor works the same way, once a process asked for it: see
//! `queue_readiness.rs`.
//!
//! Messages travel through memory. A receiver that sleeps on the descriptor, or a program that
//! polls it, learns of them by bytes in the socket. The bytes do not belong to messages: there is
//! at least one byte while a message is there, and none otherwise. Every process that has the end
//! has the same socket, so this holds for all of them, whichever process takes the messages out.
//!
//! ```text
//! sender:   claim a slot;  not SIGNALLED?  one byte, then SIGNALLED;  publish
//! receiver: take the message;  WATCHED, and none is left?  clear
//! clear:    reset SIGNALLED;  count the bytes;  is a message due?  was SIGNALLED set meanwhile?
//!           neither: take out as many bytes as were counted
//! ```
//!
//! SIGNALLED says that a byte is there, so that a sender need not add its own. It is only ever set
//! while a byte is there. A sender that sees it relies on that byte until its message is received.
//! That is safe: `clear` takes out only bytes that it counted *before* it saw that no message was
//! due and nobody had signalled. Take a byte that was counted and is relied on. Either its sender
//! is still due until it has signalled, or the byte was there before `clear` began; then the
//! process that relies on it claimed its slot before that.
//!
//! The byte comes before its message. A byte that came after it would be left over if the message
//! was received in between. A program that trusts the descriptor would then wait for a message that
//! is not there.
//!
//! If nobody watches a pipe, nobody clears it: its first message costs a system call, and no other
//! does.
//!
//! One process clears at a time. Another process that comes meanwhile sets AGAIN, and the first one
//! looks once more. A process that dies before it is done leaves at most some bytes; the next one
//! that looks takes them out.

#[cfg(not(loom))]
pub(crate) mod queue_pipe;
#[cfg(not(loom))]
pub(crate) mod queue_readiness;

use crate::arena::owner::ProcId;
use crate::sys::atomic::{AtomicU32, Ordering, total_order};

/// A process has a descriptor, so receivers clear after they took the last message. Never reset.
const WATCHED: u32 = 1;
/// A byte is in the socket.
const SIGNALLED: u32 = 2;
/// A process found another one clearing.
const AGAIN: u32 = 4;

/// The most bytes that one call takes out.
pub(crate) const CHUNK: usize = 64;

/// How long a receiver that was notified in vain waits before it looks again.
#[cfg(not(loom))]
pub(crate) const NOTIFY_NAP: std::time::Duration = std::time::Duration::from_micros(50);

/// How often a receiver naps while it waits for an announced message.
#[cfg(not(loom))]
pub(crate) const MAX_NAPS: usize = 200;

/// Waits for a message whose byte is there but that is still being written, as long as it
/// `is_announced`, and returns what `look` finds. Gives up if the sender was stopped in between.
#[cfg(not(loom))]
pub(crate) fn await_announced<T>(
    readiness: &Readiness,
    is_announced: impl Fn() -> bool,
    mut look: impl FnMut() -> crate::error::Result<Option<T>>,
) -> crate::error::Result<Option<T>> {
    for _ in 0..MAX_NAPS {
        if !readiness.is_watched() || !is_announced() {
            break;
        }
        std::thread::sleep(NOTIFY_NAP);
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
    /// The process that is taking bytes out of the socket; zero for none.
    clearing: AtomicU32,
}

/// The bytes in the socket of a receiving end.
pub(crate) trait Bytes {
    fn count(&self) -> usize;

    /// Takes out up to `count` bytes. Returns false if it cannot.
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

    /// Whether a sender must put a byte into the socket. Call it with a slot claimed.
    #[inline]
    pub(crate) fn needs_byte(&self) -> bool {
        total_order();
        self.state.load(Ordering::SeqCst) & SIGNALLED == 0
    }

    /// Records that a byte is there. Call it before the message is published.
    pub(crate) fn set_signalled(&self) {
        self.state.fetch_or(SIGNALLED, Ordering::SeqCst);
        total_order();
    }

    /// From now on the descriptor is kept in line with the messages. Call [`Readiness::clear`]
    /// afterwards.
    pub(crate) fn watch(&self) {
        self.state.fetch_or(WATCHED, Ordering::SeqCst);
        total_order();
    }

    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        total_order();
        self.state.load(Ordering::SeqCst) & WATCHED != 0
    }

    /// Takes the bytes out, unless a message `is_due`: it is there, or may yet be.
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
            // Not a store: if others took this process for dead, another one is clearing now.
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
                // Only this process takes bytes out, so the bytes that were counted are still
                // there.
                self.state.fetch_or(SIGNALLED, Ordering::SeqCst);
                return;
            }
            total_order();
            if self.state.load(Ordering::SeqCst) & SIGNALLED != 0 {
                continue;
            }
            #[cfg(not(loom))]
            crate::failpoint::hit("pipe.silencing");
            // Of several bytes, one stays until the next look: a sender that found the socket full
            // relies on it.
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
pub(crate) use socket::{has_bytes, notify, peer_is_gone, sleep};

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

    /// Writes a byte into the other end's socket. Returns false if it is full or closed.
    pub(crate) fn notify(socket: BorrowedFd<'_>) -> bool {
        net::send(socket, b"!", SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
    }

    /// Whether every copy of the other end is closed.
    pub(crate) fn peer_is_gone(socket: BorrowedFd<'_>) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
        let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        matches!(
            event::poll(&mut fds, Some(&rustix::time::Timespec::default())),
            Ok(1..)
        ) && fds[0].revents().intersects(gone)
    }

    pub(crate) fn has_bytes(socket: BorrowedFd<'_>) -> bool {
        socket.count() > 0
    }

    /// Sleeps until a byte is there or the peer is gone. Returns false if a signal came. A signal
    /// that another thread handles does not end the sleep, so where that can happen it sleeps in
    /// naps.
    pub(crate) fn sleep(socket: BorrowedFd<'_>, deadline: Deadline) -> bool {
        let deadline = match signals::may_go_elsewhere() {
            true => deadline.min(Deadline::after(NAP)),
            false => deadline,
        };
        poll::wait(socket, deadline.remaining()) != Slept::Interrupted
    }
}
