//! Plain data that is used where it lies: bytes of a message as a slice of numbers.

use std::marker::PhantomData;

/// A type whose values are the bytes they consist of, so that a slice of them may lie in a message that another process
/// wrote: numbers, arrays of them, and `#[repr(C)]` structs of such fields without padding.
///
/// # Safety
/// Every pattern of `size_of::<Self>()` bytes is a value, and no byte of a value is padding. A value has no pointers and
/// nothing that changes through a shared reference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used where it lies in shared memory",
    label = "its bytes can be no value, or some are padding",
    note = "numbers, arrays of them, and `#[repr(C)]` structs of such fields that derive `procession::Plain` can",
    note = "`bool`, enums and tuples have to be read with a copy: share them in a `procession::Value` or `Array`"
)]
pub unsafe trait InPlace: Copy + 'static {}

macro_rules! numbers {
    ($($number:ty)+) => {$(
        // SAFETY: a number of that many bytes.
        unsafe impl InPlace for $number {}
    )+};
}

numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

// SAFETY: items of such a type, one directly after the other.
unsafe impl<T: InPlace, const N: usize> InPlace for [T; N] {}

/// Implements [`InPlace`] for a struct, on conditions that the compiler checks where the struct is used in place: each
/// field is `InPlace`, and there is no padding. For derive macros.
///
/// It is sound whatever it is called with. It compiles only if the struct has exactly these members, with these types.
#[doc(hidden)]
#[macro_export]
macro_rules! __in_place {
    ($name:ident { $($member:tt: $field:ty,)* }) => {
        const _: fn(&$name) = |value| {
            let $name { $($member: _),* } = *value;
            // No conversion makes another type of a value that is `InPlace`.
            $(let _: $field = value.$member;)*
        };

        // The conditions name a lifetime of their own, because the compiler checks a condition without one here
        // already, where it would be an error.
        //
        // SAFETY: every field is `InPlace`, and the fields together are as large as the struct, so none of its bytes
        // are padding. Both are conditions on traits that safe code cannot implement, and the fields are all the
        // struct has (checked above).
        #[automatically_derived]
        unsafe impl $crate::InPlace for $name
        where
            $(for<'a> $crate::in_place::Field<'a, $field>: $crate::in_place::FieldInPlace<$name>,)*
            for<'a> $crate::in_place::Padding<
                'a,
                { ::core::mem::size_of::<$name>() - (0 $(+ ::core::mem::size_of::<$field>())*) },
            >: $crate::in_place::NoPadding<$name>,
        {
        }
    };
}

/// A field of type `T`, for a condition of an `impl`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Field<'a, T>(PhantomData<&'a T>);

/// Holds for the fields that can be used in place as a part of `S`.
///
/// # Safety
/// The field's type is [`InPlace`].
#[doc(hidden)]
pub unsafe trait FieldInPlace<S> {}

// SAFETY: the condition says it.
unsafe impl<T: InPlace, S> FieldInPlace<S> for Field<'_, T> {}

/// As many bytes of padding, for a condition of an `impl`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Padding<'a, const BYTES: usize>(PhantomData<&'a ()>);

/// Holds for no padding in `S`.
///
/// # Safety
/// The number of bytes is zero.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{S}` has padding, so it cannot be used where it lies in shared memory",
    label = "some of its bytes are padding",
    note = "fill the padding with a field of type `[u8; BYTES]`, or put the fields with the largest alignment first; \
            `Padding` tells how many bytes there are"
)]
pub unsafe trait NoPadding<S> {}

// SAFETY: no bytes.
unsafe impl<S> NoPadding<S> for Padding<'_, 0> {}

/// The bytes as items.
///
/// # Panics
/// When the bytes are not a whole number of items, or not aligned for them.
#[inline]
pub fn items<T: InPlace>(bytes: &[u8]) -> &[T] {
    match count::<T>(bytes) {
        0 => &[],
        // SAFETY: as many items as there are bytes for, aligned (both checked); any bytes are values (the contract of
        // `InPlace`). They are borrowed as long as the bytes are.
        count => unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) },
    }
}

/// The bytes as items that can be changed.
///
/// # Panics
/// As [`items`].
#[inline]
pub fn items_mut<T: InPlace>(bytes: &mut [u8]) -> &mut [T] {
    match count::<T>(bytes) {
        0 => &mut [],
        // SAFETY: as in `items`; whatever is written into an item, all its bytes stay initialised, for it has no
        // padding.
        count => unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) },
    }
}

#[inline]
fn count<T: InPlace>(bytes: &[u8]) -> usize {
    const { assert!(size_of::<T>() > 0, "items in place need at least one byte") };
    if bytes.is_empty() {
        return 0;
    }
    assert!(
        bytes.len().is_multiple_of(size_of::<T>()),
        "{} bytes are no whole number of items of {}",
        bytes.len(),
        size_of::<T>()
    );
    assert!(
        bytes.as_ptr().cast::<T>().is_aligned(),
        "the bytes are not aligned to {}",
        align_of::<T>()
    );
    bytes.len() / size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are aligned, at an offset.
    #[repr(C, align(64))]
    struct Aligned([u8; 64]);

    #[test]
    fn bytes_are_read_and_written_as_items() {
        let mut bytes = Aligned([0; 64]);
        items_mut::<u32>(&mut bytes.0[..12]).copy_from_slice(&[1, u32::MAX, 3]);
        assert_eq!(items::<u32>(&bytes.0[..16]), [1, u32::MAX, 3, 0]);
        assert_eq!(items::<[u16; 2]>(&bytes.0[4..8]), [[u16::MAX; 2]]);
        assert_eq!(items::<f64>(&bytes.0[16..]), [0.0; 6]);
    }

    #[test]
    fn no_bytes_are_no_items_wherever_they_are() {
        let mut bytes = Aligned([0; 64]);
        assert!(items::<u64>(&bytes.0[3..3]).is_empty());
        assert!(items_mut::<u64>(&mut bytes.0[3..3]).is_empty());
    }

    #[test]
    #[should_panic(expected = "12 bytes are no whole number of items of 8")]
    fn a_part_of_an_item_is_none() {
        items::<u64>(&Aligned([0; 64]).0[..12]);
    }

    #[test]
    #[should_panic(expected = "the bytes are not aligned to 4")]
    fn items_are_read_where_they_are_aligned_only() {
        items::<u32>(&Aligned([0; 64]).0[1..5]);
    }
}
