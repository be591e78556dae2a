//! What the writer has met already: the memo of a message.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::prelude::*;

/// Up to here a scan of the entries beats hashing.
const SCANNED: usize = 8;

/// A value that was met, and may be met again.
#[derive(Debug)]
struct Entry<'py> {
    /// Owned, so that no other object can come to live at the same address.
    obj: Bound<'py, PyAny>,
    offset: usize,
    /// `None` while an immutable container is being written: the reader could not refer to it yet.
    height: Option<usize>,
}

/// What [`Memo::look_up`] found.
#[derive(Debug)]
pub(super) enum Lookup {
    New(Place),
    /// Written at `offset`, as high as `height`.
    Written {
        offset: usize,
        height: usize,
    },
    /// Inside itself, by way of something mutable.
    Unfinished,
}

/// Names an entry until it is finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

/// Values by identity, in the order they were met.
#[derive(Debug, Default)]
pub(super) struct Memo<'py> {
    entries: Vec<Entry<'py>>,
    by_address: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
}

impl<'py> Memo<'py> {
    /// Looks for `obj`; if it is new, remembers it as unfinished at `offset`.
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

    /// From now on the value may be referred to.
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

/// Short strings met lately, by address. Forgetful: a string may be written twice, but another one is
/// never taken for it.
///
/// The strings are not owned, since that costs more than it saves. So [`RecentStrings::forget`] is due
/// whenever Python code may have run: a string may be gone, and another live at its address.
#[derive(Debug, Default)]
pub(super) struct RecentStrings {
    few: [Row; Self::FEW],
    /// Takes over from `few` in messages that hold many strings.
    many: Vec<Row>,
    remembered: usize,
    /// What was remembered before this offset is forgotten.
    since: usize,
}

impl RecentStrings {
    const FEW: usize = 16;
    const MANY: usize = 512;
    /// So many notes tell that `few` has no room for the strings of the message.
    const TOO_MANY: usize = 32;

    /// Where the string was written.
    #[inline]
    pub(super) fn find(&mut self, string: &Bound<'_, PyAny>) -> Option<usize> {
        let address = string.as_ptr() as usize;
        let since = self.since;
        self.row(address)
            .iter()
            .find(|&&(met, offset)| met == address && offset >= since)
            .map(|&(_, offset)| offset)
    }

    /// The string is about to be written at `offset`.
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

    /// Where the string belongs.
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

/// Turns numbers that differ little into numbers that differ in their upper half.
#[inline]
fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Good enough for addresses, which nobody can choose to collide.
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
