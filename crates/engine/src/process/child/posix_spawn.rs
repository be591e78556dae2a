//! Starts a program by `posix_spawn`.
//!
//! It neither copies this process's memory map nor runs fork handlers. So its cost does not grow with the parent, and
//! other threads are no danger.

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use rustix::process::Pid;

use crate::error::{Error, Result};
use crate::process::child::launch::Image;

/// Starts the image.
pub(crate) fn spawn(image: &Image) -> Result<Pid> {
    let attributes = Attributes::new()?;
    let mut actions = Actions::new()?;
    for &(fd, number) in &image.passes {
        actions.pass(fd, number)?;
    }
    if let Some(cwd) = &image.cwd {
        actions.change_directory(cwd)?;
    }
    let mut pid: libc::pid_t = 0;
    // SAFETY: the path is a C string; actions and attributes were initialised and live through
    // the call, as do the image's null-terminated arrays of C strings. The callee reads only.
    let code = unsafe {
        libc::posix_spawn(
            &mut pid,
            image.path.as_ptr(),
            &actions.0,
            &attributes.0,
            image.args.as_ptr(),
            image.env.as_ptr(),
        )
    };
    check("start a process", code)?;
    Pid::from_raw(pid).ok_or(Error::MissingCall {
        call: "posix_spawn",
        errno: 0,
    })
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

/// The changes to the descriptors and the directory between fork and exec.
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

    /// Gives the child `fd` under `number`, open across exec even if both are the same.
    fn pass(&mut self, fd: RawFd, number: RawFd) -> Result<()> {
        // SAFETY: the actions are initialised; the numbers are only recorded.
        let code = unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, fd, number) };
        check("pass a descriptor on", code)
    }

    fn change_directory(&mut self, path: &CStr) -> Result<()> {
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

/// No signal blocked and the default action for SIGPIPE, as for any program that is started.
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
