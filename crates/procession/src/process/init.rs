//! How children are started so that they reach the entry point of the program.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_engine::process::child;

use crate::error::Error;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Records that this program has an entry point for children.
pub(crate) fn set_initialised() {
    INITIALISED.store(true, Ordering::Relaxed);
}

/// How a child is started so that it reaches [`init`](crate::init()).
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
