//! The front of all starts: a program, or a [fork](crate::process::child::fork) of this process.
//!
//! A program is started by [`posix_spawn`], or by [`fork_exec`] if a user, a group or a hook was set, which
//! `posix_spawn` does not know.

use std::ffi::{CStr, CString, OsString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::process::Reservation;
use crate::process::child::handshake::{Offer, VARIABLE};
use crate::process::child::pre_exec::Setup;
use crate::process::child::{Child, fork_exec, posix_spawn};
use crate::sys::elevated::is_elevated;

/// This executable, even if its file was replaced meanwhile.
const OWN_EXECUTABLE: &CStr = c"/proc/self/exe";

/// What a child has in place of this process's, however it is started.
#[derive(Debug, Default)]
pub struct Launch {
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Its credentials, and what it does first.
    pub setup: Setup,
    /// Its standard input, output and error.
    pub stdio: [Option<OwnedFd>; 3],
}

/// A program to start.
#[derive(Debug)]
pub struct Program {
    /// The file to execute.
    pub executable: Executable,
    /// The arguments, with the program's name first.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
}

/// The file of a program, and with it the place of its handshake.
#[derive(Debug)]
pub enum Executable {
    /// This executable. It finds the handshake in its environment.
    Own,
    /// Another one that contains the engine. It finds the handshake in its environment.
    Other(PathBuf),
    /// An interpreter that loads the engine. Its arguments have the text of the [`Offer`] already, in the program that
    /// it runs.
    Interpreter(PathBuf),
}

impl Launch {
    /// Starts a program as the child with the reserved entry. `offer` was made for this entry.
    ///
    /// # Errors
    /// When the system lacks resources, or does not allow what `setup` asks for: the error names the step that
    /// failed. [`Error::Elevated`] when the child would be this program, and this program has elevated rights: it
    /// accepts no handshake.
    pub fn start(self, program: Program, offer: &Offer, reservation: Reservation) -> Result<Child> {
        if matches!(program.executable, Executable::Own) && is_elevated() {
            return Err(Error::Elevated);
        }
        let stdio = copy_stdio(&self.stdio)?;
        let kept = offer.descriptors().iter().map(AsRawFd::as_raw_fd);
        let stdio_passes = stdio.iter().map(|(fd, number)| (fd.as_raw_fd(), *number));
        let passes = stdio_passes.chain(kept.map(|fd| (fd, fd))).collect();
        let handshake = match program.executable {
            Executable::Interpreter(_) => None,
            Executable::Own | Executable::Other(_) => Some(offer.to_string()),
        };
        let image = Image {
            path: match program.executable {
                Executable::Own => OWN_EXECUTABLE.to_owned(),
                Executable::Other(path) | Executable::Interpreter(path) => c_path(path)?,
            },
            args: Strings::new(program.args)?,
            env: environment(program.env, handshake)?,
            cwd: self.cwd.map(c_path).transpose()?,
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
    pub(crate) path: CString,
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

fn environment(env: Vec<(OsString, OsString)>, handshake: Option<String>) -> Result<Strings> {
    let others = env.into_iter().filter(|(name, _)| name != VARIABLE);
    let ours = handshake.map(|text| (VARIABLE.into(), text.into()));
    Strings::new(others.chain(ours).map(|(mut pair, value)| {
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

pub(crate) fn c_path(path: PathBuf) -> Result<CString> {
    c_string(path.into_os_string())
}
