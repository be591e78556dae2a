//! One-time actions and values for all processes.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sync::guard_error::GuardError;
use crate::sync::mutex::Mutex;

/// A value that is initialised once for all processes, by the first one that needs it.
///
/// Other processes wait meanwhile. When the initialising process dies, the next one takes over. Clones refer to
/// the same object.
///
/// # Examples
/// ```
/// use procession::{OnceLock, Pool};
///
/// fn ask(token: OnceLock<u32>) {
///     let token = token.get_or_init(std::process::id).unwrap();
///     assert_ne!(*token, 0); // the same in all of them
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let token = OnceLock::new()?;
///     let ask = |token: &OnceLock<u32>| procession::Process::spawn(ask, token.clone());
///     let (one, other) = (ask(&token)?, ask(&token)?);
///     one.join()?;
///     other.join()?;
///     assert!(token.get()?.is_some());
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "", deserialize = ""))]
pub struct OnceLock<T> {
    shared: Mutex<Option<T>>,
    /// A local copy: the value never changes.
    #[serde(skip)]
    seen: Arc<std::sync::OnceLock<T>>,
}

impl<T: Serialize + DeserializeOwned> OnceLock<T> {
    /// Creates a cell without a value.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<OnceLock<T>, Error> {
        Ok(OnceLock {
            shared: Mutex::new(None)?,
            seen: Arc::default(),
        })
    }

    /// Returns the value if there is one. Waits while it is being initialised.
    ///
    /// # Errors
    /// Returns an error when the value cannot be read.
    pub fn get(&self) -> Result<Option<&T>, Error> {
        self.find(|| Ok(None))
    }

    /// Returns the value, and initialises it with `make` if there is none.
    ///
    /// # Errors
    /// Returns an error when the value cannot be serialised or read, or there is no shared memory left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let port = procession::OnceLock::new()?;
    /// assert_eq!(port.get()?, None);
    /// assert_eq!(*port.get_or_init(|| 8080)?, 8080);
    /// assert_eq!(*port.get_or_init(|| 9090)?, 8080);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> Result<&T, Error> {
        self.get_or_try_init(|| Ok(make()))
    }

    /// Like [`get_or_init`](OnceLock::get_or_init). When `make` fails there is still no value, and the next
    /// caller may try.
    ///
    /// # Errors
    /// The same as for [`get_or_init`](OnceLock::get_or_init), and the error of `make`.
    ///
    /// # Examples
    /// ```
    /// use procession::{Error, OnceLock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let port = OnceLock::<u16>::new()?;
    /// assert!(port.get_or_try_init(|| Err(Error::Closed)).is_err());
    /// assert_eq!(port.get()?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_try_init<E: From<Error>>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        match self.find(|| make().map(Some))? {
            Some(value) => Ok(value),
            None => unreachable!("the value was initialised above"),
        }
    }

    fn find<E: From<Error>>(
        &self,
        make: impl FnOnce() -> Result<Option<T>, E>,
    ) -> Result<Option<&T>, E> {
        if let Some(value) = self.seen.get() {
            return Ok(Some(value));
        }
        // A process that died while initialising left no value.
        let mut guard = match self.shared.lock().or_else(GuardError::into_guard) {
            Ok(guard) => guard,
            Err(error) => return Err(Error::from(error).into()),
        };
        guard.mark_consistent();
        if guard.is_none() {
            let Some(value) = make()? else {
                return Ok(None);
            };
            *guard = Some(value);
        }
        let value = guard.commit_and_take()?;
        Ok(value.map(|value| self.seen.get_or_init(|| value)))
    }
}

impl<T> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        OnceLock {
            shared: self.shared.clone(),
            seen: Arc::clone(&self.seen),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.seen.get()).finish()
    }
}

/// An action that is run once for all processes.
///
/// Other processes wait while it runs. When the process that runs it dies, the next one runs it. Clones refer
/// to the same object.
///
/// # Examples
/// ```
/// use procession::{Once, Process, Value};
///
/// fn prepare(once: Once, count: Value<u32>) {
///     once.call_once(|| count.set(count.get().unwrap() + 1).unwrap()).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let (once, count) = (Once::new()?, Value::new(0)?);
///     let prepare = || Process::spawn(prepare, (once.clone(), count.clone()));
///     let (one, other) = (prepare()?, prepare()?);
///     one.join()?;
///     other.join()?;
///     assert!(once.is_completed()?);
///     assert_eq!(count.get()?, 1);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Once {
    done: OnceLock<()>,
}

impl Once {
    /// Creates an action that has not run.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<Once, Error> {
        Ok(Once {
            done: OnceLock::new()?,
        })
    }

    /// Runs `work` unless it has run before. When `work` panics it does not count as run, and the next
    /// caller runs it.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let once = procession::Once::new()?;
    /// let mut runs = 0;
    /// once.call_once(|| runs += 1)?;
    /// once.call_once(|| runs += 1)?;
    /// assert_eq!(runs, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_once(&self, work: impl FnOnce()) -> Result<(), Error> {
        self.done.get_or_init(work).copied()
    }

    /// Returns whether it has run. Waits while it is running.
    ///
    /// # Errors
    /// Returns an error when the shared memory is damaged.
    pub fn is_completed(&self) -> Result<bool, Error> {
        Ok(self.done.get()?.is_some())
    }
}
