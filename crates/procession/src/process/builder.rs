//! The settings of a process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_engine::channel::Queue;
use procession_engine::process::Reservation;
use procession_engine::process::child::{Launch, Offer, PreExec, Program, Setup, fingerprint};
use procession_engine::{self as engine, Deadline};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handle::{Process, reap_unjoined};
use super::stdio::{self, Stdio};
use crate::error::Error;
use crate::process::init::{ChildEntry, child_entry};
use crate::transfer::call::{self, tag};
use crate::transfer::codec::{Codec, RustCodec};
use crate::transfer::context;
use crate::transfer::function::Function;

/// Configures and starts a [`Process`](super::handle::Process). `C` encodes its arguments and its result.
///
/// Programs use it as [`procession::Builder`](crate::Builder) and, with the feature `python`, as
/// `procession::python::Builder`.
#[derive(Debug)]
pub struct Builder<C: Codec = RustCodec> {
    pub(super) name: Option<String>,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    clear_env: bool,
    pub(super) cwd: Option<PathBuf>,
    pub(super) setup: Setup,
    pub(super) stdio: [Stdio; 3],
    pub(super) daemon: bool,
    pub(super) kill_on_drop: bool,
    /// The settings that only this codec has.
    #[cfg_attr(
        not(feature = "python"),
        expect(dead_code, reason = "only Python processes have some")
    )]
    pub(crate) own: C::Settings,
}

impl<C: Codec> Default for Builder<C> {
    fn default() -> Builder<C> {
        Builder {
            name: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            clear_env: false,
            cwd: None,
            setup: Setup::default(),
            stdio: Default::default(),
            daemon: false,
            kill_on_drop: false,
            own: C::Settings::default(),
        }
    }
}

impl<C: Codec> Builder<C> {
    /// Sets the name of the process, which [`process_name`](crate::process_name) returns there and messages
    /// show.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Builder<C> {
        self.name = Some(name.into());
        self
    }

    /// Adds arguments, which follow the program's name in the `std::env::args` of the process.
    ///
    /// In test executables they have no effect, because libtest would parse them.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn arguments() -> Vec<String> {
    ///     std::env::args().skip(1).collect()
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::builder().args(["--verbose"]).spawn(arguments, ())?;
    /// assert_eq!(process.join()?, ["--verbose"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Builder<C> {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. The default environment is a copy of this process's.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Builder<C> {
        self.env.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes an environment variable.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn home() -> Option<String> {
    ///     std::env::var("HOME").ok()
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::builder().env_remove("HOME").spawn(home, ())?;
    /// assert_eq!(process.join()?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Builder<C> {
        self.env.insert(key.into(), None);
        self
    }

    /// Clears the environment, so that it has only the variables set with [`env`](Builder::env).
    ///
    /// # Examples
    /// ```no_run
    /// use procession::Process;
    ///
    /// fn variables() -> usize {
    ///     std::env::vars().filter(|(name, _)| name == "HOME").count()
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::builder().env_clear().env("ONLY", "this").spawn(variables, ())?;
    /// assert_eq!(process.join()?, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env_clear(mut self) -> Builder<C> {
        self.env.clear();
        self.clear_env = true;
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Builder<C> {
        self.cwd = Some(directory.into());
        self
    }

    /// Sets the user id the process changes to before its program starts.
    ///
    /// When root starts a process as another user, the process also drops root's supplementary groups,
    /// unless [`groups`](Builder::groups) sets others. That user must be allowed to execute the program's
    /// file. Shared objects work as usual.
    ///
    /// # Examples
    /// ```no_run
    /// use procession::Process;
    ///
    /// fn serve() {}
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::builder().uid(65534).gid(65534).spawn(serve, ())?;
    /// process.join()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Builder<C> {
        self.setup.uid = Some(uid);
        self
    }

    /// Sets the group id the process changes to before its program starts.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Builder<C> {
        self.setup.gid = Some(gid);
        self
    }

    /// Sets the supplementary groups of the process.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Builder<C> {
        self.setup.groups = Some(groups.into_iter().collect());
        self
    }

    /// Runs a closure in the process after all other settings took effect: right before its program starts,
    /// or before the closure of a [forked](Builder::fork) process.
    ///
    /// Several hooks run in the order in which they were added. When one fails, the process ends and
    /// [`spawn`](Builder::spawn) returns the error.
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
    pub fn pre_exec(mut self, hook: PreExec) -> Builder<C> {
        self.setup.hooks.push(hook);
        self
    }

    /// Sets standard input.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    /// use procession::{Process, Stdio};
    ///
    /// fn count() -> usize {
    ///     std::io::stdin().lines().count()
    /// }
    ///
    /// fn main() -> procession::Result<()> {
    ///     procession::init();
    ///     let mut process = Process::builder().stdin(Stdio::piped()).spawn(count, ())?;
    ///     process.stdin.as_mut().unwrap().write_all(b"one\ntwo\n").unwrap();
    ///     assert_eq!(process.join()?, 2); // joining closes the stream
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Builder<C> {
        self.stdio[0] = stream.into();
        self
    }

    /// Sets standard output.
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
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Builder<C> {
        self.stdio[1] = stream.into();
        self
    }

    /// Sets standard error.
    #[must_use]
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Builder<C> {
        self.stdio[2] = stream.into();
        self
    }

    /// Sets whether the process dies at once when this process ends, however it ends. The default is that
    /// it continues.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn serve() {
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::builder().daemon(true).spawn(serve, ())?;
    /// assert!(process.is_alive()); // it ends with this process
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn daemon(mut self, daemon: bool) -> Builder<C> {
        self.daemon = daemon;
        self
    }

    /// Sets whether dropping the [`Process`] kills the process.
    ///
    /// # Examples
    /// ```
    /// use procession::Process;
    ///
    /// fn wait() {
    ///     loop {
    ///         std::thread::park();
    ///     }
    /// }
    ///
    /// # fn main() -> procession::Result<()> {
    /// # procession::init();
    /// let process = Process::builder().kill_on_drop(true).spawn(wait, ())?;
    /// drop(process); // returns when the process has ended
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn kill_on_drop(mut self, kill: bool) -> Builder<C> {
        self.kill_on_drop = kill;
        self
    }

    /// Returns the given name, or the next default name.
    pub(crate) fn name_or_next(&self) -> String {
        self.name.clone().unwrap_or_else(next_name)
    }

    /// Starts a process whose request is in its control queue.
    pub(crate) fn start<R>(
        self,
        entry: ChildEntry,
        reserved: Reservation,
        control: Arc<Queue>,
        name: String,
        keep: Vec<OwnedFd>,
    ) -> Result<Process<R, C>, Error> {
        let kill_on_drop = self.kill_on_drop;
        let mut offer = Offer::new(reserved.id(), hex(&control.handle().to_bytes()))?;
        keep.into_iter().for_each(|fd| offer.keep(fd));
        if self.daemon {
            offer.die_with_parent()?;
        }
        let env = self.environment();
        let (mut stdio, ends) = stdio::open(self.stdio)?;
        let (executable, args) = entry.command(self.args, &mut offer, &mut stdio)?;
        let program = Program {
            executable,
            args,
            env,
        };
        let launch = Launch {
            cwd: self.cwd,
            setup: self.setup,
            stdio,
        };
        let child = launch.start(program, &offer, reserved)?;
        Ok(Process::started(child, control, name, ends, kill_on_drop))
    }

    /// Returns the whole environment of the process.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut env: BTreeMap<OsString, OsString> = match self.clear_env {
            true => BTreeMap::new(),
            false => std::env::vars_os().collect(),
        };
        for (name, value) in &self.env {
            match value {
                Some(value) => env.insert(name.clone(), value.clone()),
                None => env.remove(name),
            };
        }
        env.into_iter().collect()
    }
}

impl Builder {
    /// Starts the process; see [`Process::spawn`].
    ///
    /// # Errors
    /// The same as for [`Process::spawn`].
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
        // Only now does the child hold the shared objects in the arguments.
        drop(args);
        Ok(process)
    }

    /// Returns an error if a setting needs a fresh run of the program.
    pub(super) fn check_forkable(&self) -> Result<(), Error> {
        match self.args.is_empty() && self.env.is_empty() && !self.clear_env {
            true => Ok(()),
            false => Err(engine::Error::Invalid(
                "a forked process has its parent's arguments and environment: do not set them, or spawn it"
                    .to_owned(),
            )
            .into()),
        }
    }
}

/// Reserves a process entry for a child, and creates the control queue to it.
pub(crate) fn reserve() -> Result<(Reservation, Arc<Queue>), Error> {
    reap_unjoined();
    engine::process::ensure()?;
    let reserved = Reservation::reserve()?;
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

/// Puts a message on the control queue of a process that is not started yet.
pub(crate) fn put_message(control: &Queue, message: &[&[u8]]) -> Result<(), Error> {
    match control.put(message, Deadline::NEVER) {
        Ok(()) => Ok(()),
        Err(engine::error::PutError::Failed(error)) => Err(error.into()),
        // The queue is unbounded and so far only ours, so putting never waits.
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
