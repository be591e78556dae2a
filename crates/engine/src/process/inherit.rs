//! Which of its parent's objects a forked child holds.
//!
//! The child has a copy of every handle. It may use those whose object lists it as a holder. The handlers around a
//! fork register it before the child exists (`fork.rs`). Only a child that no handler saw, one of a raw `clone`,
//! registers itself, at its first use of the engine. Registration can fail:
//!
//! ```text
//! no memory for it     the fork has happened; only the use of the handle can still be refused
//! the object is gone   the parent released it before the child first used the engine
//! ```
//!
//! Then the handle is *invalid*: every use is refused, and dropping it releases nothing. Opening the object by a
//! handle that was sent makes the copies valid again. The check costs nothing where there are no such handles: the
//! fast word of the identity stays zero in a process that has some ([`identity::holds_all`]).

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::owner::ProcId;
use crate::error::{Error, Result};
use crate::objects::local;
use crate::objects::local::{Local, make_invalid};
use crate::process_table::identity;
use crate::process_table::liveness_thread;

impl Arena {
    /// Claims an entry for a child that no handler gave one, and makes the child a holder of everything that its
    /// memory lists as open.
    #[cold]
    pub(crate) fn claim_new_entry(&self) -> Result<ProcId> {
        liveness_thread::lock_holders().forget();
        let proc_id = self.reserve(None)?;
        self.claim_entry(proc_id)?;
        // From here on this process has an id that its actions can be recorded under.
        identity::become_owner(proc_id, false);
        let mut local = local::lock();
        let mut lost = Vec::new();
        for (block, (generation, _)) in &local.open {
            if self.add_checked_hold(*block, *generation, proc_id).is_err() {
                lost.push(*block);
            }
        }
        make_invalid(&mut local, &lost);
        identity::become_owner(proc_id, local.invalid.is_empty());
        Ok(proc_id)
    }

    /// Makes a child that is about to be forked a holder of everything that this process has open. Returns the
    /// objects for which that failed, and why.
    pub(crate) fn add_all_holds(&self, child: ProcId, local: &Local) -> Vec<(BlockId, Error)> {
        let holds = local.open.keys();
        holds
            .filter_map(|block| Some((*block, self.add_hold(*block, child).err()?)))
            .collect()
    }

    /// Runs in the child, which became a holder of every object except those in `lost`.
    pub(crate) fn begin_as_child(&self, proc_id: ProcId, lost: &[BlockId]) {
        let mut local = local::lock();
        make_invalid(&mut local, lost);
        identity::become_owner(proc_id, local.invalid.is_empty());
    }
}
