//! Locks and semaphores that are free, or that are not to be waited for, without anything between the interpreter and
//! the engine.

use std::ffi::CStr;

use procession_engine::sync;
use procession_native::prompt::{self, Answer, Ordinary, Prompt};
use pyo3::prelude::*;

use crate::exclusive::Exclusive;
use crate::lock::Lock;
use crate::rlock::RLock;
use crate::semaphore::Semaphore;

/// What is taken and given back, if that is possible at once.
trait Gate {
    /// Without `block` it may be refused.
    fn take(&self, block: bool) -> Option<Answer>;
    fn give_back(&self) -> Option<Answer>;
}

impl<L: Exclusive> Gate for L {
    #[inline]
    fn take(&self, block: bool) -> Option<Answer> {
        if !block && self.would_wait() {
            return Some(Answer::No);
        }
        self.try_acquire().then_some(Answer::Yes)
    }

    #[inline]
    fn give_back(&self) -> Option<Answer> {
        Exclusive::give_back(self).then_some(Answer::Nothing)
    }
}

impl Gate for sync::Semaphore {
    #[inline]
    fn take(&self, block: bool) -> Option<Answer> {
        if self.try_acquire() {
            return Some(Answer::Yes);
        }
        (!block).then_some(Answer::No)
    }

    #[inline]
    fn give_back(&self) -> Option<Answer> {
        self.release(1).is_ok().then_some(Answer::Nothing)
    }
}

/// The four methods of a class.
macro_rules! at_once {
    ($class:ty, $py:expr) => {{
        struct Take<const CONTEXT: bool>;
        struct GiveBack<const CONTEXT: bool>;

        at_once!(
            Take<false>,
            $class,
            "acquire",
            Some(c"block"),
            false,
            Gate::take
        );
        at_once!(Take<true>, $class, "__enter__", None, false, Gate::take);
        at_once!(
            GiveBack<false>,
            $class,
            "release",
            None,
            false,
            |gate, _| { Gate::give_back(gate) }
        );
        at_once!(GiveBack<true>, $class, "__exit__", None, true, |gate, _| {
            Gate::give_back(gate)
        });

        prompt::add::<Take<false>>($py)?;
        prompt::add::<Take<true>>($py)?;
        prompt::add::<GiveBack<false>>($py)?;
        prompt::add::<GiveBack<true>>($py)?;
    }};
    ($method:ty, $class:ty, $name:literal, $flag:expr, $ignores:literal, $does:expr) => {
        impl Prompt for $method {
            type Class = $class;
            const NAME: &'static str = $name;
            const IGNORES_ARGUMENTS: bool = $ignores;
            const FLAG: Option<&'static CStr> = $flag;

            #[inline]
            fn answer(object: &$class, flag: bool) -> Option<Answer> {
                let does: fn(&_, bool) -> Option<Answer> = $does;
                does(object.engine().ok()?, flag)
            }

            fn ordinary() -> &'static Ordinary {
                static ORDINARY: Ordinary = Ordinary::new();
                &ORDINARY
            }
        }
    };
}

/// Puts the methods of `Lock` before its own.
pub fn lock(py: Python<'_>) -> PyResult<()> {
    at_once!(Lock, py);
    Ok(())
}

/// Puts the methods of `RLock` before its own.
pub fn rlock(py: Python<'_>) -> PyResult<()> {
    at_once!(RLock, py);
    Ok(())
}

/// Puts the methods of `Semaphore` before its own.
pub fn semaphore(py: Python<'_>) -> PyResult<()> {
    at_once!(Semaphore, py);
    Ok(())
}
