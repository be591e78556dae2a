//! Encodes scalars and the start of containers.

use procession_wire::{MAX_DEPTH, tag, varint};
use serde::ser::{Serialize, Serializer};

use super::WireError;
use super::compound::Compound;
use super::int;

pub(super) type Written = Result<(), WireError>;

/// Appends a value to a message.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    depth: usize,
    /// Whether the current value is part of a dict's key, which must be hashable in Python.
    pub(super) in_key: bool,
    /// The kind of the object whose handle follows.
    object: Option<&'static str>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer {
            out,
            depth: 0,
            in_key: false,
            object: None,
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.blob(tag::STR, &[text.as_bytes()]);
    }

    fn blob(&mut self, tag: u8, parts: &[&[u8]]) {
        self.out.push(tag);
        varint::write(self.out, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.out.extend_from_slice(part);
        }
    }

    /// Writes the tag of a container.
    pub(super) fn enter(&mut self, tag: u8) -> Written {
        if self.depth == MAX_DEPTH {
            return Err(WireError::new(format_args!(
                "it is nested deeper than {MAX_DEPTH} containers"
            )));
        }
        if self.in_key && tag != tag::TUPLE {
            let what = if tag == tag::LIST { "list" } else { "dict" };
            return Err(WireError::new(format_args!(
                "a {what} cannot be in the key of a dict, because it is not hashable in Python; a tuple can"
            )));
        }
        self.depth += 1;
        self.out.push(tag);
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    fn container<'w>(
        &'w mut self,
        tag: u8,
        count: Option<usize>,
    ) -> Result<Compound<'w, 'a>, WireError> {
        self.enter(tag)?;
        Ok(Compound::new(self, count))
    }

    /// Begins the dict of one entry that stands for a variant with content.
    fn variant(&mut self, variant: &str) -> Written {
        self.enter(tag::DICT)?;
        varint::write(self.out, 1);
        self.text(variant);
        Ok(())
    }
}

impl<'w, 'a> Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = WireError;
    type SerializeSeq = Compound<'w, 'a>;
    type SerializeTuple = Compound<'w, 'a>;
    type SerializeTupleStruct = Compound<'w, 'a>;
    type SerializeTupleVariant = Compound<'w, 'a>;
    type SerializeMap = Compound<'w, 'a>;
    type SerializeStruct = Compound<'w, 'a>;
    type SerializeStructVariant = Compound<'w, 'a>;

    fn serialize_bool(self, value: bool) -> Written {
        self.out.push(if value { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_i8(self, n: i8) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_i16(self, n: i16) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_i32(self, n: i32) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_i64(self, n: i64) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_i128(self, n: i128) -> Written {
        int::write(self.out, n);
        Ok(())
    }

    fn serialize_u8(self, n: u8) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_u16(self, n: u16) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_u32(self, n: u32) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_u64(self, n: u64) -> Written {
        self.serialize_i128(n.into())
    }

    fn serialize_u128(self, n: u128) -> Written {
        int::write_unsigned(self.out, n);
        Ok(())
    }

    fn serialize_f32(self, n: f32) -> Written {
        self.serialize_f64(n.into())
    }

    fn serialize_f64(self, n: f64) -> Written {
        self.out.push(tag::FLOAT);
        self.out.extend_from_slice(&n.to_bits().to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, char: char) -> Written {
        self.text(char.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Written {
        self.text(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Written {
        match self.object.take() {
            // Nothing else in Rust becomes a bytearray, so Python can tell that it is a handle.
            Some(kind) => self.blob(tag::BYTEARRAY, &[bytes, kind.as_bytes()]),
            None => self.blob(tag::BYTES, &[bytes]),
        }
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.out.push(tag::NONE);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Written {
        self.object = super::kind_for_python(name).map_err(WireError::new)?;
        if self.object.is_some() && self.in_key {
            return Err(WireError::new("an object cannot be the key of a dict"));
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.leave();
        Ok(())
    }

    fn serialize_seq(self, count: Option<usize>) -> Result<Compound<'w, 'a>, WireError> {
        self.container(tag::LIST, count)
    }

    fn serialize_tuple(self, count: usize) -> Result<Compound<'w, 'a>, WireError> {
        self.container(tag::TUPLE, Some(count))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        count: usize,
    ) -> Result<Compound<'w, 'a>, WireError> {
        self.serialize_tuple(count)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        count: usize,
    ) -> Result<Compound<'w, 'a>, WireError> {
        self.variant(variant)?;
        Ok(self.container(tag::TUPLE, Some(count))?.of_a_variant())
    }

    fn serialize_map(self, count: Option<usize>) -> Result<Compound<'w, 'a>, WireError> {
        self.container(tag::DICT, count)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        count: usize,
    ) -> Result<Compound<'w, 'a>, WireError> {
        self.serialize_map(Some(count))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        count: usize,
    ) -> Result<Compound<'w, 'a>, WireError> {
        self.variant(variant)?;
        Ok(self.container(tag::DICT, Some(count))?.of_a_variant())
    }
}
