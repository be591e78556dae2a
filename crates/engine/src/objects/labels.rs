//! Labels for diagnostics: the names of processes, and where objects were made.
//!
//! A label is a text in a block that its writer owns, and that is freed with the writer. It names its object by block
//! and generation, and stays behind when the object is freed. Its writer searches for such labels whenever the number
//! of labels has doubled. Only diagnostic reports read labels, so a program that writes none pays nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::arena::Arena;
use crate::arena::cell::{BlockId, Cell};
use crate::arena::kind::Kind;
use crate::arena::owner::{Owner, ProcId};
use crate::arena::upcalls::KindOps;
use crate::error::{Error, Result};
use crate::process_table::identity::fork_guard;

/// Object, generation and length, before the text.
const HEADER: usize = 12;
/// Longer texts are truncated.
const MAX_TEXT: usize = 500;
const ROOM: usize = HEADER + MAX_TEXT;
/// How many labels exist before the first search for stale ones.
const FIRST_LOOK: usize = 64;

/// What a label is about: an object in a generation, or its writer if both are zero.
pub(crate) type About = (u32, u32);

/// The labels of this process.
struct Written {
    /// Which process wrote them: a forked child has a copy of its parent's list.
    by: Option<ProcId>,
    labels: Vec<(BlockId, About)>,
    next_look: usize,
}

static WRITTEN: Mutex<Written> = Mutex::new(Written {
    by: None,
    labels: Vec::new(),
    next_look: FIRST_LOOK,
});

/// A label dies with its writer.
pub(crate) const LABEL: KindOps = KindOps::of_block(Arena::free_label);

impl Arena {
    /// Records where an object was made, or what this process is called (`about` is zero then).
    pub(crate) fn label(&self, about: About, text: &str) -> Result<()> {
        let _no_fork = fork_guard();
        let mut written = crate::sys::thread::lock(&WRITTEN);
        if written.by != Some(self.me()) {
            *written = Written {
                by: Some(self.me()),
                labels: Vec::new(),
                next_look: FIRST_LOOK,
            };
        }
        let is_renamed = about == (0, 0);
        if is_renamed || written.labels.len() >= written.next_look {
            written.labels.retain(|(label, of)| {
                let keep = match *of {
                    (0, 0) => !is_renamed,
                    (block, generation) => self.is_object(BlockId(block), generation),
                };
                if !keep {
                    self.free_label(*label, self.mine());
                }
                keep
            });
            written.next_look = (2 * written.labels.len()).max(FIRST_LOOK);
        }
        let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
        let label = self.alloc(ROOM as u64)?;
        let header = [about.0, about.1, text.len() as u32].map(u32::to_ne_bytes);
        let bytes = header.as_flattened().iter().chain(text);
        for (place, byte) in self.room_in(label)?.iter().zip(bytes) {
            place.store(*byte, Ordering::Relaxed);
        }
        let cell = self.cell(label)?;
        cell.kind.store(Kind::Label as u32, Ordering::Release);
        written.labels.push((label, about));
        Ok(())
    }

    /// All labels: each with its writer, what it is about, and its text.
    pub(crate) fn labels(&self) -> Vec<(ProcId, About, String)> {
        let found = self.blocks().filter_map(|(block, cell)| {
            let writer = writer_of(cell)?;
            let (about, text) = self.read_label(block)?;
            // A label that was freed meanwhile may hold anything.
            (writer_of(cell) == Some(writer)).then_some((writer, about, text))
        });
        found.collect()
    }

    /// Whether the object that a label is about still exists.
    pub(crate) fn is_about(&self, block: u32, generation: u32) -> bool {
        BlockId::new(block).is_some_and(|block| self.is_object(block, generation))
    }

    fn read_label(&self, label: BlockId) -> Option<(About, String)> {
        let room = self.room_in(label).ok()?;
        let bytes: Vec<u8> = room.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let (header, text) = bytes.split_first_chunk::<HEADER>()?;
        let (numbers, _) = header.as_chunks::<4>();
        let [block, generation, length] = [0, 1, 2].map(|at| u32::from_ne_bytes(numbers[at]));
        let text = &text[..(length as usize).min(MAX_TEXT)];
        let text = String::from_utf8_lossy(text).into_owned();
        Some(((block, generation), text))
    }

    fn room_in(&self, label: BlockId) -> Result<&[AtomicU8]> {
        if self.capacity(label) < ROOM as u64 {
            return Err(Error::BadHandle);
        }
        let start = self.payload(label)?;
        // SAFETY: the block has room for this many bytes, and is mapped for good; atomics take any bytes.
        Ok(unsafe { std::slice::from_raw_parts(start.cast().as_ptr(), ROOM) })
    }

    /// Frees a label that `from` owns: this process or a dead one.
    fn free_label(&self, label: BlockId, from: Owner) {
        let Ok(cell) = self.cell(label) else { return };
        if from != self.mine() && !self.claim(label, cell, from, self.mine()) {
            return;
        }
        cell.kind.store(Kind::Bytes as u32, Ordering::Release);
        self.free(label, self.mine());
    }
}

fn writer_of(cell: &Cell) -> Option<ProcId> {
    match cell.owner.get() {
        Owner::Process(writer) if cell.kind.load(Ordering::Acquire) == Kind::Label as u32 => {
            Some(writer)
        }
        _ => None,
    }
}
