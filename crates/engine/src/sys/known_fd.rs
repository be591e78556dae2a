//! Descriptors that remember their file.
//!
//! A descriptor is a number, and a program may close every number it has, as programs do that become daemons. The next
//! file it opens gets the same number. So before each use or close, the file behind the number is compared with the one
//! that was recorded: the engine never touches a file that is not its own.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Identifies a file, as long as somebody has it open. Files, memory files, pipes and sockets have identities of their
/// own. To the kernel all event counters are one file, and so are all pidfds before Linux 6.9, so the number of the
/// counter or of the process is recorded for those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    /// Which one it is of those that share one file; `None` when `/proc` did not tell, as at the limit of descriptors.
    number: Option<i64>,
}

impl FileId {
    /// The file behind a descriptor; `None` when the number is not open.
    pub fn of(number: RawFd) -> Option<FileId> {
        FileId::with_memory(number).map(|(id, _)| id)
    }

    /// As [`FileId::of`], and how many bytes of memory the file takes.
    pub(crate) fn with_memory(number: RawFd) -> Option<(FileId, u64)> {
        if cfg!(miri) {
            // Miri has one file.
            let id = FileId {
                device: 0,
                inode: 0,
                number: Some(0),
            };
            return Some((id, 0));
        }
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: fstat fills the buffer it is given when it returns 0, and fails on a number that is not open.
        let stat =
            unsafe { (libc::fstat(number, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }?;
        let id = FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
            number: match shared_file() == Some((stat.st_dev, stat.st_ino)) {
                true => number_in_shared_file(number),
                false => Some(0),
            },
        };
        Some((id, stat.st_blocks as u64 * 512))
    }

    /// The file with these numbers.
    pub(crate) fn new(device: u64, inode: u64) -> FileId {
        FileId {
            device,
            inode,
            number: Some(0),
        }
    }

    /// The device, the inode, and the number of an event counter or process that shares its file with others: zero if
    /// that is unknown.
    pub fn numbers(self) -> (u64, u64, i64) {
        (self.device, self.inode, self.number.unwrap_or(0))
    }

    /// Whether this file is behind the descriptor `number`.
    pub fn is_behind(self, number: RawFd) -> bool {
        self.behind(number).is_some()
    }

    /// Closes the descriptor `number`, if this file is behind it.
    pub fn close(self, number: RawFd) {
        if self.is_behind(number) {
            // SAFETY: the number is open on the recorded file, whose owner asks for this; see `behind`.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }

    pub(crate) fn device(self) -> u64 {
        self.device
    }

    pub(crate) fn inode(self) -> u64 {
        self.inode
    }

    /// The descriptor `number`, if this file is behind it.
    pub(crate) fn behind<'fd>(self, number: RawFd) -> Option<BorrowedFd<'fd>> {
        let found = FileId::of(number)?;
        let is_same_file = (found.device, found.inode) == (self.device, self.inode);
        let is_same_number = match (found.number, self.number) {
            (Some(REAPED), _) => true,
            (Some(found), Some(recorded)) => found == recorded,
            // A descriptor that can never be told to be its owner's would never be closed.
            (None, _) | (_, None) => true,
        };
        let same = is_same_file && is_same_number;
        // SAFETY: the number is open on the same file that this process opened and closes nowhere else. Code that
        // closes numbers which are not its own can do so at any time; the next call then fails.
        same.then(|| unsafe { BorrowedFd::borrow_raw(number) })
    }
}

/// What a pidfd reports for a process whose number is free again. That process is gone for good, so it still counts as
/// the same file.
const REAPED: i64 = -1;

/// The file that all event counters share, and all pidfds before Linux 6.9; `None` where a sandbox refuses event
/// counters, and then they cannot be told apart.
fn shared_file() -> Option<(u64, u64)> {
    static SHARED: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let counter = eventfd(0, EventfdFlags::CLOEXEC).ok()?;
        let stat = rustix::fs::fstat(&counter).ok()?;
        Some((stat.st_dev, stat.st_ino))
    })
}

/// The number that `/proc` shows for the process behind a pidfd, or for an event counter; zero for other descriptors.
/// `None` if `/proc` cannot be read: it is not there, or no descriptor is left.
fn number_in_shared_file(fd: RawFd) -> Option<i64> {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let number = told.lines().find_map(|line| {
        line.strip_prefix("Pid:")
            .or_else(|| line.strip_prefix("eventfd-id:"))
    });
    let number = number.and_then(|number| number.trim().parse().ok());
    Some(number.unwrap_or(0))
}

/// A descriptor that this process owns, unless the program closed it.
#[derive(Debug)]
pub(crate) struct KnownFd {
    fd: ManuallyDrop<OwnedFd>,
    id: FileId,
}

impl KnownFd {
    pub(crate) fn new(fd: OwnedFd) -> Result<KnownFd> {
        match FileId::of(fd.as_raw_fd()) {
            Some(id) => Ok(KnownFd {
                fd: ManuallyDrop::new(fd),
                id,
            }),
            None => Err(Error::os("look at a descriptor", Errno::BADF)),
        }
    }

    /// The descriptor, unless the program closed it.
    #[inline]
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        self.id.behind(self.number())
    }

    /// As [`KnownFd::get`]; the error says what happened.
    pub(crate) fn checked(&self) -> Result<BorrowedFd<'_>> {
        self.get().ok_or(Error::Os {
            what: "use a descriptor that this program closed (by os.closerange, or as daemons do)",
            source: Errno::BADF.into(),
        })
    }

    /// The descriptor, unchecked, for a caller that only waits on it: if the number became another file's, the caller
    /// is woken without need.
    pub(crate) fn assumed(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The number, whatever file is behind it now.
    pub(crate) fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for KnownFd {
    fn drop(&mut self) {
        let is_ours = self.get().is_some();
        // SAFETY: taken out once, here.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        if is_ours {
            drop(fd);
        } else {
            let _somebody_elses = fd.into_raw_fd();
        }
    }
}

/// Moves a descriptor away from the numbers that programs close or reuse by habit: the standard three (a program may be
/// started without them), and the low ones that `closerange` loops cover.
pub(crate) fn move_to_high_number(fd: OwnedFd) -> Result<OwnedFd> {
    // Miri cannot tell the limit.
    if cfg!(miri) {
        return Ok(fd);
    }
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let floor = soft.map_or(HIGH, |soft| (soft / 2).min(HIGH as u64) as RawFd);
    if fd.as_raw_fd() >= floor.max(3) {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, floor.max(3))
        .or_else(|_| rustix::io::fcntl_dupfd_cloexec(&fd, 3))
        .map_err(|errno| Error::os("duplicate a descriptor", errno))
}

/// Above the numbers that most programs reach, and low enough that a process's descriptor table does not become
/// expensive to copy.
const HIGH: RawFd = 512;

/// What to look for among the links of `/proc`: the text of the link, before the file is opened, and the file itself
/// afterwards. A number may belong to another file by now, and opening a terminal or a device can have effects.
pub(crate) trait FdMatch {
    fn is_named(&self, link: &str) -> bool;

    fn is(&self, file: BorrowedFd<'_>) -> bool;
}

/// Opens the file behind a link of `/proc`, if it is the one that is sought.
///
/// # Errors
/// When it may be the file but cannot be opened, or when the link may not be read.
pub(crate) fn reopen(path: &str, sought: &impl FdMatch) -> Result<Option<OwnedFd>, Errno> {
    use rustix::fs::{Mode, OFlags};
    let link = match rustix::fs::readlink(path, Vec::new()) {
        Ok(link) => link,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if !link.to_str().is_ok_and(|link| sought.is_named(link)) {
        return Ok(None);
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(sought.is(fd.as_fd()).then_some(fd)),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens the sought file through a descriptor that a process has of it.
///
/// # Errors
/// As [`reopen`]; and when the process may not be inspected.
pub(crate) fn find_in_descriptors_of(
    process: &str,
    sought: &impl FdMatch,
) -> Result<Option<OwnedFd>, Errno> {
    let (found, is_bare) = find_in_folder(&format!("/proc/{process}/fd"), sought)?;
    if !is_bare {
        return Ok(found);
    }
    // Its first thread may have ended while others go on.
    for task in paths_in(&format!("/proc/{process}/task"))? {
        if let Some(found) = find_in_folder(&format!("{task}/fd"), sought)?.0 {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The file, and whether the folder has no descriptors in it.
fn find_in_folder(folder: &str, sought: &impl FdMatch) -> Result<(Option<OwnedFd>, bool), Errno> {
    let (mut is_bare, mut refused) = (true, None);
    for path in paths_in(folder)? {
        is_bare = false;
        match reopen(&path, sought) {
            Ok(None) => {}
            Ok(found) => return Ok((found, false)),
            Err(errno) => refused = Some(errno),
        }
    }
    refused.map_or(Ok((None, is_bare)), Err)
}

/// The paths of the entries of a folder of `/proc`; empty if it is gone.
fn paths_in(folder: &str) -> Result<Vec<String>, Errno> {
    let paths = std::fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path().to_string_lossy().into_owned()));
        paths.collect()
    });
    match paths.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
        Err(Errno::NOENT | Errno::SRCH) => Ok(Vec::new()),
        told => told,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    #[cfg_attr(miri, ignore = "event counters")]
    fn two_event_counters_are_two_files() {
        let [one, two] = [0; 2].map(|count| eventfd(count, EventfdFlags::CLOEXEC).unwrap());
        let file = FileId::of(one.as_raw_fd()).unwrap();
        assert!(file.is_behind(one.as_raw_fd()));
        assert!(!file.is_behind(two.as_raw_fd()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "pipes")]
    fn a_number_is_closed_only_while_it_is_the_recorded_file() {
        let (read, _write) = pipe().unwrap();
        let (number, file) = (read.as_raw_fd(), FileId::of(read.as_raw_fd()).unwrap());
        let (other, _end) = pipe().unwrap();
        FileId::of(other.as_raw_fd()).unwrap().close(number);
        assert!(file.is_behind(number));
        file.close(read.into_raw_fd());
        assert!(!file.is_behind(number));
    }

    #[test]
    #[cfg_attr(miri, ignore = "pipes")]
    fn a_number_that_is_another_file_is_neither_used_nor_closed() {
        let (read, write) = pipe().unwrap();
        let number = read.as_raw_fd();
        let known = KnownFd::new(read).unwrap();
        assert!(known.get().is_some());
        // Like a program that closes descriptors which are not its own, and opens something.
        // SAFETY: the number is open, and its owner is here to detect this.
        unsafe { libc::dup2(write.as_raw_fd(), number) };
        let (other, _end) = pipe().unwrap();
        // SAFETY: as above.
        unsafe { libc::dup2(other.as_raw_fd(), number) };
        assert!(known.get().is_none());
        assert!(known.checked().is_err());
        drop(known);
        let still = FileId::of(number);
        assert_eq!(still, FileId::of(other.as_raw_fd()));
        // SAFETY: nobody's any more.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}
