//! Forked processes, which run a closure.

use std::io::{StderrLock, StdoutLock, Write, stderr, stdout};
use std::sync::{Arc, MutexGuard};
use std::thread;

use procession_engine::channel::Queue;
use procession_engine::process::child::{Child, ForkSafe, Launch, fingerprint};
use procession_engine::{self as engine};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::handle::{Process, reap_unjoined, unjoined};
use super::serve::{self, NameLock};
use super::stdio;
use crate::error::Error;
#[cfg(feature = "async")]
use crate::reactor::{self, Reactors};
use crate::transfer::call;
use crate::transfer::panic::{self, PrintLock, ReporterLock};

impl Builder {
    /// Forks the process; see [`Process::fork`].
    ///
    /// # Errors
    /// The same as for [`Process::fork`], and an error when [`args`](Builder::args) or a variable was set:
    /// a forked process has those of its parent.
    ///
    /// # Examples
    /// ```
    /// use procession::{ForkSafe, Process};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let number = 6;
    /// let double = || 2 * number;
    /// // SAFETY: this program has no other threads.
    /// let double = unsafe { ForkSafe::new(double) };
    /// let process = Process::builder().name("double").fork(double)?;
    /// assert_eq!(process.join()?, 12);
    /// # Ok(())
    /// # }
    /// ```
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
        let launch = Launch {
            cwd: self.cwd,
            setup: self.setup,
            stdio,
        };
        let name = self.name.unwrap_or_else(super::builder::next_name);
        let locks = ForkLocks::acquire();
        let begin = || locks.release_in_child(name.clone(), &control);
        let (child, closure) = launch.fork(closure, self.daemon, begin, |closure| {
            // Close the parent's ends here, or the streams would never end.
            drop(std::mem::take(&mut ends));
            let response = call::local_response(closure);
            let code = serve::deliver(&control, &response);
            let _ = stdout().flush();
            engine::process::leave();
            code
        })?;
        let process = Process::started(child, control, name, ends, self.kill_on_drop);
        // Dropping the captures may panic. The process is reaped even then.
        drop(closure);
        Ok(process)
    }
}

/// All locks of this crate and of std's output streams, held by the thread that forks. The child therefore
/// finds consistent state, and releases the locks once it knows that it is the child.
///
/// Lock order: the streams come first, because a thread that holds one may wait for the other locks.
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
        // Initialise what is created once per process, so the child never finds it half done.
        fingerprint();
        panic::install_hook();
        let (mut stdout, stderr, print_lock) = loop {
            let streams = (stdout().lock(), stderr().lock());
            if let Some(print_lock) = PrintLock::try_acquire() {
                break (streams.0, streams.1, print_lock);
            }
            // A thread that prints a panic may be waiting for a stream.
            drop(streams);
            thread::yield_now();
        };
        // Flush, so that output does not appear in the buffers of both processes.
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
