//! Starts a fresh image of this executable, or of another one that contains the engine.
//!
//! There are two ways: [`spawn`](crate::process::child::posix_spawn), and for what that cannot do a
//! [fork](crate::process::child::fork_exec::exec).

use std::ffi::{CStr, CString, OsString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::process::Reservation;
use crate::process::child::pre_exec::Setup;
use crate::process::child::{Child, fork_exec, handshake, posix_spawn};
use crate::process::parent_death;
use crate::sys::elevated::is_elevated;

/// This executable, even if its file was replaced meanwhile.
const PROGRAM: &CStr = c"/proc/self/exe";

/// Describes a child that is to be started.
#[derive(Debug, Default)]
pub struct Launch {
    /// The path of the program; `None` for this executable.
    pub program: Option<PathBuf>,
    /// The arguments, with the program's name first.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory; `None` for this process's.
    pub cwd: Option<PathBuf>,
    /// Its credentials, and what it does before its program begins.
    pub setup: Setup,
    /// Its standard input, output and error; `None` for those of this process.
    pub stdio: [Option<OwnedFd>; 3],
    /// Descriptors it gets under the same numbers; it claims them with [`crate::process::child::inherited`].
    pub keep: Vec<OwnedFd>,
    /// Where it writes why its handshake failed.
    pub complaint: Option<OwnedFd>,
    /// Whether it dies when this process does.
    pub tied: bool,
    /// Whether its output is discarded until it has answered its handshake.
    pub hushed: bool,
    /// A tag for the layer above in the child. It contains no colon and no NUL.
    pub note: String,
}

impl Launch {
    /// Starts the child in the entry `slot`.
    ///
    /// # Errors
    /// When the system lacks resources, or does not allow what `setup` asks for: the error names the step that
    /// failed. [`Error::Elevated`] when the child would be this program, and this program has elevated rights: it
    /// accepts no handshake.
    pub fn start(self, reservation: Reservation) -> Result<Child> {
        if self.program.is_none() && is_elevated() {
            return Err(Error::Elevated);
        }
        let arena = duplicate(crate::process::arena_fd()?)?;
        let lifeline = if self.tied {
            Some(parent_death::reading_end()?)
        } else {
            None
        };
        let mut stdio = copy_stdio(&self.stdio)?;
        let saved_stdio = if self.hushed {
            Some(silence(&mut stdio)?)
        } else {
            None
        };
        let handshake = handshake::write(
            &arena,
            reservation.id(),
            lifeline.as_ref(),
            saved_stdio.as_ref(),
            self.complaint.as_ref(),
            &self.keep,
            &self.note,
        )?;

        let mut passes: Vec<(RawFd, RawFd)> = Vec::new();
        passes.extend(stdio.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)));
        let passed_on = [&arena].into_iter().chain(&lifeline).chain(&saved_stdio);
        let passed_on = passed_on.chain(&self.complaint);
        passes.extend(
            passed_on
                .chain(&self.keep)
                .map(|fd| (fd.as_raw_fd(), fd.as_raw_fd())),
        );
        let program = self.program.map(path).transpose()?;
        let image = Image {
            program: program.unwrap_or_else(|| PROGRAM.to_owned()),
            args: Strings::new(self.args)?,
            env: environment(self.env, handshake)?,
            cwd: self.cwd.map(path).transpose()?,
            passes,
        };
        if self.setup.is_empty() {
            let pid = posix_spawn::spawn(&image)?;
            reservation.note_pid(pid.as_raw_nonzero().get().unsigned_abs());
            Child::started(pid, reservation.keep())
        } else {
            fork_exec::exec(&image, self.setup, reservation)
        }
    }
}

/// A program that is ready to be started. Starting it allocates nothing.
pub(crate) struct Image {
    pub(crate) program: CString,
    pub(crate) args: Strings,
    pub(crate) env: Strings,
    pub(crate) cwd: Option<CString>,
    /// The descriptors that the child gets, each with its number there.
    pub(crate) passes: Vec<(RawFd, RawFd)>,
}

/// Strings for C: a null-terminated array of pointers.
pub(crate) struct Strings {
    pointers: Vec<*mut c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    fn new(texts: impl IntoIterator<Item = OsString>) -> Result<Strings> {
        let owned: Vec<CString> = texts.into_iter().map(c_string).collect::<Result<_>>()?;
        let pointers = owned.iter().map(|text| text.as_ptr().cast_mut());
        Ok(Strings {
            pointers: pointers.chain([std::ptr::null_mut()]).collect(),
            _owned: owned,
        })
    }

    pub(crate) fn as_ptr(&self) -> *const *mut c_char {
        self.pointers.as_ptr()
    }
}

fn environment(env: Vec<(OsString, OsString)>, handshake: String) -> Result<Strings> {
    let others = env
        .into_iter()
        .filter(|(key, _)| key != handshake::VARIABLE);
    let ours = (handshake::VARIABLE.into(), handshake.into());
    Strings::new(others.chain([ours]).map(|(mut pair, value)| {
        pair.push("=");
        pair.push(value);
        pair
    }))
}

/// Copies of the child's standard streams, moved away from the numbers that are about to be replaced.
pub(crate) fn copy_stdio(stdio: &[Option<OwnedFd>; 3]) -> Result<Vec<(OwnedFd, RawFd)>> {
    let mut copies = Vec::new();
    for (number, fd) in (0..).zip(stdio) {
        if let Some(fd) = fd {
            copies.push((duplicate(fd.as_raw_fd())?, number));
        }
    }
    Ok(copies)
}

/// Discards standard output, and returns where it was to go.
fn silence(stdio: &mut Vec<(OwnedFd, RawFd)>) -> Result<OwnedFd> {
    let saved_stdio = match stdio.iter().position(|(_, number)| *number == 1) {
        Some(at) => stdio.remove(at).0,
        None => duplicate(1)?,
    };
    let nowhere = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::os("open /dev/null", errno))?;
    stdio.push((duplicate(nowhere.as_raw_fd())?, 1));
    Ok(saved_stdio)
}

/// A close-on-exec copy whose number is none of the standard three.
pub(crate) fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: the callers pass the arena's descriptor, one they own, or standard output; the
    // borrow ends with this call, which fails cleanly on a number that is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
        .map_err(|errno| Error::os("duplicate a descriptor", errno))
}

fn c_string(text: OsString) -> Result<CString> {
    CString::new(text.into_vec())
        .map_err(|_| Error::Invalid("an argument, variable or path with a NUL byte in it".into()))
}

pub(crate) fn path(path: PathBuf) -> Result<CString> {
    c_string(path.into_os_string())
}
