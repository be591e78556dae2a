//! Decodes values.

use procession_wire::{MAX_DEPTH, Reader, tag};
use serde::Deserializer;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Error, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::WireError;
use super::access::{ByteSeqAccess, DictAccess, ListAccess, VariantAccessor};
use super::int::Int;

/// How many bytes may be read through back-references, in addition to [`COPY_FACTOR`] times the message's
/// length. Python shares one object; for Rust it is copied at each reference.
const COPY_BUDGET: usize = 64 << 20;
/// A short string takes up to this many times the size of a reference to it.
const COPY_FACTOR: usize = 64;

/// The approximate size of a value in Rust without its bytes.
const VALUE_OVERHEAD: usize = 64;

/// Decodes the values of a message.
pub(super) struct Decoder<'de> {
    reader: Reader<'de>,
    depth: usize,
    /// The offsets of the values that may be referred to, in ascending order.
    memo: Vec<usize>,
    /// Those whose value is being read now.
    open: Vec<usize>,
    /// How many bytes may still be read through back-references.
    copy_budget: usize,
    /// The number of back-references that lead to the current value.
    reference_depth: usize,
}

/// The start of a value. For a scalar it is the whole value.
pub(super) enum Head<'de> {
    None,
    Bool(bool),
    Int(Int),
    Float(f64),
    Str(&'de str),
    Bytes(&'de [u8]),
    /// This many values follow.
    Items(usize),
    /// This many pairs of values follow.
    Entries(usize),
}

impl<'de> Decoder<'de> {
    pub(super) fn new(message: &'de [u8]) -> Decoder<'de> {
        Decoder {
            reader: Reader::new(message),
            depth: 0,
            memo: Vec::new(),
            open: Vec::new(),
            copy_budget: message
                .len()
                .saturating_mul(COPY_FACTOR)
                .saturating_add(COPY_BUDGET),
            reference_depth: 0,
        }
    }

    pub(super) fn finish(&self) -> Result<(), WireError> {
        match self.reader.left() {
            0 => Ok(()),
            _ => Err(self.reader.damaged("more than one value").into()),
        }
    }

    /// Reads the next value, or the value it refers to.
    pub(super) fn value<T>(
        &mut self,
        read: impl FnOnce(&mut Self, Head<'de>) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        if self.reader.peek() != Some(tag::BACKREF) {
            return self.value_here(read);
        }
        let offset = self.reference()?;
        let behind = self.reader;
        self.reader = self.reader.at(offset);
        self.reference_depth += 1;
        let value = self.value_here(read)?;
        self.reference_depth -= 1;
        self.spend(self.reader.position() - offset)?;
        self.reader = behind;
        Ok(value)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), WireError> {
        let left = self.copy_budget.checked_sub(bytes);
        self.copy_budget =
            left.ok_or_else(|| WireError::new("it repeats its parts too often to be copied out"))?;
        Ok(())
    }

    fn value_here<T>(
        &mut self,
        read: impl FnOnce(&mut Self, Head<'de>) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        if self.reference_depth > 0 {
            self.spend(VALUE_OVERHEAD)?;
        }
        let offset = self.reader.position();
        let letter = self.reader.byte()?;
        let is_memoized = letter.is_ascii_uppercase();
        if is_memoized && self.memo.last().is_none_or(|&last| last < offset) {
            self.memo.push(offset);
        }
        let head = self.head(letter)?;
        if !matches!(head, Head::Items(_) | Head::Entries(_)) {
            return read(self, head);
        }
        if self.depth == MAX_DEPTH {
            return Err(self.reader.damaged("containers nested too deep").into());
        }
        self.depth += 1;
        if is_memoized {
            self.open.push(offset);
        }
        let value = read(self, head)?;
        if is_memoized {
            self.open.pop();
        }
        self.depth -= 1;
        Ok(value)
    }

    /// Reads a back-reference, and returns its target.
    fn reference(&mut self) -> Result<usize, WireError> {
        self.reader.byte()?;
        let offset = self.reader.number()?;
        if self.open.contains(&offset) {
            return Err(WireError::new(
                "it has a list or dict that holds itself, which Rust cannot represent",
            ));
        }
        match self.memo.binary_search(&offset) {
            Ok(_) => Ok(offset),
            Err(_) => Err(self.reader.damaged("a reference to nothing").into()),
        }
    }

    fn head(&mut self, letter: u8) -> Result<Head<'de>, WireError> {
        let reader = &mut self.reader;
        if letter & tag::SMALL_INT != 0 {
            return Ok(int(letter & !tag::SMALL_INT));
        }
        Ok(match letter {
            tag::NONE => Head::None,
            tag::TRUE => Head::Bool(true),
            tag::FALSE => Head::Bool(false),
            tag::INT_8 => int(i8::from_le_bytes(reader.array()?)),
            tag::INT_16 => int(i16::from_le_bytes(reader.array()?)),
            tag::INT_32 => int(i32::from_le_bytes(reader.array()?)),
            tag::INT_64 => int(i64::from_le_bytes(reader.array()?)),
            tag::BIG_INT => Head::Int(Int::of(reader.blob()?)?),
            tag::FLOAT => Head::Float(f64::from_le_bytes(reader.array()?)),
            tag::STR | tag::MEMO_STR => {
                let text = std::str::from_utf8(reader.blob()?);
                Head::Str(text.map_err(|_| reader.damaged("text that is not UTF-8"))?)
            }
            tag::BYTES | tag::MEMO_BYTES | tag::BYTEARRAY | tag::MEMO_BYTEARRAY => {
                Head::Bytes(reader.blob()?)
            }
            tag::TUPLE
            | tag::LIST
            | tag::SET
            | tag::FROZENSET
            | tag::MEMO_TUPLE
            | tag::MEMO_LIST
            | tag::MEMO_SET
            | tag::MEMO_FROZENSET => Head::Items(self.count(1)?),
            tag::DICT | tag::MEMO_DICT => Head::Entries(self.count(2)?),
            _ => return Err(reader.damaged("unknown kind of value").into()),
        })
    }

    /// Reads the number of items. Each has `values` values of at least one byte.
    fn count(&mut self, values: usize) -> Result<usize, WireError> {
        let count = self.reader.number()?;
        if count > self.reader.left() / values {
            return Err(self.reader.damaged("more items than bytes").into());
        }
        Ok(count)
    }

    fn visit<V: Visitor<'de>>(
        &mut self,
        head: Head<'de>,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        match head {
            Head::None => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Int(n) => n.visit(visitor),
            Head::Float(n) => visitor.visit_f64(n),
            Head::Str(text) => visitor.visit_borrowed_str(text),
            Head::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::Items(count) => ListAccess::read(self, count, visitor),
            Head::Entries(count) => DictAccess::read(self, count, visitor),
        }
    }
}

fn int(n: impl Into<i128>) -> Head<'static> {
    Head::Int(Int::Signed(n.into()))
}

impl Head<'_> {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Head::None => Unexpected::Unit,
            Head::Bool(value) => Unexpected::Bool(*value),
            Head::Int(_) => Unexpected::Other("an int"),
            Head::Float(n) => Unexpected::Float(*n),
            Head::Str(text) => Unexpected::Str(text),
            Head::Bytes(bytes) => Unexpected::Bytes(bytes),
            Head::Items(_) => Unexpected::Seq,
            Head::Entries(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = WireError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.value(|decoder, head| decoder.visit(head, visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        match self.reader.peek() {
            Some(tag::NONE) => {
                self.reader.byte()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        if super::is_rusts_own(name) {
            return Err(WireError::new(super::NOT_SHARED));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.value(|decoder, head| match head {
            Head::Bytes(bytes) => ByteSeqAccess::read(bytes, visitor),
            head => decoder.visit(head, visitor),
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _count: usize,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _count: usize,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.value(|decoder, head| match head {
            Head::Str(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Head::Entries(1) => visitor.visit_enum(VariantAccessor(decoder)),
            head => Err(WireError::invalid_type(
                head.unexpected(),
                &"the name of a variant, or a dict of its name and content",
            )),
        })
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.value(|decoder, head| match head {
            Head::Int(n) => visitor.visit_f64(n.to_f64()),
            head => decoder.visit(head, visitor),
        })
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.value(|decoder, head| match head {
            // Serde would accept bytes that happen to be UTF-8.
            Head::Bytes(_) => Err(WireError::invalid_type(head.unexpected(), &"a str")),
            head => decoder.visit(head, visitor),
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 bytes byte_buf unit
        unit_struct map struct ignored_any
    }
}
