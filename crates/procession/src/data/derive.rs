//! What `#[derive(Plain)]` makes use of. It is public for the code that the macro writes, and for nothing else.

use std::marker::PhantomData;

use procession_engine::InPlace;

use crate::data::plain::Plain;

/// Reads the fields of a struct one after the other.
#[derive(Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads from the bytes of the whole struct.
    pub fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    /// Reads the next field.
    pub fn read<T: Plain>(&mut self) -> T {
        let (field, behind) = self.0.split_at(T::SIZE);
        self.0 = behind;
        T::read(field)
    }

    /// After the last field.
    pub fn end(self) {
        debug_assert!(self.0.is_empty(), "the fields must fill the value");
    }
}

/// Like [`Fields`], for writing.
#[derive(Debug)]
pub struct FieldsMut<'a>(&'a mut [u8]);

impl<'a> FieldsMut<'a> {
    /// Writes to the bytes of the whole struct.
    pub fn of(bytes: &'a mut [u8]) -> FieldsMut<'a> {
        FieldsMut(bytes)
    }

    /// Writes the next field.
    pub fn write<T: Plain>(&mut self, value: &T) {
        let (field, behind) = std::mem::take(&mut self.0).split_at_mut(T::SIZE);
        self.0 = behind;
        value.write(field);
    }

    /// After the last field.
    pub fn end(self) {
        debug_assert!(self.0.is_empty(), "the fields must fill the value");
    }
}

/// A field of type `T`, for a condition of an `impl`.
#[derive(Debug)]
pub struct Field<'a, T>(PhantomData<&'a T>);

/// Holds for the fields that can be used in place as a part of `S`.
pub trait FieldInPlace<S> {}

impl<T: InPlace, S> FieldInPlace<S> for Field<'_, T> {}

/// As many bytes of padding, for a condition of an `impl`.
#[derive(Debug)]
pub struct Padding<'a, const BYTES: usize>(PhantomData<&'a ()>);

/// Holds for no padding in `S`.
#[diagnostic::on_unimplemented(
    message = "`{S}` has padding, so it cannot be used where it lies in shared memory",
    label = "some of its bytes are padding",
    note = "fill the padding with a field of type `[u8; BYTES]`, or put the fields with the largest alignment first; \
            `Padding` tells how many bytes there are"
)]
pub trait NoPadding<S> {}

impl<S> NoPadding<S> for Padding<'_, 0> {}
