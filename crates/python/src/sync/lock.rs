//! `Lock` and `RLock`: two classes with the same methods. What differs is in [`LockLike`].

use procession_engine::{Deadline, sync};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking::{self, Truth};
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};
use crate::sync::locking::{LockLike, OnOwnerDied, acquire, initialise, release, times_held};

/// Defines the class of an engine lock. PyO3 allows neither generic classes nor methods of a trait.
macro_rules! lock_class {
    (
        $(#[$of_class:meta])*
        class $class:ident;
        $(#[$of_acquire:meta])*
        fn acquire;
        $(#[$of_release:meta])*
        fn release;
        $(#[$of_count:meta])*
        fn _count;
    ) => {
        $(#[$of_class])*
        #[pyclass(frozen, subclass, module = "procession._native")]
        #[derive(Debug)]
        pub struct $class(LateInit<sync::$class>);

        impl $class {
            /// The engine's lock.
            #[inline]
            pub fn engine(&self) -> PyResult<&sync::$class> {
                self.0.get()
            }
        }

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (*_args, **_kwargs))]
            fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> $class {
                $class(LateInit::empty())
            }

            fn __init__(&self) -> PyResult<()> {
                initialise(&self.0)
            }

            fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
                self.0.adopt(handle)
            }

            #[getter]
            fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
                self.0.handle(py)
            }

            $(#[$of_acquire])*
            ///
            /// Raises `OwnerDied` if the holder died, unless `on_owner_died` is "hold".
            #[pyo3(
                signature = (block=Truth(true), timeout=None, *, on_owner_died=None),
                text_signature = "($self, block=True, timeout=None, *, on_owner_died=None)"
            )]
            fn acquire(
                &self,
                py: Python<'_>,
                block: Truth,
                timeout: Option<f64>,
                on_owner_died: Option<&str>,
            ) -> PyResult<bool> {
                let died = OnOwnerDied::parse(on_owner_died)?;
                let deadline = blocking::deadline(block.0, timeout)?;
                acquire(py, self.0.get()?, deadline, died)
            }

            $(#[$of_release])*
            fn release(&self) -> PyResult<()> {
                release(self.0.get()?)
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
                acquire(py, self.0.get()?, Deadline::NEVER, OnOwnerDied::Raise)
            }

            fn __exit__(
                &self,
                _type: &Bound<'_, PyAny>,
                _value: &Bound<'_, PyAny>,
                _traceback: &Bound<'_, PyAny>,
            ) -> PyResult<()> {
                self.release()
            }

            /// Returns whether a thread holds the lock.
            fn locked(&self) -> PyResult<bool> {
                Ok(LockLike::is_held(self.0.get()?))
            }

            fn _is_mine(&self) -> PyResult<bool> {
                Ok(LockLike::is_mine(self.0.get()?))
            }

            fn _is_zero(&self) -> PyResult<bool> {
                self.locked()
            }

            fn _get_value(&self) -> PyResult<u32> {
                Ok(u32::from(!self.locked()?))
            }

            $(#[$of_count])*
            fn _count(&self) -> PyResult<u32> {
                Ok(times_held(self.0.get()?))
            }
        }
    };
}

lock_class! {
    /// A lock that any thread of any process may release.
    class Lock;
    /// Acquires the lock. Returns False if the timeout passed first.
    fn acquire;
    /// Releases the lock, whichever thread holds it. Raises `ValueError` if none does.
    fn release;
    /// Returns 1 if a thread of this process holds the lock, else 0.
    fn _count;
}

lock_class! {
    /// A lock that its holder may acquire again, and only its holder may release.
    class RLock;
    /// Acquires the lock once more. Returns False if the timeout passed first.
    fn acquire;
    /// Undoes one `acquire` of the calling thread. Raises `AssertionError` if it does not hold the lock.
    fn release;
    /// Returns how often the calling thread acquired the lock; 1 if another thread of this process holds it, else 0.
    fn _count;
}
