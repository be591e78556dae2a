//! What a forked child holds of what its parent held.
//!
//! The child has a copy of every handle. It may use those whose object has its name among the holders. The handlers
//! around a fork enter it before there is a child (`fork.rs`); only a child that no handler saw, a raw `clone`'s, enters
//! itself, at its first use of the engine. Where a name could not be entered,
//!
//! ```text
//! no room for it       the fork has happened: nothing can be refused any more but the use of the handle
//! the object is gone   its parent let go of it before the child came to its first use
//! ```
//!
//! the handle is *void*: it is refused at every use, and dropping it gives back nothing. Opening the object by a handle
//! that was sent makes it good. To ask for that costs nothing
//! where there are no such handles: the word that says who the process is stays zero in one that has some
//! ([`fork::holds_all`]).

use crate::error::{Error, Result};
use crate::memory::Arena;
use crate::memory::block::BlockId;
use crate::memory::owner::ProcId;
use crate::objects::object::{Local, Void};
use crate::process::fork;
use crate::process::liveness_thread;

const NO_ROOM: &str = "there was no room for this process among the holders, since its parent had no shared memory left; free some before forking, raise the limit, or start the process with Process, which says when that fails";
const GONE: &str = "this process came from a clone that the engine was not told of, and the object was gone when it first used it; keep it open in the parent until then, or fork with the C library's fork";

impl Arena {
    /// A slot for a child that no handler gave one, with a hold on all that its memory says is open.
    #[cold]
    pub(crate) fn claim_new_entry(&self) -> Result<ProcId> {
        liveness_thread::settled().forget();
        let slot = self.reserve(None)?;
        self.claim_entry(slot)?;
        // What is done from here on is done by somebody.
        fork::become_owner(slot, false);
        let mut local = self.lock_local();
        let mut lost = Vec::new();
        for (block, (generation, _)) in &local.open {
            if self.add_checked_hold(*block, *generation, slot).is_err() {
                lost.push(*block);
            }
        }
        make_void(&mut local, &lost);
        fork::become_owner(slot, local.void.is_empty());
        Ok(slot)
    }

    /// Enters a child that is about to be forked where this process is; where it could not be entered, and why.
    pub(crate) fn add_all_holds(&self, child: ProcId, local: &Local) -> Vec<(BlockId, Error)> {
        let holds = local.open.keys();
        holds
            .filter_map(|block| Some((*block, self.add_hold(*block, child).err()?)))
            .collect()
    }

    /// In the child that was entered everywhere but there.
    pub(crate) fn begin_as_child(&self, slot: ProcId, lost: &[BlockId]) {
        let mut local = self.lock_local();
        make_void(&mut local, lost);
        fork::become_owner(slot, local.void.is_empty());
    }

    /// See [`ObjectRef::check`](crate::objects::object_ref::ObjectRef::check).
    #[cold]
    pub(crate) fn check_hold(&self, block: BlockId, generation: u32) -> Result<()> {
        self.joined()?;
        let local = self.lock_local();
        if local.find_void(block, generation).is_none() {
            return Ok(());
        }
        Err(Error::NotInherited(
            match self.is_object(block, generation) {
                true => NO_ROOM,
                false => GONE,
            },
        ))
    }
}

fn make_void(local: &mut Local, lost: &[BlockId]) {
    for block in lost {
        if let Some((generation, handles)) = local.open.remove(block) {
            local.void.push(Void {
                block: *block,
                generation,
                handles,
            });
        }
    }
}
