//! A queue's descriptor: a kernel pipe that is readable exactly while a message waits.
//!
//! It is made when a process first asks for it. A word in shared memory tells all processes that
//! hold the queue. From then on, every process that puts a message or takes the last one out keeps
//! the pipe in line with the queue, by the protocol of [`readiness`](crate::channel::readiness). Every
//! process opens the same pipe, through its number in a process that has it open. The inode
//! identifies the pipe; a number alone does not.
//!
//! ```text
//! ask:  open or make the pipe;  WATCHED;  is a message due, and no byte there?  one byte;  clear
//! put:  claim a slot;  WATCHED, and not SIGNALLED?  one byte, then SIGNALLED;  publish
//! ```
//!
//! A process that puts a message without seeing WATCHED claimed its slot before it looked. So a
//! process that asks for the descriptor finds that message due. The same holds for a process that
//! finds that no process has the pipe open: it notifies nobody, and the next process that asks
//! makes another pipe and looks. A queue whose descriptor nobody asks for pays one load per
//! message.
//!
//! There must be no second pipe while a process waits on the first. A small table says which
//! processes have it open, but the table does not know forked children, and has no room for all
//! others. So a process that finds nobody in the table looks at all processes that hold the queue.
//! Meanwhile, another process may open the pipe by way of a process that is gone when its turn to
//! be looked at comes:
//!
//! ```text
//! open: open the pipe;  openings + 1, if it is still the queue's; otherwise start again
//! make: read the word;  look at all holders;  word unchanged?  store the new inode; otherwise start again
//! ```

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::arena::owner::ProcId;
use crate::channel::message::Message;
use crate::channel::queue::Queue;
use crate::channel::readiness::queue_pipe::{OpenPipe, PipeId, notify_without_descriptor};
use crate::channel::readiness::{Bytes, MAX_NAPS, NOTIFY_NAP, Readiness, await_announced};
use crate::error::{Error, GetError, Result};
use crate::failpoint;
use crate::sys::known_fd::{find_in_descriptors_of, reopen};

/// In shared memory, behind the queue's chunk list.
#[repr(C, align(64))]
pub(crate) struct QueueReadiness {
    readiness: Readiness,
    /// The pipe's inode (low half; zero before anybody asked), and how often a pipe was opened or
    /// made (high half).
    pipe: AtomicU64,
    /// Processes that have the pipe open (high half), and its descriptor number there (low half).
    /// Other processes may have it open as well.
    holders: [AtomicU64; 5],
    /// A process whose messages the pipe does not show.
    unshown: AtomicU32,
}

const _: () = assert!(size_of::<QueueReadiness>() == 64);

/// One opening, in [`QueueReadiness::pipe`].
const OPENING: u64 = 1 << 32;

fn pipe_in(word: u64) -> Option<PipeId> {
    (word as u32 != 0).then_some(PipeId(word as u32))
}

/// The result of looking for the pipe.
enum Lookup<'a> {
    Open(&'a OpenPipe),
    /// No process has it open.
    Nobody,
    /// A process has it open, or may have it open.
    Refused(Errno),
}

impl Queue {
    fn words(&self) -> &QueueReadiness {
        &self.object().readiness
    }

    /// A descriptor that is readable exactly while a message waits or the queue is closed,
    /// whichever processes put and get. It is only for waiting: bytes read from it or written to it
    /// are not messages.
    ///
    /// From the first call on, a message that arrives in an empty queue costs its sender system
    /// calls, and its receiver too. Each process that uses the queue opens a descriptor for it.
    ///
    /// # Errors
    /// When no descriptor is available, or when `/proc` does not let this process look into one
    /// that has the pipe open. When a process put a message that the descriptor could not show,
    /// because it cannot look into any process that has the pipe.
    pub fn fileno(&self) -> Result<RawFd> {
        self.open_or_make()?;
        self.words().readiness.watch();
        let number = self.show()?.number();
        match self.has_unshown() {
            false => Ok(number),
            true => Err(Error::os(UNSHOWN, Errno::PERM)),
        }
    }

    /// Makes the descriptor readable, if there is one and it is not readable yet. Call it before a
    /// message is published.
    #[inline]
    pub(crate) fn notify(&self) {
        let readiness = &self.words().readiness;
        if readiness.is_watched() && readiness.needs_byte() {
            self.notify_now();
        }
    }

    #[cold]
    fn notify_now(&self) {
        failpoint::hit("queue.notifying");
        let notified = match self.opened() {
            // A full pipe has enough bytes.
            Lookup::Open(opened) => opened.notify(),
            Lookup::Nobody => false,
            Lookup::Refused(errno) => {
                let notified = is_out_of_descriptors(errno) && self.notify_without_descriptor();
                if !notified {
                    self.record_unshown();
                }
                notified
            }
        };
        if notified {
            failpoint::hit("queue.notified");
            self.words().readiness.set_signalled();
        }
    }

    fn notify_without_descriptor(&self) -> bool {
        let pipe = pipe_in(self.words().pipe.load(Ordering::SeqCst));
        pipe.is_some_and(|pipe| notify_without_descriptor(pipe, self.registered_paths().collect()))
    }

    /// Brings the descriptor in line with the queue, after a look or a message. Call it after the
    /// descriptor was readable and no message was found.
    #[inline]
    pub fn settle(&self) {
        if self.words().readiness.is_watched() && self.is_empty() {
            self.clear();
        }
    }

    #[cold]
    fn clear(&self) {
        if let Lookup::Open(opened) = self.opened() {
            self.clear_bytes(opened);
        }
    }

    fn clear_bytes(&self, opened: &OpenPipe) {
        let arena = self.at().arena;
        let is_due = || self.is_due();
        let is_dead = |owner| arena.is_dead(owner);
        let readiness = &self.words().readiness;
        readiness.clear(arena.me(), is_dead, opened, is_due);
    }

    fn is_due(&self) -> bool {
        self.is_closed() || self.at().is_due()
    }

    /// Receives a message that the descriptor announces but that is still being written: a sender
    /// notifies first. Gives up if the sender was stopped in between.
    pub(crate) fn get_announced(&self, message: &mut Message) -> Result<Option<ProcId>, GetError> {
        let take = || self.at().take(message).map(|taken| taken.then_some(()));
        let taken = await_announced(&self.words().readiness, || self.is_announced(), take)?;
        taken.map(|()| None).ok_or(GetError::Empty)
    }

    fn is_announced(&self) -> bool {
        let is_shown = || matches!(self.opened(), Lookup::Open(opened) if opened.count() > 0);
        is_shown() && self.at().is_due()
    }

    /// Whether a process has asked for the descriptor.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.words().readiness.is_watched()
    }

    /// Whether a message is there, for a caller that the descriptor may have told so. If the
    /// message is still being written, waits for it: a caller that then sleeps until the descriptor
    /// changes would not hear of it again.
    pub fn has_message(&self) -> bool {
        let look = || Ok((!self.is_empty()).then_some(()));
        let found = || await_announced(&self.words().readiness, || self.is_announced(), look);
        let has = !self.is_empty() || matches!(found(), Ok(Some(())));
        if !has {
            self.settle();
        }
        has
    }

    /// Shows what is there already. Does not set SIGNALLED: only a process that has claimed a slot
    /// may let others rely on its byte.
    fn show(&self) -> Result<&OpenPipe> {
        let opened = self.open_or_make()?;
        if opened.count() == 0 {
            // SIGNALLED may be about a pipe that is gone, together with its bytes.
            self.clear_bytes(opened);
            if self.is_due() {
                opened.notify();
            }
        }
        self.settle();
        Ok(opened)
    }

    /// The pipe, for a process that notifies or clears.
    fn opened(&self) -> Lookup<'_> {
        let word = self.words().pipe.load(Ordering::SeqCst);
        match self.cached.get() {
            Some(opened) if Some(opened.id()) == pipe_in(word) && opened.is_open() => {
                if opened.must_register(self.at().arena.me()) {
                    self.register(opened.number());
                }
                Lookup::Open(opened)
            }
            _ => self.look_up_again(),
        }
    }

    #[cold]
    fn look_up_again(&self) -> Lookup<'_> {
        loop {
            let word = self.words().pipe.load(Ordering::SeqCst);
            let Some(pipe) = pipe_in(word) else {
                return Lookup::Nobody;
            };
            // Valid until a process opens or makes a pipe, so this search is not repeated for every
            // message.
            if self.cached.nobody.load(Ordering::Relaxed) == word {
                return Lookup::Nobody;
            }
            if self.cached.refused.load(Ordering::Relaxed) == word {
                return Lookup::Refused(Errno::PERM);
            }
            match self.find_pipe(pipe) {
                Ok(Some(opened)) => {
                    if let Some(opened) = self.count_opening(opened) {
                        return Lookup::Open(opened);
                    }
                }
                Ok(None) => self.cached.nobody.store(word, Ordering::Relaxed),
                Err(errno) if is_out_of_descriptors(errno) => return Lookup::Refused(errno),
                Err(_) => self.cached.refused.store(word, Ordering::Relaxed),
            }
        }
    }

    /// The pipe, if a process has it open.
    fn find_pipe(&self, pipe: PipeId) -> Result<Option<Arc<OpenPipe>>, Errno> {
        if let Some(opened) = OpenPipe::find_open(pipe) {
            return Ok(Some(opened));
        }
        let found = self.open_registered(pipe)?;
        let found = found.map_or_else(|| self.open_at_holder(pipe), |found| Ok(Some(found)))?;
        let keep = |found| OpenPipe::keep(found, None).map_err(|_| Errno::BADF);
        found.map(keep).transpose()
    }

    /// The pipe, by the descriptor numbers that processes registered.
    fn open_registered(&self, pipe: PipeId) -> Result<Option<OwnedFd>, Errno> {
        for path in self.registered_paths() {
            match reopen(&path, &pipe) {
                Ok(None) => {}
                // A process that may not be looked into is tried again later, together with all
                // others.
                Err(errno) if !is_out_of_descriptors(errno) => {}
                registered => return registered,
            }
        }
        Ok(None)
    }

    fn registered_paths(&self) -> impl Iterator<Item = String> {
        let arena = self.at().arena;
        let registered = self.words().holders.iter();
        registered.filter_map(|holder| {
            let holder = holder.load(Ordering::SeqCst);
            let owner = ProcId::from_u32((holder >> 32) as u32)?;
            let number = arena.number_of(owner).filter(|_| !arena.is_dead(owner))?;
            // The PID namespace does not matter: the link names the same pipe in all of them.
            Some(format!("/proc/{}/fd/{}", number.pid(), holder as u32))
        })
    }

    /// The pipe, at any process that holds the queue.
    #[cold]
    fn open_at_holder(&self, pipe: PipeId) -> Result<Option<OwnedFd>, Errno> {
        failpoint::hit("queue.readiness_sought");
        let arena = self.at().arena;
        let (mut naps, mut is_refused) = (0, false);
        let mut look = |owner: ProcId| {
            // A child that is being forked has what its parent had, and the parent may be gone by
            // now.
            while arena.is_expected(owner) && !arena.is_dead(owner) && naps < MAX_NAPS {
                naps += 1;
                std::thread::sleep(NOTIFY_NAP);
            }
            let (number, is_me) = (arena.number_of(owner)?, owner == arena.me());
            let process = match is_me {
                true => "self".to_owned(),
                false => number.pid().to_string(),
            };
            match find_in_descriptors_of(&process, &pipe) {
                Ok(Some(found)) => return Some(Ok(found)),
                Err(errno) if is_out_of_descriptors(errno) => return Some(Err(errno)),
                Ok(None) if is_me || number.in_proc().is_some() => {}
                _ if arena.is_dead(owner) => {}
                _ => is_refused = true,
            }
            None
        };
        match self.find_holder(&mut look).map_err(|_| Errno::IO)? {
            Some(found) => found.map(Some),
            None if is_refused => Err(Errno::PERM),
            None => Ok(None),
        }
    }

    /// Counts an opening, so that a process that looked for the pipe in vain meanwhile looks again.
    /// Returns `None` if another pipe took its place.
    fn count_opening(&self, opened: Arc<OpenPipe>) -> Option<&OpenPipe> {
        failpoint::hit("queue.readiness_opened");
        let is_same =
            |word| (pipe_in(word) == Some(opened.id())).then(|| word.wrapping_add(OPENING));
        let words = self.words();
        words
            .pipe
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_same)
            .ok()?;
        let me = self.at().arena.me();
        if opened.must_register(me) {
            self.register(opened.number());
        }
        // From now on this process's messages can be shown.
        let _ = words
            .unshown
            .compare_exchange(me.as_u32(), 0, Ordering::SeqCst, Ordering::SeqCst);
        Some(self.cached.set(opened))
    }

    /// The pipe, for a caller that asks for the descriptor.
    fn open_or_make(&self) -> Result<&OpenPipe> {
        const WHAT: &str = "open the descriptor that another process waits for this queue with";
        let words = self.words();
        // The process that was in the way may be gone.
        self.cached.refused.store(0, Ordering::Relaxed);
        loop {
            match self.opened() {
                Lookup::Open(opened) => return Ok(opened),
                Lookup::Refused(errno) => return Err(Error::os(WHAT, errno)),
                Lookup::Nobody => {}
            }
            let made = OpenPipe::make()?;
            if made.must_register(self.at().arena.me()) {
                self.register(made.number());
            }
            failpoint::hit("queue.readiness_made");
            let seen = self.cached.nobody.load(Ordering::Relaxed);
            let named = u64::from(made.id().0) | (seen & !(OPENING - 1)).wrapping_add(OPENING);
            let swap = words
                .pipe
                .compare_exchange(seen, named, Ordering::SeqCst, Ordering::SeqCst);
            if swap.is_ok() {
                failpoint::hit("queue.readiness_named");
                return Ok(self.cached.set(made));
            }
        }
    }

    /// Registers the descriptor's number, so that others find the pipe, if there is room.
    fn register(&self, number: RawFd) {
        let arena = self.at().arena;
        let me = arena.me();
        let mine = u64::from(me.as_u32()) << 32 | u64::from(number as u32);
        for holder in &self.words().holders {
            let seen = holder.load(Ordering::SeqCst);
            let owner = ProcId::from_u32((seen >> 32) as u32);
            let is_free = owner.is_none_or(|owner| owner == me || arena.is_dead(owner));
            let swap = || holder.compare_exchange(seen, mine, Ordering::SeqCst, Ordering::SeqCst);
            if is_free && swap().is_ok() {
                return;
            }
        }
    }

    /// Records that the descriptor does not show the message that this process is about to put.
    fn record_unshown(&self) {
        let (arena, unshown) = (self.at().arena, &self.words().unshown);
        let seen = unshown.load(Ordering::SeqCst);
        if ProcId::from_u32(seen).is_none_or(|owner| arena.is_dead(owner)) {
            // One record says as much as several.
            let _ = unshown.compare_exchange(
                seen,
                arena.me().as_u32(),
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
        }
    }

    fn has_unshown(&self) -> bool {
        let unshown = self.words().unshown.load(Ordering::SeqCst);
        ProcId::from_u32(unshown).is_some_and(|owner| !self.at().arena.is_dead(owner))
    }
}

const UNSHOWN: &str = "show all messages of this queue by its descriptor: a process put one and could not \
    open the descriptor (it is in another PID namespace, another user's, or has no descriptor left). \
    Ask for the descriptor before that process is forked, or receive with get";

/// Whether this process, or the system, has no descriptor number left.
fn is_out_of_descriptors(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}
