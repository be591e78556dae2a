//! The pipe behind a queue's descriptor, as one process has it open.
//!
//! A process opens each pipe once, whichever of its handles to the queue asked first. The
//! descriptor's number stays the same as long as one of the handles lives. A forked child has what
//! its parent had.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use rustix::fs::FileType;
use rustix::pipe::PipeFlags;

use crate::arena::owner::ProcId;
use crate::channel::readiness::{Bytes, CHUNK};
use crate::error::{Error, Result};
use crate::process_table::identity::fork_guard;
use crate::sys::known_fd::{FdMatch, KnownFd, reopen};
use crate::sys::thread;

/// A pipe, named by its inode. Linux gives pipes inode numbers of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PipeId(pub(crate) u32);

impl PipeId {
    fn of(fd: BorrowedFd<'_>) -> Option<PipeId> {
        let stat = rustix::fs::fstat(fd).ok()?;
        let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        is_pipe.then_some(PipeId(stat.st_ino as u32))
    }
}

impl FdMatch for PipeId {
    fn is_named(&self, link: &str) -> bool {
        link == format!("pipe:[{}]", self.0)
    }

    fn is(&self, file: BorrowedFd<'_>) -> bool {
        PipeId::of(file) == Some(*self)
    }
}

/// A pipe that this process has open.
pub(crate) struct OpenPipe {
    id: PipeId,
    read: KnownFd,
    /// A separate descriptor for writing. Only the process that made the pipe has one.
    write: Option<KnownFd>,
    /// The process that last registered the pipe: the one that opened it, or a child forked from
    /// it.
    registered_by: AtomicU32,
}

/// All pipes that this process has open.
static OPEN_PIPES: Mutex<BTreeMap<PipeId, Weak<OpenPipe>>> = Mutex::new(BTreeMap::new());

fn open_pipes() -> MutexGuard<'static, BTreeMap<PipeId, Weak<OpenPipe>>> {
    OPEN_PIPES.lock().unwrap_or_else(|e| e.into_inner())
}

impl OpenPipe {
    /// Makes a new pipe.
    pub(crate) fn make() -> Result<Arc<OpenPipe>> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|errno| Error::os("make a pipe", errno))?;
        OpenPipe::keep(read, Some(write))
    }

    /// Keeps a pipe that this process opened. If another thread was faster, returns that thread's.
    pub(crate) fn keep(read: OwnedFd, write: Option<OwnedFd>) -> Result<Arc<OpenPipe>> {
        let id = PipeId::of(read.as_fd()).ok_or(Error::BadHandle)?;
        // Declared before the locks, so that it is dropped after them: dropping the last one takes
        // the locks.
        let known;
        let _no_fork = fork_guard();
        let mut all = open_pipes();
        known = all.get(&id).and_then(Weak::upgrade);
        if let Some(known) = known.as_ref().filter(|known| known.is_open()) {
            if known.number() == read.as_raw_fd() {
                // The program closed the known descriptor, and this one got its number: leave it
                // open.
                let _known = read.into_raw_fd();
            }
            return Ok(Arc::clone(known));
        }
        let new = Arc::new(OpenPipe {
            id,
            read: KnownFd::new(read)?,
            write: write.map(KnownFd::new).transpose()?,
            registered_by: AtomicU32::new(0),
        });
        all.insert(id, Arc::downgrade(&new));
        Ok(new)
    }

    /// The pipe, if this process has it open.
    pub(crate) fn find_open(id: PipeId) -> Option<Arc<OpenPipe>> {
        let known = {
            let _no_fork = fork_guard();
            open_pipes().get(&id).and_then(Weak::upgrade)
        };
        known.filter(|known| known.is_open())
    }

    pub(crate) fn id(&self) -> PipeId {
        self.id
    }

    pub(crate) fn number(&self) -> RawFd {
        self.read.number()
    }

    /// Whether the program has left it open.
    pub(crate) fn is_open(&self) -> bool {
        self.read.get().is_some()
            && self
                .write
                .as_ref()
                .is_none_or(|write| write.get().is_some())
    }

    /// Writes a byte. Returns false if it cannot, for example because the pipe is full.
    pub(crate) fn notify(&self) -> bool {
        let write = self.write.as_ref().unwrap_or(&self.read).get();
        write.is_some_and(|write| rustix::io::write(write, b"!").is_ok())
    }

    /// Whether `me` has yet to register the pipe. True only once.
    pub(crate) fn must_register(&self, me: ProcId) -> bool {
        self.registered_by.load(Ordering::Relaxed) != me.as_u32()
            && self.registered_by.swap(me.as_u32(), Ordering::Relaxed) != me.as_u32()
    }
}

impl Bytes for OpenPipe {
    fn count(&self) -> usize {
        let count = self.read.get().map(rustix::io::ioctl_fionread);
        count.and_then(Result::ok).unwrap_or(0) as usize
    }

    fn take(&self, count: usize) -> bool {
        let mut bytes = [0u8; CHUNK];
        let Some(read) = self.read.get() else {
            return false;
        };
        rustix::io::read(read, &mut bytes[..count]).is_ok()
    }
}

impl Drop for OpenPipe {
    fn drop(&mut self) {
        let _no_fork = fork_guard();
        let mut all = open_pipes();
        // The map may hold another pipe under this id, opened after the program closed this one.
        if all
            .get(&self.id)
            .is_some_and(|weak| weak.strong_count() == 0)
        {
            all.remove(&self.id);
        }
    }
}

/// What one handle knows about its queue's pipe.
#[derive(Default)]
pub(crate) struct PipeCache {
    opened: AtomicPtr<Node>,
    /// The queue's word when no process had the pipe open, and when the pipe could not be opened.
    pub(crate) nobody: AtomicU64,
    pub(crate) refused: AtomicU64,
}

struct Node {
    opened: Arc<OpenPipe>,
    /// The node before it. It stays as long as the handle does, because other threads may use it.
    previous: *mut Node,
}

impl fmt::Debug for PipeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opened = self.get();
        f.debug_tuple("PipeCache")
            .field(&opened.map(OpenPipe::number))
            .finish()
    }
}

impl PipeCache {
    pub(crate) fn get(&self) -> Option<&OpenPipe> {
        // SAFETY: `set` made it from a box, and it is freed only when this is dropped, which needs
        // all borrows to end.
        unsafe { self.opened.load(Ordering::Acquire).as_ref() }.map(|node| &*node.opened)
    }

    /// Keeps a pipe that other handles of this process may have as well.
    pub(crate) fn set(&self, opened: Arc<OpenPipe>) -> &OpenPipe {
        let node = Box::into_raw(Box::new(Node {
            opened,
            previous: ptr::null_mut(),
        }));
        let mut previous = self.opened.load(Ordering::Acquire);
        loop {
            // SAFETY: no other thread has it yet.
            unsafe { (*node).previous = previous };
            match self
                .opened
                .compare_exchange(previous, node, Ordering::AcqRel, Ordering::Acquire)
            {
                // SAFETY: as in `get`.
                Ok(_) => return unsafe { &(*node).opened },
                Err(found) => previous = found,
            }
        }
    }
}

impl Drop for PipeCache {
    fn drop(&mut self) {
        let mut node = *self.opened.get_mut();
        while !node.is_null() {
            // SAFETY: each node was made from a box and is in the list once; nothing borrows it.
            let last = unsafe { Box::from_raw(node) };
            node = last.previous;
        }
    }
}

/// Writes a byte into a pipe from a process that has no descriptor left. A thread with a descriptor
/// table of its own does it: in that table a number can be freed. Returns false if that is refused,
/// or if no path leads to the pipe.
pub(crate) fn notify_without_descriptor(id: PipeId, paths: Vec<String>) -> bool {
    let notify = move || {
        // SAFETY: the thread uses only descriptors that it opens below.
        if !unsafe { thread::take_own_descriptors() } {
            return false;
        }
        let found = paths.iter().find_map(|path| reopen(path, &id).ok()?);
        found.is_some_and(|pipe| rustix::io::write(pipe, b"!").is_ok())
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let started =
        thread::spawn_without_signals("notify", move || sender.send(notify()).unwrap_or(()));
    started.is_ok_and(|thread| thread.join().is_ok()) && receiver.recv().unwrap_or(false)
}
