//! The objects that this process has open, and those that it only has handles to (`process/inherit.rs`).

use std::hash::BuildHasherDefault;
use std::sync::{Mutex, MutexGuard};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::error::{Error, Result};
use crate::id_map::IdMap;
use crate::sys::thread;

const NO_ROOM: &str = "this process could not be registered as a holder, since its parent had no shared memory left; \
     free some before forking, raise the limit, or start the process with Process, which reports such a failure";
const GONE: &str = "this process came from a clone that the engine did not see, and the object was gone when it first \
     used the engine; keep it open in the parent until then, or fork with the C library's fork";

/// The objects open in this process.
pub(crate) struct Local {
    /// The ones it holds: the generation of the block, and how often the object is open.
    pub(crate) open: IdMap<BlockId, (u32, usize)>,
    /// The ones it does not hold, although handles to them were copied into it: see `process/inherit.rs`.
    pub(crate) invalid: Vec<InvalidHandles>,
}

/// An object that a process has handles to but does not hold.
pub(crate) struct InvalidHandles {
    pub(crate) block: BlockId,
    pub(crate) generation: u32,
    pub(crate) handles: usize,
}

static LOCAL: Mutex<Local> = Mutex::new(Local {
    open: IdMap::with_hasher(BuildHasherDefault::new()),
    invalid: Vec::new(),
});

pub(crate) fn lock() -> MutexGuard<'static, Local> {
    thread::lock(&LOCAL)
}

impl Local {
    /// The index of the entry for invalid handles to an object, if there are any.
    pub(crate) fn find_invalid(&self, block: BlockId, generation: u32) -> Option<usize> {
        let is_it =
            |invalid: &InvalidHandles| invalid.block == block && invalid.generation == generation;
        self.invalid.iter().position(is_it)
    }

    /// Counts down when an invalid handle is dropped; false if there is none to that object.
    fn drop_invalid(&mut self, block: BlockId, generation: u32) -> bool {
        let Some(at) = self.find_invalid(block, generation) else {
            return false;
        };
        self.invalid[at].handles -= 1;
        if self.invalid[at].handles == 0 {
            self.invalid.swap_remove(at);
        }
        true
    }

    /// Makes invalid handles valid: the object is now held, and open in this process.
    pub(crate) fn revalidate(&mut self, block: BlockId, generation: u32) {
        if let Some(at) = self.find_invalid(block, generation)
            && let Some((_, count)) = self.open.get_mut(&block)
        {
            *count += self.invalid.swap_remove(at).handles;
        }
    }
}

pub(crate) fn make_invalid(local: &mut Local, lost: &[BlockId]) {
    for block in lost {
        if let Some((generation, handles)) = local.open.remove(block) {
            local.invalid.push(InvalidHandles {
                block: *block,
                generation,
                handles,
            });
        }
    }
}

impl Arena {
    pub(crate) fn enter_local(&self, block: BlockId, generation: u32) {
        let mut local = lock();
        let entry = local.open.entry(block).or_insert((generation, 0));
        *entry = (generation, entry.1 + 1);
    }

    pub(crate) fn leave_local(&self, block: BlockId, generation: u32) {
        // Before the lock: a child that no handler gave an entry claims one here, under the same lock. A child that
        // finds no entry holds nothing.
        let Ok(me) = self.joined() else { return };
        let mut local = lock();
        let is_open = local
            .open
            .get(&block)
            .is_some_and(|open| open.0 == generation);
        if !is_open && local.drop_invalid(block, generation) {
            return;
        }
        let Some((_, count)) = local.open.get_mut(&block) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        local.open.remove(&block);
        // Still under the lock: a fork must see the object either held here or not at all.
        self.drop_hold(block, me);
        drop(local);
        self.free_if_unheld(block);
    }

    /// See [`ObjectRef::check`](crate::objects::object_ref::ObjectRef::check).
    #[cold]
    pub(crate) fn check_hold(&self, block: BlockId, generation: u32) -> Result<()> {
        self.joined()?;
        let local = lock();
        if local.find_invalid(block, generation).is_none() {
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
