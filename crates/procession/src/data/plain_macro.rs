//! Makes users' types plain old data.

use crate::data::plain::Plain;

/// Declares structs of plain fields, and enums without fields, that implement [`Plain`], for use in a
/// [`Value`](crate::Value) or [`Array`](crate::Array).
///
/// Write the items as usual; they must be `Copy`. Fields are stored one after the other without padding, and
/// may be private. Bytes that are no variant of an enum (only stray writes leave such) read as its `#[default]`
/// variant. A field that is not plain does not compile:
///
/// ```compile_fail
/// procession::plain! {
///     #[derive(Clone, Copy)]
///     struct Named { id: u64, name: &'static str }
/// }
/// ```
/// ```compile_fail
/// procession::plain! {
///     #[derive(Clone, Copy)]
///     struct Maybe { id: Option<u64> } // not any byte says which
/// }
/// ```
/// ```compile_fail
/// procession::plain! {
///     #[derive(Clone, Copy)]
///     struct Node { next: *const u8 }
/// }
/// ```
/// ```compile_fail
/// procession::plain! {
///     #[derive(Clone, Copy)] // no Default
///     enum Light { Red, Green }
/// }
/// ```
/// ```compile_fail
/// procession::plain! {
///     #[derive(Clone, Copy, Default)]
///     enum Shape { #[default] Point, Circle(f64) }
/// }
/// ```
///
/// # Examples
/// ```
/// use procession::{Array, Process, plain};
///
/// plain! {
///     #[derive(Debug, Clone, Copy, PartialEq)]
///     pub struct Point {
///         pub x: f64,
///         pub y: f64,
///     }
///
///     #[derive(Debug, Clone, Copy, PartialEq, Default)]
///     pub enum Light {
///         #[default]
///         Red,
///         Green,
///     }
///
///     #[derive(Debug, Clone, Copy, PartialEq)]
///     pub struct Crossing(pub Point, pub [Light; 4]);
/// }
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
#[macro_export]
macro_rules! plain {
    () => {};

    (@write $value:expr, $fields:ident, $name:ident ($($bound:ident)*) ()) => {
        let $name($($bound),*) = $value;
        $($fields.write($bound);)*
    };
    // Each round binds one more field. Macro hygiene makes `field` a different name in every round.
    (@write $value:expr, $fields:ident, $name:ident ($($bound:ident)*) ($_:ty $(, $type:ty)*)) => {
        $crate::plain!(@write $value, $fields, $name ($($bound)* field) ($($type),*));
    };

    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident {
            $($(#[$of_field:meta])* $field_vis:vis $field:ident: $type:ty),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[$attribute])*
        $vis struct $name {
            $($(#[$of_field])* $field_vis $field: $type),*
        }

        impl $crate::Plain for $name {
            const SIZE: usize = 0 $(+ <$type as $crate::Plain>::SIZE)*;

            fn write(&self, bytes: &mut [u8]) {
                let mut fields = $crate::FieldsMut::of(bytes);
                $(fields.write(&self.$field);)*
                fields.end();
            }

            fn read(bytes: &[u8]) -> $name {
                let mut fields = $crate::Fields::of(bytes);
                let value = $name { $($field: fields.read()),* };
                fields.end();
                value
            }
        }

        $crate::plain! { $($rest)* }
    };

    (
        $(#[$attribute:meta])*
        $vis:vis struct $name:ident ($($(#[$of_field:meta])* $field_vis:vis $type:ty),* $(,)?);
        $($rest:tt)*
    ) => {
        $(#[$attribute])*
        $vis struct $name($($(#[$of_field])* $field_vis $type),*);

        impl $crate::Plain for $name {
            const SIZE: usize = 0 $(+ <$type as $crate::Plain>::SIZE)*;

            fn write(&self, bytes: &mut [u8]) {
                let mut fields = $crate::FieldsMut::of(bytes);
                $crate::plain!(@write self, fields, $name () ($($type),*));
                fields.end();
            }

            fn read(bytes: &[u8]) -> $name {
                let mut fields = $crate::Fields::of(bytes);
                let value = $name($(fields.read::<$type>()),*);
                fields.end();
                value
            }
        }

        $crate::plain! { $($rest)* }
    };

    (
        $(#[$attribute:meta])*
        $vis:vis enum $name:ident {
            $($(#[$of_variant:meta])* $variant:ident $(= $number:expr)?),+ $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[$attribute])*
        $vis enum $name {
            $($(#[$of_variant])* $variant $(= $number)?),+
        }

        impl $crate::Plain for $name {
            const SIZE: usize = ::core::mem::size_of::<$name>();

            fn write(&self, bytes: &mut [u8]) {
                // The first bytes of the number hold the whole variant, because it fits the
                // size.
                bytes.copy_from_slice(&(*self as i64).to_le_bytes()[..Self::SIZE]);
            }

            fn read(bytes: &[u8]) -> $name {
                $(
                    if *bytes == ($name::$variant as i64).to_le_bytes()[..Self::SIZE] {
                        return $name::$variant;
                    }
                )+
                <$name as ::core::default::Default>::default()
            }
        }

        $crate::plain! { $($rest)* }
    };

    ($(#[$attribute:meta])* $vis:vis enum $($rest:tt)*) => {
        ::core::compile_error!(
            "plain! supports only enums whose variants have no fields; share others in a procession::Mutex"
        );
    };

    ($($other:tt)*) => {
        ::core::compile_error!(
            "plain! supports structs without generics, and enums whose variants have no fields"
        );
    };
}

/// Reads the fields of a struct one after the other, for [`plain!`](crate::plain).
#[doc(hidden)]
#[derive(Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    pub fn read<T: Plain>(&mut self) -> T {
        let (field, behind) = self.0.split_at(T::SIZE);
        self.0 = behind;
        T::read(field)
    }

    pub fn end(self) {
        debug_assert!(self.0.is_empty(), "the fields must fill the value");
    }
}

/// Like [`Fields`], for writing.
#[doc(hidden)]
#[derive(Debug)]
pub struct FieldsMut<'a>(&'a mut [u8]);

impl<'a> FieldsMut<'a> {
    pub fn of(bytes: &'a mut [u8]) -> FieldsMut<'a> {
        FieldsMut(bytes)
    }

    pub fn write<T: Plain>(&mut self, value: &T) {
        let (field, behind) = std::mem::take(&mut self.0).split_at_mut(T::SIZE);
        self.0 = behind;
        value.write(field);
    }

    pub fn end(self) {
        debug_assert!(self.0.is_empty(), "the fields must fill the value");
    }
}
