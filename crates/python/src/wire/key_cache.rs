//! A cache of recent dict keys. Most messages have the keys of the message before.
//!
//! A cached key is neither created nor hashed again, because a `str` stores its hash.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use pyo3::prelude::*;
use pyo3::types::PyString;

const SLOTS: usize = 512;

/// The lengths of cached keys: the interpreter caches shorter strings itself, and longer ones are rarely names.
const LENGTHS: Range<usize> = 2..33;

static KEYS: Mutex<Slots> = Mutex::new(Slots([const { None }; SLOTS]));

struct Slots([Option<Py<PyString>>; SLOTS]);

/// The cache, locked for the time of one message; `None` if it is in use.
///
/// It is locked with `try_lock` only. A message that is read during another one, by a finalizer or by a second thread,
/// does without the cache. So does a process that is forked during a message.
pub(super) struct KeyCache(Option<MutexGuard<'static, Slots>>);

impl KeyCache {
    pub(super) fn borrow() -> Self {
        KeyCache(KEYS.try_lock().ok())
    }

    /// Returns the `str` with this text. Fails if it is not UTF-8.
    #[inline]
    pub(super) fn get<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
    ) -> PyResult<Bound<'py, PyString>> {
        let Some(slots) = self.0.as_mut().filter(|_| LENGTHS.contains(&text.len())) else {
            return PyString::from_bytes(py, text);
        };
        let slot = &mut slots.0[slot(text)];
        if let Some(key) = slot {
            let key = key.bind(py);
            if key.to_str().is_ok_and(|known| known.as_bytes() == text) {
                return Ok(key.clone());
            }
        }
        let key = PyString::from_bytes(py, text)?;
        *slot = Some(key.clone().unbind());
        Ok(key)
    }
}

/// Returns the slot of a key, from its length, its first and its last bytes, which distinguish most keys.
#[inline]
fn slot(text: &[u8]) -> usize {
    let ends = if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
    } else if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else {
        text.iter()
            .fold(0, |ends, &byte| ends << 8 | u64::from(byte))
    };
    let hash = (ends ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 32) as usize % SLOTS
}
