//! Starts Python processes.

use std::io::{self, ErrorKind};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use procession_engine as engine;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::Bytes;
use super::codec::PythonCodec;
use super::message::PythonRequest;
use super::wire;
use crate::error::{Error, os};
use crate::process::builder::Builder;
use crate::process::handle::Process;
use crate::process::init::{ChildEntry, InterpreterEntry};
use crate::process::{put_message, reserve};
use crate::transfer::context;

/// The interpreter that a process runs.
#[derive(Debug)]
pub struct Interpreter(PathBuf);

impl Default for Interpreter {
    fn default() -> Interpreter {
        Interpreter("python3".into())
    }
}

impl<R: DeserializeOwned> Process<R, PythonCodec> {
    /// Starts `python3` to call a function of a module. [`Builder`] can start other interpreters.
    ///
    /// `module` is the name of an importable module, and `function` a name in it (`"dumps"`,
    /// `"Path.home"`). `args` is a tuple of the positional arguments, also for a single one: `(5,)`. A
    /// struct or map gives keyword arguments instead. A function that returns `None` returns `()`.
    ///
    /// # Errors
    /// Returns an error when the arguments have another form or cannot be expressed in Python,
    /// [`Error::NoInterpreter`] when the interpreter does not exist, and an error when the system cannot
    /// start a process.
    ///
    /// # Examples
    /// ```no_run
    /// use procession::python;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let process = python::Process::<String>::spawn("json", "dumps", ([1, 2],))?;
    /// assert_eq!(process.join()?, "[1, 2]");
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<Args: Serialize>(
        module: &str,
        function: &str,
        args: Args,
    ) -> Result<Process<R, PythonCodec>, Error> {
        Builder::<PythonCodec>::default().spawn(module, function, args)
    }
}

impl Builder<PythonCodec> {
    /// Sets the interpreter: a path, or a name to find in `PATH`. The default is `python3`.
    ///
    /// # Examples
    /// ```no_run
    /// use procession::python;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let builder = python::Process::builder().interpreter("venv/bin/python");
    /// let process: python::Process<i64> = builder.spawn("operator", "add", (2, 3))?;
    /// assert_eq!(process.join()?, 5);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn interpreter(mut self, interpreter: impl Into<PathBuf>) -> Builder<PythonCodec> {
        self.own = Interpreter(interpreter.into());
        self
    }

    /// Starts the process; see [`Process::spawn`](super::Process#method.spawn).
    ///
    /// # Errors
    /// The same as for [`Process::spawn`](super::Process#method.spawn).
    pub fn spawn<R, Args>(
        self,
        module: &str,
        function: &str,
        args: Args,
    ) -> Result<Process<R, PythonCodec>, Error>
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
        let name = self.name_or_next();
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
        let Interpreter(interpreter) = &self.own;
        let path = located(interpreter).map_err(|source| no_interpreter(interpreter, source))?;
        let entry = ChildEntry::Interpreter(InterpreterEntry {
            path: path.clone(),
            error_pipe,
            code,
        });
        let process = self
            .start(entry, reserved, control, name, keep)
            .map_err(|error| with_interpreter(error, &path))?;
        // Only now does the child hold the shared objects in the arguments.
        drop(args);
        Ok(process.with_error_reader(error_reader))
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
