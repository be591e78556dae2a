//! Reserves entries of the process table, and reaps the dead: releases what they owned, and then their entries.
//!
//! No process has this as its task: the parent that reaps a child does it, or any process that finds the table full.
//! Several may do it at once, and any of them may be killed halfway, because every step names the dead owner and
//! changes nothing if it was already done.

use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::entry_state::Stage;
use crate::arena::kind::Kind;
use crate::arena::layout::MAX_PROCESSES;
use crate::arena::owner::{Owner, ProcId};
use crate::arena::upcalls::ops_of;
use crate::error::Result;
use crate::failpoint;
use crate::process_table::ExitState;

impl Arena {
    /// Reserves an entry for a process that `by` is about to start.
    pub(crate) fn reserve(&self, by: Option<ProcId>) -> Result<ProcId> {
        let find = || {
            self.reap_some();
            self.find_free_entry(by)
        };
        find().or_else(|_| {
            self.sweep();
            find()
        })
    }

    /// Reaps the dead among a few entries, different ones at each call, so that what they owned is released long
    /// before the table is full.
    fn reap_some(&self) {
        let root = self.root();
        let used = root
            .processes_used
            .load(Ordering::Relaxed)
            .clamp(2, MAX_PROCESSES as u32);
        for _ in 0..4 {
            let cursor = root.reap_cursor.fetch_add(1, Ordering::Relaxed);
            let number = 1 + cursor % (used - 1);
            let state = root.processes[number as usize].state();
            let owner = ProcId::new(number, state.epoch);
            if state.stage != Stage::Free && self.is_dead(owner) {
                self.reap(owner);
            }
        }
    }

    /// Releases an entry that this process reserved for a child that will not start.
    pub(crate) fn release(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        let ours = match state.stage {
            Stage::Reserved => state.who == u64::from(self.me().as_u32()),
            Stage::Awaited => true,
            _ => false,
        };
        if ours && state.epoch == owner.epoch() && entry.change(state, state.at(Stage::Reaping)) {
            self.clear(owner);
        }
    }

    /// Releases everything that a dead process owned, then its entry.
    pub(crate) fn reap(&self, owner: ProcId) -> ExitState {
        let exit_state = self.exit_state(owner);
        if exit_state != ExitState::Alive {
            self.finish_reaping(owner);
        }
        exit_state
    }

    /// As [`Arena::reap`], for a child of this process whose status was collected.
    ///
    /// The liveness word may say for ever that the process lives: a thread other than the first one takes over the
    /// first thread's id when it calls `exec`, and the kernel then no longer recognises the word as its own.
    pub(crate) fn reap_collected(&self, owner: ProcId) -> ExitState {
        let exit_state = self.reap(owner);
        let entry = self.entry(owner);
        let state = entry.state();
        let is_occupied = matches!(state.stage, Stage::Claimed | Stage::Live | Stage::Leaving);
        // A process that the child started may occupy the entry, and lives on.
        if exit_state != ExitState::Alive
            || !is_occupied
            || state.epoch != owner.epoch()
            || entry.runs(state)
        {
            return exit_state;
        }
        self.finish_reaping(owner);
        match state.stage {
            Stage::Leaving => ExitState::Left,
            _ => ExitState::Died,
        }
    }

    /// Releases everything that a process owned that is known to be gone, then its entry.
    fn finish_reaping(&self, owner: ProcId) {
        let entry = self.entry(owner);
        let state = entry.state();
        if state.epoch != owner.epoch() || state.stage == Stage::Free {
            return;
        }
        self.announce_death(owner);
        let marked = match state.stage {
            Stage::Leaving => state.at(Stage::Clearing),
            Stage::Clearing => state,
            _ => state.at(Stage::Reaping),
        };
        if state == marked || entry.change(state, marked) {
            // If the liveness word is not marked, watchers could not see earlier that the process is gone.
            self.wake_watchers(entry);
            self.clear(owner);
        }
        // The process may have freed memory that no other process knows about, or died before returning it to the
        // system.
        if marked.stage == Stage::Reaping {
            self.make_scan_due();
        }
        self.start_trimmer_if_due();
    }

    /// Releases the entry that this process had before it moved to another. If the former id still owns something,
    /// the entry stays until the process ends.
    pub(crate) fn release_former(&self, former: ProcId) {
        if self.owns_blocks(former) {
            return;
        }
        let entry = self.entry(former);
        let state = entry.state();
        // This thread cannot release another thread's liveness word; the entry then also stays until the end.
        if state.epoch == former.epoch()
            && self.release_liveness(former)
            && entry.change(state, state.at(Stage::Clearing))
        {
            self.announce_death(former);
            self.clear(former);
        }
    }

    fn clear(&self, owner: ProcId) {
        failpoint::hit("process.reaping");
        if !self.reclaim_all_of(owner) {
            // A process that can map all of the memory finishes it.
            return;
        }
        failpoint::hit("process.swept");
        self.drop_ownership_log(owner);
        let entry = self.entry(owner);
        let state = entry.state();
        if state.epoch == owner.epoch() && matches!(state.stage, Stage::Reaping | Stage::Clearing) {
            entry.change(state, state.at(Stage::Free));
        }
    }

    /// Reaps every dead process. Returns their number.
    pub(crate) fn sweep(&self) -> usize {
        let dead: Vec<ProcId> = self.occupied().filter(|o| self.is_dead(*o)).collect();
        for owner in &dead {
            self.reap(*owner);
        }
        dead.len()
    }

    /// Releases every block and every hold of a dead process. False when some may be left that this process cannot
    /// map.
    pub(crate) fn reclaim_all_of(&self, dead: ProcId) -> bool {
        self.visit_owned(dead, |block, cell| {
            let kind = || Kind::from_u32(cell.kind.load(Ordering::Acquire));
            match cell.owner.get() {
                owner @ Owner::Process(by) if by == dead => {
                    (ops_of(kind()).reclaim)(self, block, owner);
                }
                owner @ (Owner::Retiring { by, .. } | Owner::Making { by, .. }) if by == dead => {
                    (ops_of(Kind::Chunk).reclaim)(self, block, owner);
                }
                Owner::Shared => {
                    if self.drop_hold(block, dead) {
                        (ops_of(kind()).holder_died)(self, block);
                    }
                    self.free_if_unheld(block);
                }
                _ => {}
            }
            true
        })
    }

    /// The objects that this process held at some time and that still exist, with their kinds.
    pub(crate) fn held_objects(&self) -> Vec<(Kind, BlockId)> {
        let mut found = Vec::new();
        self.visit_owned(self.me(), |block, cell| {
            if cell.owner.is(Owner::Shared) {
                found.push((Kind::from_u32(cell.kind.load(Ordering::Acquire)), block));
            }
            true
        });
        found
    }

    /// Whether the process owns any block, or may own one.
    pub(crate) fn owns_blocks(&self, owner: ProcId) -> bool {
        !self.visit_owned(owner, |_, cell| match cell.owner.get() {
            Owner::Process(by) | Owner::Making { by, .. } | Owner::Retiring { by, .. } => {
                by != owner
            }
            _ => true,
        })
    }
}
