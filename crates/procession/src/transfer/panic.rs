//! Catching a panic with all there is to say about it.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, PoisonError, RwLock, RwLockWriteGuard, TryLockError};
use std::thread;

use crate::error::Panic;

thread_local! {
    /// The panic that is on its way through this thread.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// Whether panics of this thread are reported in no other way than by [`caught`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread keeps panics from being printed, which does not go for its own.
    static HOLDS_PRINT_LOCK: Cell<bool> = const { Cell::new(false) };
}

/// Read by whoever prints a panic: std has a lock of its own meanwhile, which a child that is forked then would
/// find taken for ever.
static PRINTING: RwLock<()> = RwLock::new(());

/// While this is held, no other thread is in the middle of printing a panic.
pub(crate) struct PrintLock(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>);

impl PrintLock {
    /// `None` while a thread does, which may need the standard streams for it.
    pub(crate) fn try_acquire() -> Option<PrintLock> {
        let held = match PRINTING.try_write() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        HOLDS_PRINT_LOCK.set(true);
        Some(PrintLock(held))
    }
}

impl Drop for PrintLock {
    fn drop(&mut self) {
        HOLDS_PRINT_LOCK.set(false);
    }
}

/// Runs `work`; panics in it go without the usual words on standard error.
pub(crate) fn without_output<T>(work: impl FnOnce() -> T) -> T {
    QUIET.set(true);
    let done = work();
    QUIET.set(false);
    done
}

/// Runs `work`; a panic in it becomes an error. Only in processes that called [`watch`] does the
/// error have a location and a backtrace.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    LAST.take();
    // What the panicking function held is gone with it, or belongs to a process that ends.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        LAST.take().unwrap_or_else(|| Panic {
            message: message(&*payload),
            location: None,
            backtrace: None,
        })
    })
}

/// Told of a panic where panics abort, which is the last chance to report it.
type Reporter = Box<dyn Fn(Panic) + Send + Sync>;

/// Set in a process whose panics are noted.
static REPORTER: RwLock<Option<Reporter>> = RwLock::new(None);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Notes every panic from here on, besides what was done before.
pub(crate) fn watch(on_abort: impl Fn(Panic) + Send + Sync + 'static) {
    install_hook();
    lock_reporter().watch(on_abort);
}

/// Prepares this process for [`watch`], without noting anything yet.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    // The hook cannot be changed during a panic.
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                let _printing = (!HOLDS_PRINT_LOCK.get()).then(|| PRINTING.read());
                before(info);
            }
            if !WATCHED.load(Ordering::Relaxed) {
                return;
            }
            let panic = describe(info);
            if cfg!(not(panic = "abort")) {
                LAST.set(Some(panic));
            } else if let Ok(Some(report)) = REPORTER.try_read().as_deref() {
                // Not waited for: this thread may be the one that holds it, or have been forked while another did.
                report(panic);
            }
        }));
    });
}

/// Keeps the reporter from being used or changed by others.
pub(crate) fn lock_reporter() -> ReporterLock {
    ReporterLock(REPORTER.write().unwrap_or_else(PoisonError::into_inner))
}

/// See [`lock_reporter`].
pub(crate) struct ReporterLock(RwLockWriteGuard<'static, Option<Reporter>>);

impl ReporterLock {
    pub(crate) fn watch(mut self, on_abort: impl Fn(Panic) + Send + Sync + 'static) {
        // A forked child's is its parent's, and not to be dropped here.
        std::mem::forget(self.0.replace(Box::new(on_abort)));
        WATCHED.store(true, Ordering::Relaxed);
    }
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    let wanted = std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value != "0");
    Panic {
        message: message(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace: wanted.then(|| Backtrace::force_capture().to_string()),
    }
}

fn message(payload: &dyn std::any::Any) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic with a payload that is no text".to_owned()
    }
}
