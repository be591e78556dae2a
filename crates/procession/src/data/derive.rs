//! What `#[derive(Plain)]` makes use of. It is public for the code that the macro writes, and for nothing else.
//!
//! Programs that forbid `unsafe` derive it, too:
//! ```
//! #![forbid(unsafe_code)]
//! #[derive(Clone, Copy, procession::Plain)]
//! #[repr(C)]
//! struct Point { x: f64, y: f64 }
//!
//! fn check<T: procession::InPlace>() {}
//! check::<Point>();
//! ```
//! Safe code cannot make another type `InPlace`, neither by the conditions:
//! ```compile_fail,E0200
//! use procession::Plain;
//! use procession_engine::in_place::{Field, FieldInPlace};
//!
//! #[derive(Clone, Copy, Plain)]
//! struct Bit(bool);
//!
//! #[derive(Clone, Copy, Plain)]
//! #[repr(C)]
//! struct Wrong(Bit);
//!
//! impl FieldInPlace<Wrong> for Field<'_, Bit> {}
//! ```
//! ```compile_fail,E0200
//! use procession::Plain;
//! use procession_engine::in_place::{NoPadding, Padding};
//!
//! #[derive(Clone, Copy, Plain)]
//! #[repr(C)]
//! struct Wrong(u8, u16);
//!
//! impl NoPadding<Wrong> for Padding<'_, 1> {}
//! ```
//! nor by another crate in the place of this one:
//! ```compile_fail,E0277
//! mod other {
//!     pub use procession::{InPlace, Plain};
//!     pub mod __derive {
//!         pub use procession::__derive::{Fields, FieldsMut, in_place};
//!         pub struct Field<'a, T>(&'a T);
//!         pub trait FieldInPlace<S> {}
//!         impl<T, S> FieldInPlace<S> for Field<'_, T> {}
//!         pub struct Padding<'a, const BYTES: usize>(&'a ());
//!         pub trait NoPadding<S> {}
//!         impl<S, const BYTES: usize> NoPadding<S> for Padding<'_, BYTES> {}
//!     }
//! }
//!
//! #[derive(Clone, Copy, other::Plain)]
//! #[plain(crate = crate::other)]
//! #[repr(C)]
//! struct Wrong(bool);
//!
//! fn check<T: procession::InPlace>() {}
//! fn main() {
//!     check::<Wrong>();
//! }
//! ```
//! nor by the macro, with fields that the struct does not have:
//! ```compile_fail,E0308
//! #[derive(Clone, Copy)]
//! struct Wrong(bool);
//!
//! procession::__derive::in_place! { Wrong { 0: u8, } }
//! ```
//! ```compile_fail
//! #[derive(Clone, Copy)]
//! struct Wrong { number: u16, bit: bool }
//!
//! procession::__derive::in_place! { Wrong { number: u16, } }
//! ```
//! ```compile_fail,E0133
//! #[derive(Clone, Copy)]
//! union Wrong { number: u8, bit: bool }
//!
//! procession::__derive::in_place! { Wrong { number: u8, } }
//! ```

pub use procession_engine::__in_place as in_place;

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
