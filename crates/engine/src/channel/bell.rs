//! The bell of a pipe's end: how a sender reaches a receiver that sleeps on a descriptor.
//!
//! Messages travel through memory. A byte goes through the socket only while somebody listens: while a
//! receiver sleeps, or for good once somebody asked for a descriptor to wait on. Such a descriptor is
//! readable exactly when a message or the end of the stream is there:
//!
//! ```text
//! sender:   claim a slot;  descriptor?  one byte;  publish;  armed, and no byte yet?  one byte
//! receiver: how many bytes;  no message there or coming?  take out that many, but one of several;  again
//! ```
//!
//! The byte comes before its message: one that came behind would be left over when the message was received
//! in between, and a reader that trusts the descriptor would wait for a message that is not there. (So it is
//! only for a message that was being sent when the descriptor was made.)
//!
//! Several processes may wait at the end, so nobody may take out the byte of a message that is there. A byte
//! that was in the socket before the slots were looked at, and none was claimed or ready, belongs to a message
//! that was received. Only one process at a time takes bytes out, so nobody takes another's share; one of several
//! stays until the next turn, since a sender that found the socket full relies on it. No sender relies on
//! another's byte otherwise: that one might be killed before it sends it.
//!
//! The descriptor is an epoll set over the socket and an event of the receiving process alone, which stands
//! for messages that were sent before anybody listened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{self, EventfdFlags, PollFd, PollFlags, epoll};
use rustix::net::{self, RecvFlags, SendFlags};

use crate::arena::Arena;
use crate::arena::fork::fork_guard;
use crate::arena::owner::OwnerId;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kill;
use crate::sys::futex::{NAP, Slept};
use crate::sys::poll;

const SLEEPER: u32 = 1;
const DESCRIPTOR: u32 = 2;

/// The words of one direction's bell, in shared memory.
#[repr(C, align(64))]
pub(crate) struct Bell {
    /// Bit 0: a receiver sleeps, or did and has not looked since. Bit 1: somebody has a descriptor.
    armed: AtomicU32,
    /// Who takes bytes out of the socket just now; zero for nobody.
    silencer: AtomicU32,
    _pad: [AtomicU32; 14],
}

impl Bell {
    /// Announces a sleeper. To be followed by another look at the messages.
    pub(super) fn arm(&self) {
        self.armed.fetch_or(SLEEPER, Ordering::SeqCst);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst) != 0
    }

    /// Rings if somebody listens. To be called after a message was published.
    #[inline]
    pub(super) fn ring(&self, socket: BorrowedFd<'_>) {
        if self.is_armed() {
            kill::point("pipe.ringing");
            // A full socket holds bytes enough, and of a closed one the sender hears otherwise.
            let _ = net::send(socket, b"!", SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Rings before the message is there, if somebody has a descriptor; false if not.
    #[inline]
    pub(super) fn ring_ahead(&self, socket: BorrowedFd<'_>) -> bool {
        let wanted = self.armed.load(Ordering::SeqCst) & DESCRIPTOR != 0;
        if wanted {
            self.ring(socket);
        }
        wanted
    }

    /// Says that a receiver that slept is awake.
    pub(super) fn disarm(&self) {
        self.armed.fetch_and(!SLEEPER, Ordering::SeqCst);
    }

    /// Takes out the rings of messages that were received.
    fn silence(&self, arena: &Arena, socket: BorrowedFd<'_>, is_coming: impl Fn() -> bool) {
        let Some(me) = self.begin_silencing(arena) else {
            // Somebody else is at it. What it leaves is taken out when the end is looked at again.
            return;
        };
        loop {
            let rings = rustix::io::ioctl_fionread(socket).unwrap_or(0) as usize;
            if rings == 0 || is_coming() {
                break;
            }
            kill::point("pipe.silencing");
            let mut bytes = [0u8; 64];
            let count = (rings - 1).clamp(1, bytes.len());
            if net::recv(socket, &mut bytes[..count], RecvFlags::DONTWAIT).is_err() {
                break;
            }
        }
        // Not a store: whoever was taken for dead has had its turn taken over.
        let _ = self
            .silencer
            .compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn begin_silencing(&self, arena: &Arena) -> Option<u32> {
        let me = arena.me().as_u32();
        let seen = self.silencer.load(Ordering::SeqCst);
        let vacant = OwnerId::from_u32(seen).is_none_or(|owner| arena.is_dead(owner));
        let taken = vacant
            && self
                .silencer
                .compare_exchange(seen, me, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        taken.then_some(me)
    }
}

/// Whether every copy of the other end is closed.
pub(super) fn peer_is_gone(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
    matches!(
        event::poll(&mut fds, Some(&rustix::time::Timespec::default())),
        Ok(1..)
    ) && fds[0].revents().intersects(gone)
}

/// Whether there are rings to be taken out.
pub(super) fn has_rings(socket: BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|rings| rings > 0)
}

/// Sleeps until the bell rings, the peer is gone, or a nap is over; false when a signal came.
pub(super) fn sleep(socket: BorrowedFd<'_>, deadline: Deadline) -> bool {
    let time = deadline.min(Deadline::after(NAP)).remaining();
    let time = time.unwrap_or(NAP);
    poll::wait(socket, time) != Slept::Interrupted
}

/// The descriptors of this process for waiting on one end.
#[derive(Debug, Default)]
pub(super) struct Listener(Mutex<Option<Descriptors>>);

#[derive(Debug)]
struct Descriptors {
    /// The process that made them: a forked child shares the event with its parent and needs its own.
    of: OwnerId,
    set: OwnedFd,
    event: OwnedFd,
    raised: bool,
}

impl Listener {
    /// The descriptor to wait on, made at the first call.
    pub(super) fn fileno(
        &self,
        me: OwnerId,
        bell: &Bell,
        socket: BorrowedFd<'_>,
        has_message: impl Fn() -> bool,
    ) -> Result<RawFd> {
        let _no_fork = fork_guard();
        let mut inner = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(descriptors) = inner.as_ref().filter(|d| d.of == me) {
            return Ok(descriptors.set.as_raw_fd());
        }
        let mut descriptors = Descriptors::new(me, socket)?;
        bell.armed.fetch_or(DESCRIPTOR, Ordering::SeqCst);
        descriptors.show(has_message());
        let raw = descriptors.set.as_raw_fd();
        *inner = Some(descriptors);
        Ok(raw)
    }

    /// Brings bell and descriptor in line with what is there, after a look or a message.
    pub(super) fn settle(
        &self,
        arena: &Arena,
        bell: &Bell,
        socket: BorrowedFd<'_>,
        has_message: impl Fn() -> bool,
        is_coming: impl Fn() -> bool,
    ) {
        if !bell.is_armed() {
            return;
        }
        let me = arena.me();
        let mut there = has_message();
        if !there {
            bell.silence(arena, socket, is_coming);
            there = has_message();
        }
        let _no_fork = fork_guard();
        let mut inner = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(descriptors) = inner.as_mut().filter(|d| d.of == me) {
            descriptors.show(there);
        }
    }
}

impl Descriptors {
    fn new(of: OwnerId, socket: BorrowedFd<'_>) -> Result<Descriptors> {
        let make = || -> rustix::io::Result<Descriptors> {
            let event = event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for fd in [socket, event.as_fd()] {
                let data = epoll::EventData::new_u64(0);
                epoll::add(&set, fd, data, epoll::EventFlags::IN)?;
            }
            Ok(Descriptors {
                of,
                set,
                event,
                raised: false,
            })
        };
        make().map_err(|errno| Error::os("make a descriptor to wait on", errno))
    }

    fn show(&mut self, message: bool) {
        if message == self.raised {
            return;
        }
        let mut count = [0u8; 8];
        let done = match message {
            true => rustix::io::write(&self.event, &1u64.to_ne_bytes()),
            false => rustix::io::read(&self.event, &mut count),
        };
        if done.is_ok() {
            self.raised = message;
        }
    }
}
