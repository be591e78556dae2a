//! Open handles: what keeps an object alive in this process.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::block::BlockId;
use super::class::Class;
use super::handle::Handle;
use super::object::{Kind, Layout, too_large};
use super::owner::{Owner, OwnerId};
use super::{Arena, fork, home};
use crate::error::{Error, Result};
use crate::kill;

/// Something in shared memory that a process has open.
pub trait Opened {
    /// Whether this process holds it, as it does unless it is a child that was forked behind the engine's back, or
    /// one for whose name there was no room. To be asked before it is used: what a process does not hold may be
    /// another object by now.
    ///
    /// # Errors
    /// [`Error::NotInherited`]; [`Error::TableFull`] when such a child finds no seat.
    fn check(&self) -> Result<()>;
}

/// What is opened by one handle.
macro_rules! opened {
    ($type:ty, $($field:ident).+) => {
        impl crate::arena::open::Opened for $type {
            #[inline]
            fn check(&self) -> crate::error::Result<()> {
                self.$($field).+.check()
            }
        }
    };
}
pub(crate) use opened;

/// Keeps an object, whatever its kind, alive in this process.
pub struct Held {
    arena: &'static Arena,
    block: BlockId,
    generation: u32,
}

impl Held {
    /// Holds the object a handle names.
    ///
    /// # Errors
    /// When the handle is another tree's or stale.
    pub fn of(handle: &Handle) -> Result<Held> {
        let arena = home()?;
        if handle.arena() != arena.id() {
            return Err(Error::ForeignHandle);
        }
        let block = BlockId::new(handle.block()).ok_or(Error::BadHandle)?;
        arena.cell(block)?;
        Held::checked(arena, block, handle.generation())
    }

    /// Holds the object that is in the block now, if one is.
    pub(crate) fn in_block(arena: &'static Arena, block: BlockId) -> Option<Held> {
        let generation = arena.cell(block).ok()?.generation.load(Ordering::SeqCst);
        Held::checked(arena, block, generation).ok()
    }

    pub(super) fn checked(arena: &'static Arena, block: BlockId, generation: u32) -> Result<Held> {
        if !arena.is_object(block, generation) {
            return Err(Error::StaleHandle);
        }
        // From here on dropping it is right, whatever comes of it.
        let held = Held::entered(arena, block, generation);
        arena.add_checked_hold(block, generation, arena.seated()?)?;
        if !fork::holds_all() {
            arena.lock_local().mend(block, generation);
        }
        Ok(held)
    }

    fn entered(arena: &'static Arena, block: BlockId, generation: u32) -> Held {
        arena.enter_local(block, generation);
        Held {
            arena,
            block,
            generation,
        }
    }

    pub(crate) fn block(&self) -> BlockId {
        self.block
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// See [`Opened::check`].
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match fork::holds_all() {
            true => Ok(()),
            false => self.arena.check_hold(self.block, self.generation),
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held#{:x}", self.block.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.arena.leave_local(self.block, self.generation);
    }
}

/// An open handle: an object of a known kind, kept alive.
pub(crate) struct Shared<T: Layout> {
    held: Held,
    object: NonNull<T>,
    _type: PhantomData<&'static T>,
}

// SAFETY: the object is shared memory of atomics (the contract of `Layout`); the handle itself is
// immutable, and the registry behind opening and dropping has a lock.
unsafe impl<T: Layout> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Layout> Sync for Shared<T> {}

impl<T: Layout> Shared<T> {
    /// Makes an object of `size_of::<T>() + extra` zero bytes, prepared by `fill` before anybody sees it.
    pub(crate) fn make(extra: u64, fill: impl FnOnce(&T)) -> Result<Shared<T>> {
        let arena = home()?;
        let me = arena.me();
        let size = (size_of::<T>() as u64).checked_add(extra);
        let (size, class) = size
            .and_then(|size| Some((size, Class::of_object(size)?)))
            .ok_or_else(|| too_large(extra))?;
        let block = arena.alloc_class(class, size)?;
        let made = (|| {
            let payload = arena.payload(block)?;
            // SAFETY: the block was just taken and holds at least `size` bytes; nobody else looks.
            unsafe { payload.write_bytes(0, size as usize) };
            Ok((arena.cell(block)?, payload.cast::<T>()))
        })();
        let (cell, object) = match made {
            Ok(made) => made,
            Err(error) => {
                arena.free(block, arena.mine());
                return Err(error);
            }
        };
        // SAFETY: zeroed, large enough, aligned (payloads are 64-aligned), and `T` is a `Layout`.
        let contents = unsafe { object.as_ref() };
        contents.head().begin(me);
        fill(contents);
        let floor = arena.root().generations.load(Ordering::Relaxed);
        let former = cell.generation.load(Ordering::Relaxed).max(floor);
        let generation = former.wrapping_add(1);
        cell.generation.store(generation, Ordering::Relaxed);
        cell.kind.store(T::KIND as u32, Ordering::Release);
        kill::point("object.filled");
        // Entered before it is shared: a fork in between hands it on like any other.
        let held = Held::entered(arena, block, generation);
        cell.owner.pass(Owner::Process(me), Owner::Shared);
        kill::point("object.shared");
        if T::KIND.is_channel() {
            arena.channel_made(block);
        }
        Ok(Shared {
            held,
            object,
            _type: PhantomData,
        })
    }

    /// Opens the object a handle names.
    pub(crate) fn open(handle: &Handle) -> Result<Shared<T>> {
        let held = Held::of(handle)?;
        let cell = held.arena.cell(held.block)?;
        let kind = Kind::from_u32(cell.kind.load(Ordering::Acquire));
        if kind != T::KIND {
            return Err(Error::WrongKind {
                wanted: T::KIND.name(),
                found: kind.name(),
            });
        }
        if held.arena.capacity(held.block) < size_of::<T>() as u64 {
            return Err(Error::Damaged);
        }
        let object = held.arena.payload(held.block)?.cast::<T>();
        Ok(Shared {
            held,
            object,
            _type: PhantomData,
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::new(
            self.held.arena.id(),
            self.held.block.0,
            self.held.generation,
            T::KIND as u32,
        )
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.held.arena
    }

    pub(crate) fn generation(&self) -> u32 {
        self.held.generation
    }

    /// See [`Opened::check`].
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        self.held.check()
    }

    /// Whether other processes held the object, and none of them is left.
    pub(crate) fn others_are_gone(&self) -> bool {
        self.held.arena.others_are_gone(self.head())
    }

    /// The words on which the other processes that hold the object are watched, each with what stands
    /// there while its process lives; `None` when not all of them can be watched so.
    pub(crate) fn watch_others(&self) -> Option<Vec<(&'static AtomicU32, u32)>> {
        self.held.arena.watch_others(self.head())
    }

    /// What `look` finds at one of the living processes that hold the object, this one among them. Where it finds
    /// nothing it has seen all of them, also those that were forked meanwhile by one that is gone by now.
    pub(crate) fn find_holder<F>(
        &self,
        look: impl FnMut(OwnerId) -> Option<F>,
    ) -> Result<Option<F>> {
        self.held.arena.find_holder(self.head(), look)
    }

    pub(crate) fn block(&self) -> BlockId {
        self.held.block
    }

    /// The bytes behind the typed part.
    pub(crate) fn tail(&self) -> NonNull<u8> {
        // SAFETY: the block holds `size_of::<T>()` bytes and what `make` was asked for behind them.
        unsafe { self.object.add(1).cast() }
    }
}

impl<T: Layout> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the block is an object of this layout for as long as this process holds it, and
        // segments are never unmapped.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Layout> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{:x}", T::KIND.name(), self.held.block.0)
    }
}
