//! Catching a panic with all there is to say about it.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::error::Panic;

thread_local! {
    /// The panic that is on its way through this thread.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// Whether panics of this thread are reported in no other way than by [`caught`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; panics in it go without the usual words on standard error.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
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

/// Notes every panic from here on, besides what was done before.
///
/// Where panics abort, `on_abort` is the last chance to report one.
pub(crate) fn watch(on_abort: impl Fn(Panic) + Send + Sync + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
            let panic = describe(info);
            if cfg!(panic = "abort") {
                on_abort(panic);
            } else {
                LAST.set(Some(panic));
            }
        }));
    });
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
