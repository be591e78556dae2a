//! Open handles, which keep objects alive in this process.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::arena::Arena;
use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::owner::{Owner, ProcId};
use crate::arena::size_class::SizeClass;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::objects::handle::Handle;
use crate::objects::local;
use crate::objects::object::{Layout, too_large};
use crate::process_table::home;
use crate::process_table::identity;

/// An object in shared memory that a process has open.
pub trait Opened {
    /// Checks that this process holds the object. It does, unless it is a child of a raw `clone`, or there was no
    /// room to register it as a holder. Check before use: an object that is not held may be another one by now.
    ///
    /// # Errors
    /// [`Error::NotInherited`]; [`Error::TableFull`] when such a child finds no free entry.
    fn check(&self) -> Result<()>;
}

/// Implements [`Opened`] for a type with one handle.
macro_rules! opened {
    ($type:ty, $($field:ident).+) => {
        impl crate::objects::object_ref::Opened for $type {
            #[inline]
            fn check(&self) -> crate::error::Result<()> {
                self.$($field).+.check()
            }
        }
    };
}
pub(crate) use opened;

/// Keeps an object of any kind alive in this process.
pub struct ObjectRef {
    arena: &'static Arena,
    block: BlockId,
    generation: u32,
}

impl ObjectRef {
    /// Holds the object that a handle names.
    ///
    /// # Errors
    /// When the handle belongs to another process tree, or is stale.
    pub fn of(handle: &Handle) -> Result<ObjectRef> {
        let arena = home()?;
        if handle.arena() != arena.id() {
            return Err(Error::ForeignHandle);
        }
        let block = BlockId::new(handle.block()).ok_or(Error::BadHandle)?;
        arena.cell(block)?;
        ObjectRef::checked(arena, block, handle.generation())
    }

    /// Holds the object that is in the block now, if there is one.
    pub(crate) fn in_block(arena: &'static Arena, block: BlockId) -> Option<ObjectRef> {
        let generation = arena.cell(block).ok()?.generation.load(Ordering::SeqCst);
        ObjectRef::checked(arena, block, generation).ok()
    }

    pub(crate) fn checked(
        arena: &'static Arena,
        block: BlockId,
        generation: u32,
    ) -> Result<ObjectRef> {
        if !arena.is_object(block, generation) {
            return Err(Error::StaleHandle);
        }
        // From here on dropping the reference is right, whatever happens next.
        let held = ObjectRef::registered(arena, block, generation);
        arena.add_checked_hold(block, generation, arena.joined()?)?;
        if !identity::holds_all() {
            local::lock().revalidate(block, generation);
        }
        Ok(held)
    }

    fn registered(arena: &'static Arena, block: BlockId, generation: u32) -> ObjectRef {
        arena.enter_local(block, generation);
        ObjectRef {
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
        match identity::holds_all() {
            true => Ok(()),
            false => self.arena.check_hold(self.block, self.generation),
        }
    }
}

impl std::fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectRef#{:x}", self.block.0)
    }
}

impl Drop for ObjectRef {
    fn drop(&mut self) {
        self.arena.leave_local(self.block, self.generation);
    }
}

/// An open handle: an object of a known kind, kept alive.
pub(crate) struct TypedRef<T: Layout> {
    held: ObjectRef,
    object: NonNull<T>,
    _type: PhantomData<&'static T>,
}

// SAFETY: the object is shared memory of atomics (the contract of `Layout`); the handle itself is
// immutable, and the registry behind opening and dropping has a lock.
unsafe impl<T: Layout> Send for TypedRef<T> {}
// SAFETY: as above.
unsafe impl<T: Layout> Sync for TypedRef<T> {}

impl<T: Layout> TypedRef<T> {
    /// Makes an object of `size_of::<T>() + extra` zero bytes. `fill` prepares it before others see it.
    pub(crate) fn make(extra: u64, fill: impl FnOnce(&T)) -> Result<TypedRef<T>> {
        let arena = home()?;
        let me = arena.me();
        let size = (size_of::<T>() as u64).checked_add(extra);
        let (size, class) = size
            .and_then(|size| Some((size, SizeClass::of_object(size)?)))
            .ok_or_else(|| too_large(extra))?;
        let block = arena.alloc_class(class, size)?;
        let made = (|| {
            let payload = arena.payload(block)?;
            // SAFETY: the block was just taken and holds at least `size` bytes; nobody else can see it.
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
        let floor = arena.root().object_generations.load(Ordering::Relaxed);
        let former = cell.generation.load(Ordering::Relaxed).max(floor);
        let generation = former.wrapping_add(1);
        cell.generation.store(generation, Ordering::Relaxed);
        cell.kind.store(T::KIND as u32, Ordering::Release);
        failpoint::hit("object.filled");
        // Registered before it is shared: a fork in between then passes it on like any other.
        let held = ObjectRef::registered(arena, block, generation);
        cell.owner.pass(Owner::Process(me), Owner::Shared);
        failpoint::hit("object.shared");
        if T::KIND.is_channel() {
            arena.channel_made(block);
        }
        Ok(TypedRef {
            held,
            object,
            _type: PhantomData,
        })
    }

    /// Opens the object that a handle names.
    pub(crate) fn open(handle: &Handle) -> Result<TypedRef<T>> {
        let held = ObjectRef::of(handle)?;
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
        Ok(TypedRef {
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

    /// The liveness words of the other holders, each with its value while that process lives; `None` when not all of
    /// them can be watched this way.
    pub(crate) fn watch_others(&self) -> Option<Vec<(&'static AtomicU32, u32)>> {
        self.held.arena.watch_others(self.head())
    }

    /// Returns what `look` finds at one of the living processes that hold the object, this one among them. If it
    /// finds nothing, it has seen all of them, also those that were forked meanwhile by one that is gone by now.
    pub(crate) fn find_holder<F>(
        &self,
        look: impl FnMut(ProcId) -> Option<F>,
    ) -> Result<Option<F>> {
        self.held.arena.find_holder(self.head(), look)
    }

    pub(crate) fn block(&self) -> BlockId {
        self.held.block
    }

    /// The bytes behind the typed part.
    pub(crate) fn tail(&self) -> NonNull<u8> {
        // SAFETY: the block holds `size_of::<T>()` bytes, and behind them the extra bytes that `make` was asked for.
        unsafe { self.object.add(1).cast() }
    }
}

impl<T: Layout> std::ops::Deref for TypedRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the block is an object of this layout for as long as this process holds it, and
        // segments are never unmapped.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Layout> std::fmt::Debug for TypedRef<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{:x}", T::KIND.name(), self.held.block.0)
    }
}
