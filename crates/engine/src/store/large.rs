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

    fn turn<T>(
        &self,
        act: impl FnOnce(&ExclusiveAccess<'a>) -> Result<T, StoreError>,
    ) -> Result<T, E> {
        let turn = (self.enter)()?;
        act(&turn).map_err(self.refuse)
    }

    /// Appends the value of a key to `out`; false if there is none.
    ///
    /// # Errors
    /// The errors of `enter`, and those that `refuse` makes.
    #[inline]
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool, E> {
        self.read(|turn| turn.with(|table| table.value(key)), out)
    }

    /// Appends the value at an index of the sequence to `out`; false if there is none. `place` computes the index from
    /// the length.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub fn get_at(&self, place: impl Fn(usize) -> usize, out: &mut Vec<u8>) -> Result<bool, E> {
        let find =
            |turn: &ExclusiveAccess<'a>| turn.with(|table| table.value_at(place(table.live())));
        self.read(find, out)
    }

    #[inline]
    fn read(
        &self,
        find: impl Fn(&ExclusiveAccess<'a>) -> Option<Extent>,
        out: &mut Vec<u8>,
    ) -> Result<bool, E> {
        for tries in 0.. {
            let found = self.turn(|turn| copy_or_see(turn, find(turn), tries >= TRIES, out))?;
            match found {
                Found::Nothing => return Ok(false),
                Found::Copied => return Ok(true),
                Found::At(table, seen) if self.copied(&table, seen, out)? => return Ok(true),
                Found::At(..) => {}
            }
        }
        Ok(false)
    }

    /// Copies what was seen; false, with nothing copied, if it was reused meanwhile.
    fn copied(&self, table: &Table, seen: Use, out: &mut Vec<u8>) -> Result<bool, E> {
        failpoint::hit("store.beside");
        let start = out.len();
        let copied = table.copy_seen(seen, out);
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
            return self.turn(|turn| turn.with(|table| put(table, Value::Bytes(value))));
        }
        self.write_beside(room, value, put)
    }

    fn write_beside(
        &self,
        room: Room,
        value: &[u8],
        put: impl Fn(&Table, Value<'_>) -> Result<bool, StoreError>,
    ) -> Result<bool, E> {
        for _ in 0..TRIES {
            let (table, extents) = self.turn(|turn| allocate(turn, &[value], room))?;
            failpoint::hit("store.beside");
            table.write(extents[0].span, value);
            let done = self.turn(|turn| {
                if !is_still(turn, &table, &extents) {
                    return Ok(None);
                }
                let done = put(&table, Value::Written(extents[0]));
                if !matches!(done, Ok(true)) {
                    table.let_go(extents[0].span);
                }
                done.map(Some)
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        self.turn(|turn| turn.with(|table| put(table, Value::Bytes(value))))
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
            let (table, extents) = self.turn(|turn| allocate(turn, &values, room))?;
            failpoint::hit("store.beside");
            for (extent, value) in extents.iter().zip(&values) {
                table.write(extent.span, value);
            }
            let done = self.turn(|turn| {
                if !is_still(turn, &table, &extents) {
                    return Ok(false);
                }
                let keys = pairs.iter().map(|(key, _)| Room::of(key, &[])).sum();
                if let Err(StoreError::NoRoom(_)) = table.check(keys) {
                    extents.iter().for_each(|extent| table.let_go(extent.span));
                    return Err(StoreError::NoRoom(room));
                }
                for ((key, _), extent) in pairs.iter().zip(&extents) {
                    put(&table, key, Value::Written(*extent))?;
                }
                Ok(true)
            })?;
            if done {
                return Ok(());
            }
        }
        self.turn(|turn| {
            turn.reserve(room)?;
            let mut pairs = pairs.iter();
            turn.with(|table| {
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
            |table, seen| table.remove_seen(key, seen),
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
            |table, seen| table.pop_seen(seen),
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
            let Some((key_span, value_span)) = table.last() else {
                return Ok(None);
            };
            table.copy(key_span, &mut key)?;
            Ok(Some(value_span))
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
                last == Some(seen.span) && table.remove_seen(&named.borrow(), seen)
            },
            value,
        )
    }

    fn take(
        &self,
        find: impl Fn(&Table) -> Option<Extent>,
        remove: impl Fn(&Table, &mut Vec<u8>) -> EngineResult<bool>,
        remove_seen: impl Fn(&Table, Use) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, E> {
        for tries in 0.. {
            let found = self.turn(|turn| {
                let span = turn.with(&find);
                match span {
                    Some(span) if span.length() >= LARGE && tries < TRIES => see(turn, span),
                    _ => {
                        let removed = turn.with(|table| remove(table, out))?;
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
                    let removed = self.copied(&table, seen, out)?
                        && self.turn(|turn| {
                            Ok(Arc::ptr_eq(&turn.table(), &table) && remove_seen(&table, seen))
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
            let long = self.turn(|turn| {
                let table = turn.table();
                Ok(table.is_long().then(|| (table.changes(), table)))
            })?;
            let Some((changes, table)) = long else { break };
            failpoint::hit("store.beside");
            let is_unchanged = || table.is_unchanged_since(changes);
            match look(&table, &is_unchanged) {
                Ok(seen) if is_unchanged() => return Ok(seen),
                // What cannot be read was changed, or is damaged: reading under the lock tells which.
                _ => {}
            }
        }
        self.turn(|turn| Ok(turn.with(|table| look(table, &|| true))?))
    }
}

fn see(turn: &ExclusiveAccess<'_>, span: Extent) -> Result<Found, StoreError> {
    let table = turn.table();
    let seen = table.seen(span)?;
    Ok(Found::At(table, seen))
}

#[inline]
fn copy_or_see(
    turn: &ExclusiveAccess<'_>,
    span: Option<Extent>,
    at_once: bool,
    out: &mut Vec<u8>,
) -> Result<Found, StoreError> {
    match span {
        None => Ok(Found::Nothing),
        Some(span) if span.length() >= LARGE && !at_once => see(turn, span),
        Some(span) => {
            turn.with(|table| table.copy(span, out))?;
            Ok(Found::Copied)
        }
    }
}

/// Allocates extents for several values; all of them or none.
fn allocate(
    turn: &ExclusiveAccess<'_>,
    values: &[&[u8]],
    room: Room,
) -> Result<(Arc<Table>, Vec<Use>), StoreError> {
    let table = turn.table();
    let mut extents = Vec::with_capacity(values.len());
    for value in values {
        match table.allocate(value.len()) {
            Some(span) => extents.push(table.seen(span)?),
            None => {
                extents
                    .iter()
                    .for_each(|extent: &Use| table.let_go(extent.span));
                return Err(StoreError::NoRoom(room));
            }
        }
    }
    Ok((table, extents))
}

/// Whether extents still belong to the process that allocated them: the table was not replaced, and its log was not
/// reset.
fn is_still(turn: &ExclusiveAccess<'_>, table: &Arc<Table>, extents: &[Use]) -> bool {
    Arc::ptr_eq(&turn.table(), table) && extents.iter().all(|extent| table.is_still(*extent))
}
