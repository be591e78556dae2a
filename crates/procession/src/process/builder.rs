//! What can be set about a process before it is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_engine::channel::Queue;
use procession_engine::process::Seat;
use procession_engine::process::child::{Launch, PreExec, Setup, fingerprint};
use procession_engine::{self as engine, Deadline};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stdio::{self, Stdio};
use super::{Process, reap_unjoined, tag};
use crate::Function;
use crate::error::Error;
use crate::process::init::{ChildEntry, child_entry};
use crate::transfer::call;
use crate::transfer::context;

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
    pub(super) name: Option<String>,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    clear_env: bool,
    pub(super) cwd: Option<PathBuf>,
    pub(super) setup: Setup,
    pub(super) stdio: [Stdio; 3],
    pub(super) daemon: bool,
    pub(super) kill_on_drop: bool,
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

    /// The user that the process becomes before it begins.
    ///
    /// A process of root that becomes somebody else gives up root's supplementary groups as well, unless
    /// [`groups`](Builder::groups) says which it is to have. The program's file has to be one that this user may
    /// execute. Shared objects are passed on as ever.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Builder {
        self.setup.uid = Some(uid);
        self
    }

    /// The group that the process takes before it begins.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Builder {
        self.setup.gid = Some(gid);
        self
    }

    /// The supplementary groups that the process takes before it begins.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Builder {
        self.setup.groups = Some(groups.into_iter().collect());
        self
    }

    /// Has the process run a closure after all else was set, right before it begins: before its program does, or
    /// before what a [forked](Builder::fork) process is to run.
    ///
    /// Several are run in the request in which they were given. One that fails ends the process, and its error is
    /// that of [`spawn`](Builder::spawn).
    ///
    /// # Examples
    /// ```
    /// use procession::{PreExec, Process};
    /// use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    ///
    /// fn limit() -> Option<u64> {
    ///     getrlimit(Resource::Core).current
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let none = Rlimit { current: Some(0), maximum: Some(0) };
    ///     // SAFETY: it makes one system call, on a value of its own.
    ///     let no_core_files = unsafe {
    ///         PreExec::new(move || Ok(setrlimit(Resource::Core, none.clone())?))
    ///     };
    ///     let process = Process::builder().pre_exec(no_core_files).spawn(limit, ())?;
    ///     assert_eq!(process.join()?, Some(0));
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn pre_exec(mut self, hook: PreExec) -> Builder {
        self.setup.hooks.push(hook);
        self
    }

    /// Where its standard input comes from.
    #[must_use]
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[0] = stream.into();
        self
    }

    /// Where its standard output goes.
    ///
    /// # Examples
    /// ```
    /// use std::io::Read;
    /// use procession::{Process, Stdio};
    ///
    /// fn greet() {
    ///     println!("hello");
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let mut process = Process::builder().stdout(Stdio::piped()).spawn(greet, ())?;
    ///     let mut said = String::new();
    ///     process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    ///     assert_eq!(said, "hello\n");
    ///     process.join()?;
    ///     Ok(())
    /// }
    /// ```
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

    /// Whether it dies at once when this process ends, in whatever entry; unless said otherwise it goes on.
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
        let entry = child_entry()?;
        let (reserved, control) = reserve()?;
        let args = [args];
        let (request, keep) =
            context::transfer_to(reserved.id(), || call::request(&function, &args));
        let request = request?;
        let name = self.name_or_next();
        put_request(&control, &name, &request)?;
        let process = self.start(entry, reserved, control, name, keep)?;
        // Only now does the child hold what the arguments hold.
        drop(args);
        Ok(process)
    }

    /// The name it was given, or the next one.
    pub(crate) fn name_or_next(&self) -> String {
        self.name.clone().unwrap_or_else(next_name)
    }

    /// Starts a process whose request is in its control.
    pub(crate) fn start<R>(
        self,
        entry: ChildEntry,
        reserved: Seat,
        control: Arc<Queue>,
        name: String,
        keep: Vec<OwnedFd>,
    ) -> Result<Process<R>, Error> {
        let kill_on_drop = self.kill_on_drop;
        let (launch, ends) = self.launch(entry, keep, &control)?;
        let child = launch.start(reserved)?;
        Ok(Process::started(child, control, name, ends, kill_on_drop))
    }

    /// Everything about the child, and this process's ends of its streams.
    fn launch(
        self,
        entry: ChildEntry,
        keep: Vec<OwnedFd>,
        control: &Queue,
    ) -> Result<(Launch, stdio::Ends), Error> {
        let command = entry.command(self.args);
        let mut env: BTreeMap<OsString, OsString> = if self.clear_env {
            BTreeMap::new()
        } else {
            std::env::vars_os().collect()
        };
        for (key, value) in self.env {
            match value {
                Some(value) => env.insert(key, value),
                None => env.remove(&key),
            };
        }
        let (stdio, ends) = stdio::open(self.stdio)?;
        let launch = Launch {
            program: command.program,
            args: command.args,
            env: env.into_iter().collect(),
            cwd: self.cwd,
            setup: self.setup,
            stdio,
            keep,
            complaint: command.error_pipe,
            tied: self.daemon,
            hushed: command.silence,
            note: hex(&control.handle().to_bytes()),
        };
        Ok((launch, ends))
    }

    /// Whether all that was set can be had by a process that is not a fresh run of the program.
    pub(super) fn check_forkable(&self) -> Result<(), Error> {
        match self.args.is_empty() && self.env.is_empty() && !self.clear_env {
            true => Ok(()),
            false => Err(engine::Error::Invalid(
                "a forked process has its parent's arguments and environment: set none, or spawn it"
                    .to_owned(),
            )
            .into()),
        }
    }
}

/// A reserved for a process that is about to be started, and the control to it.
pub(crate) fn reserve() -> Result<(Seat, Arc<Queue>), Error> {
    reap_unjoined();
    engine::process::ensure()?;
    let reserved = Seat::reserve()?;
    let control = Arc::new(Queue::new(0)?);
    reserved.hold(&control.handle())?;
    Ok((reserved, control))
}

fn put_request(control: &Queue, name: &str, request: &[u8]) -> Result<(), Error> {
    let mut head = vec![tag::REQUEST];
    head.extend_from_slice(&fingerprint().to_le_bytes());
    head.extend_from_slice(&(name.len() as u32).to_le_bytes());
    put_message(control, &[&head, name.as_bytes(), request])
}

/// Puts a message on the control to a process that is not started yet.
pub(crate) fn put_message(control: &Queue, message: &[&[u8]]) -> Result<(), Error> {
    match control.put(message, Deadline::NEVER) {
        Ok(()) => Ok(()),
        Err(engine::error::PutError::Failed(error)) => Err(error.into()),
        // Unbounded, ours alone so far, and a queue with room never sleeps.
        Err(_) => Err(Error::Closed),
    }
}

pub(super) fn next_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("Process-{}", STARTED.fetch_add(1, Ordering::Relaxed) + 1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
