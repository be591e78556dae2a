//! Which processes continue for one that is gone.
//!
//! A program that becomes a daemon forks, and its first process ends. The forked process is its successor: it has
//! everything that the first one had, and needs the processes whose lifeline was bound to that one
//! (`process/parent_death.rs`). Each entry lists the last [`GENERATIONS`](crate::arena::process_entry::GENERATIONS)
//! processes that its process was forked from, and the lifeline by which others are bound to it. A process that was
//! started for a purpose of its own is nobody's successor.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::entry_state::Stage;
use crate::arena::owner::ProcId;
use crate::arena::process_entry::{LivenessSource, ProcessEntry};

/// Whether a process, or a successor of it, still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The process itself runs, or a successor of it.
    Now,
    /// An entry is reserved for a successor, which may be about to be forked.
    Soon,
    Never,
}

impl ProcessEntry {
    /// Whether the process runs, as far as atomics can tell: one that is tracked by its PID alone counts as gone.
    fn need(&self, epoch: u32) -> Need {
        let state = self.state();
        if state.epoch() != epoch {
            return Need::Never;
        }
        let is_there = || match self.liveness_source(epoch) {
            LivenessSource::Word(word) => !self.liveness[word].holder_died(),
            LivenessSource::Pid => false,
        };
        match state.stage {
            Stage::Live | Stage::Leaving if is_there() => Need::Now,
            Stage::Reserved | Stage::Awaited | Stage::Claimed => Need::Soon,
            _ => Need::Never,
        }
    }
}

impl Arena {
    /// Before a fork: makes the child of this entry a successor of this process, and of those that this process
    /// succeeds.
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

    /// Makes this process nobody's successor.
    pub(crate) fn clear_successor_of(&self) {
        let successor_of = &self.entry(self.me()).successor_of;
        successor_of
            .iter()
            .for_each(|of| of.store(0, Ordering::SeqCst));
    }

    /// Records the lifeline by which others are bound to this process.
    pub(crate) fn set_lifeline(&self, lifeline: u64) {
        self.entry(self.me())
            .lifeline
            .store(lifeline, Ordering::SeqCst);
    }

    /// The process that a lifeline belongs to.
    pub(crate) fn lifeline_owner(&self, lifeline: u64) -> Option<ProcId> {
        let holds = |entry: &&ProcessEntry| {
            lifeline != 0 && entry.lifeline.load(Ordering::SeqCst) == lifeline
        };
        let (slot, entry) = self.processes().find(|(_, entry)| holds(entry))?;
        Some(ProcId::new(slot, entry.state().epoch()))
    }

    /// Whether a process or a successor of it runs. Signal handlers call this: it uses atomics alone.
    pub(crate) fn need_of(&self, process: ProcId) -> Need {
        let is_successor = |entry: &ProcessEntry| {
            let successor_of = &entry.successor_of;
            successor_of
                .iter()
                .any(|of| of.load(Ordering::SeqCst) == process.as_u32())
        };
        let successors = self.processes().filter(|(_, entry)| is_successor(entry));
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
