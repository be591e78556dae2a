//! The settings of a Python process.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use procession_engine as engine;
use procession_engine::process::child::PreExec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::Bytes;
use super::message::PythonRequest;
use super::process::Process;
use super::wire;
use crate::error::{Error, os};
use crate::process::init::{ChildEntry, Interpreter};
use crate::process::{self, Stdio, put_message, reserve};
use crate::transfer::context;

/// Configures and starts a [`Process`].
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
    /// Sets the interpreter: a path, or a name to find in `PATH`. The default is `python3`.
    #[must_use]
    pub fn interpreter(mut self, interpreter: impl Into<PathBuf>) -> Builder {
        self.interpreter = interpreter.into();
        self
    }

    settings! {
        /// Sets the name of the process, which `procession.current_process()` has there.
        name(name: impl Into<String>);
        /// Adds arguments, which follow the program's name in its `sys.argv`.
        args(args: impl IntoIterator<Item = impl Into<OsString>>);
        /// Sets an environment variable. The default environment is a copy of this process's.
        /// `PYTHONPATH` lists directories of modules, in addition to the working directory.
        env(key: impl Into<OsString>, value: impl Into<OsString>);
        /// Removes an environment variable.
        env_remove(key: impl Into<OsString>);
        /// Clears the environment, so that it has only the variables set with [`env`](Builder::env).
        env_clear();
        /// Sets the working directory, in which Python looks for modules first.
        current_dir(directory: impl Into<PathBuf>);
        /// Sets the user id; see [`procession::Builder::uid`](crate::Builder::uid).
        uid(uid: u32);
        /// Sets the group id.
        gid(gid: u32);
        /// Sets the supplementary groups.
        groups(groups: impl IntoIterator<Item = u32>);
        /// Runs a closure before the interpreter starts; see
        /// [`procession::Builder::pre_exec`](crate::Builder::pre_exec).
        pre_exec(hook: PreExec);
        /// Sets standard input.
        stdin(stream: impl Into<Stdio>);
        /// Sets standard output.
        stdout(stream: impl Into<Stdio>);
        /// Sets standard error.
        stderr(stream: impl Into<Stdio>);
        /// Sets whether the process dies at once when this process ends, however it ends.
        daemon(daemon: bool);
        /// Sets whether dropping the [`Process`] kills the process.
        kill_on_drop(kill: bool);
    }

    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// The same as for [`Process::spawn`].
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
        let (reserved, control) = reserve()?;
        let (encoded, keep) = context::transfer_to(reserved.id(), || wire::encode(&args));
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
        let request = wire::encode(&PythonRequest {
            name: &name,
            module,
            function,
            args: Bytes(encoded),
        })?;
        put_message(&control, &[&request])?;

        let (error_reader, error_pipe) =
            UnixStream::pair().map_err(os("make a pair of sockets"))?;
        let nonblocking = error_reader.set_nonblocking(true);
        nonblocking.map_err(os("make a pair of sockets"))?;
        // A copy has a number above the standard three, which the child may use otherwise.
        let error_pipe = OwnedFd::from(error_pipe)
            .try_clone()
            .map_err(os("duplicate a descriptor"))?;
        let path = located(&self.interpreter)
            .map_err(|source| no_interpreter(&self.interpreter, source))?;
        let entry = ChildEntry::Interpreter(Interpreter {
            path: path.clone(),
            error_pipe,
            code,
        });
        let process = self
            .setup
            .start(entry, reserved, control, name, keep)
            .map_err(|error| with_interpreter(error, &path))?;
        // Only now does the child hold the shared objects in the arguments.
        drop(args);
        Ok(Process::started(process, error_reader))
    }
}

fn no_interpreter(interpreter: &Path, source: io::Error) -> Error {
    Error::NoInterpreter {
        interpreter: interpreter.to_owned(),
        source,
    }
}

/// Blames the interpreter if it could not be started.
fn with_interpreter(error: Error, interpreter: &Path) -> Error {
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

/// Returns an absolute path, so that a process with another working directory finds the same file. Looks for a
/// name in `PATH`.
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

/// Returns the Python code that the interpreter runs. If that cannot start, it reports why on the pipe.
fn code(error_pipe: RawFd, handshake: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "import os, sys
try:
    from procession.rust import main
except Exception as error:
    os.write({error_pipe}, f'{{sys.executable}} has no package procession that a Rust program can start \
({{type(error).__name__}}: {{error}}); install it: {{sys.executable}} -m pip install \
procession=={version}'.encode(errors='replace'))
    sys.exit(1)
main({error_pipe}, '{handshake}')
"
    )
}
