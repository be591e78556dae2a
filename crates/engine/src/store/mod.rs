//! A table of bytes that several processes read and change: `Manager().dict()` and `list()` of plain values.
//!
//! One process owns the store; the others have its [`StoreHandle`]. All access is under one lock ([`Store::enter`]),
//! and leaves the entries intact wherever its process dies (`table.rs`). When the table is full, its owner copies it
//! into a larger one; the others find that one in the root. If the store cannot hold something, or its owner is gone,
//! the result is [`StoreError::Detached`]: the owner has taken the entries out and serves them by other means, or
//! nobody does.
//!
//! All of it consists of existing objects: shared bytes and a lock. There is no further protocol.

mod extents;
mod large;
mod table;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::arena::owner::ProcId;
use crate::deadline::Deadline;
use crate::error::{Error, LockError, Result};
use crate::objects::handle::Handle;
use crate::objects::object_ref::opened;
use crate::process_table::home;
use crate::sync::{Acquired, Lock};
use crate::value::SharedBytes;
use table::{Size, Table, Value};

pub use large::Access;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The entries are not in the store any more, or its owner is gone.
    #[error("the entries are not in shared memory any more")]
    Detached,
    /// The owner must make room first ([`ExclusiveAccess::grow`]).
    #[error("there is no room for {} entries of {} bytes more", .0.entries, .0.bytes)]
    NoRoom(Room),
    /// The entries cannot be read.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// How much of a store something takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// How many entries.
    pub entries: usize,
    /// How many bytes the log needs for their keys and values.
    pub bytes: usize,
}

impl Room {
    /// What one entry takes.
    pub fn of(key: &[u8], value: &[u8]) -> Room {
        Room::of_lengths(&[key.len(), value.len()])
    }

    fn of_lengths(lengths: &[usize]) -> Room {
        Room {
            entries: 1,
            bytes: lengths.iter().copied().map(extents::bytes_for).sum(),
        }
    }
}

impl std::iter::Sum for Room {
    fn sum<I: Iterator<Item = Room>>(rooms: I) -> Room {
        rooms.fold(Room::default(), |sum, room| Room {
            entries: sum.entries + room.entries,
            bytes: sum.bytes + room.bytes,
        })
    }
}

// The root: these words, then the table's handle.
const STATE: usize = 0;
const OWNER: usize = 8;
const VERSION: usize = 16;
const TABLE: usize = 24;
const ROOT: usize = TABLE + 32;

const ATTACHED: u64 = 0;
const DETACHED: u64 = 1;

/// The name by which other processes open a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreHandle {
    root: Handle,
    lock: Handle,
}

impl StoreHandle {
    /// The handle as bytes.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.root.to_bytes());
        bytes[32..].copy_from_slice(&self.lock.to_bytes());
        bytes
    }

    /// The handle that the bytes encode.
    ///
    /// # Errors
    /// [`Error::BadHandle`] when they were not made by [`StoreHandle::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<StoreHandle> {
        let (root, lock) = bytes.split_at_checked(32).ok_or(Error::BadHandle)?;
        Ok(StoreHandle {
            root: Handle::from_bytes(root)?,
            lock: Handle::from_bytes(lock)?,
        })
    }
}

/// A table of bytes in shared memory, in the order of insertion.
///
/// It is used either as a map, whose keys are not empty, or as a sequence, and never as both.
#[derive(Debug)]
pub struct Store {
    root: SharedBytes,
    lock: Lock,
    /// The latest table version that this process has opened. Locked only under the store's lock.
    current: Mutex<Option<Current>>,
}

opened!(Store, lock);

#[derive(Debug)]
struct Current {
    version: u64,
    table: Arc<Table>,
}

impl Store {
    /// Creates an empty store, owned by this process.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new() -> Result<Store> {
        let store = Store {
            root: SharedBytes::new(ROOT)?,
            lock: Lock::new()?,
            current: Mutex::new(None),
        };
        let owner = home()?.me().as_u32();
        store.word(OWNER).store(owner.into(), Ordering::Relaxed);
        store.publish(Table::new(Size::SMALLEST)?, &mut store.current());
        Ok(store)
    }

    /// Opens the store that a handle names.
    ///
    /// # Errors
    /// When the handle is from another tree, is stale, or names something else.
    pub fn open(handle: &StoreHandle) -> Result<Store> {
        let store = Store {
            root: SharedBytes::open(&handle.root)?,
            lock: Lock::open(&handle.lock)?,
            current: Mutex::new(None),
        };
        match store.root.len() {
            ROOT => Ok(store),
            _ => Err(Error::BadHandle),
        }
    }

    /// The name by which other processes open it.
    pub fn handle(&self) -> StoreHandle {
        StoreHandle {
            root: self.root.handle(),
            lock: self.lock.handle(),
        }
    }

    fn word(&self, at: usize) -> &std::sync::atomic::AtomicU64 {
        self.root.atomic_u64(at)
    }

    /// Whether the entries are in the store, and its owner lives.
    pub fn is_here(&self) -> bool {
        let owner = ProcId::from_u32(self.word(OWNER).load(Ordering::Relaxed) as u32);
        self.word(STATE).load(Ordering::Acquire) == ATTACHED
            && owner.is_some_and(|owner| home().is_ok_and(|arena| !arena.is_dead(owner)))
    }

    /// Makes a table the store's, and `current`. Called under the lock, and by the owner, whose death ends the store.
    fn publish(&self, table: Table, current: &mut Option<Current>) {
        let version = self.word(VERSION).load(Ordering::Relaxed) + 1;
        self.root
            .write_at(TABLE, &table.bytes().handle().to_bytes());
        self.word(VERSION).store(version, Ordering::Release);
        let table = Arc::new(table);
        *current = Some(Current { version, table });
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits for the store's lock.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`LockError::Interrupted`].
    #[inline]
    pub fn wait(&self, deadline: Deadline) -> Result<Entry<'_>, LockError> {
        let acquired = match self.lock.try_acquire() {
            true => Acquired::Clean,
            false => self.lock.acquire_for_repair(deadline)?,
        };
        Ok(Entry {
            store: self,
            acquired,
        })
    }

    /// Waits for the store's lock, and begins exclusive access.
    ///
    /// # Errors
    /// As [`Store::wait`] and [`Entry::begin`].
    pub fn enter(
        &self,
        deadline: Deadline,
    ) -> Result<Result<ExclusiveAccess<'_>, StoreError>, LockError> {
        Ok(self.wait(deadline)?.begin())
    }
}

/// The store's lock, held.
#[derive(Debug)]
pub struct Entry<'a> {
    store: &'a Store,
    acquired: Acquired,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // Only the holder releases it.
        let _ = self.store.lock.release();
    }
}

impl<'a> Entry<'a> {
    /// Begins exclusive access. Until the result is dropped, nobody else sees or changes the entries.
    ///
    /// # Errors
    /// [`StoreError::Detached`], and [`StoreError::Failed`] if the memory was overwritten.
    #[inline]
    pub fn begin(self) -> Result<ExclusiveAccess<'a>, StoreError> {
        let mut access = ExclusiveAccess {
            current: self.store.current(),
            entry: self,
        };
        access.prepare()?;
        Ok(access)
    }
}

/// Exclusive access of this process to a store, until it is dropped.
#[derive(Debug)]
pub struct ExclusiveAccess<'a> {
    current: MutexGuard<'a, Option<Current>>,
    entry: Entry<'a>,
}

impl ExclusiveAccess<'_> {
    #[inline]
    fn prepare(&mut self) -> Result<(), StoreError> {
        let store = self.entry.store;
        if !store.is_here() {
            return Err(StoreError::Detached);
        }
        let version = store.word(VERSION).load(Ordering::Acquire);
        let known = self.current.as_ref();
        if known.is_none_or(|known| known.version != version) {
            self.open_version(version)?;
        }
        if self.entry.acquired == Acquired::AfterOwnerDied {
            self.with(Table::rebuild_index)?;
        }
        Ok(())
    }

    /// Opens the table of a version that this process does not know yet.
    #[cold]
    fn open_version(&mut self, version: u64) -> Result<(), StoreError> {
        let mut handle = [0; 32];
        self.entry.store.root.read_at(TABLE, &mut handle);
        let bytes = SharedBytes::open(&Handle::from_bytes(&handle)?)?;
        let table = Arc::new(Table::over(bytes)?);
        *self.current = Some(Current { version, table });
        Ok(())
    }

    /// The table, for a caller that reads or writes an extent of it after releasing the lock.
    fn table(&self) -> Arc<Table> {
        match &*self.current {
            Some(current) => current.table.clone(),
            None => unreachable!("exclusive access begins with a table"),
        }
    }

    #[inline]
    fn with<T>(&self, access: impl FnOnce(&Table) -> T) -> T {
        match &*self.current {
            Some(current) => access(&current.table),
            None => unreachable!("exclusive access begins with a table"),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.with(Table::live)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the value of a key to `out`; false if there is none.
    ///
    /// # Errors
    /// [`StoreError::Failed`], from this call and all that follow, when the memory was overwritten.
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, StoreError> {
        Ok(self.with(|table| table.get(key, out))?)
    }

    /// Whether the key has a value.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.with(|table| table.contains(key))
    }

    /// Makes `value` the value of a key.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]: nothing was changed.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.with(|table| table.set_key(key, Value::Bytes(value)))
    }

    /// Removes a key and appends its value to `out`; false if there is none.
    ///
    /// # Errors
    /// As [`ExclusiveAccess::get`].
    pub fn remove(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, StoreError> {
        Ok(self.with(|table| table.remove(key, out))?)
    }

    /// Removes the entry that was inserted last; false if there is none.
    ///
    /// # Errors
    /// As [`ExclusiveAccess::get`].
    pub fn pop_last(&self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, StoreError> {
        Ok(self.with(|table| table.pop_last(key, value))?)
    }

    /// Appends the value at an index to `out`; false if there is none.
    ///
    /// # Errors
    /// As [`ExclusiveAccess::get`].
    pub fn get_at(&self, index: usize, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        Ok(self.with(|table| table.get_at(index, out))?)
    }

    /// Makes `value` the value at an index; false if there is none.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]: nothing was changed.
    pub fn set_at(&self, index: usize, value: &[u8]) -> Result<bool, StoreError> {
        self.with(|table| table.set_at(index, Value::Bytes(value)))
    }

    /// Appends a value to the sequence.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]: nothing was changed.
    pub fn push(&self, value: &[u8]) -> Result<(), StoreError> {
        self.with(|table| table.push(Value::Bytes(value)))
    }

    /// Removes the last value of the sequence and appends it to `out`; false if there is none.
    ///
    /// # Errors
    /// As [`ExclusiveAccess::get`].
    pub fn pop(&self, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        Ok(self.with(|table| table.pop(out))?)
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.with(Table::clear);
    }

    /// Visits the keys and values in order; the keys of a sequence are empty.
    ///
    /// # Errors
    /// As [`ExclusiveAccess::get`].
    pub fn each(&self, visit: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        Ok(self.with(|table| table.each(visit))?)
    }

    /// Checks that there is room.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`].
    pub fn reserve(&self, room: Room) -> Result<(), StoreError> {
        self.with(|table| table.check(room))
    }

    /// Makes room for more. Only the owner may call this.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when there is no memory: the store stays as it was.
    pub fn grow(&mut self, room: Room) -> Result<(), StoreError> {
        let table = self.with(|table| table.copied(room))?;
        self.entry.store.publish(table, &mut self.current);
        Ok(())
    }

    /// Detaches the entries: from now on they are served elsewhere. Only the owner may call this, after it has read
    /// them.
    pub fn retire(self) {
        self.entry
            .store
            .word(STATE)
            .store(DETACHED, Ordering::Release);
    }
}
