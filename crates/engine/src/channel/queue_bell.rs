//! A queue's descriptor: a pipe of the kernel that is readable exactly while a message waits.
//!
//! It is made when somebody first asks for it, and told to all that hold the queue by a word: from then on whoever puts
//! a message in or takes the last one out keeps the pipe in line with what is there, by the protocol of
//! [`bell`](super::bell). Every process opens the same pipe, by the number it has in one that has it open. Which pipe it
//! is says the inode; a number alone is no identity.
//!
//! ```text
//! ask:  open or make the pipe;  WATCHED;  is a message due, and no byte there?  one byte;  clear
//! put:  claim a slot;  WATCHED, and not SIGNALLED?  one byte, then SIGNALLED;  publish
//! ```
//!
//! Who puts without having seen WATCHED claimed its slot before it looked, so whoever asked finds a message due.
//! A queue that nobody asks for its descriptor costs a load for each message.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::bell::{Bell, Bytes, RING_NAP};
use super::message::Message;
use super::queue::Queue;
use crate::arena::owner::OwnerId;
use crate::error::{Error, GetError, Result};
use crate::kill;
use crate::sys::known_fd::KnownFd;

/// So often does a receiver nap for a message that was rung for.
const MOST_NAPS: usize = 200;

/// In shared memory, behind the queue's chain.
#[repr(C, align(64))]
pub(crate) struct QueueBell {
    bell: Bell,
    /// Which pipe it is; zero before somebody asked.
    inode: AtomicU64,
    /// Processes that have it open (high half), and the numbers it has there. Of those that find no room here, none
    /// is asked.
    holders: [AtomicU64; 6],
}

const _: () = assert!(size_of::<QueueBell>() == 64);

/// The pipe, as one process has it open.
struct Opened {
    inode: u64,
    read: KnownFd,
    /// Apart from the other only where this process made it.
    write: Option<KnownFd>,
}

/// What one handle has open; replaced when the program closed it.
#[derive(Default)]
pub(super) struct Cached(AtomicPtr<Opened>);

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened = self.get();
        f.debug_tuple("Cached")
            .field(&opened.map(|opened| opened.read.number()))
            .finish()
    }
}

impl Cached {
    fn get(&self) -> Option<&Opened> {
        // SAFETY: made by `set` from a box, and freed only when this is dropped, which borrows.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Keeps `opened`; what was there before stays, since others may use it.
    fn set(&self, opened: Opened) -> &Opened {
        let new = Box::into_raw(Box::new(opened));
        self.0.store(new, Ordering::Release);
        // SAFETY: just made, and freed only when this is dropped.
        unsafe { &*new }
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        let opened = *self.0.get_mut();
        if !opened.is_null() {
            // SAFETY: the last one that was set, taken out once; nobody borrows.
            drop(unsafe { Box::from_raw(opened) });
        }
    }
}

impl Bytes for Opened {
    fn count(&self) -> usize {
        let count = self.read.get().map(rustix::io::ioctl_fionread);
        count.and_then(Result::ok).unwrap_or(0) as usize
    }

    fn take(&self, count: usize) -> bool {
        let mut bytes = [0u8; super::bell::CHUNK];
        let Some(read) = self.read.get() else {
            return false;
        };
        rustix::io::read(read, &mut bytes[..count]).is_ok()
    }
}

impl Opened {
    fn ring(&self) -> bool {
        let write = self.write.as_ref().unwrap_or(&self.read).get();
        write.is_some_and(|write| rustix::io::write(write, b"!").is_ok())
    }

    fn is_there(&self) -> bool {
        self.read.get().is_some()
    }
}

impl Queue {
    fn words(&self) -> &QueueBell {
        &self.object().bell
    }

    /// A descriptor that is readable exactly while a message waits or the queue is closed, whichever process puts and
    /// gets. It is for waiting only: what is read from it or written to it is no message.
    ///
    /// From the first call on, a message that comes when none is there costs its sender system calls, and its
    /// receiver too; each process that uses the queue opens a descriptor for it.
    ///
    /// # Errors
    /// When descriptors cannot be had, or a process that has the pipe open cannot be looked into by way of `/proc`.
    pub fn fileno(&self) -> Result<RawFd> {
        let number = self.opened()?.read.number();
        self.words().bell.watch();
        self.show()?;
        Ok(number)
    }

    /// Opens the pipe if one is needed. To be asked before a message is put or received, where an error may be told.
    #[inline]
    pub(super) fn open_bell(&self) -> Result<()> {
        match self.words().bell.is_watched() {
            true => self.opened().map(drop),
            false => Ok(()),
        }
    }

    /// Makes the descriptor readable, if somebody has it and it is not: a message is about to be there.
    #[inline]
    pub(super) fn ring(&self) {
        let bell = &self.words().bell;
        if bell.is_watched() && bell.wants_byte() {
            self.ring_now();
        }
    }

    #[cold]
    fn ring_now(&self) {
        kill::point("queue.ringing");
        // A full pipe holds bytes enough.
        if self.opened().is_ok_and(Opened::ring) {
            kill::point("queue.rung");
            self.words().bell.note_byte();
        }
    }

    /// Brings the descriptor in line with what is there, after a look or a message.
    #[inline]
    pub(super) fn settle(&self) {
        if self.words().bell.is_watched() && self.is_empty() {
            self.clear();
        }
    }

    #[cold]
    fn clear(&self) {
        let arena = self.at().arena;
        if let Ok(opened) = self.opened() {
            let is_due = || self.is_due();
            let is_dead = |owner| arena.is_dead(owner);
            self.words().bell.clear(arena.me(), is_dead, opened, is_due);
        }
    }

    fn is_due(&self) -> bool {
        self.is_closed() || self.at().is_due()
    }

    /// Receives a message that the descriptor shows and that is yet to be written: its sender rings first. One that
    /// was stopped in between is not waited for.
    pub(super) fn get_announced(&self, message: &mut Message) -> Result<Option<OwnerId>, GetError> {
        let at = self.at();
        let is_announced = || self.opened().is_ok_and(|opened| opened.count() > 0) && at.is_due();
        for _ in 0..MOST_NAPS {
            if !self.words().bell.is_watched() || !is_announced() {
                break;
            }
            std::thread::sleep(RING_NAP);
            if at.take(message)? {
                return Ok(None);
            }
        }
        Err(GetError::Empty)
    }

    /// Shows what is there already. Without SIGNALLED: only who has claimed a slot may let others rely on its byte.
    fn show(&self) -> Result<()> {
        let opened = self.opened()?;
        if self.is_due() && opened.count() == 0 {
            opened.ring();
        }
        self.settle();
        Ok(())
    }

    fn opened(&self) -> Result<&Opened> {
        let noted = self.words().inode.load(Ordering::SeqCst);
        match self.cached.get() {
            Some(opened) if opened.inode == noted && opened.is_there() => Ok(opened),
            _ => self.open_anew(),
        }
    }

    #[cold]
    fn open_anew(&self) -> Result<&Opened> {
        let words = self.words();
        loop {
            let noted = words.inode.load(Ordering::SeqCst);
            if let Some(found) = self.find(noted)? {
                self.register(found.as_raw_fd());
                let read = KnownFd::new(found)?;
                return Ok(self.cached.set(Opened {
                    inode: noted,
                    read,
                    write: None,
                }));
            }
            let made = make()?;
            self.register(made.read.number());
            kill::point("queue.bell_made");
            let swap =
                words
                    .inode
                    .compare_exchange(noted, made.inode, Ordering::SeqCst, Ordering::SeqCst);
            if swap.is_ok() {
                kill::point("queue.bell_named");
                let made = self.cached.set(made);
                if noted != 0 {
                    // All that had the former one are gone, and its bytes with it.
                    self.clear();
                    self.show()?;
                }
                return Ok(made);
            }
        }
    }

    /// Opens the pipe that `inode` says, if a living process has it open.
    fn find(&self, inode: u64) -> Result<Option<OwnedFd>> {
        let arena = self.at().arena;
        if inode == 0 {
            return Ok(None);
        }
        let mut refused = None;
        for holder in &self.words().holders {
            let holder = holder.load(Ordering::SeqCst);
            let number = OwnerId::from_u32((holder >> 32) as u32)
                .filter(|owner| !arena.is_dead(*owner))
                .and_then(|owner| arena.number_of(owner));
            let Some(number) = number else { continue };
            let Some(pid) = number.in_proc() else {
                // Of other namespaces: it has the pipe, and there must be no second one.
                refused = Some(Errno::PERM);
                continue;
            };
            let path = format!("/proc/{pid}/fd/{}", holder as u32);
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) if inode_of(&fd) == Some(inode) => return Ok(Some(fd)),
                Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::MFILE | Errno::NFILE)) => {
                    refused = Some(errno);
                }
                _ => {}
            }
        }
        match refused {
            Some(errno) => Err(Error::os(
                "open the descriptor that another process waits for this queue with",
                errno,
            )),
            None => Ok(None),
        }
    }

    /// Lets others find the pipe by the number it has here.
    fn register(&self, number: RawFd) {
        let arena = self.at().arena;
        let me = arena.me();
        let mine = u64::from(me.as_u32()) << 32 | u64::from(number as u32);
        for holder in &self.words().holders {
            let seen = holder.load(Ordering::SeqCst);
            let owner = OwnerId::from_u32((seen >> 32) as u32);
            let is_free = owner.is_none_or(|owner| owner == me || arena.is_dead(owner));
            let swap = || holder.compare_exchange(seen, mine, Ordering::SeqCst, Ordering::SeqCst);
            if is_free && swap().is_ok() {
                return;
            }
        }
    }
}

fn make() -> Result<Opened> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| Error::os("make a pipe", errno))?;
    let inode = inode_of(&read).ok_or(Error::BadHandle)?;
    Ok(Opened {
        inode,
        read: KnownFd::new(read)?,
        write: Some(KnownFd::new(write)?),
    })
}

/// The inode of a pipe.
fn inode_of(fd: &OwnedFd) -> Option<u64> {
    let stat = rustix::fs::fstat(fd).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::Fifo).then_some(stat.st_ino)
}
