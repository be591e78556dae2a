//! Catches panics with their location and backtrace.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, PoisonError, RwLock, RwLockWriteGuard, TryLockError};
use std::thread;

use crate::error::Panic;

thread_local! {
    /// The panic that is unwinding this thread.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// Whether panics of this thread are reported only by [`caught`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread holds the print lock. Its own panics are still printed.
    static HOLDS_PRINT_LOCK: Cell<bool> = const { Cell::new(false) };
}

/// Held for reading by threads that print a panic. Std holds a lock of its own meanwhile, and a child forked at
/// that moment would find that lock taken for ever.
static PRINTING: RwLock<()> = RwLock::new(());

/// While this is held, no other thread is printing a panic.
pub(crate) struct PrintLock(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>);

impl PrintLock {
    /// Returns `None` while a thread prints a panic, because that thread may need the standard streams.
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

/// Runs `work` without printing its panics to standard error.
pub(crate) fn without_output<T>(work: impl FnOnce() -> T) -> T {
    QUIET.set(true);
    let done = work();
    QUIET.set(false);
    done
}

/// Runs `work` and turns a panic into an error. The error has a location and a backtrace only in processes that
/// called [`watch`].
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    LAST.take();
    // Unwind safety: the state of the panicking function is dropped, or its process ends.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        LAST.take().unwrap_or_else(|| Panic {
            message: message(&*payload),
            location: None,
            backtrace: None,
        })
    })
}

/// Called for a panic where panics abort: the last chance to report it.
type Reporter = Box<dyn Fn(Panic) + Send + Sync>;

/// Set in processes that record their panics.
static REPORTER: RwLock<Option<Reporter>> = RwLock::new(None);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Records every panic from now on, in addition to the previous hook.
pub(crate) fn watch(on_abort: impl Fn(Panic) + Send + Sync + 'static) {
    install_hook();
    lock_reporter().watch(on_abort);
}

/// Installs the hook for [`watch`], without recording anything yet.
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
                // Do not wait: this thread may hold the lock itself, or may have been forked
                // while another thread held it.
                report(panic);
            }
        }));
    });
}

/// Locks the reporter, so that no other thread uses or changes it.
pub(crate) fn lock_reporter() -> ReporterLock {
    ReporterLock(REPORTER.write().unwrap_or_else(PoisonError::into_inner))
}

/// See [`lock_reporter`].
pub(crate) struct ReporterLock(RwLockWriteGuard<'static, Option<Reporter>>);

impl ReporterLock {
    pub(crate) fn watch(mut self, on_abort: impl Fn(Panic) + Send + Sync + 'static) {
        // In a forked child, the old reporter is the parent's and must not be dropped.
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
        "a panic whose payload is not text".to_owned()
    }
}
