//! The entries of a store, in one range of shared bytes.
//!
//! ```text
//! head     room  slots  used  log end  live  filled  epoch  changes, 8 bytes each; first free extent of each size
//! index    slots x 4 bytes      the number of an entry plus one; 0 empty, all ones deleted
//! entries  room x 24 bytes      hash, key, value, in insertion order
//! log      keys and values, each in an extent of its own (`extents.rs`)
//! ```
//!
//! A key or a value is one word: the position of its bytes in units of eight (low half), and their length (high half).
//! What an entry refers to is never overwritten: a new value goes to another extent, and then one store of its word
//! makes it the value. A new entry is one store of `used`. So a process that dies in between changes nothing, and bytes
//! in the log that no word names are left over until the table is copied. The index, `live` and `filled` follow from
//! the entries; they are rebuilt after a death ([`Table::rebuild_index`]).
//!
//! All of it is done under the store's lock, except for the bytes of large values (`large.rs`). The layout is that of
//! compact dicts, as in Python since 3.6 (R. Hettinger's proposal of 2012): an index of numbers, and entries in order.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::error::{Error, Result};
use crate::failpoint;
use crate::value::SharedBytes;

use super::extents::{Extent, SIZES, UNIT, Use};
use super::{Room, StoreError};

const ROOM: usize = 0;
const SLOTS: usize = 8;
const USED: usize = 16;
pub(super) const LOG_END: usize = 24;
const LIVE: usize = 32;
const FILLED: usize = 40;
/// How often the log was reset.
pub(super) const EPOCH: usize = 48;
/// Incremented before each change.
const CHANGES: usize = 56;
/// The first free extent of each size.
pub(super) const FREE: usize = 64;
const HEAD: usize = FREE + SIZES * 8;

const ENTRY: usize = 24;

const EMPTY: u32 = 0;
const DELETED: u32 = u32::MAX;

/// What becomes a value: bytes, or an extent that the bytes were already written to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'v> {
    Bytes(&'v [u8]),
    Written(Use),
}

impl Value<'_> {
    fn length(self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Written(seen) => seen.extent.length(),
        }
    }
}

/// The size of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) log: usize,
}

impl Size {
    /// The smallest table.
    pub(super) const SMALLEST: Size = Size {
        entries: 32,
        log: 8192,
    };
}

#[derive(Debug)]
pub(super) struct Table {
    bytes: SharedBytes,
    room: usize,
    slots: usize,
}

/// What was found for a key: the slot of the index, and its entry.
struct Found {
    slot: usize,
    entry: usize,
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(UNIT)
}

fn hash(key: &[u8]) -> u64 {
    // With fixed keys, so that every process computes the same hash.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

pub(super) fn damaged() -> Error {
    Error::Invalid("the memory of this store was overwritten by something else".into())
}

impl Table {
    pub(super) fn new(size: Size) -> Result<Table> {
        let slots = (size.entries * 2).next_power_of_two();
        let start = Table::log_start(size.entries, slots);
        let length = start + padded(size.log);
        if length / UNIT > u32::MAX as usize || slots > (u32::MAX / 2) as usize {
            return Err(Error::Invalid(format!(
                "a store of {length} bytes is larger than stores can be"
            )));
        }
        let bytes = SharedBytes::new(length)?;
        let table = Table {
            bytes,
            room: size.entries,
            slots,
        };
        table.set(ROOM, size.entries);
        table.set(SLOTS, slots);
        table.set(LOG_END, start);
        Ok(table)
    }

    /// The table in bytes in which another process made one.
    pub(super) fn over(bytes: SharedBytes) -> Result<Table> {
        if bytes.len() < HEAD {
            return Err(damaged());
        }
        let word = |at| bytes.atomic_u64(at).load(Ordering::Relaxed) as usize;
        let (room, slots) = (word(ROOM), word(SLOTS));
        let is_possible = slots.is_power_of_two()
            && room < slots
            && slots < bytes.len()
            && Table::log_start(room, slots) <= bytes.len();
        match is_possible {
            true => Ok(Table { bytes, room, slots }),
            false => Err(damaged()),
        }
    }

    pub(super) fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    fn entries_start(slots: usize) -> usize {
        HEAD + padded(slots * 4)
    }

    fn log_start(room: usize, slots: usize) -> usize {
        Table::entries_start(slots) + room * ENTRY
    }

    pub(super) fn log_offset(&self) -> usize {
        Table::log_start(self.room, self.slots)
    }

    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        self.bytes.atomic_u64(at)
    }

    pub(super) fn load(&self, word: usize) -> usize {
        self.word(word).load(Ordering::Relaxed) as usize
    }

    /// Release: a helper that finds the word after a death also finds what was written before it.
    pub(super) fn set(&self, word: usize, value: usize) {
        self.word(word).store(value as u64, Ordering::Release);
    }

    /// Tells those who read without the lock that the content is about to change.
    fn change(&self) {
        self.set(CHANGES, self.load(CHANGES).wrapping_add(1));
        fence(Ordering::Release);
    }

    fn used(&self) -> usize {
        self.load(USED).min(self.room)
    }

    pub(super) fn live(&self) -> usize {
        self.load(LIVE)
    }

    fn slot(&self, slot: usize) -> u32 {
        self.bytes
            .atomic_u32(HEAD + slot * 4)
            .load(Ordering::Relaxed)
    }

    fn set_slot(&self, slot: usize, entry: u32) {
        self.bytes
            .atomic_u32(HEAD + slot * 4)
            .store(entry, Ordering::Release);
    }

    fn entry(&self, entry: usize) -> usize {
        Table::entries_start(self.slots) + entry * ENTRY
    }

    fn hash_of(&self, entry: usize) -> u64 {
        self.word(self.entry(entry)).load(Ordering::Relaxed)
    }

    fn key_of(&self, entry: usize) -> Extent {
        Extent(self.word(self.entry(entry) + 8).load(Ordering::Relaxed))
    }

    fn value_of(&self, entry: usize) -> Extent {
        Extent(self.word(self.entry(entry) + 16).load(Ordering::Relaxed))
    }

    fn set_value(&self, entry: usize, value: Extent) {
        self.word(self.entry(entry) + 16)
            .store(value.0, Ordering::Release);
    }

    fn is(&self, extent: Extent, bytes: &[u8]) -> bool {
        extent.length() == bytes.len()
            && extent.start().saturating_add(extent.length()) <= self.bytes.len()
            && self.bytes.holds_at(extent.start(), bytes)
    }

    /// Checks that there is room for that much more.
    pub(super) fn check(&self, room: Room) -> Result<(), StoreError> {
        let free = self.bytes.len().saturating_sub(self.load(LOG_END));
        match self.used() + room.entries <= self.room && room.bytes <= free {
            true => Ok(()),
            false => Err(StoreError::NoRoom(room)),
        }
    }

    /// The extent that holds a value; writes the value if needed.
    fn extent_for(&self, value: Value<'_>) -> Option<Extent> {
        match value {
            Value::Bytes(bytes) => self.log(bytes),
            Value::Written(seen) => Some(seen.extent),
        }
    }

    /// Gives an entry another value.
    fn replace(&self, entry: usize, value: Value<'_>) -> Result<(), StoreError> {
        let Some(extent) = self.extent_for(value) else {
            let room = Room::of_lengths(&[value.length()]);
            return Err(StoreError::NoRoom(Room { entries: 0, ..room }));
        };
        self.change();
        let former = self.value_of(entry);
        self.set_value(entry, extent);
        failpoint::hit("store.replaced");
        self.release(former);
        Ok(())
    }

    /// Probes the index for a key, up to the first empty slot.
    fn find(&self, key: &[u8], hash: u64) -> (Option<Found>, Option<usize>) {
        let mask = self.slots - 1;
        let mut free = None;
        for step in 0..self.slots {
            let slot = (hash as usize).wrapping_add(step) & mask;
            match self.slot(slot) {
                EMPTY => return (None, free.or(Some(slot))),
                DELETED => free = free.or(Some(slot)),
                number => {
                    let entry = number as usize - 1;
                    let is_it = entry < self.room
                        && self.hash_of(entry) == hash
                        && self.is(self.key_of(entry), key);
                    if is_it {
                        return (Some(Found { slot, entry }), free);
                    }
                }
            }
        }
        (None, free)
    }

    /// The extent of a key's value.
    pub(super) fn value(&self, key: &[u8]) -> Option<Extent> {
        let found = self.find(key, hash(key)).0?;
        Some(self.value_of(found.entry))
    }

    pub(super) fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        match self.value(key) {
            Some(value) => self.copy(value, out).map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.find(key, hash(key)).0.is_some()
    }

    pub(super) fn set_key(&self, key: &[u8], value: Value<'_>) -> Result<(), StoreError> {
        let hash = hash(key);
        let (found, free) = self.find(key, hash);
        if let Some(found) = found {
            return self.replace(found.entry, value);
        }
        let entry = self.append(hash, key, value)?;
        failpoint::hit("store.entered");
        match free {
            // Few slots were never used, so the next search would be long.
            Some(slot) if self.slot(slot) == EMPTY && self.load(FILLED) * 4 >= self.slots * 3 => {
                self.rebuild_index()?;
            }
            Some(slot) => {
                if self.slot(slot) == EMPTY {
                    self.set(FILLED, self.load(FILLED) + 1);
                }
                self.set_slot(slot, entry as u32 + 1);
                self.set(LIVE, self.live() + 1);
            }
            None => self.rebuild_index()?,
        }
        Ok(())
    }

    /// Appends an entry.
    fn append(&self, hash: u64, key: &[u8], value: Value<'_>) -> Result<usize, StoreError> {
        let no_room = || StoreError::NoRoom(Room::of_lengths(&[key.len(), value.length()]));
        let entry = self.used();
        if entry >= self.room {
            return Err(no_room());
        }
        let key_extent = match key {
            [] => Extent::NONE,
            key => self.log(key).ok_or_else(no_room)?,
        };
        let Some(value_extent) = self.extent_for(value) else {
            self.release(key_extent);
            return Err(no_room());
        };
        self.change();
        let at = self.entry(entry);
        self.word(at).store(hash, Ordering::Relaxed);
        self.word(at + 8).store(key_extent.0, Ordering::Relaxed);
        self.word(at + 16).store(value_extent.0, Ordering::Relaxed);
        self.set(USED, entry + 1);
        Ok(entry)
    }

    /// Removes a key; appends its value to `out`.
    pub(super) fn remove(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let (Some(found), _) = self.find(key, hash(key)) else {
            return Ok(false);
        };
        self.copy(self.value_of(found.entry), out)?;
        self.remove_entry(&found);
        Ok(true)
    }

    /// Removes a key if its value is still this one; false if it is not.
    pub(super) fn remove_if(&self, key: &[u8], value: Use) -> bool {
        let Some(found) = self.find(key, hash(key)).0 else {
            return false;
        };
        let is_it = self.value_of(found.entry) == value.extent && self.is_unchanged(value);
        if is_it {
            self.remove_entry(&found);
        }
        is_it
    }

    fn remove_entry(&self, found: &Found) {
        self.change();
        let (key, value) = (self.key_of(found.entry), self.value_of(found.entry));
        self.set_value(found.entry, Extent::NONE);
        failpoint::hit("store.forgotten");
        self.set_slot(found.slot, DELETED);
        self.set(LIVE, self.live().saturating_sub(1));
        self.release(key);
        self.release(value);
        self.trim();
    }

    /// Makes the entries at the end that were removed available again.
    fn trim(&self) {
        let mut used = self.used();
        while used > 0 && self.value_of(used - 1) == Extent::NONE {
            used -= 1;
        }
        self.set(USED, used);
        if used == 0 {
            self.reset_log();
        }
    }

    /// The extents of the key and the value of the last entry.
    pub(super) fn last(&self) -> Option<(Extent, Extent)> {
        let entry = self.entries().next_back()?;
        Some((self.key_of(entry), self.value_of(entry)))
    }

    /// Removes the last entry; appends its key and value to `key` and `value`.
    pub(super) fn pop_last(&self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool> {
        let Some(entry) = self.entries().next_back() else {
            return Ok(false);
        };
        self.copy(self.key_of(entry), key)?;
        self.copy(self.value_of(entry), value)?;
        match self.find(key, self.hash_of(entry)).0 {
            Some(found) if found.entry == entry => self.remove_entry(&found),
            _ => return Err(damaged()),
        }
        Ok(true)
    }

    pub(super) fn clear(&self) {
        self.change();
        self.set(USED, 0);
        failpoint::hit("store.cleared");
        self.reset_log();
        self.empty_index();
    }

    fn empty_index(&self) {
        (0..self.slots).for_each(|slot| self.set_slot(slot, EMPTY));
        self.set(LIVE, 0);
        self.set(FILLED, 0);
    }

    /// The numbers of the existing entries.
    fn entries(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.used()).filter(|entry| self.value_of(*entry) != Extent::NONE)
    }

    /// Rebuilds everything that follows from the entries.
    pub(super) fn rebuild_index(&self) -> Result<()> {
        self.empty_index();
        let mut live = 0;
        for entry in self.entries() {
            live += 1;
            if self.key_of(entry) == Extent::NONE {
                continue;
            }
            let mask = self.slots - 1;
            let start = self.hash_of(entry) as usize;
            let free = (0..self.slots)
                .map(|step| start.wrapping_add(step) & mask)
                .find(|slot| self.slot(*slot) == EMPTY);
            self.set_slot(free.ok_or_else(damaged)?, entry as u32 + 1);
            self.set(FILLED, self.load(FILLED) + 1);
        }
        self.set(LIVE, live);
        Ok(())
    }

    /// Visits the keys and values, in order.
    pub(super) fn each(&self, visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        self.each_while(visit, || true)
    }

    /// As [`Table::each`], as long as `go_on` says so.
    pub(super) fn each_while(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]),
        go_on: impl Fn() -> bool,
    ) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for entry in self.entries() {
            if !go_on() {
                break;
            }
            key.clear();
            value.clear();
            self.copy(self.key_of(entry), &mut key)?;
            self.copy(self.value_of(entry), &mut value)?;
            visit(&key, &value);
        }
        Ok(())
    }

    /// Whether copying all of it takes long.
    pub(super) fn is_long(&self) -> bool {
        self.load(LOG_END).saturating_sub(self.log_offset()) > LONG_TABLE
    }

    /// The change counter, for a read of the whole table without the lock: the read is valid if the counter is
    /// unchanged after it.
    pub(super) fn changes(&self) -> usize {
        self.load(CHANGES)
    }

    pub(super) fn is_unchanged_since(&self, changes: usize) -> bool {
        fence(Ordering::Acquire);
        self.changes() == changes
    }

    // A sequence: entries without keys, of which only the last is ever removed.

    /// The extent of the value at an index.
    pub(super) fn value_at(&self, index: usize) -> Option<Extent> {
        (index < self.used()).then(|| self.value_of(index))
    }

    pub(super) fn get_at(&self, index: usize, out: &mut Vec<u8>) -> Result<bool> {
        match self.value_at(index) {
            Some(value) => self.copy(value, out).map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn set_at(&self, index: usize, value: Value<'_>) -> Result<bool, StoreError> {
        if index >= self.used() {
            return Ok(false);
        }
        self.replace(index, value)?;
        Ok(true)
    }

    pub(super) fn push(&self, value: Value<'_>) -> Result<(), StoreError> {
        self.append(0, &[], value)?;
        failpoint::hit("store.pushed");
        self.set(LIVE, self.used());
        Ok(())
    }

    pub(super) fn pop(&self, out: &mut Vec<u8>) -> Result<bool> {
        let Some(last) = self.used().checked_sub(1) else {
            return Ok(false);
        };
        let value = self.value_of(last);
        self.copy(value, out)?;
        self.drop_last(last, value);
        Ok(true)
    }

    /// Removes the last value if it is still this one; false if it is not.
    pub(super) fn pop_if(&self, value: Use) -> bool {
        let last = self.used().checked_sub(1);
        let last =
            last.filter(|last| self.value_of(*last) == value.extent && self.is_unchanged(value));
        if let Some(last) = last {
            self.drop_last(last, value.extent);
        }
        last.is_some()
    }

    fn drop_last(&self, last: usize, value: Extent) {
        self.change();
        self.set(USED, last);
        self.set(LIVE, last);
        failpoint::hit("store.popped");
        self.release(value);
    }

    /// A table with the same entries and room for more.
    pub(super) fn copied(&self, more: Room) -> Result<Table> {
        let mut entries = 0;
        let mut bytes = 0;
        self.each(|key, value| {
            entries += 1;
            bytes += Room::of(key, value).bytes;
        })?;
        let needed = bytes + more.bytes;
        let table = Table::new(Size {
            entries: (entries * 2 + more.entries).max(Size::SMALLEST.entries),
            log: (needed + needed.max(needed.min(QUADRUPLE_UP_TO) * 3)).max(Size::SMALLEST.log),
        })?;
        for entry in self.entries() {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            self.copy(self.key_of(entry), &mut key)?;
            self.copy(self.value_of(entry), &mut value)?;
            let copied = table.append(self.hash_of(entry), &key, Value::Bytes(&value));
            copied.map_err(|_| damaged())?;
        }
        table.rebuild_index()?;
        Ok(table)
    }
}

/// From this size on, the whole table is read without the store's lock.
const LONG_TABLE: usize = 64 << 10;

/// Up to this size a copied table has room for four times its content, and beyond it for twice.
const QUADRUPLE_UP_TO: usize = 1 << 20;
