//! How children are started so that they reach the entry point of the program.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
#[cfg(feature = "python")]
use std::os::fd::{AsRawFd, RawFd};
#[cfg(feature = "python")]
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_engine::process::child::{self, Executable, Offer};

use crate::error::{Error, Result};

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
    /// As an interpreter.
    #[cfg(feature = "python")]
    Interpreter(InterpreterEntry),
}

/// An interpreter to run as a child.
#[cfg(feature = "python")]
pub(crate) struct InterpreterEntry {
    /// Its path.
    pub(crate) path: PathBuf,
    /// The pipe on which it reports that it could not start.
    pub(crate) error_pipe: OwnedFd,
    /// Returns the code that it runs, for the number of the error pipe and the text of the handshake.
    pub(crate) code: fn(RawFd, &str) -> String,
}

impl ChildEntry {
    /// Returns the file and the arguments of a child, with `args` last. Adds to the offer what this entry needs.
    pub(crate) fn command(
        self,
        args: Vec<OsString>,
        offer: &mut Offer,
        stdio: &mut [Option<OwnedFd>; 3],
    ) -> Result<(Executable, Vec<OsString>)> {
        let own = |args: Vec<OsString>| {
            let name = std::env::args_os().next();
            let name = name.unwrap_or_else(|| "procession".into());
            let args = std::iter::once(name).chain(args).collect();
            (Executable::Own, args)
        };
        Ok(match self {
            ChildEntry::Main => own(args),
            ChildEntry::Test(flags) => {
                // Discard what the test harness prints before it runs the test.
                offer.silence(stdio)?;
                own(flags.into_iter().map(OsString::from).collect())
            }
            #[cfg(feature = "python")]
            ChildEntry::Interpreter(InterpreterEntry {
                path,
                error_pipe,
                code,
            }) => {
                let number = error_pipe.as_raw_fd();
                offer.error_pipe(error_pipe);
                let code = code(number, &offer.to_string()).into();
                let own_args = [path.clone().into_os_string(), "-c".into(), code];
                let args = own_args.into_iter().chain(args).collect();
                (Executable::Interpreter(path), args)
            }
        })
    }
}

pub(crate) fn child_entry() -> Result<ChildEntry> {
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
