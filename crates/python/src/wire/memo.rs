//! The memo of a message: the values that were written already.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::prelude::*;

/// Up to this many entries a scan is faster than hashing.
const SCANNED: usize = 8;

/// A value that was written and can occur again.
#[derive(Debug)]
struct Entry<'py> {
    /// Owned, so that no other object can be allocated at the same address.
    obj: Bound<'py, PyAny>,
    offset: usize,
    /// `None` while an immutable container is being written: the reader cannot refer to it yet.
    height: Option<usize>,
}

/// The result of [`Memo::look_up`].
#[derive(Debug)]
pub(super) enum Lookup {
    New(Place),
    /// It was written at `offset` and has this height.
    Written {
        offset: usize,
        height: usize,
    },
    /// It contains itself, through a mutable container.
    Unfinished,
}

/// The index of an entry that is not finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

/// Values by identity, in the order of their first occurrence.
#[derive(Debug, Default)]
pub(super) struct Memo<'py> {
    entries: Vec<Entry<'py>>,
    by_address: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
}

impl<'py> Memo<'py> {
    /// Looks `obj` up. If it is new, adds it as unfinished at `offset`.
    pub(super) fn look_up(&mut self, obj: &Bound<'py, PyAny>, offset: usize) -> Lookup {
        if let Some(entry) = self.find(obj) {
            return match entry.height {
                Some(height) => Lookup::Written {
                    offset: entry.offset,
                    height,
                },
                None => Lookup::Unfinished,
            };
        }
        let place = self.entries.len();
        self.entries.push(Entry {
            obj: obj.clone(),
            offset,
            height: None,
        });
        match place {
            0..SCANNED => {}
            SCANNED => self.by_address.extend(
                self.entries
                    .iter()
                    .enumerate()
                    .map(|(place, entry)| (entry.obj.as_ptr() as usize, place)),
            ),
            _ => {
                self.by_address.insert(obj.as_ptr() as usize, place);
            }
        }
        Lookup::New(Place(place))
    }

    /// Allows references to the value.
    pub(super) fn finish(&mut self, place: Place, height: usize) {
        self.entries[place.0].height = Some(height);
    }

    fn find(&self, obj: &Bound<'py, PyAny>) -> Option<&Entry<'py>> {
        if self.entries.len() <= SCANNED {
            return self.entries.iter().find(|entry| entry.obj.is(obj));
        }
        self.by_address
            .get(&(obj.as_ptr() as usize))
            .map(|&place| &self.entries[place])
    }
}

/// A lossy cache of recent short strings, by address. It can forget a string, which is then written twice, but never
/// confuses two strings.
///
/// The strings are not owned, because that would cost more than it saves. So call [`RecentStrings::forget`] whenever
/// Python code can have run: a string can be freed, and another one allocated at its address.
#[derive(Debug, Default)]
pub(super) struct RecentStrings {
    few: [Row; Self::FEW],
    /// Replaces `few` in messages with many strings.
    many: Vec<Row>,
    remembered: usize,
    /// Strings before this offset are forgotten.
    since: usize,
}

impl RecentStrings {
    const FEW: usize = 16;
    const MANY: usize = 512;
    /// After this many strings, `few` is too small for the message.
    const TOO_MANY: usize = 32;

    /// Returns the offset at which the string was written.
    #[inline]
    pub(super) fn find(&mut self, string: &Bound<'_, PyAny>) -> Option<usize> {
        let address = string.as_ptr() as usize;
        let since = self.since;
        self.row(address)
            .iter()
            .find(|&&(known, offset)| known == address && offset >= since)
            .map(|&(_, offset)| offset)
    }

    /// Adds a string that will be written at `offset`.
    #[inline]
    pub(super) fn remember(&mut self, string: &Bound<'_, PyAny>, offset: usize) {
        self.remembered += 1;
        if self.remembered == Self::TOO_MANY {
            self.many.resize(Self::MANY, Row::default());
        }
        let address = string.as_ptr() as usize;
        let row = self.row(address);
        *row = [(address, offset), row[0]];
    }

    /// Forgets the strings that were written before `offset`.
    pub(super) fn forget(&mut self, offset: usize) {
        self.since = offset;
    }

    /// Returns the row of an address.
    #[inline]
    fn row(&mut self, address: usize) -> &mut Row {
        let spread = (spread(address as u64) >> 32) as usize;
        match self.many.get_mut(spread % Self::MANY) {
            Some(row) => row,
            None => &mut self.few[spread % Self::FEW],
        }
    }
}

/// The addresses and offsets of two strings, the later one first.
type Row = [(usize, usize); 2];

/// Fibonacci hashing: nearby numbers get different upper halves.
#[inline]
fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A hasher for addresses, which no attacker can choose.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    fn write_usize(&mut self, n: usize) {
        self.0 = spread(self.0 ^ n as u64).rotate_left(26);
    }
}
