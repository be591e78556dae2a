//! Finds out why a value's `Serialize` failed, because postcard drops that text.
//!
//! The value is serialised a second time, into nothing, by a serialiser whose error keeps the text.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// Returns the error text of the value's `Serialize`, or of a part of it.
#[cold]
pub(super) fn of<T: Serialize + ?Sized>(value: &T) -> String {
    match value.serialize(NullSerializer) {
        Err(Refusal(said)) => format!("its `Serialize` refused: {said}"),
        Ok(()) => "its `Serialize` failed once, and succeeded when it was run again for the reason"
            .to_owned(),
    }
}

#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    fn custom<M: fmt::Display>(message: M) -> Refusal {
        Refusal(message.to_string())
    }
}

/// Accepts everything and keeps nothing.
#[derive(Clone, Copy)]
struct NullSerializer;

/// Methods for values without parts, and for the start of values with parts.
macro_rules! takes {
    ($($method:ident($($argument:ty),*) -> $taken:ty = $ok:expr;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$taken, Refusal> {
            Ok($ok)
        })*
    };
}

impl Serializer for NullSerializer {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = NullSerializer;
    type SerializeTuple = NullSerializer;
    type SerializeTupleStruct = NullSerializer;
    type SerializeTupleVariant = NullSerializer;
    type SerializeMap = NullSerializer;
    type SerializeStruct = NullSerializer;
    type SerializeStructVariant = NullSerializer;

    takes! {
        serialize_bool(bool) -> () = ();
        serialize_i8(i8) -> () = ();
        serialize_i16(i16) -> () = ();
        serialize_i32(i32) -> () = ();
        serialize_i64(i64) -> () = ();
        serialize_i128(i128) -> () = ();
        serialize_u8(u8) -> () = ();
        serialize_u16(u16) -> () = ();
        serialize_u32(u32) -> () = ();
        serialize_u64(u64) -> () = ();
        serialize_u128(u128) -> () = ();
        serialize_f32(f32) -> () = ();
        serialize_f64(f64) -> () = ();
        serialize_char(char) -> () = ();
        serialize_str(&str) -> () = ();
        serialize_bytes(&[u8]) -> () = ();
        serialize_none() -> () = ();
        serialize_unit() -> () = ();
        serialize_unit_struct(&'static str) -> () = ();
        serialize_unit_variant(&'static str, u32, &'static str) -> () = ();
        serialize_seq(Option<usize>) -> NullSerializer = NullSerializer;
        serialize_tuple(usize) -> NullSerializer = NullSerializer;
        serialize_tuple_struct(&'static str, usize) -> NullSerializer = NullSerializer;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> NullSerializer = NullSerializer;
        serialize_map(Option<usize>) -> NullSerializer = NullSerializer;
        serialize_struct(&'static str, usize) -> NullSerializer = NullSerializer;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> NullSerializer = NullSerializer;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn is_human_readable(&self) -> bool {
        // The same as postcard, so that the value serialises in the same way.
        false
    }
}

/// The parts of a sequence, map or struct.
macro_rules! takes_parts {
    ($($of:ident: $($method:ident($($name:ty)?)),*;)*) => {
        $(impl ser::$of for NullSerializer {
            type Ok = ();
            type Error = Refusal;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? part: &T) -> Result<(), Refusal> {
                part.serialize(*self)
            })*

            fn end(self) -> Result<(), Refusal> {
                Ok(())
            }
        })*
    };
}

takes_parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(&'static str);
    SerializeStructVariant: serialize_field(&'static str);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    use crate::transfer::codec::{encode, with_encoded};

    use super::*;

    struct Odd(u8);

    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 % 2 {
                1 => serializer.serialize_u8(self.0),
                _ => Err(ser::Error::custom(format!("{} is even", self.0))),
            }
        }
    }

    #[derive(serde::Serialize)]
    enum Deep {
        Empty,
        One(Odd),
        Two(u8, Odd),
        Named { odd: Option<Odd> },
    }

    #[test]
    fn what_a_type_refuses_with_is_told_wherever_the_value_lies() {
        let (empty, named) = (Deep::Empty, Deep::Named { odd: Some(Odd(4)) });
        let map: HashMap<_, _> = [("a", vec![empty, named])].into();
        for error in [
            encode(&Odd(4)).unwrap_err(),
            encode(&map).unwrap_err(),
            encode(&(1.5, 'c', Deep::One(Odd(4)))).unwrap_err(),
            with_encoded(&[Deep::Two(2, Odd(3)), Deep::Two(2, Odd(4))], |_| ()).unwrap_err(),
        ] {
            assert!(error.to_string().contains("4 is even"), "{error}");
        }
        assert!(encode(&vec![Deep::One(Odd(3)), Deep::Empty]).is_ok());
    }

    #[test]
    fn a_path_that_is_no_text_says_so() {
        let path = PathBuf::from(OsStr::from_bytes(b"\xff"));
        let error = encode(&path).unwrap_err().to_string();
        assert!(
            error.contains("path contains invalid UTF-8 characters"),
            "{error}"
        );
    }
}
