//! A process that is forked, to run a closure.

use std::io::{StderrLock, StdoutLock, Write, stderr, stdout};
use std::sync::{Arc, MutexGuard};
use std::thread;

use procession_engine::channel::Queue;
use procession_engine::process::child::{Child, Fork, ForkSafe, fingerprint};
use procession_engine::{self as engine};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::serve::{self, NameLock};
use super::{Process, reap_unjoined, stdio, unjoined};
#[cfg(feature = "async")]
use crate::channel::reactor::{self, Reactors};
use crate::error::Error;
use crate::transfer::call;
use crate::transfer::panic::{self, PrintLock, ReporterLock};

impl Builder {
    /// Forks the process; see [`Process::fork`].
    ///
    /// # Errors
    /// As for [`Process::fork`]; and when [`args`](Builder::args) or a variable was set, which a forked process
    /// has from its parent.
    pub fn fork<F, R>(self, closure: ForkSafe<F>) -> Result<Process<R>, Error>
    where
        F: FnOnce() -> R,
        R: Serialize + DeserializeOwned,
    {
        self.check_forkable()?;
        reap_unjoined();
        engine::process::ensure()?;
        let control = Arc::new(Queue::new(0)?);
        let (stdio, mut ends) = stdio::open(self.stdio)?;
        let fork = Fork {
            cwd: self.cwd,
            setup: self.setup,
            stdio,
            tied: self.daemon,
        };
        let name = self.name.unwrap_or_else(super::builder::next_name);
        let locks = ForkLocks::acquire();
        let begin = || locks.release_in_child(name.clone(), &control);
        let (child, closure) = fork.start(closure, begin, |closure| {
            // The parent's ends are the parent's alone, or a stream would never end.
            drop(std::mem::take(&mut ends));
            let response = call::local_response(closure);
            let code = serve::deliver(&control, &response);
            let _ = stdout().flush();
            engine::process::leave();
            code
        })?;
        let process = Process::started(child, control, name, ends, self.kill_on_drop);
        // What this process's copy captured may panic as it goes: the process is reaped even then.
        drop(closure);
        Ok(process)
    }
}

/// Everything that this crate and std could be in the middle of in another thread, in the hands of the thread
/// that forks: so the child finds it whole, and free once it was told that it is the child.
///
/// The streams come first: a thread that has one of them may be waiting for what comes after.
struct ForkLocks {
    _stdout: StdoutLock<'static>,
    _stderr: StderrLock<'static>,
    _nobody_prints: PrintLock,
    unjoined: MutexGuard<'static, Vec<Child>>,
    name: NameLock,
    reporter: ReporterLock,
    #[cfg(feature = "async")]
    _reactors: MutexGuard<'static, Reactors>,
}

impl ForkLocks {
    fn acquire() -> ForkLocks {
        // Made once a process: not to be found half made.
        fingerprint();
        panic::install_hook();
        let (mut stdout, stderr, print_lock) = loop {
            let streams = (stdout().lock(), stderr().lock());
            if let Some(print_lock) = PrintLock::try_acquire() {
                break (streams.0, streams.1, print_lock);
            }
            // Whoever prints a panic may be waiting for a stream.
            drop(streams);
            thread::yield_now();
        };
        // What is written in one process must not be in the other's buffer too.
        let _ = stdout.flush();
        ForkLocks {
            _stdout: stdout,
            _stderr: stderr,
            _nobody_prints: print_lock,
            unjoined: unjoined(),
            name: serve::lock_name(),
            reporter: panic::lock_reporter(),
            #[cfg(feature = "async")]
            _reactors: reactor::reactors(),
        }
    }

    fn release_in_child(mut self, name: String, control: &Arc<Queue>) {
        // They are children of the parent.
        self.unjoined.clear();
        self.name.set(name);
        self.reporter.watch(serve::on_abort(control));
    }
}
