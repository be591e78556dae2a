//! A pipe: two ends, two chunk lists of messages, and a socket that shows when an end is gone.
//!
//! The socket pair carries no messages. The kernel closes it when the last process with a copy of
//! an end closes it or dies. So the end of the stream means what it means for every pipe.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::upcalls::KindOps;
use crate::channel::chunk_list;
use crate::channel::chunk_list::{ChunkList, ListCursor};
use crate::channel::message::Message;
use crate::channel::message::message_buf::MessageBuf;
use crate::channel::readiness::{self, NOTIFY_NAP, Readiness};
use crate::channel::send::{Sending, Wait};
use crate::deadline::{Deadline, coarse_ns};
use crate::error::{Error, GetError, PutError, Result, WaitError};
use crate::eventcount::EventKey;
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, OBJECT, ObjectHead};
use crate::objects::object_ref::{ObjectRef, TypedRef, opened};
use crate::process_table::wait_registry;
use crate::process_table::wait_registry::WaitReason;
use crate::sync::spin::Spin;
use crate::sys::futex::Slept;
use crate::sys::known_fd::KnownFd;

/// How much may be in flight in one direction: in units of the smallest slot, and in bytes of large
/// messages. A faster sender waits. The 64 KiB of a kernel pipe have room for this many of the
/// standard library's frames with an empty message.
const LIMIT: u64 = 16_384;
const BYTE_LIMIT: u64 = 1 << 20;

/// How often a sender that finds its messages unread asks the kernel whether the other end is open.
const PROBE_NS: u64 = 2_000_000;
/// How long a sender that waits for room sleeps before it asks.
const FULL_NAP: Duration = Duration::from_millis(50);
/// The longest time that a receiver ignores the socket after it was notified in vain.
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

const SECOND: u32 = 1;
const READABLE: u32 = 2;
const WRITABLE: u32 = 4;

#[repr(C)]
pub(crate) struct PipeObject {
    head: ObjectHead,
    /// `chains[s]` carries what side `s` sends.
    chains: [ChunkList; 2],
    /// `readiness[s]` is about what side `s` sends.
    readiness: [PaddedReadiness; 2],
    /// How often a process closed a copy of side `s`: a sign to ask the kernel.
    closings: [AtomicU32; 2],
}

const _: () = assert!(std::mem::offset_of!(PipeObject, chains) == 64);

/// A cache line of its own, because both sides read their own with every message.
#[repr(C, align(64))]
struct PaddedReadiness(Readiness);

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for PipeObject {
    const KIND: Kind = Kind::Pipe;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// One end of a pipe. Dropping it closes this process's copy of the end.
#[derive(Debug)]
pub struct End {
    // Dropped before `part`, because a process that is told that a copy was closed asks the kernel.
    // It is a `KnownFd` because the program may close all the descriptors it has; without this one,
    // the pipe is at its end.
    socket: KnownFd,
    part: Part,
    sending: Sending,
    receiving: Spin,
    /// The peer's `closings` when the kernel was last asked.
    closings: AtomicU32,
    /// When the kernel was last asked.
    probed: AtomicU64,
    /// Set once every copy of the other end is closed. It never changes back.
    peer_is_gone: AtomicBool,
}

opened!(End, part.shared);

/// This process's part in a pipe. Dropping it records that a copy of an end was closed.
#[derive(Debug)]
struct Part {
    shared: TypedRef<PipeObject>,
    /// Which end this is (bit 0), and what it may do.
    note: u32,
}

impl Part {
    fn side(&self) -> usize {
        (self.note & SECOND) as usize
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A forked child may not hold the object, and its memory may be another pipe by now.
        if self.shared.check().is_ok() {
            self.shared.record_closing(self.side());
        }
    }
}

/// Makes a pipe. With `duplex`, both ends send and receive. Without it, the first end receives and
/// the second sends.
///
/// # Errors
/// When shared memory or a descriptor is not available.
pub fn pipe(duplex: bool) -> Result<(End, End)> {
    let fill = |object: &PipeObject| {
        for chain in &object.chains {
            chain.limit.store(LIMIT, Ordering::Relaxed);
            chain.byte_limit.store(BYTE_LIMIT, Ordering::Relaxed);
        }
    };
    let (one, two) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| Error::os("make a socket pair", errno))?;
    let first = TypedRef::<PipeObject>::make(0, fill)?;
    let second = TypedRef::open(&first.handle())?;
    let (reads, writes) = match duplex {
        true => (READABLE | WRITABLE, READABLE | WRITABLE),
        false => (READABLE, WRITABLE),
    };
    Ok((
        End::from_shared(first, reads, one)?,
        End::from_shared(second, SECOND | writes, two)?,
    ))
}

impl End {
    fn from_shared(shared: TypedRef<PipeObject>, note: u32, socket: OwnedFd) -> Result<End> {
        Ok(End {
            socket: KnownFd::new(socket)?,
            part: Part { shared, note },
            sending: Sending::default(),
            receiving: Spin::default(),
            closings: AtomicU32::new(0),
            probed: AtomicU64::new(0),
            peer_is_gone: AtomicBool::new(false),
        })
    }

    /// Opens the end that a handle names, with a copy of its descriptor.
    ///
    /// # Errors
    /// When the handle is from another process tree, stale, or names something else.
    pub fn open(handle: &Handle, socket: OwnedFd) -> Result<End> {
        End::from_shared(TypedRef::open(handle)?, handle.note(), socket)
    }

    /// The handle by which a process that also gets the [descriptor](End::socket) opens this end.
    pub fn handle(&self) -> Handle {
        self.part.shared.handle().with_note(self.part.note)
    }

    fn object(&self) -> &PipeObject {
        &self.part.shared
    }

    fn side(&self) -> usize {
        self.part.side()
    }

    fn chain(&self, side: usize) -> ListCursor<'static> {
        let cursor = ListCursor {
            arena: self.part.shared.arena(),
            chain: &self.object().chains[side],
            home: self.part.shared.block(),
            generation: self.part.shared.generation(),
            which: side as u32,
        };
        // SAFETY: the chunk list lies in memory that is never unmapped. What outlives `self` is
        // only ever a message's own block.
        unsafe { std::mem::transmute::<ListCursor<'_>, ListCursor<'static>>(cursor) }
    }

    pub(crate) fn outgoing(&self) -> ListCursor<'static> {
        self.chain(self.side())
    }

    pub(crate) fn incoming(&self) -> ListCursor<'static> {
        self.chain(1 - self.side())
    }

    /// The readiness of what arrives here.
    fn readiness(&self) -> &Readiness {
        &self.object().readiness[1 - self.side()].0
    }

    /// Whether this end receives.
    pub fn is_readable(&self) -> bool {
        self.part.note & READABLE != 0
    }

    /// Whether this end sends.
    pub fn is_writable(&self) -> bool {
        self.part.note & WRITABLE != 0
    }

    /// Sends one message, made of the parts one after the other.
    ///
    /// # Errors
    /// [`PutError::Closed`] if every copy of the other end is closed, [`PutError::Full`] if there
    /// was no room before the deadline.
    pub fn send(&self, parts: &[&[u8]], deadline: Deadline) -> Result<(), PutError> {
        self.send_with(parts, &[], deadline)
    }

    /// Like [`End::send`], with objects that stay alive until the receiver drops the [`Message`],
    /// or the pipe is gone.
    ///
    /// # Errors
    /// Like [`End::send`].
    pub fn send_with(
        &self,
        parts: &[&[u8]],
        objects: &[ObjectRef],
        deadline: Deadline,
    ) -> Result<(), PutError> {
        self.send_by(deadline, |out, wait| out.put(parts, objects, wait))
    }

    /// Like [`End::send`], with a message that was written already. Takes the buffer if the message
    /// is sent, and leaves it otherwise.
    ///
    /// # Errors
    /// Like [`End::send`].
    pub fn send_buf(
        &self,
        buf: &mut Option<MessageBuf>,
        deadline: Deadline,
    ) -> Result<(), PutError> {
        self.send_by(deadline, |out, wait| out.put_buf(buf, wait))
    }

    fn send_by(
        &self,
        deadline: Deadline,
        put: impl FnOnce(&ListCursor<'static>, &Wait<'_>) -> Result<(), PutError>,
    ) -> Result<(), PutError> {
        if !self.is_writable() {
            return Err(Error::Invalid("this end of the pipe only receives".into()).into());
        }
        let out = self.outgoing();
        if self.should_probe(out) && self.peer_is_gone() {
            return Err(PutError::Closed);
        }
        let wait = Wait {
            deadline,
            sending: &self.sending,
            hopeless: &|| self.peer_is_gone(),
            nap: Some(FULL_NAP),
            on_claimed: &|| self.notify(),
        };
        put(&out, &wait)
    }

    /// Makes the other end's descriptor readable if it is not yet. Call it before a message is
    /// published.
    #[inline]
    fn notify(&self) {
        let readiness = &self.object().readiness[self.side()].0;
        if readiness.needs_byte() {
            failpoint::hit("pipe.notifying");
            // A full socket has enough bytes, and the sender learns of a closed one in other ways.
            if self.socket.get().is_some_and(readiness::notify) {
                failpoint::hit("pipe.notified");
                readiness.set_signalled();
            }
        }
    }

    /// Whether to ask the kernel, which costs a system call: only if a copy of the other end was
    /// closed, or if earlier messages are still unread and some time went by.
    fn should_probe(&self, out: ListCursor<'_>) -> bool {
        if self.some_peer_closed() {
            return true;
        }
        let now = coarse_ns();
        if now.saturating_sub(self.probed.load(Ordering::Relaxed)) <= PROBE_NS {
            return false;
        }
        self.probed.store(now, Ordering::Relaxed);
        !out.is_empty()
    }

    /// Whether every copy of the other end may be closed: one was, since the kernel was last asked.
    fn some_peer_closed(&self) -> bool {
        self.peer_is_gone.load(Ordering::Relaxed)
            || self.peer_closings() != self.closings.load(Ordering::Relaxed)
    }

    fn peer_closings(&self) -> u32 {
        self.object().closings[1 - self.side()].load(Ordering::SeqCst)
    }

    /// Asks the kernel, unless the answer is already final.
    pub(crate) fn peer_is_gone(&self) -> bool {
        if self.peer_is_gone.load(Ordering::Relaxed) {
            return true;
        }
        let closings = self.peer_closings();
        let gone = self.socket.get().is_none_or(readiness::peer_is_gone);
        if gone {
            self.peer_is_gone.store(true, Ordering::Relaxed);
        } else {
            self.closings.store(closings, Ordering::Relaxed);
        }
        gone
    }

    /// Receives one message.
    ///
    /// # Errors
    /// [`GetError::Closed`] if everything was received and every copy of the other end is closed,
    /// [`GetError::Empty`] if nothing came before the deadline.
    pub fn recv(&self, deadline: Deadline) -> Result<Message, GetError> {
        let mut message = Message::default();
        self.recv_into(&mut message, deadline)?;
        Ok(message)
    }

    /// Receives one message into `message`, which saves a copy.
    ///
    /// # Errors
    /// Like [`End::recv`]; `message` may have changed.
    pub fn recv_into(&self, message: &mut Message, deadline: Deadline) -> Result<(), GetError> {
        self.check_readable()?;
        let incoming = self.incoming();
        let taken = self.wait_for(deadline, || incoming.try_take(message))?;
        taken.ok_or(GetError::Closed)??;
        self.settle();
        Ok(())
    }

    /// Receives a message that is there or comes within a moment, without a system call. Returns
    /// false if there is none, also if none can come any more.
    ///
    /// # Errors
    /// When the pipe's memory is damaged, or this end only sends.
    pub fn try_recv_into(&self, message: &mut Message) -> Result<bool> {
        self.check_readable()?;
        let incoming = self.incoming();
        let mut taken = incoming.take(message)?;
        if taken {
            self.receiving.hit();
        } else {
            let later = self.receiving.briefly(|| incoming.try_take(message));
            taken = later.transpose()?.is_some();
        }
        if taken {
            self.settle();
        }
        Ok(taken)
    }

    fn check_readable(&self) -> Result<()> {
        match self.is_readable() {
            true => Ok(()),
            false => Err(Error::Invalid("this end of the pipe only sends".into())),
        }
    }

    /// Waits until a message or the end of the stream is there. Returns false if the deadline
    /// passed.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`].
    pub fn poll(&self, deadline: Deadline) -> Result<bool, WaitError> {
        let incoming = self.incoming();
        let look = || (!incoming.is_empty()).then_some(());
        match self.wait_for(deadline, look) {
            Ok(_) => Ok(true),
            Err(GetError::Interrupted) => Err(WaitError::Interrupted),
            // A caller that sleeps until the descriptor changes would not hear again of a message
            // that it already shows.
            Err(_) => {
                let is_shown = || self.socket.get().is_some_and(readiness::has_bytes);
                let is_announced = || is_shown() && incoming.is_due();
                let found =
                    readiness::await_announced(self.readiness(), is_announced, || Ok(look()));
                Ok(matches!(found, Ok(Some(()))))
            }
        }
    }

    /// Calls `ready` until it returns something. Returns `None` at the end of the stream.
    fn wait_for<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, GetError> {
        if let Some(found) = ready() {
            self.receiving.hit();
            return Ok(Some(found));
        }
        if deadline != Deadline::NOW
            && let Some(found) = self.receiving.until(&mut ready)
        {
            return Ok(Some(found));
        }
        let items = &self.incoming().chain.items;
        let found = self.wait_asleep(deadline, &mut ready);
        items.woke(|| !self.incoming().is_empty());
        found
    }

    /// Like [`End::wait_for`], after a first look in vain.
    fn wait_asleep<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, GetError> {
        let items = &self.incoming().chain.items;
        let _call = wait_registry::Call::join();
        // Nobody may tell this receiver that the other end is gone. It finds out by asking after a
        // nap, and from then on by sleeping where the kernel tells it.
        let mut ask = deadline == Deadline::NOW;
        let mut pause = NOTIFY_NAP;
        loop {
            let key = items.announce();
            if let Some(found) = ready() {
                return Ok(Some(found));
            }
            let others = self.part.shared.watch_others();
            if (ask || others.is_none() || self.some_peer_closed()) && self.peer_is_gone() {
                // What the peer sent before it went is still there to be received.
                return Ok(ready());
            }
            if deadline.is_past() {
                self.settle();
                return Err(GetError::Empty);
            }
            match others {
                Some(mut words) if !wait_registry::is_idle() => {
                    words.push((items.word(), key));
                    failpoint::hit("pipe.empty");
                    let slept = wait_registry::wait_known_by(
                        WaitReason::Message,
                        items.word(),
                        &words,
                        deadline,
                    );
                    if slept == Slept::Interrupted {
                        return Err(GetError::Interrupted);
                    }
                }
                _ => {
                    if let Some(found) = self.sleep_on_socket(deadline, &mut ready)? {
                        return Ok(Some(found));
                    }
                    if self.socket.get().is_some_and(readiness::has_bytes) {
                        // A message is about to come, or another process is about to take the bytes
                        // out. Until then the socket shows nothing new, and the process in question
                        // may be stopped.
                        let slice = deadline.min(Deadline::after(pause));
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        if wait_registry::wait(WaitReason::Message, items.word(), key, slice)
                            == Slept::Interrupted
                        {
                            return Err(GetError::Interrupted);
                        }
                    }
                }
            }
            ask = true;
        }
    }

    /// Sleeps where only the kernel tells that the other end is gone.
    fn sleep_on_socket<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, GetError> {
        self.clear_readiness();
        if let Some(found) = ready() {
            return Ok(Some(found));
        }
        let slept = wait_registry::with_record(
            WaitReason::Message,
            self.incoming().chain.items.word(),
            || {
                let socket = self.socket.get();
                socket.is_none_or(|socket| readiness::sleep(socket, deadline))
            },
        );
        if !slept {
            return Err(GetError::Interrupted);
        }
        Ok(ready())
    }

    /// Brings the descriptor in line with the pipe, after a look or a message.
    #[inline]
    fn settle(&self) {
        if self.readiness().is_watched() && self.incoming().is_empty() {
            self.clear_readiness();
        }
    }

    #[inline(never)]
    fn clear_readiness(&self) {
        let Some(socket) = self.socket.get() else {
            return;
        };
        let arena = self.part.shared.arena();
        let is_due = || self.incoming().is_due();
        self.readiness()
            .clear(arena.me(), |owner| arena.is_dead(owner), &socket, is_due);
    }

    /// A descriptor that is readable exactly while a message or the end of the stream is there,
    /// whichever processes send and receive. It is the end's socket: bytes read from it or written
    /// to it are not messages.
    ///
    /// From the first call on, a message that arrives in an empty pipe costs its sender a system
    /// call, and its receiver two.
    pub fn fileno(&self) -> RawFd {
        self.readiness().watch();
        self.settle();
        self.socket.number()
    }

    /// Whether other processes had an end of this pipe and none has one any more. From then on,
    /// only this process can send anything.
    pub fn others_are_gone(&self) -> bool {
        self.part.shared.others_are_gone()
    }

    /// Read this before an attempt to send that fails; see
    /// [`Source::DepartureSince`](crate::select::Source::DepartureSince).
    pub fn event_key(&self) -> EventKey {
        EventKey::now(&self.outgoing().chain.space)
    }

    /// See [`TypedRef::watch_others`].
    pub(crate) fn watch_others(&self) -> Option<Vec<(&'static AtomicU32, u32)>> {
        self.part.shared.watch_others()
    }

    /// The descriptor of this end, to be passed on with the [handle](End::handle).
    ///
    /// # Errors
    /// When the program closed it.
    pub fn socket(&self) -> Result<BorrowedFd<'_>> {
        self.socket.checked()
    }
}

impl PipeObject {
    /// Records that a copy of an end was closed. Processes that send to it, or wait for what it
    /// sends, ask the kernel whether a copy is left.
    fn record_closing(&self, side: usize) {
        self.closings[side].fetch_add(1, Ordering::SeqCst);
        self.chains[1 - side].space.notify(u32::MAX);
        self.chains[side].items.notify(u32::MAX);
    }
}

pub(crate) const PIPE: KindOps = KindOps {
    take_apart: |arena, block| chunk_list::dismantle_all(arena, Kind::Pipe, block),
    holder_died: holder_is_gone,
    ..OBJECT
};

/// Records that a process that held the pipe in `block` is gone, and its copies of the ends with
/// it.
fn holder_is_gone(arena: &Arena, block: BlockId) {
    if let Ok(payload) = arena.payload(block) {
        // SAFETY: an object's block that says it is a pipe; all atomics, never unmapped.
        let pipe = unsafe { payload.cast::<PipeObject>().as_ref() };
        pipe.record_closing(0);
        pipe.record_closing(1);
    }
}
