//! A cell in shared memory that holds a serialised value.

use std::fmt;
use std::marker::PhantomData;
use std::thread;

use procession_engine::channel::{Message, Queue};
use procession_engine::{self as engine, Deadline, error::GetError, error::PutError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::transfer::codec;
use crate::transfer::shared::Shared;

/// A value as bytes, after one byte with its [`CellState`].
///
/// It is the latest message of a queue, so replacing it is one atomic step, whatever happens to the process on
/// the way. Only the holder of the corresponding lock may use it.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(crate) struct SerializedCell<T> {
    queue: Shared<Queue>,
    _value: PhantomData<fn(T) -> T>,
}

/// Whether the last holder of the lock left the protected state consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellState {
    Consistent = 0,
    OwnerDied = 1,
}

impl<T: Serialize + DeserializeOwned> SerializedCell<T> {
    pub(crate) fn new(value: &T) -> Result<SerializedCell<T>, Error> {
        let cell = SerializedCell {
            queue: Shared::new(Queue::new(0)?),
            _value: PhantomData,
        };
        cell.write(value, CellState::Consistent)?;
        Ok(cell)
    }

    pub(crate) fn read(&self) -> Result<(T, CellState), Error> {
        let mut bytes = Vec::new();
        self.queue.latest(&mut bytes)?;
        let (&state, value) = bytes.split_first().ok_or(engine::Error::Damaged)?;
        let state = match state {
            0 => CellState::Consistent,
            _ => CellState::OwnerDied,
        };
        Ok((codec::decode(value)?, state))
    }

    pub(crate) fn write(&self, value: &T, state: CellState) -> Result<(), Error> {
        codec::with_encoded(value, |bytes| self.replace(bytes, state))?
    }

    fn replace(&self, bytes: &[u8], state: CellState) -> Result<(), Error> {
        loop {
            match self.queue.put(&[&[state as u8], bytes], Deadline::NEVER) {
                Ok(()) => break,
                Err(PutError::Interrupted) => {}
                Err(PutError::Failed(error)) => return Err(error.into()),
                Err(PutError::Full | PutError::Closed) => return Err(engine::Error::Damaged.into()),
            }
        }
        // A process killed at this point left older messages as well.
        let mut old = Message::default();
        while self.queue.len() > 1 {
            match self.queue.get_into(&mut old, Deadline::NOW) {
                Ok(()) | Err(GetError::Interrupted) => {}
                Err(GetError::Failed(error)) => return Err(error.into()),
                Err(GetError::Empty | GetError::Closed) => break,
            }
        }
        Ok(())
    }
}

/// A value copied out of its cell by the holder of the lock, and written back if it was changed.
pub(crate) struct EditGuard<'a, T> {
    pub(crate) value: T,
    pub(crate) changed: bool,
    /// Whether the thread was panicking when it locked.
    panicking: bool,
    cell: &'a SerializedCell<T>,
}

impl<'a, T: Serialize + DeserializeOwned> EditGuard<'a, T> {
    pub(crate) fn begin(
        cell: &'a SerializedCell<T>,
    ) -> Result<(EditGuard<'a, T>, CellState), Error> {
        let (value, state) = cell.read()?;
        let edit = EditGuard {
            value,
            changed: false,
            panicking: thread::panicking(),
            cell,
        };
        Ok((edit, state))
    }

    pub(crate) fn value_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }

    /// Writes the value back if it was changed. The caller must hold the lock.
    pub(crate) fn write_back(&mut self, state: CellState) -> Result<(), Error> {
        match std::mem::take(&mut self.changed) {
            true => self.cell.write(&self.value, state),
            false => Ok(()),
        }
    }

    /// Like [`EditGuard::write_back`], for drop: a panic leaves the value as it was.
    pub(crate) fn end(&mut self, state: CellState) {
        let panicking = thread::panicking();
        if panicking && !self.panicking {
            return;
        }
        if let Err(error) = self.write_back(state)
            && !panicking
        {
            panic!("the value under a lock could not be written back: {error}");
        }
    }
}

impl<T> Clone for SerializedCell<T> {
    fn clone(&self) -> SerializedCell<T> {
        SerializedCell {
            queue: self.queue.clone(),
            _value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for SerializedCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}
