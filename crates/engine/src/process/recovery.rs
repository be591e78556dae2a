//! Releases what dead processes owned.
//!
//! No process has this as its task: the parent that reaps a child does it, or any process that finds the table full.
//! Several may do it at once, and any of them may be killed halfway, because every step names the dead owner and
//! changes nothing if it was already done.

use std::sync::atomic::Ordering;

use crate::failpoint;
use crate::memory::Arena;
use crate::memory::block::{BlockId, Cell};
use crate::memory::owner::{Owner, ProcId};
use crate::objects::object::Kind;

impl Arena {
    /// Releases every block and every hold of a dead process. False when some may be left that this process cannot
    /// map.
    pub(crate) fn reclaim_all_of(&self, dead: ProcId) -> bool {
        self.visit_owned(dead, |block, cell| {
            match cell.owner.get() {
                Owner::Process(owner) if owner == dead => self.reclaim_block(block, cell, dead),
                owner @ Owner::Retiring { by, .. } if by == dead => {
                    crate::process::reclaim::retiring_chunk(self, block, owner);
                }
                owner @ Owner::Making { by, .. } if by == dead => {
                    crate::process::reclaim::unfinished_chunk(self, block, owner);
                }
                Owner::Shared => {
                    if self.drop_hold(block, dead) {
                        let kind = Kind::from_u32(cell.kind.load(Ordering::Acquire));
                        crate::process::reclaim::holder_is_gone(self, kind, block);
                    }
                    self.free_if_unheld(block);
                }
                _ => {}
            }
            true
        })
    }

    fn reclaim_block(&self, block: BlockId, cell: &Cell, dead: ProcId) {
        let from = Owner::Process(dead);
        match Kind::from_u32(cell.kind.load(Ordering::Acquire)) {
            Kind::Bytes | Kind::Attachments => drop(self.free(block, from)),
            Kind::Label => self.free_label(block, from),
            Kind::Chunk => crate::process::reclaim::unlinked_chunk(self, block, from),
            Kind::Part => self.reclaim_part(block, cell, from),
            // It died while it made or freed an object: finish freeing it.
            _ => {
                if self.claim(block, cell, from, self.mine()) {
                    failpoint::hit("recovery.taken");
                    self.dismantle_unless_held(block);
                }
            }
        }
    }

    /// Keeps the part of a dead maker if it is linked to its object, and frees it otherwise.
    fn reclaim_part(&self, part: BlockId, cell: &Cell, from: Owner) {
        let object = BlockId(cell.generation.load(Ordering::Acquire));
        if self.has_part(object, part) {
            cell.owner.pass(from, Owner::Part(object.0));
        } else if self.claim(part, cell, from, self.mine()) {
            cell.generation.store(0, Ordering::Release);
            cell.kind.store(Kind::Bytes as u32, Ordering::Release);
            self.free(part, self.mine());
        }
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
