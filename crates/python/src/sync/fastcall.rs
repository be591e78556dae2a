//! Fast methods of locks and semaphores, for calls that need no wait.
//!
//! The interpreter calls them without PyO3's layer in between; see [`procession_pyffi::fastcall`].

use std::ffi::CStr;

use procession_engine::sync;
use procession_pyffi::fastcall::{self, Answer, Fallback, FastMethod};
use pyo3::prelude::*;

use crate::sync::lock::{Lock, RLock};
use crate::sync::locking::LockLike;
use crate::sync::semaphore::Semaphore;

/// A lock or semaphore. Its methods return `None` when the call has to wait, or fails.
trait FastLock {
    /// Acquires it; without `block` the answer can be `No`.
    fn acquire(&self, block: bool) -> Option<Answer>;
    fn release(&self) -> Option<Answer>;
}

impl<L: LockLike> FastLock for L {
    #[inline]
    fn acquire(&self, block: bool) -> Option<Answer> {
        if !block && self.would_wait() {
            return Some(Answer::No);
        }
        self.try_acquire().then_some(Answer::Yes)
    }

    #[inline]
    fn release(&self) -> Option<Answer> {
        LockLike::release(self).then_some(Answer::Nothing)
    }
}

impl FastLock for sync::Semaphore {
    #[inline]
    fn acquire(&self, block: bool) -> Option<Answer> {
        if self.try_acquire() {
            return Some(Answer::Yes);
        }
        (!block).then_some(Answer::No)
    }

    #[inline]
    fn release(&self) -> Option<Answer> {
        self.release(1).is_ok().then_some(Answer::Nothing)
    }
}

/// Adds the four fast methods of a class.
macro_rules! fast_methods {
    ($class:ty, $py:expr) => {{
        struct Acquire<const CONTEXT: bool>;
        struct Release<const CONTEXT: bool>;

        fast_methods!(
            Acquire<false>,
            $class,
            "acquire",
            Some(c"block"),
            false,
            FastLock::acquire
        );
        fast_methods!(
            Acquire<true>,
            $class,
            "__enter__",
            None,
            false,
            FastLock::acquire
        );
        fast_methods!(Release<false>, $class, "release", None, false, |lock, _| {
            FastLock::release(lock)
        });
        fast_methods!(Release<true>, $class, "__exit__", None, true, |lock, _| {
            FastLock::release(lock)
        });

        fastcall::add::<Acquire<false>>($py)?;
        fastcall::add::<Acquire<true>>($py)?;
        fastcall::add::<Release<false>>($py)?;
        fastcall::add::<Release<true>>($py)?;
    }};
    ($method:ty, $class:ty, $name:literal, $flag:expr, $ignores:literal, $does:expr) => {
        impl FastMethod for $method {
            type Class = $class;
            const NAME: &'static str = $name;
            const IGNORES_ARGUMENTS: bool = $ignores;
            const FLAG: Option<&'static CStr> = $flag;

            #[inline]
            fn answer(object: &$class, flag: bool) -> Option<Answer> {
                let does: fn(&_, bool) -> Option<Answer> = $does;
                does(object.engine().ok()?, flag)
            }

            fn fallback() -> &'static Fallback {
                static FALLBACK: Fallback = Fallback::new();
                &FALLBACK
            }
        }
    };
}

/// Adds the fast methods of `Lock`.
pub fn lock(py: Python<'_>) -> PyResult<()> {
    fast_methods!(Lock, py);
    Ok(())
}

/// Adds the fast methods of `RLock`.
pub fn rlock(py: Python<'_>) -> PyResult<()> {
    fast_methods!(RLock, py);
    Ok(())
}

/// Adds the fast methods of `Semaphore`.
pub fn semaphore(py: Python<'_>) -> PyResult<()> {
    fast_methods!(Semaphore, py);
    Ok(())
}
