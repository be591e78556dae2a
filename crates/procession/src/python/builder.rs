//! What can be set about a Python process before it is started.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use procession_engine as engine;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::Bytes;
use super::message::PythonOrder;
use super::process::Process;
use super::wire;
use crate::PreExec;
use crate::error::{Error, os};
use crate::handing;
use crate::init::{Program, Way};
use crate::process::{self, Stdio, put_on, reserve};

/// Sets up a [`Process`].
///
/// # Examples
/// ```no_run
/// use procession::python;
///
/// # fn main() -> procession::Result<()> {
/// let process: python::Process<String> = python::Process::builder()
///     .interpreter("venv/bin/python")
///     .env("PYTHONPATH", "scripts")
///     .kill_on_drop(true)
///     .spawn("report", "render", ("monthly", 2026))?;
/// println!("{}", process.join()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Builder {
    interpreter: PathBuf,
    setup: process::Builder,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            interpreter: "python3".into(),
            setup: process::Builder::default(),
        }
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*);)+) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $($argument: $type),*) -> Builder {
            self.setup = self.setup.$name($($argument),*);
            self
        }
    )+};
}

impl Builder {
    /// The interpreter that is run: a path, or a name that is looked for in `PATH`. It is `python3` if nothing
    /// else is said.
    #[must_use]
    pub fn interpreter(mut self, interpreter: impl Into<PathBuf>) -> Builder {
        self.interpreter = interpreter.into();
        self
    }

    settings! {
        /// The name it goes by: that of its `procession.current_process()`.
        name(name: impl Into<String>);
        /// Arguments that its `sys.argv` shows behind the program's name.
        args(args: impl IntoIterator<Item = impl Into<OsString>>);
        /// Sets a variable of its environment, which is otherwise a copy of this process's. `PYTHONPATH` names
        /// the directories, besides the one it starts in, where its modules are.
        env(key: impl Into<OsString>, value: impl Into<OsString>);
        /// Removes a variable from its environment.
        env_remove(key: impl Into<OsString>);
        /// Starts it with an empty environment but for what [`env`](Builder::env) sets.
        env_clear();
        /// The directory it starts in, where modules are looked for first.
        current_dir(directory: impl Into<PathBuf>);
        /// The user that it becomes; as for [`procession::Builder::uid`](crate::Builder::uid).
        uid(uid: u32);
        /// The group that it takes.
        gid(gid: u32);
        /// The supplementary groups that it takes.
        groups(groups: impl IntoIterator<Item = u32>);
        /// Has it run a closure before the interpreter begins; as for
        /// [`procession::Builder::pre_exec`](crate::Builder::pre_exec).
        pre_exec(hook: PreExec);
        /// Where its standard input comes from.
        stdin(stream: impl Into<Stdio>);
        /// Where its standard output goes.
        stdout(stream: impl Into<Stdio>);
        /// Where its standard error goes.
        stderr(stream: impl Into<Stdio>);
        /// Whether it dies at once when this process ends, in whatever way.
        daemon(daemon: bool);
        /// Whether dropping the [`Process`] kills it.
        kill_on_drop(kill: bool);
    }

    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// As for [`Process::spawn`].
    pub fn spawn<R, Args>(
        self,
        module: &str,
        function: &str,
        args: Args,
    ) -> Result<Process<R>, Error>
    where
        R: DeserializeOwned,
        Args: Serialize,
    {
        let (seat, line) = reserve()?;
        let (encoded, keep) = handing::handing_to(seat.id(), || wire::encode(&args));
        let encoded = encoded?;
        if !wire::is_call(&encoded) {
            return Err(Error::Encode {
                kind: std::any::type_name::<Args>(),
                reason: "the arguments of a Python function are a tuple, such as (5,) for one; or a struct or \
                         map, whose fields are its keyword arguments; or () for none"
                    .to_owned(),
            });
        }
        let name = self.setup.name_or_next();
        let order = wire::encode(&PythonOrder {
            name: &name,
            module,
            function,
            args: Bytes(encoded),
        })?;
        put_on(&line, &[&order])?;

        let (complaints, complaint) = UnixStream::pair().map_err(os("make a pair of sockets"))?;
        let nonblocking = complaints.set_nonblocking(true);
        nonblocking.map_err(os("make a pair of sockets"))?;
        // A copy is none of the standard three, which the child may have otherwise.
        let complaint = OwnedFd::from(complaint)
            .try_clone()
            .map_err(os("duplicate a descriptor"))?;
        let path = located(&self.interpreter)
            .map_err(|source| no_interpreter(&self.interpreter, source))?;
        let way = Way::Program(Program {
            path: path.clone(),
            args: vec!["-c".to_owned(), program(&complaint)],
            complaint,
        });
        let process = self
            .setup
            .start(way, seat, line, name, keep)
            .map_err(|error| explained(error, &path))?;
        // Only now does the child hold what the arguments hold.
        drop(args);
        Ok(Process::started(process, complaints))
    }
}

fn no_interpreter(interpreter: &Path, source: io::Error) -> Error {
    Error::NoInterpreter {
        interpreter: interpreter.to_owned(),
        source,
    }
}

/// What starting the interpreter failed with, if it is to blame.
fn explained(error: Error, interpreter: &Path) -> Error {
    match error {
        Error::Engine(engine::Error::Os {
            what: "start a process",
            source,
        }) if matches!(
            source.kind(),
            ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory
        ) && !is_executable(interpreter) =>
        {
            no_interpreter(interpreter, source)
        }
        other => other,
    }
}

/// A path stays what it is for a process that starts in another directory; a name is looked for in `PATH`.
fn located(interpreter: &Path) -> io::Result<PathBuf> {
    if interpreter.components().count() != 1 || interpreter.is_absolute() {
        return std::path::absolute(interpreter);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(interpreter))
        .find(|path| is_executable(path))
        .map_or(Err(ErrorKind::NotFound.into()), std::path::absolute)
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The program that the interpreter runs. Where it cannot begin, it says so through the descriptor.
fn program(complaint: &OwnedFd) -> String {
    let (complaint, version) = (complaint.as_raw_fd(), env!("CARGO_PKG_VERSION"));
    format!(
        "import os, sys
try:
    from procession.rust import main
except Exception as error:
    os.write({complaint}, f'{{sys.executable}} has no package procession that a Rust program can start \
({{type(error).__name__}}: {{error}}); install it: {{sys.executable}} -m pip install \
procession=={version}'.encode(errors='replace'))
    sys.exit(1)
main({complaint})
"
    )
}
