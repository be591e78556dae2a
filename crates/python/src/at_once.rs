//! Locks and semaphores that are free, without anything between the interpreter and the engine.

use procession_engine::sync;
use procession_native::prompt::{self, Answer, Ordinary, Prompt};
use pyo3::prelude::*;

use crate::exclusive::Exclusive;
use crate::lock::Lock;
use crate::rlock::RLock;
use crate::semaphore::Semaphore;

/// What is taken and given back; both say whether that was possible at once.
trait Gate {
    fn take(&self) -> bool;
    fn give_back(&self) -> bool;
}

impl<L: Exclusive> Gate for L {
    #[inline]
    fn take(&self) -> bool {
        self.try_acquire()
    }

    #[inline]
    fn give_back(&self) -> bool {
        Exclusive::give_back(self)
    }
}

impl Gate for sync::Semaphore {
    #[inline]
    fn take(&self) -> bool {
        self.try_acquire()
    }

    #[inline]
    fn give_back(&self) -> bool {
        self.release(1).is_ok()
    }
}

/// The four methods of a class.
macro_rules! at_once {
    ($class:ty, $py:expr) => {{
        struct Take<const CONTEXT: bool>;
        struct GiveBack<const CONTEXT: bool>;

        at_once!(Take<false>, $class, "acquire", take, Answer::Yes, false);
        at_once!(Take<true>, $class, "__enter__", take, Answer::Yes, false);
        at_once!(
            GiveBack<false>,
            $class,
            "release",
            give_back,
            Answer::Nothing,
            false
        );
        at_once!(
            GiveBack<true>,
            $class,
            "__exit__",
            give_back,
            Answer::Nothing,
            true
        );

        prompt::add::<Take<false>>($py)?;
        prompt::add::<Take<true>>($py)?;
        prompt::add::<GiveBack<false>>($py)?;
        prompt::add::<GiveBack<true>>($py)?;
    }};
    ($method:ty, $class:ty, $name:literal, $does:ident, $answer:expr, $ignores:literal) => {
        impl Prompt for $method {
            type Class = $class;
            const NAME: &'static str = $name;
            const IGNORES_ARGUMENTS: bool = $ignores;

            #[inline]
            fn answer(object: &$class) -> Option<Answer> {
                let gate = object.engine().ok()?;
                Gate::$does(gate).then_some($answer)
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
