//! Plain old data: types that may lie in memory that other processes write.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};

pub use procession_derive::Plain;
use procession_engine::value::SharedBytes;

use crate::data::derive::{Fields, FieldsMut};

/// A type of fixed size without pointers, for which every byte pattern is a value: numbers, `bool`, arrays and
/// tuples of such types, and structs and enums that derive `Plain`.
///
/// A [`Value`](crate::Value) or [`Array`](crate::Array) copies its values field by field, so layout, padding and
/// endianness do not matter. Other processes may write any bytes; reading them always gives a value. A
/// [`Loan`](crate::Loan) is not copied: its items are [`InPlace`](crate::InPlace), which is a part of the plain types.
/// Integers and `bool` can also change [without a lock](crate::AtomicPrimitive).
///
/// # Deriving it
///
/// The derive macro accepts structs of plain fields, which may be private, and enums without fields. Both must be
/// `Copy`. Bytes that are no variant of an enum (only stray writes leave such) read as its `#[default]` variant. A
/// `#[repr(C)]` or `#[repr(transparent)]` struct is also [`InPlace`](crate::InPlace) if its fields are and there is no
/// padding between them.
///
/// Types with generics, unions, and enums whose variants have fields are refused. `#[plain(crate = path)]` names the
/// crate `procession` if a program knows it by another name.
///
/// # Examples
/// ```
/// use procession::{Array, Plain, Process};
///
/// #[derive(Debug, Clone, Copy, PartialEq, Plain)]
/// pub struct Point {
///     pub x: f64,
///     pub y: f64,
/// }
///
/// #[derive(Debug, Clone, Copy, PartialEq, Default, Plain)]
/// pub enum Light {
///     #[default]
///     Red,
///     Green,
/// }
///
/// #[derive(Debug, Clone, Copy, PartialEq, Plain)]
/// pub struct Crossing(pub Point, pub [Light; 4]);
///
/// fn open(crossings: Array<Crossing>) {
///     crossings.update(0, |Crossing(at, _)| Crossing(at, [Light::Green; 4])).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let centre = Point { x: 0.5, y: -1.0 };
///     let crossings = Array::new([Crossing(centre, [Light::Red; 4])])?;
///     Process::spawn(open, crossings.clone())?.join()?;
///     assert_eq!(crossings.get(0)?, Crossing(centre, [Light::Green; 4]));
///     Ok(())
/// }
/// ```
///
/// What leads to memory of one process is refused:
/// ```compile_fail
/// let greeting = procession::Value::new("hello"); // its bytes are in this process alone
/// ```
/// ```compile_fail
/// let name = procession::Value::new(String::new());
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// struct Named { id: u64, name: &'static str }
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// struct Node { next: *const u8 }
/// ```
/// So is what some bytes are no value of:
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)]
/// struct Maybe { id: Option<u64> } // not any byte says which
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, procession::Plain)] // no Default
/// enum Light { Red, Green }
/// ```
/// ```compile_fail
/// #[derive(Clone, Copy, Default, procession::Plain)]
/// enum Shape { #[default] Point, Circle(f64) }
/// ```
/// And what is not `Copy`:
/// ```compile_fail
/// #[derive(Clone, procession::Plain)]
/// struct Point { x: f64 }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot lie in memory that other processes write",
    label = "not plain old data",
    note = "numbers, `bool`, arrays and tuples of these, and types that derive `procession::Plain` can",
    note = "a `String`, a `Vec`, a reference or a pointer leads to memory of one process: share such a value in \
            a `procession::Mutex`, or send it through a `procession::Queue`"
)]
pub trait Plain: Copy + 'static {
    /// The size of a value in bytes.
    const SIZE: usize;

    /// Writes the value into exactly [`SIZE`](Plain::SIZE) bytes.
    fn write(&self, bytes: &mut [u8]);

    /// Reads a value from exactly [`SIZE`](Plain::SIZE) bytes. Every byte pattern is valid.
    fn read(bytes: &[u8]) -> Self;

    /// Whether [`load`](Plain::load) and [`store`](Plain::store) are single instructions.
    ///
    /// Values that may change without their lock are accessed only by such instructions, under the lock as
    /// well.
    #[doc(hidden)]
    const IN_ONE_STEP: bool = false;

    #[doc(hidden)]
    fn load(memory: &SharedBytes, at: usize) -> Self {
        with_buffer::<Self, _>(|buffer| {
            memory.read_at(at, buffer);
            Self::read(buffer)
        })
    }

    #[doc(hidden)]
    fn store(self, memory: &SharedBytes, at: usize) {
        with_buffer::<Self, _>(|buffer| {
            self.write(buffer);
            memory.write_at(at, buffer);
        });
    }

    /// Copies adjacent values.
    #[doc(hidden)]
    fn load_all(memory: &SharedBytes, at: usize, out: &mut [Self]) {
        match CopyStrategy::of::<Self>() {
            CopyStrategy::Steps => {
                let offsets = (at..).step_by(Self::SIZE);
                for (item, at) in out.iter_mut().zip(offsets) {
                    *item = Self::load(memory, at);
                }
            }
            CopyStrategy::Bytes => {
                out_of_bytes(out, |from, bytes| memory.read_bytes(at + from, bytes))
            }
            CopyStrategy::Copies => {
                out_of_bytes(out, |from, bytes| memory.read_at(at + from, bytes))
            }
        }
    }

    /// Stores adjacent values.
    #[doc(hidden)]
    fn store_all(items: &[Self], memory: &SharedBytes, at: usize) {
        match CopyStrategy::of::<Self>() {
            CopyStrategy::Steps => {
                let offsets = (at..).step_by(Self::SIZE);
                for (item, at) in items.iter().zip(offsets) {
                    item.store(memory, at);
                }
            }
            CopyStrategy::Bytes => {
                into_bytes(items, |from, bytes| memory.write_bytes(at + from, bytes))
            }
            CopyStrategy::Copies => {
                into_bytes(items, |from, bytes| memory.write_at(at + from, bytes))
            }
        }
    }
}

/// How several values are copied.
enum CopyStrategy {
    /// Each by one atomic instruction, because it may change without the lock.
    Steps,
    /// The same for single bytes, for which the processor has an instruction.
    Bytes,
    /// As plain memory that does not change meanwhile.
    Copies,
}

impl CopyStrategy {
    fn of<T: Plain>() -> CopyStrategy {
        match (T::IN_ONE_STEP, T::SIZE) {
            (true, 1) => CopyStrategy::Bytes,
            (true, _) => CopyStrategy::Steps,
            (false, _) => CopyStrategy::Copies,
        }
    }
}

/// Fills `out` from the bytes that `read` copies; its first argument is the offset in bytes.
fn out_of_bytes<T: Plain>(out: &mut [T], read: impl Fn(usize, &mut [u8])) {
    let chunk_size = chunk_len::<T>(out.len());
    let mut buffer = vec![0; chunk_size * T::SIZE];
    for (number, items) in out.chunks_mut(chunk_size).enumerate() {
        let bytes = &mut buffer[..items.len() * T::SIZE];
        read(number * chunk_size * T::SIZE, bytes);
        for (index, item) in items.iter_mut().enumerate() {
            *item = T::read(&bytes[index * T::SIZE..][..T::SIZE]);
        }
    }
}

/// Passes the bytes of `items` to `write`; its first argument is the offset in bytes.
fn into_bytes<T: Plain>(items: &[T], write: impl Fn(usize, &[u8])) {
    let chunk_size = chunk_len::<T>(items.len());
    let mut buffer = vec![0; chunk_size * T::SIZE];
    for (number, items) in items.chunks(chunk_size).enumerate() {
        let bytes = &mut buffer[..items.len() * T::SIZE];
        for (index, item) in items.iter().enumerate() {
            item.write(&mut bytes[index * T::SIZE..][..T::SIZE]);
        }
        write(number * chunk_size * T::SIZE, bytes);
    }
}

/// How many bytes are copied at a time. They fit into the processor's cache.
const CHUNK_BYTES: usize = 4096;

fn chunk_len<T: Plain>(count: usize) -> usize {
    (CHUNK_BYTES / T::SIZE.max(1)).min(count).max(1)
}

/// Provides a buffer for one value, on the stack if it fits.
fn with_buffer<T: Plain, R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut small = [0; 64];
    match small.get_mut(..T::SIZE) {
        Some(buffer) => work(buffer),
        None => work(&mut vec![0; T::SIZE]),
    }
}

macro_rules! number {
    ($number:ty) => {
        const SIZE: usize = size_of::<$number>();

        fn write(&self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.to_ne_bytes());
        }

        fn read(bytes: &[u8]) -> $number {
            <$number>::from_ne_bytes(bytes.try_into().expect("as many bytes as the number has"))
        }
    };
}

macro_rules! numbers {
    ($($number:ty)+) => {$(
        impl Plain for $number {
            number!($number);
        }
    )+};
}

numbers!(u128 i128 f32 f64);

macro_rules! numbers_in_one_step {
    ($($number:ty: $atomic:ty,)+) => {$(
        impl Plain for $number {
            number!($number);

            const IN_ONE_STEP: bool = true;

            fn load(memory: &SharedBytes, at: usize) -> $number {
                memory.atomic::<$atomic>(at).load(Acquire)
            }

            fn store(self, memory: &SharedBytes, at: usize) {
                memory.atomic::<$atomic>(at).store(self, Release);
            }
        }
    )+};
}

numbers_in_one_step! {
    u8: AtomicU8,
    u16: AtomicU16,
    u32: AtomicU32,
    u64: AtomicU64,
    usize: AtomicUsize,
    i8: AtomicI8,
    i16: AtomicI16,
    i32: AtomicI32,
    i64: AtomicI64,
    isize: AtomicIsize,
}

impl Plain for bool {
    const SIZE: usize = 1;

    fn write(&self, bytes: &mut [u8]) {
        bytes[0] = u8::from(*self);
    }

    fn read(bytes: &[u8]) -> bool {
        bytes[0] != 0
    }

    const IN_ONE_STEP: bool = true;

    fn load(memory: &SharedBytes, at: usize) -> bool {
        u8::load(memory, at) != 0
    }

    fn store(self, memory: &SharedBytes, at: usize) {
        u8::from(self).store(memory, at);
    }
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const SIZE: usize = T::SIZE * N;

    fn write(&self, bytes: &mut [u8]) {
        for (index, item) in self.iter().enumerate() {
            item.write(&mut bytes[index * T::SIZE..][..T::SIZE]);
        }
    }

    fn read(bytes: &[u8]) -> [T; N] {
        std::array::from_fn(|index| T::read(&bytes[index * T::SIZE..][..T::SIZE]))
    }
}

macro_rules! tuples {
    ($(($($item:ident $name:ident),*))+) => {$(
        impl<$($item: Plain),*> Plain for ($($item,)*) {
            const SIZE: usize = 0 $(+ $item::SIZE)*;

            fn write(&self, bytes: &mut [u8]) {
                let ($($name,)*) = self;
                let mut fields = FieldsMut::of(bytes);
                $(fields.write($name);)*
                fields.end();
            }

            fn read(bytes: &[u8]) -> Self {
                let mut fields = Fields::of(bytes);
                $(let $name = fields.read();)*
                fields.end();
                ($($name,)*)
            }
        }
    )+};
}

tuples! {
    (A a)
    (A a, B b)
    (A a, B b, C c)
    (A a, B b, C c, D d)
    (A a, B b, C c, D d, E e)
    (A a, B b, C c, D d, E e, F f)
}

impl Plain for () {
    const SIZE: usize = 0;

    fn write(&self, _: &mut [u8]) {}

    fn read(_: &[u8]) {}
}
