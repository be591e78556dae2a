//! Where children enter the program.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_engine::process::child;

use crate::error::Error;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Lets children enter here. Call it first thing in `main`.
///
/// A process started by this crate is a fresh run of the same program. In it, this call runs the
/// function it was started for and exits; it never returns. In any other process it returns at
/// once. What `main` does before this call is done in every child too.
///
/// Without it no process can be started, and trying to is [`Error::NotInitialised`]. In tests,
/// [`test_support!`](crate::test_support) takes its place.
///
/// # Panics
/// When this is a child and cannot take the place its parent reserved for it.
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
/// Put it once into each test executable: into a file of `tests/`, or into the `tests` module of a
/// crate. It defines a test through which children enter, and which otherwise does nothing. A test that only runs
/// a program that calls [`init`] needs none.
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
#[expect(clippy::test_attr_in_doctest, reason = "it is what the macro is for")]
#[macro_export]
macro_rules! test_support {
    () => {
        /// Children of the other tests enter here.
        #[test]
        fn procession_child_entry() {
            $crate::enter_test(procession_child_entry);
        }
    };
}

/// What [`test_support!`](crate::test_support) calls.
#[doc(hidden)]
pub fn enter_test<F: Fn() + Copy + 'static>(test: F) {
    child::announce_test(test);
    init();
}

/// How a child has to be called to come by [`init`].
pub(crate) enum ChildEntry {
    /// As the program was.
    Main,
    /// As a test executable that runs one test only.
    Test(Vec<String>),
    /// As another program, which finds its own way.
    #[cfg(feature = "python")]
    Program(Program),
}

/// Another program that is to run as a child.
#[cfg(feature = "python")]
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its first arguments.
    pub(crate) args: Vec<String>,
    /// Where it writes why it could not become a child.
    pub(crate) error_pipe: OwnedFd,
}

/// What is run, and how.
pub(crate) struct Command {
    pub(crate) program: Option<PathBuf>,
    pub(crate) args: Vec<OsString>,
    /// Whether what it prints before it enters is thrown away.
    pub(crate) silence: bool,
    pub(crate) error_pipe: Option<OwnedFd>,
}

impl ChildEntry {
    /// What this way takes, for a child that is to have `args`.
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
