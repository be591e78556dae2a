//! Starting a fresh image of this executable, or of another that has the engine in it.
//!
//! `posix_spawn` does it without copying this process's memory map and without running fork
//! handlers, so its price does not grow with the parent, and other threads are no danger.

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use super::{Child, summons};
use crate::error::{Error, Result};
use crate::process::Seat;
use crate::process::lifeline;

/// Everything about a child that is to be started.
#[derive(Debug)]
pub struct Launch {
    /// What is run, looked for as a shell does; this executable if it is `None`.
    pub program: Option<PathBuf>,
    /// The arguments, with the program's name first.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it starts, if not here.
    pub cwd: Option<PathBuf>,
    /// Its standard input, output and error, where they are not those of this process.
    pub stdio: [Option<OwnedFd>; 3],
    /// Descriptors it gets under the same numbers, to be claimed by [`super::inherited`].
    pub keep: Vec<OwnedFd>,
    /// Where it writes why it could not answer its summons.
    pub complaint: Option<OwnedFd>,
    /// Whether it dies when this process does.
    pub tied: bool,
    /// Whether what it prints before it answers its summons is thrown away.
    pub hushed: bool,
    /// A word for the child's front: no colon, no NUL.
    pub note: String,
}

impl Launch {
    /// Starts the child on `seat`.
    pub fn start(self, seat: Seat) -> Result<Child> {
        let arena = duplicate(crate::process::arena_fd()?)?;
        let lifeline = if self.tied {
            Some(lifeline::reading_end()?)
        } else {
            None
        };
        let mut stdio = Vec::new();
        for (number, fd) in (0..).zip(&self.stdio) {
            if let Some(fd) = fd {
                // Away from the numbers that are about to be replaced.
                stdio.push((duplicate(fd.as_raw_fd())?, number));
            }
        }
        let voice = if self.hushed {
            Some(hush(&mut stdio)?)
        } else {
            None
        };

        let summons = summons::write(
            &arena,
            seat.id(),
            lifeline.as_ref(),
            voice.as_ref(),
            self.complaint.as_ref(),
            &self.keep,
            &self.note,
        )?;
        let mut env = strings(
            self.env
                .into_iter()
                .filter(|(key, _)| key != summons::VARIABLE)
                .map(|(mut pair, value)| {
                    pair.push("=");
                    pair.push(value);
                    pair
                }),
        )?;
        env.push(c_string(format!("{}={summons}", summons::VARIABLE).into())?);
        let args = strings(self.args)?;

        let mut actions = Actions::new()?;
        for (fd, number) in &stdio {
            actions.pass(fd.as_raw_fd(), *number)?;
        }
        for fd in [&arena]
            .into_iter()
            .chain(&lifeline)
            .chain(&voice)
            .chain(&self.complaint)
            .chain(&self.keep)
        {
            actions.pass(fd.as_raw_fd(), fd.as_raw_fd())?;
        }
        let cwd = self
            .cwd
            .map(|cwd| c_string(cwd.into_os_string()))
            .transpose()?;
        if let Some(cwd) = &cwd {
            actions.change_directory(cwd)?;
        }
        let program = self
            .program
            .map(|program| c_string(program.into_os_string()))
            .transpose()?;
        let attributes = Attributes::new()?;
        let pid = spawn(program.as_deref(), &actions, &attributes, &args, &env)?;
        seat.note_pid(pid.as_raw_nonzero().get().unsigned_abs());
        Child::started(pid, seat.keep())
    }
}

/// Sends standard output nowhere and returns where it was to go.
fn hush(stdio: &mut Vec<(OwnedFd, RawFd)>) -> Result<OwnedFd> {
    let voice = match stdio.iter().position(|(_, number)| *number == 1) {
        Some(at) => stdio.remove(at).0,
        None => duplicate(1)?,
    };
    let nowhere = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::os("open /dev/null", errno))?;
    stdio.push((duplicate(nowhere.as_raw_fd())?, 1));
    Ok(voice)
}

/// A close-on-exec copy whose number is none of the standard three.
fn duplicate(fd: RawFd) -> Result<OwnedFd> {
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

fn strings(texts: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>> {
    texts.into_iter().map(c_string).collect()
}

fn spawn(
    program: Option<&CStr>,
    actions: &Actions,
    attributes: &Attributes,
    args: &[CString],
    env: &[CString],
) -> Result<Pid> {
    let args = null_terminated(args);
    let env = null_terminated(env);
    let mut pid: libc::pid_t = 0;
    // SAFETY: the path is a C string; actions and attributes were initialised and live through
    // the call, as do the strings behind both null-terminated arrays. The callee reads only.
    let code = unsafe {
        libc::posix_spawnp(
            &mut pid,
            program.unwrap_or(c"/proc/self/exe").as_ptr(),
            &actions.0,
            &attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    };
    check("start a process", code)?;
    Pid::from_raw(pid).ok_or(Error::MissingCall {
        call: "posix_spawn",
        errno: 0,
    })
}

fn null_terminated(strings: &[CString]) -> Vec<*mut c_char> {
    let pointers = strings.iter().map(|text| text.as_ptr().cast_mut());
    pointers.chain([std::ptr::null_mut()]).collect()
}

fn check(what: &'static str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Error::Os {
            what,
            source: std::io::Error::from_raw_os_error(code),
        }),
    }
}

/// What happens to the descriptors and the directory between fork and exec.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> Result<Actions> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: init fills the place it is given when it returns 0.
        unsafe {
            check(
                "prepare a process",
                libc::posix_spawn_file_actions_init(actions.as_mut_ptr()),
            )?;
            Ok(Actions(actions.assume_init()))
        }
    }

    /// The child gets `fd` as `number`, open across exec even when both are the same.
    fn pass(&mut self, fd: RawFd, number: RawFd) -> Result<()> {
        // SAFETY: the actions are initialised; the numbers are only recorded.
        let code = unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, fd, number) };
        check("pass a descriptor on", code)
    }

    fn change_directory(&mut self, path: &CString) -> Result<()> {
        // SAFETY: the actions are initialised; the path is copied.
        let code =
            unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, path.as_ptr()) };
        check("set the directory of a process", code)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// No signal blocked, SIGPIPE as the system has it: as for any program that is started.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> Result<Attributes> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: init fills the place it is given when it returns 0; the sets are initialised by
        // sigemptyset and copied by the setters.
        unsafe {
            check(
                "prepare a process",
                libc::posix_spawnattr_init(attributes.as_mut_ptr()),
            )?;
            let mut attributes = Attributes(attributes.assume_init());
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            check(
                "prepare a process",
                libc::posix_spawnattr_setsigmask(&mut attributes.0, &set),
            )?;
            libc::sigaddset(&mut set, libc::SIGPIPE);
            check(
                "prepare a process",
                libc::posix_spawnattr_setsigdefault(&mut attributes.0, &set),
            )?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            check(
                "prepare a process",
                libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short),
            )?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}
