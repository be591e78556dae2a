//! Who goes on for a process that is gone.
//!
//! A program that becomes a daemon forks, and its first process ends. The forked one is its successor: it has all that the
//! first one had, and needs the processes that were tied to that (`process/parent_death.rs`). Each slot has the last
//! [`GENERATIONS`] that its process was forked from, and the number of the line by which others are tied to it.
//! A process that was started for a purpose of its own is nobody's successor.

use std::sync::atomic::Ordering;

use crate::memory::Arena;
use crate::memory::owner::ProcId;
use crate::process::entry_state::Stage;
use crate::process::table::{ProcessEntry, Told};

pub(crate) const GENERATIONS: usize = 4;

/// Whether somebody goes on for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The process itself, or an successor of it.
    Now,
    /// There is a slot for an successor, which may be forked this moment.
    Soon,
    Never,
}

impl ProcessEntry {
    /// Whether the process is there, as far as atomics tell: one that is known by its number alone is taken for gone.
    fn need(&self, epoch: u32) -> Need {
        let state = self.state();
        if state.epoch() != epoch {
            return Need::Never;
        }
        let is_there = || match self.told(epoch) {
            Told::ByLiveness(word) => !self.liveness[word].holder_died(),
            Told::ByNumber => false,
        };
        match state.stage {
            Stage::Live | Stage::Leaving if is_there() => Need::Now,
            Stage::Reserved | Stage::Awaited | Stage::Claimed => Need::Soon,
            _ => Need::Never,
        }
    }
}

impl Arena {
    /// Before a fork: the child on the slot is an successor of this process, and of those that this one is of.
    pub(crate) fn make_successor(&self, child: ProcId) {
        let (mine, successors) = (
            &self.entry(self.me()).successor_of,
            &self.entry(child).successor_of,
        );
        for (from, to) in mine.iter().zip(&successors[1..]) {
            to.store(from.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        successors[0].store(self.me().as_u32(), Ordering::SeqCst);
    }

    /// This process is nobody's successor.
    pub(crate) fn be_no_successor(&self) {
        let successor_of = &self.entry(self.me()).successor_of;
        successor_of
            .iter()
            .for_each(|of| of.store(0, Ordering::SeqCst));
    }

    /// Notes which line others are tied to this process by.
    pub(crate) fn note_line(&self, line: u64) {
        self.entry(self.me()).line.store(line, Ordering::SeqCst);
    }

    /// Whose line it is.
    pub(crate) fn holder_of_line(&self, line: u64) -> Option<ProcId> {
        let holds = |entry: &&ProcessEntry| line != 0 && entry.line.load(Ordering::SeqCst) == line;
        let (slot, entry) = self.processes().find(|(_, entry)| holds(entry))?;
        Some(ProcId::new(slot, entry.state().epoch()))
    }

    /// Whether a process is there, or an successor of it. For handlers of signals: atomics alone.
    pub(crate) fn need_of(&self, process: ProcId) -> Need {
        let is_heir = |entry: &ProcessEntry| {
            let successor_of = &entry.successor_of;
            successor_of
                .iter()
                .any(|of| of.load(Ordering::SeqCst) == process.as_u32())
        };
        let successors = self.processes().filter(|(_, entry)| is_heir(entry));
        let needs = successors.map(|(_, entry)| entry.need(entry.state().epoch()));
        std::iter::once(self.entry(process).need(process.epoch()))
            .chain(needs)
            .min()
            .unwrap_or(Need::Never)
    }

    fn processes(&self) -> impl Iterator<Item = (u32, &ProcessEntry)> {
        let root = self.root();
        let used = root.processes_used.load(Ordering::Relaxed) as usize;
        (0..).zip(root.processes.iter().take(used))
    }
}
