//! Who goes on for a process that is gone.
//!
//! A program that becomes a daemon forks, and its first process ends. The forked one is its heir: it has all that the
//! first one had, and needs the processes that were tied to that (`process/lifeline.rs`). Each seat has the last
//! [`GENERATIONS`] that its process was forked from, and the number of the line by which others are tied to it.
//! A process that was started for a purpose of its own is nobody's heir.

use std::sync::atomic::Ordering;

use super::Arena;
use super::owner::OwnerId;
use super::seat::{SeatEntry, Told};
use super::seat_state::Stage;

pub(super) const GENERATIONS: usize = 4;

/// Whether somebody goes on for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The process itself, or an heir of it.
    Now,
    /// There is a seat for an heir, which may be forked this moment.
    Soon,
    Never,
}

impl SeatEntry {
    /// Whether the process is there, as far as atomics tell: one that is known by its number alone is taken for gone.
    fn need(&self, epoch: u32) -> Need {
        let state = self.state();
        if state.epoch() != epoch {
            return Need::Never;
        }
        let is_there = || match self.told(epoch) {
            Told::ByLife(word) => !self.lives[word].holder_died(),
            Told::ByNumber => false,
        };
        match state.stage {
            Stage::Live | Stage::Leaving if is_there() => Need::Now,
            Stage::Reserved | Stage::Awaited | Stage::Sitting => Need::Soon,
            _ => Need::Never,
        }
    }
}

impl Arena {
    /// Before a fork: the child on the seat is an heir of this process, and of those that this one is of.
    pub(super) fn make_heir(&self, child: OwnerId) {
        let (mine, heirs) = (&self.seat(self.me()).heir_of, &self.seat(child).heir_of);
        for (from, to) in mine.iter().zip(&heirs[1..]) {
            to.store(from.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        heirs[0].store(self.me().as_u32(), Ordering::SeqCst);
    }

    /// This process is nobody's heir.
    pub(crate) fn be_no_heir(&self) {
        let heir_of = &self.seat(self.me()).heir_of;
        heir_of.iter().for_each(|of| of.store(0, Ordering::SeqCst));
    }

    /// Notes which line others are tied to this process by.
    pub(crate) fn note_line(&self, line: u64) {
        self.seat(self.me()).line.store(line, Ordering::SeqCst);
    }

    /// Whose line it is.
    pub(crate) fn holder_of_line(&self, line: u64) -> Option<OwnerId> {
        let holds = |entry: &&SeatEntry| line != 0 && entry.line.load(Ordering::SeqCst) == line;
        let (seat, entry) = self.seats().find(|(_, entry)| holds(entry))?;
        Some(OwnerId::new(seat, entry.state().epoch()))
    }

    /// Whether a process is there, or an heir of it. For handlers of signals: atomics alone.
    pub(crate) fn need_of(&self, process: OwnerId) -> Need {
        let is_heir = |entry: &SeatEntry| {
            let heir_of = &entry.heir_of;
            heir_of
                .iter()
                .any(|of| of.load(Ordering::SeqCst) == process.as_u32())
        };
        let heirs = self.seats().filter(|(_, entry)| is_heir(entry));
        let needs = heirs.map(|(_, entry)| entry.need(entry.state().epoch()));
        std::iter::once(self.seat(process).need(process.epoch()))
            .chain(needs)
            .min()
            .unwrap_or(Need::Never)
    }

    fn seats(&self) -> impl Iterator<Item = (u32, &SeatEntry)> {
        let root = self.root();
        let used = root.seats_used.load(Ordering::Relaxed) as usize;
        (0..).zip(root.seats.iter().take(used))
    }
}
