//! Decodes the contents of containers.

use serde::Deserializer;
use serde::de::value::U8Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::WireError;
use super::deserializer::Decoder;

/// The items of a list, tuple or set.
pub(super) struct ListAccess<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> ListAccess<'_, 'de> {
    pub(super) fn read<V: Visitor<'de>>(
        decoder: &mut Decoder<'de>,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        let mut items = ListAccess {
            decoder,
            left: count,
        };
        let value = visitor.visit_seq(&mut items)?;
        nothing_left(items.left, count)?;
        Ok(value)
    }
}

/// The visitor must have taken all items.
fn nothing_left(left: usize, count: usize) -> Result<(), WireError> {
    match left {
        0 => Ok(()),
        _ => Err(WireError::new(format_args!(
            "{count} items where {} are wanted",
            count - left
        ))),
    }
}

impl<'de> SeqAccess<'de> for ListAccess<'_, 'de> {
    type Error = WireError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, WireError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The entries of a dict.
pub(super) struct DictAccess<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> DictAccess<'_, 'de> {
    pub(super) fn read<V: Visitor<'de>>(
        decoder: &mut Decoder<'de>,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        let mut entries = DictAccess {
            decoder,
            left: count,
        };
        let value = visitor.visit_map(&mut entries)?;
        nothing_left(entries.left, count)?;
        Ok(value)
    }
}

impl<'de> MapAccess<'de> for DictAccess<'_, 'de> {
    type Error = WireError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, WireError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, WireError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The bytes of a `bytes` object, read as a sequence of numbers.
pub(super) struct ByteSeqAccess<'de>(std::slice::Iter<'de, u8>);

impl<'de> ByteSeqAccess<'de> {
    pub(super) fn read<V: Visitor<'de>>(
        bytes: &'de [u8],
        visitor: V,
    ) -> Result<V::Value, WireError> {
        let mut access = ByteSeqAccess(bytes.iter());
        let value = visitor.visit_seq(&mut access)?;
        nothing_left(access.0.len(), bytes.len())?;
        Ok(value)
    }
}

impl<'de> SeqAccess<'de> for ByteSeqAccess<'de> {
    type Error = WireError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, WireError> {
        let Some(&byte) = self.0.next() else {
            return Ok(None);
        };
        let byte: U8Deserializer<WireError> = byte.into_deserializer();
        seed.deserialize(byte).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// A variant with content: the only entry of a dict.
pub(super) struct VariantAccessor<'a, 'de>(pub(super) &'a mut Decoder<'de>);

impl<'a, 'de> EnumAccess<'de> for VariantAccessor<'a, 'de> {
    type Error = WireError;
    type Variant = VariantAccessor<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, VariantAccessor<'a, 'de>), WireError> {
        let name = seed.deserialize(&mut *self.0)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for VariantAccessor<'_, 'de> {
    type Error = WireError;

    fn unit_variant(self) -> Result<(), WireError> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, WireError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _count: usize,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.0.deserialize_any(visitor)
    }
}
