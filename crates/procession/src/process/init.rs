//! The entry point of child processes.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_engine::process::child;

use crate::error::Error;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Runs the function of this process if it is a child. Call it first in `main`.
///
/// A process started by this crate is a fresh run of the same program. There, this call runs the function the
/// process was started for, and exits: it never returns. In any other process it returns at once. Code of
/// `main` before this call also runs in every child.
///
/// Without this call no process can be started: trying to fails with [`Error::NotInitialised`]. In tests, use
/// [`test_support!`](crate::test_support) instead.
///
/// # Panics
/// Panics when this process is a child and cannot claim the process entry its parent reserved.
///
/// # Examples
/// ```
/// fn greet(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let process = procession::Process::spawn(greet, "world".to_owned())?;
///     assert_eq!(process.join()?, "Hello, world!");
///     Ok(())
/// }
/// ```
pub fn init() {
    INITIALISED.store(true, Ordering::Relaxed);
    if child::is_summoned() {
        crate::process::serve();
    }
}

/// Lets the `#[test]` functions of this executable start processes.
///
/// Put it once into each test executable: into a file of `tests/`, or into the `tests` module of a crate. It
/// defines a test that children enter and that otherwise does nothing. Tests that only run a program which
/// calls [`init`] do not need it.
///
/// # Examples
/// ```
/// procession::test_support!();
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[test]
/// fn squares() -> procession::Result<()> {
///     let process = procession::Process::spawn(square, 4)?;
///     assert_eq!(process.join()?, 16);
///     Ok(())
/// }
/// ```
#[expect(clippy::test_attr_in_doctest, reason = "the macro is for tests")]
#[macro_export]
macro_rules! test_support {
    () => {
        /// The entry point for children of the other tests.
        #[test]
        fn procession_child_entry() {
            $crate::enter_test(procession_child_entry);
        }
    };
}

/// Implementation of [`test_support!`](crate::test_support).
#[doc(hidden)]
pub fn enter_test<F: Fn() + Copy + 'static>(test: F) {
    child::announce_test(test);
    init();
}

/// How a child is started so that it reaches [`init`].
pub(crate) enum ChildEntry {
    /// As this program was.
    Main,
    /// As a test executable that runs a single test.
    Test(Vec<String>),
    /// As another program.
    #[cfg(feature = "python")]
    Program(Program),
}

/// Another program to run as a child.
#[cfg(feature = "python")]
pub(crate) struct Program {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its first arguments.
    pub(crate) args: Vec<String>,
    /// The pipe on which it reports that it could not start.
    pub(crate) error_pipe: OwnedFd,
}

/// A command line, and what else belongs to it.
pub(crate) struct Command {
    pub(crate) program: Option<PathBuf>,
    pub(crate) args: Vec<OsString>,
    /// Whether output before the child enters is discarded.
    pub(crate) silence: bool,
    pub(crate) error_pipe: Option<OwnedFd>,
}

impl ChildEntry {
    /// Returns the command for a child with the arguments `args`.
    pub(crate) fn command(self, args: Vec<OsString>) -> Command {
        let own = |args: Vec<OsString>, silence| {
            let name = std::env::args_os().next();
            let name = name.unwrap_or_else(|| "procession".into());
            Command {
                program: None,
                args: std::iter::once(name).chain(args).collect(),
                silence,
                error_pipe: None,
            }
        };
        match self {
            ChildEntry::Main => own(args, false),
            ChildEntry::Test(flags) => own(flags.into_iter().map(OsString::from).collect(), true),
            #[cfg(feature = "python")]
            ChildEntry::Program(program) => {
                let name = program.path.clone().into_os_string();
                let own_args = program.args.into_iter().map(OsString::from);
                Command {
                    program: Some(program.path),
                    args: std::iter::once(name).chain(own_args).chain(args).collect(),
                    silence: false,
                    error_pipe: Some(program.error_pipe),
                }
            }
        }
    }
}

pub(crate) fn child_entry() -> Result<ChildEntry, Error> {
    if let Some(test) = child::test_entry() {
        // libtest names tests by their path within the crate.
        let path = test.split_once("::").map_or(test, |(_crate, path)| path);
        let flags = ["--exact", "--nocapture", "--test-threads=1"];
        return Ok(ChildEntry::Test(
            [path]
                .iter()
                .chain(&flags)
                .map(ToString::to_string)
                .collect(),
        ));
    }
    if INITIALISED.load(Ordering::Relaxed) {
        Ok(ChildEntry::Main)
    } else {
        Err(Error::NotInitialised)
    }
}
