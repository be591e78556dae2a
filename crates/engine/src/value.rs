//! Shared memory for values and arrays.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering,
};

use crate::arena::kind::Kind;
use crate::error::{Error, Result};
use crate::objects::handle::Handle;
use crate::objects::object::{Layout, ObjectHead};
use crate::objects::object_ref::{TypedRef, opened};

#[repr(C)]
pub(crate) struct ValueObject {
    head: ObjectHead,
    length: AtomicU64,
    _pad: [AtomicU64; 7],
}

// SAFETY: repr(C), head first, atomics only.
unsafe impl Layout for ValueObject {
    const KIND: Kind = Kind::Value;

    fn head(&self) -> &ObjectHead {
        &self.head
    }
}

/// A range of shared bytes: zeroed when made, and aligned to 64 bytes in every process.
#[derive(Debug)]
pub struct SharedBytes {
    shared: TypedRef<ValueObject>,
    length: usize,
}

opened!(SharedBytes, shared);

impl SharedBytes {
    /// Creates `length` zero bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(length: usize) -> Result<SharedBytes> {
        let fill = |object: &ValueObject| object.length.store(length as u64, Ordering::Relaxed);
        Ok(SharedBytes {
            shared: TypedRef::make(length as u64, fill)?,
            length,
        })
    }

    /// Opens the bytes that a handle names.
    ///
    /// # Errors
    /// When the handle is from another tree, is stale, or names something else.
    pub fn open(handle: &Handle) -> Result<SharedBytes> {
        let shared = TypedRef::<ValueObject>::open(handle)?;
        let length = shared.length.load(Ordering::Relaxed);
        let room = shared.arena().capacity(shared.block());
        if length > room.saturating_sub(size_of::<ValueObject>() as u64) {
            return Err(Error::BadHandle);
        }
        Ok(SharedBytes {
            shared,
            length: length as usize,
        })
    }

    /// The name by which other processes open the bytes.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The address of the bytes in this process; valid as long as `self`.
    pub fn as_ptr(&self) -> *mut u8 {
        self.shared.tail().as_ptr()
    }

    fn check(&self, offset: usize, length: usize) {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "{length} bytes at {offset} do not lie within {} bytes",
            self.length
        );
    }

    /// Copies bytes out. Others may write meanwhile: use a lock when that matters.
    ///
    /// # Panics
    /// When the range does not lie within the bytes.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) {
        self.check(offset, out.len());
        // SAFETY: within the object (checked); `out` is not shared memory, so they do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(self.as_ptr().add(offset), out.as_mut_ptr(), out.len());
        }
    }

    /// Whether these bytes are at `offset`. Others may write meanwhile: use a lock.
    ///
    /// # Panics
    /// When the range does not lie within the bytes.
    pub(crate) fn holds_at(&self, offset: usize, bytes: &[u8]) -> bool {
        self.check(offset, bytes.len());
        // SAFETY: within the object (checked), and read byte by byte through a raw pointer.
        (0..bytes.len()).all(|at| unsafe { self.as_ptr().add(offset + at).read() } == bytes[at])
    }

    /// Copies bytes in. Others may read meanwhile: use a lock when that matters.
    ///
    /// # Panics
    /// When the range does not lie within the bytes.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: within the object (checked); a slice of ours does not overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_ptr().add(offset), bytes.len());
        }
    }

    /// Copies bytes out. Others may change them meanwhile as [atomics](SharedBytes::atomic) of one byte.
    ///
    /// # Panics
    /// When the range does not lie within the bytes.
    pub fn read_bytes(&self, offset: usize, out: &mut [u8]) {
        self.check(offset, out.len());
        // SAFETY: within the object (checked); `out` is not shared memory, so they do not overlap.
        unsafe { copy_out(self.as_ptr().add(offset), out) }
    }

    /// Copies bytes in. Others may read and change them meanwhile as [atomics](SharedBytes::atomic) of one byte.
    ///
    /// # Panics
    /// When the range does not lie within the bytes.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: within the object (checked); a slice of ours does not overlap it.
        unsafe { copy_in(bytes, self.as_ptr().add(offset)) }
    }

    /// Four bytes as an atomic.
    ///
    /// # Panics
    /// As [`SharedBytes::atomic`].
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        self.atomic(offset)
    }

    /// Eight bytes as an atomic.
    ///
    /// # Panics
    /// As [`SharedBytes::atomic`].
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        self.atomic(offset)
    }

    /// The bytes at `offset` as an atomic. While bytes are used like this, they must not be used in any other way, nor
    /// as an atomic of another size.
    ///
    /// # Panics
    /// When `offset` is not a multiple of the atomic's alignment, or the atomic does not lie within the bytes.
    #[inline]
    pub fn atomic<A: Atomic>(&self, offset: usize) -> &A {
        self.check(offset, size_of::<A>());
        assert!(
            offset.is_multiple_of(align_of::<A>()),
            "offset {offset} is not a multiple of {}",
            align_of::<A>()
        );
        // SAFETY: within the object, aligned (the start is 64-aligned), alive as long as `self`; any bytes are a valid
        // `A` and others may change it, as the trait says.
        unsafe { &*self.as_ptr().add(offset).cast::<A>() }
    }
}

/// Copies byte by byte, each byte as an atomic.
///
/// # Safety
/// That many bytes must be mapped at `from`, must not overlap with `out`, and others may change them only as atomics of
/// one byte.
unsafe fn copy_out(from: *mut u8, out: &mut [u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's promise.
    unsafe {
        move_bytes(from, out.as_mut_ptr(), out.len());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    for (at, byte) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *byte = unsafe { AtomicU8::from_ptr(from.add(at)) }.load(Ordering::Relaxed);
    }
}

/// Copies byte by byte, each byte as an atomic.
///
/// # Safety
/// That many bytes must be mapped at `to`, must not overlap with `bytes`, and others may use them only as atomics of
/// one byte.
unsafe fn copy_in(bytes: &[u8], to: *mut u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's promise.
    unsafe {
        move_bytes(bytes.as_ptr(), to, bytes.len());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    for (at, byte) in bytes.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { AtomicU8::from_ptr(to.add(at)) }.store(*byte, Ordering::Relaxed);
    }
}

/// Moves bytes without tearing any. A compiler would turn a loop over atomic bytes into one step for each byte.
///
/// # Safety
/// Both ranges must be mapped and must not overlap. Others may use one of them, but only as atomics of one byte.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn move_bytes(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") count => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// A number that the processor changes in one step.
///
/// # Safety
/// Any bytes must be a valid value, and it may be changed through a shared reference, by other processes as well.
pub unsafe trait Atomic: Sync {}

macro_rules! atomics {
    ($($atomic:ty)+) => {$(
        // SAFETY: a number of that many bytes, changed only by instructions of the processor.
        unsafe impl Atomic for $atomic {}
        const _: () = assert!(align_of::<$atomic>() <= 64);
    )+};
}

atomics!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_in_place() {
        let bytes = SharedBytes::new(16).unwrap();
        bytes.write_at(4, b"value");
        assert!(bytes.holds_at(4, b"value"));
        assert!(bytes.holds_at(16, b""));
        assert!(!bytes.holds_at(4, b"valve"));
    }
}
