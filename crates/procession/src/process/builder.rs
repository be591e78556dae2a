//! What can be set about a process before it is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_engine::channel::Queue;
use procession_engine::process::Seat;
use procession_engine::process::child::{Launch, fingerprint};
use procession_engine::{self as engine, Deadline};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Process, reap_unjoined, tag};
use crate::Function;
use crate::call;
use crate::error::Error;
use crate::handing;
use crate::init::{Way, way_in};

/// Sets up a [`Process`].
///
/// # Examples
/// ```
/// use procession::Process;
///
/// fn where_am_i() -> (String, String) {
///     let directory = std::env::current_dir().unwrap();
///     (directory.display().to_string(), std::env::var("GREETING").unwrap())
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let process = Process::builder()
///         .name("scout")
///         .current_dir("/")
///         .env("GREETING", "hello")
///         .kill_on_drop(true)
///         .spawn(where_am_i, ())?;
///     assert_eq!(process.name(), "scout");
///     assert_eq!(process.join()?, ("/".to_owned(), "hello".to_owned()));
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    clear_env: bool,
    cwd: Option<PathBuf>,
    stdio: [Stdio; 3],
    daemon: bool,
    kill_on_drop: bool,
}

/// Where a standard stream of a process leads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// Where this process's own does.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// To a file, a pipe or a socket.
    To(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(stream: T) -> Stdio {
        Stdio::To(stream.into())
    }
}

impl Builder {
    /// The name it goes by in [`process::name`](crate::process_name) and in messages.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Arguments that its `std::env::args` shows behind the program's name.
    ///
    /// In test executables they are left out, since libtest would take them for its own.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Builder {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, which is otherwise a copy of this process's.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Builder {
        self.env.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes a variable from its environment.
    #[must_use]
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Builder {
        self.env.insert(key.into(), None);
        self
    }

    /// Starts it with an empty environment but for what [`env`](Builder::env) sets.
    #[must_use]
    pub fn env_clear(mut self) -> Builder {
        self.env.clear();
        self.clear_env = true;
        self
    }

    /// The directory it starts in.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.cwd = Some(directory.into());
        self
    }

    /// Where its standard input comes from.
    #[must_use]
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[0] = stream.into();
        self
    }

    /// Where its standard output goes.
    #[must_use]
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[1] = stream.into();
        self
    }

    /// Where its standard error goes.
    #[must_use]
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[2] = stream.into();
        self
    }

    /// Whether it dies at once when this process ends, in whatever way.
    #[must_use]
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = daemon;
        self
    }

    /// Whether dropping the [`Process`] kills it.
    #[must_use]
    pub fn kill_on_drop(mut self, kill: bool) -> Builder {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// As for [`Process::spawn`].
    pub fn spawn<F, Args, Shape>(self, function: F, args: Args) -> Result<Process<F::Output>, Error>
    where
        F: Function<Args, Shape>,
        F::Output: Serialize + DeserializeOwned,
        Args: Serialize + DeserializeOwned + 'static,
        Shape: 'static,
    {
        let way = way_in()?;
        let (seat, line) = reserve()?;
        let args = [args];
        let (order, keep) = handing::handing_to(seat.id(), || call::order(function, &args));
        let order = order?;
        let name = self.name_or_next();
        put_order(&line, &name, &order)?;
        let process = self.start(way, seat, line, name, keep)?;
        // Only now does the child hold what the arguments hold.
        drop(args);
        Ok(process)
    }

    /// The name it was given, or the next one.
    pub(crate) fn name_or_next(&self) -> String {
        self.name.clone().unwrap_or_else(next_name)
    }

    /// Starts a process whose order is in its line.
    pub(crate) fn start<R>(
        &self,
        way: Way,
        seat: Seat,
        line: Queue,
        name: String,
        keep: Vec<OwnedFd>,
    ) -> Result<Process<R>, Error> {
        let child = self.launch(way, keep, &line)?.start(seat)?;
        Ok(Process {
            child: Some(child),
            line,
            name,
            taken: false,
            kill_on_drop: self.kill_on_drop,
            _result: PhantomData,
        })
    }

    fn command(&self, way: Way) -> Command {
        let own_name = std::env::args_os().next();
        let mut args = vec![own_name.unwrap_or_else(|| "procession".into())];
        match way {
            Way::Main => {
                args.extend(self.args.iter().cloned());
                Command {
                    args,
                    ..Command::default()
                }
            }
            Way::Test(flags) => {
                args.extend(flags.into_iter().map(OsString::from));
                Command {
                    args,
                    hushed: true,
                    ..Command::default()
                }
            }
            #[cfg(feature = "python")]
            Way::Program(other) => {
                args = vec![other.path.clone().into_os_string()];
                args.extend(other.args.into_iter().map(OsString::from));
                args.extend(self.args.iter().cloned());
                Command {
                    program: Some(other.path),
                    args,
                    hushed: false,
                    complaint: Some(other.complaint),
                }
            }
        }
    }

    fn launch(&self, way: Way, keep: Vec<OwnedFd>, line: &Queue) -> Result<Launch, Error> {
        let command = self.command(way);
        let mut env: BTreeMap<OsString, OsString> = if self.clear_env {
            BTreeMap::new()
        } else {
            std::env::vars_os().collect()
        };
        for (key, value) in &self.env {
            match value {
                Some(value) => env.insert(key.clone(), value.clone()),
                None => env.remove(key),
            };
        }
        let mut stdio = [None, None, None];
        for (slot, stream) in stdio.iter_mut().zip(&self.stdio) {
            *slot = match stream {
                Stdio::Inherit => None,
                Stdio::Null => Some(null()?),
                Stdio::To(fd) => Some(fd.try_clone().map_err(os("duplicate a stream"))?),
            };
        }
        Ok(Launch {
            program: command.program,
            args: command.args,
            env: env.into_iter().collect(),
            cwd: self.cwd.clone(),
            stdio,
            keep,
            complaint: command.complaint,
            tied: self.daemon,
            hushed: command.hushed,
            note: hex(&line.handle().to_bytes()),
        })
    }
}

/// What is run, and how.
#[derive(Default)]
struct Command {
    program: Option<PathBuf>,
    args: Vec<OsString>,
    hushed: bool,
    complaint: Option<OwnedFd>,
}

/// A seat for a process that is about to be started, and the line to it.
pub(crate) fn reserve() -> Result<(Seat, Queue), Error> {
    reap_unjoined();
    engine::process::ensure()?;
    let seat = Seat::reserve()?;
    let line = Queue::new(0)?;
    seat.hold(&line.handle())?;
    Ok((seat, line))
}

fn put_order(line: &Queue, name: &str, order: &[u8]) -> Result<(), Error> {
    let mut head = vec![tag::ORDER];
    head.extend_from_slice(&fingerprint().to_le_bytes());
    head.extend_from_slice(&(name.len() as u32).to_le_bytes());
    put_on(line, &[&head, name.as_bytes(), order])
}

/// Puts a message on the line to a process that is not started yet.
pub(crate) fn put_on(line: &Queue, message: &[&[u8]]) -> Result<(), Error> {
    match line.put(message, Deadline::NEVER) {
        Ok(()) => Ok(()),
        Err(engine::error::PutError::Failed(error)) => Err(error.into()),
        // Unbounded, ours alone so far, and a queue with room never sleeps.
        Err(_) => Err(Error::Closed),
    }
}

fn null() -> Result<OwnedFd, Error> {
    let open = File::options().read(true).write(true).open("/dev/null");
    open.map(OwnedFd::from).map_err(os("open /dev/null"))
}

fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| engine::Error::Os { what, source }.into()
}

fn next_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("Process-{}", STARTED.fetch_add(1, Ordering::Relaxed) + 1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
