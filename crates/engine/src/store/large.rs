//! Large values, written and read without the store's lock.
//!
//! A process may be stopped anywhere, and for good. So work that takes long is done without the lock, where a stopped
//! process holds up nobody:
//!
//! ```text
//! write   locked: allocate an extent;  write its bytes;  locked: the extent becomes the value, in one step
//! read    locked: where it lies;  read its bytes;  is the extent unchanged?  else again
//! remove  as read, then locked: is it still the value?  remove it;  else again
//! all     locked: load the change counter;  read all of it, or some;  is the counter unchanged?  else again
//! ```
//!
//! A process that was overtaken by others a few times in a row does the work under the lock, so that it ends.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::extents::{Extent, Use};
use super::table::{Table, Value};
use super::{ExclusiveAccess, Room, StoreError};
use crate::error::Result as EngineResult;
use crate::failpoint;

/// From this size on, the bytes of a value, or of several at once, are moved without the lock.
const LARGE: usize = 8 << 10;
/// The number of tries without the lock.
const TRIES: u32 = 8;

/// A store, and how to wait for exclusive access to it. Operations that need it several times are done here.
pub struct Access<'a, E> {
    enter: &'a dyn Fn() -> Result<ExclusiveAccess<'a>, E>,
    refuse: fn(StoreError) -> E,
}

/// What was found under the lock.
enum Found {
    Nothing,
    /// The bytes were copied.
    Copied,
    /// The value lies there.
    At(Arc<Table>, Use),
}

impl<E> std::fmt::Debug for Access<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

impl<'a, E> Access<'a, E> {
    /// Uses `enter` to get exclusive access; `refuse` converts what the store refuses into errors.
    pub fn new(
        enter: &'a dyn Fn() -> Result<ExclusiveAccess<'a>, E>,
        refuse: fn(StoreError) -> E,
    ) -> Access<'a, E> {
        Access { enter, refuse }
    }

    fn locked<T>(
        &self,
        act: impl FnOnce(&ExclusiveAccess<'a>) -> Result<T, StoreError>,
    ) -> Result<T, E> {
        let access = (self.enter)()?;
        act(&access).map_err(self.refuse)
    }

    /// Appends the value of a key to `out`; false if there is none.
    ///
    /// # Errors
    /// The errors of `enter`, and those that `refuse` makes.
    #[inline]
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, E> {
        self.read(|access| access.with(|table| table.value(key)), out)
    }

    /// Appends the value at an index of the sequence to `out`; false if there is none. `place` computes the index from
    /// the length.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn get_at(&self, place: impl Fn(usize) -> usize, out: &mut Vec<u8>) -> Result<bool, E> {
        let find =
            |access: &ExclusiveAccess<'a>| access.with(|table| table.value_at(place(table.live())));
        self.read(find, out)
    }

    #[inline]
    fn read(
        &self,
        find: impl Fn(&ExclusiveAccess<'a>) -> Option<Extent>,
        out: &mut Vec<u8>,
    ) -> Result<bool, E> {
        for tries in 0.. {
            let found =
                self.locked(|access| copy_or_locate(access, find(access), tries >= TRIES, out))?;
            match found {
                Found::Nothing => return Ok(false),
                Found::Copied => return Ok(true),
                Found::At(table, seen) if self.copy_unlocked(&table, seen, out)? => {
                    return Ok(true);
                }
                Found::At(..) => {}
            }
        }
        Ok(false)
    }

    /// Copies what was seen; false, with nothing copied, if it was reused meanwhile.
    fn copy_unlocked(&self, table: &Table, seen: Use, out: &mut Vec<u8>) -> Result<bool, E> {
        failpoint::hit("store.unlocked");
        let start = out.len();
        let copied = table.copy_unlocked(seen, out);
        let copied = copied.map_err(|error| (self.refuse)(error.into()))?;
        if !copied {
            out.truncate(start);
        }
        Ok(copied)
    }

    /// Makes `value` the value of a key.
    ///
    /// # Errors
    /// As [`Access::get`]; with [`StoreError::NoRoom`] nothing was changed.
    #[inline]
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), E> {
        self.write(Room::of(key, value), value, |table, value| {
            table.set_key(key, value).map(|()| true)
        })
        .map(drop)
    }

    /// Makes `value` the value at an index of the sequence; false if there is none. `place` computes the index from the
    /// length.
    ///
    /// # Errors
    /// As [`Access::set`].
    pub fn set_at(&self, place: impl Fn(usize) -> usize, value: &[u8]) -> Result<bool, E> {
        self.write(Room::of(&[], value), value, |table, value| {
            table.set_at(place(table.live()), value)
        })
    }

    /// Appends a value to the sequence.
    ///
    /// # Errors
    /// As [`Access::set`].
    pub fn push(&self, value: &[u8]) -> Result<(), E> {
        let push = |table: &Table, value: Value<'_>| table.push(value).map(|()| true);
        self.write(Room::of(&[], value), value, push).map(drop)
    }

    /// Puts a value into the table; returns whether it was put.
    #[inline]
    fn write(
        &self,
        room: Room,
        value: &[u8],
        put: impl Fn(&Table, Value<'_>) -> Result<bool, StoreError>,
    ) -> Result<bool, E> {
        if value.len() < LARGE {
            return self.locked(|access| access.with(|table| put(table, Value::Bytes(value))));
        }
        self.write_unlocked(room, value, put)
    }

    fn write_unlocked(
        &self,
        room: Room,
        value: &[u8],
        put: impl Fn(&Table, Value<'_>) -> Result<bool, StoreError>,
    ) -> Result<bool, E> {
        for _ in 0..TRIES {
            let (table, uses) = self.locked(|access| allocate(access, &[value], room))?;
            failpoint::hit("store.unlocked");
            table.write(uses[0].extent, value);
            let done = self.locked(|access| {
                if !are_unchanged(access, &table, &uses) {
                    return Ok(None);
                }
                let done = put(&table, Value::Written(uses[0]));
                if !matches!(done, Ok(true)) {
                    table.release(uses[0].extent);
                }
                done.map(Some)
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        self.locked(|access| access.with(|table| put(table, Value::Bytes(value))))
    }

    /// Appends the value of a key to `out`; if it has none, makes `default` its value. Returns whether it had one.
    ///
    /// # Errors
    /// As [`Access::set`].
    pub fn get_or_set(&self, key: &[u8], default: &[u8], out: &mut Vec<u8>) -> Result<bool, E> {
        loop {
            if self.get(key, out)? {
                return Ok(true);
            }
            let set = |table: &Table, value: Value<'_>| match table.contains(key) {
                true => Ok(false),
                false => table.set_key(key, value).map(|()| true),
            };
            if self.write(Room::of(key, default), default, set)? {
                return Ok(false);
            }
        }
    }

    /// Sets several keys at once.
    ///
    /// # Errors
    /// As [`Access::set`].
    pub fn update(&self, pairs: &[(&[u8], &[u8])]) -> Result<(), E> {
        self.write_all(pairs, Table::set_key)
    }

    /// Appends several values to the sequence at once; their keys are empty.
    ///
    /// # Errors
    /// As [`Access::set`].
    pub fn extend(&self, pairs: &[(&[u8], &[u8])]) -> Result<(), E> {
        self.write_all(pairs, |table, _, value| table.push(value))
    }

    fn write_all(
        &self,
        pairs: &[(&[u8], &[u8])],
        put: impl Fn(&Table, &[u8], Value<'_>) -> Result<(), StoreError>,
    ) -> Result<(), E> {
        let room: Room = pairs.iter().map(|(key, value)| Room::of(key, value)).sum();
        let values: Vec<_> = pairs.iter().map(|(_, value)| *value).collect();
        for _ in 0..TRIES {
            if room.bytes < LARGE {
                break;
            }
            let (table, uses) = self.locked(|access| allocate(access, &values, room))?;
            failpoint::hit("store.unlocked");
            for (used, value) in uses.iter().zip(&values) {
                table.write(used.extent, value);
            }
            let done = self.locked(|access| {
                if !are_unchanged(access, &table, &uses) {
                    return Ok(false);
                }
                let keys = pairs.iter().map(|(key, _)| Room::of(key, &[])).sum();
                if let Err(StoreError::NoRoom(_)) = table.check(keys) {
                    uses.iter().for_each(|used| table.release(used.extent));
                    return Err(StoreError::NoRoom(room));
                }
                for ((key, _), used) in pairs.iter().zip(&uses) {
                    put(&table, key, Value::Written(*used))?;
                }
                Ok(true)
            })?;
            if done {
                return Ok(());
            }
        }
        self.locked(|access| {
            access.reserve(room)?;
            let mut pairs = pairs.iter();
            access.with(|table| {
                pairs.try_for_each(|(key, value)| put(table, key, Value::Bytes(value)))
            })
        })
    }

    /// Removes a key and appends its value to `out`; false if there is none.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn remove(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, E> {
        self.take(
            |table| table.value(key),
            |table, out| table.remove(key, out),
            |table, seen| table.remove_if(key, seen),
            out,
        )
    }

    /// Removes the last value of the sequence and appends it to `out`; false if there is none.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn pop(&self, out: &mut Vec<u8>) -> Result<bool, E> {
        self.take(
            |table| table.value_at(table.live().wrapping_sub(1)),
            |table, out| table.pop(out),
            |table, seen| table.pop_if(seen),
            out,
        )
    }

    /// Removes the entry that was inserted last; false if there is none.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn pop_last(&self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, E> {
        let named = std::cell::RefCell::new(key);
        let name = |table: &Table| -> EngineResult<Option<Extent>> {
            let mut key = named.borrow_mut();
            key.clear();
            let Some((key_extent, value_extent)) = table.last() else {
                return Ok(None);
            };
            table.copy(key_extent, &mut key)?;
            Ok(Some(value_extent))
        };
        self.take(
            |table| name(table).ok().flatten(),
            |table, out| {
                let mut key = named.borrow_mut();
                key.clear();
                table.pop_last(&mut key, out)
            },
            |table, seen| {
                let last = table.last().map(|(_, value)| value);
                last == Some(seen.extent) && table.remove_if(&named.borrow(), seen)
            },
            value,
        )
    }

    fn take(
        &self,
        find: impl Fn(&Table) -> Option<Extent>,
        remove: impl Fn(&Table, &mut Vec<u8>) -> EngineResult<bool>,
        remove_if: impl Fn(&Table, Use) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, E> {
        for tries in 0.. {
            let found = self.locked(|access| {
                let extent = access.with(&find);
                match extent {
                    Some(extent) if extent.length() >= LARGE && tries < TRIES => {
                        locate(access, extent)
                    }
                    _ => {
                        let removed = access.with(|table| remove(table, out))?;
                        Ok(if removed {
                            Found::Copied
                        } else {
                            Found::Nothing
                        })
                    }
                }
            })?;
            match found {
                Found::Nothing => return Ok(false),
                Found::Copied => return Ok(true),
                Found::At(table, seen) => {
                    let start = out.len();
                    let removed = self.copy_unlocked(&table, seen, out)?
                        && self.locked(|access| {
                            Ok(Arc::ptr_eq(&access.table(), &table) && remove_if(&table, seen))
                        })?;
                    if removed {
                        return Ok(true);
                    }
                    out.truncate(start);
                }
            }
        }
        Ok(false)
    }

    /// Visits all keys and values in order, as they were at one moment; the keys of a sequence are empty. `visit` adds
    /// them to the value that `begin` makes. Both may run again if the table changes meanwhile.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn all<C>(
        &self,
        begin: impl Fn() -> C,
        visit: impl Fn(&mut C, &[u8], &[u8]),
    ) -> Result<C, E> {
        self.at_one_moment(|table, goes_on| {
            let mut all = begin();
            table.each_while(|key, value| visit(&mut all, key, value), goes_on)?;
            Ok(all)
        })
    }

    /// Visits the values at some indexes of the sequence, as they were at one moment; indexes without a value are left
    /// out. `places` computes the indexes from the length. `visit` adds the values to the value that `begin` makes, and
    /// may break off.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn some<C, P: Iterator<Item = usize>>(
        &self,
        places: impl Fn(usize) -> P,
        begin: impl Fn() -> C,
        visit: impl Fn(&mut C, usize, &[u8]) -> ControlFlow<()>,
    ) -> Result<C, E> {
        self.at_one_moment(|table, goes_on| {
            let mut some = begin();
            let mut value = Vec::new();
            for place in places(table.live()) {
                if !goes_on() {
                    break;
                }
                value.clear();
                if table.get_at(place, &mut value)? && visit(&mut some, place, &value).is_break() {
                    break;
                }
            }
            Ok(some)
        })
    }

    /// The result of `look`, if nothing changed while it ran; `look` may stop early when it is told that something
    /// changed.
    fn at_one_moment<C>(
        &self,
        look: impl Fn(&Table, &dyn Fn() -> bool) -> EngineResult<C>,
    ) -> Result<C, E> {
        for _ in 0..TRIES {
            let long = self.locked(|access| {
                let table = access.table();
                Ok(table.is_long().then(|| (table.changes(), table)))
            })?;
            let Some((changes, table)) = long else { break };
            failpoint::hit("store.unlocked");
            let is_unchanged = || table.is_unchanged_since(changes);
            match look(&table, &is_unchanged) {
                Ok(seen) if is_unchanged() => return Ok(seen),
                // What cannot be read was changed, or is damaged: reading under the lock tells which.
                _ => {}
            }
        }
        self.locked(|access| Ok(access.with(|table| look(table, &|| true))?))
    }
}

fn locate(access: &ExclusiveAccess<'_>, extent: Extent) -> Result<Found, StoreError> {
    let table = access.table();
    let seen = table.use_of(extent)?;
    Ok(Found::At(table, seen))
}

#[inline]
fn copy_or_locate(
    access: &ExclusiveAccess<'_>,
    extent: Option<Extent>,
    at_once: bool,
    out: &mut Vec<u8>,
) -> Result<Found, StoreError> {
    match extent {
        None => Ok(Found::Nothing),
        Some(extent) if extent.length() >= LARGE && !at_once => locate(access, extent),
        Some(extent) => {
            access.with(|table| table.copy(extent, out))?;
            Ok(Found::Copied)
        }
    }
}

/// Allocates extents for several values; all of them or none.
fn allocate(
    access: &ExclusiveAccess<'_>,
    values: &[&[u8]],
    room: Room,
) -> Result<(Arc<Table>, Vec<Use>), StoreError> {
    let table = access.table();
    let mut uses = Vec::with_capacity(values.len());
    for value in values {
        match table.allocate(value.len()) {
            Some(extent) => uses.push(table.use_of(extent)?),
            None => {
                uses.iter()
                    .for_each(|used: &Use| table.release(used.extent));
                return Err(StoreError::NoRoom(room));
            }
        }
    }
    Ok((table, uses))
}

/// Whether extents still belong to the process that allocated them: the table was not replaced, and its log was not
/// reset.
fn are_unchanged(access: &ExclusiveAccess<'_>, table: &Arc<Table>, uses: &[Use]) -> bool {
    Arc::ptr_eq(&access.table(), table) && uses.iter().all(|used| table.is_unchanged(*used))
}
