//! How a fresh image learns that it is a child, and of which process.
//!
//! One environment variable names the engine's version, the arena's descriptor, the file behind it, the entry, the
//! lifeline, the descriptors passed on, and a tag. It is valid only while the named descriptor is open, is *not*
//! close-on-exec, and refers to that file. Answering makes all the descriptors close-on-exec. So a program that this
//! process starts in turn inherits the variable without its descriptors, and a second answer finds nothing to answer.
//! Nothing has to be removed from the environment, which would not be sound once there are other threads.
//!
//! The child may be another program, built with another version of the engine. Then it does not join the tree, and
//! reports that through the error pipe.
//!
//! A program with more rights than the process that started it answers no handshake: anybody may have started it. It
//! ends. If it ran as it does without a handshake, it might start itself again.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, FdFlags};

use crate::error::{Error, Result};
use crate::process;
use crate::process::ProcId;
use crate::process::parent_death;
use crate::sys::elevated::is_elevated;
use crate::sys::known_fd::FileId;

pub(crate) const VARIABLE: &str = "PROCESSION_CHILD";

const LAYOUT: &str = "3";
const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// What the parent sent.
#[derive(Debug)]
pub struct Handshake {
    /// The entry that this process now has.
    pub proc_id: ProcId,
    /// The parent's tag.
    pub note: String,
}

/// Descriptors that came with the handshake and are not claimed yet.
static INHERITED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

pub(crate) fn write(
    arena: &OwnedFd,
    proc_id: ProcId,
    lifeline: Option<&OwnedFd>,
    saved_stdio: Option<&OwnedFd>,
    error_pipe: Option<&OwnedFd>,
    keep: &[OwnedFd],
    note: &str,
) -> Result<String> {
    if note.contains([':', '\0']) {
        return Err(Error::Invalid(
            "a note to a child has a colon or a NUL in it".into(),
        ));
    }
    let file = FileId::of(arena.as_raw_fd());
    let file = file.ok_or(Error::os("look at a descriptor", Errno::BADF))?;
    let number = |fd: Option<&OwnedFd>| fd.map(|fd| fd.as_raw_fd().to_string()).unwrap_or_default();
    let keep: Vec<String> = keep.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    Ok(format!(
        "{LAYOUT}:{ENGINE}:{}:{}:{}:{}:{}:{}:{}:{}:{note}",
        arena.as_raw_fd(),
        file.device(),
        file.inode(),
        proc_id.as_u32(),
        number(lifeline),
        number(saved_stdio),
        number(error_pipe),
        keep.join(","),
    ))
}

/// Whether this process was started by [`crate::process::child::Launch`] and has not answered yet. Cheap.
pub fn is_child() -> bool {
    Request::read().is_some_and(|request| request.is_for_us())
}

/// Claims the entry that the parent reserved; `None` in a process that was started otherwise.
///
/// # Errors
/// [`Error::Release`] and [`Error::Version`] when the parent has another version of the engine, [`Error::SeatGone`].
/// The parent is told. [`Error::Elevated`] in a program that has more rights than its parent.
pub fn handshake() -> Result<Option<Handshake>> {
    // One answer at a time: this lock protects the claiming of the descriptors.
    let _no_fork = crate::process_table::identity::fork_guard();
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(request) = Request::read().filter(Request::is_for_us) else {
        return Ok(None);
    };
    if is_elevated() {
        return Err(Error::Elevated);
    }
    let error_pipe = request.error_pipe.map(claim).transpose()?;
    let answered = answer(request, &mut inherited);
    if let (Some(error_pipe), Err(error)) = (error_pipe, &answered) {
        // If the parent cannot be told, it still sees how this process ends.
        let _ = rustix::io::write(error_pipe, error.to_string().as_bytes());
    }
    answered.map(Some)
}

fn answer(request: Request, inherited: &mut Vec<OwnedFd>) -> Result<Handshake> {
    if request.engine != ENGINE {
        return Err(Error::Release {
            found: request.engine,
            ours: ENGINE,
        });
    }
    let numbers: BTreeSet<RawFd> = request.numbers().collect();
    if numbers.len() != request.numbers().count() || numbers.first().is_some_and(|&fd| fd < 3) {
        return Err(Error::Invalid(
            "the handshake names a descriptor twice".into(),
        ));
    }
    let arena = claim(request.arena)?;
    let lifeline = request.lifeline.map(claim).transpose()?;
    let saved_stdio = request.saved_stdio.map(claim).transpose()?;
    for fd in request.keep {
        inherited.push(claim(fd)?);
    }
    if let Some(saved_stdio) = saved_stdio {
        rustix::stdio::dup2_stdout(&saved_stdio)
            .map_err(|errno| Error::os("restore standard output", errno))?;
    }
    set_process_name();
    process::enter(arena, request.proc_id)?;
    if let Some(lifeline) = lifeline {
        parent_death::die_with_guarded(lifeline.as_raw_fd())?;
    }
    Ok(Handshake {
        proc_id: request.proc_id,
        note: request.note,
    })
}

/// Sets the name shown in process lists, which is "exe" for a process started through `/proc/self/exe`.
fn set_process_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    // The kernel truncates it; a failure here is not worth an error.
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Takes a descriptor that the parent passed on under this number. It can be taken once.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    let _no_fork = crate::process_table::identity::fork_guard();
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let at = inherited.iter().position(|fd| fd.as_raw_fd() == number)?;
    Some(inherited.swap_remove(at))
}

/// Closes the descriptors that were passed on and never claimed.
pub fn close_inherited() {
    let _no_fork = crate::process_table::identity::fork_guard();
    INHERITED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

struct Request {
    engine: String,
    arena: RawFd,
    file: FileId,
    proc_id: ProcId,
    lifeline: Option<RawFd>,
    saved_stdio: Option<RawFd>,
    error_pipe: Option<RawFd>,
    keep: Vec<RawFd>,
    note: String,
}

impl Request {
    /// `None` for a variable in another format: this version of the engine ignores it.
    fn read() -> Option<Request> {
        let text = std::env::var(VARIABLE).ok()?;
        let mut parts = text.split(':');
        let mut part = || parts.next();
        if part()? != LAYOUT {
            return None;
        }
        let engine = part()?.to_owned();
        let arena = part()?.parse().ok()?;
        let file = FileId::new(part()?.parse().ok()?, part()?.parse().ok()?);
        let proc_id = ProcId::from_u32(part()?.parse().ok()?)?;
        let lifeline = optional(part()?)?;
        let saved_stdio = optional(part()?)?;
        let error_pipe = optional(part()?)?;
        let keep = part()?.split(',').filter(|number| !number.is_empty());
        let keep = keep
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        let note = part()?.to_owned();
        Some(Request {
            engine,
            arena,
            file,
            proc_id,
            lifeline,
            saved_stdio,
            error_pipe,
            keep,
            note,
        })
    }

    fn is_for_us(&self) -> bool {
        is_passed_on(self.arena) && FileId::of(self.arena) == Some(self.file)
    }

    fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let single = [
            Some(self.arena),
            self.lifeline,
            self.saved_stdio,
            self.error_pipe,
        ];
        single
            .into_iter()
            .flatten()
            .chain(self.keep.iter().copied())
    }
}

fn optional(number: &str) -> Option<Option<RawFd>> {
    match number {
        "" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// Creates the only owner, in this process, of a descriptor that exec left open for it.
fn claim(number: RawFd) -> Result<OwnedFd> {
    if !is_passed_on(number) {
        return Err(Error::Invalid(format!(
            "descriptor {number} did not reach this process"
        )));
    }
    // SAFETY: the descriptor is open and has no owner yet. It came through exec (whatever this image opened itself is
    // close-on-exec), the handshake lists it once, and it is close-on-exec from the next line on, so no second answer
    // can claim it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)
        .map_err(|errno| Error::os("keep a descriptor to this process", errno))?;
    Ok(fd)
}

fn is_passed_on(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument, touches no memory and fails on a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}
