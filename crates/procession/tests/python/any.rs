//! A value of any type that can be sent.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

#[derive(Debug, Clone, PartialEq)]
pub enum Any {
    None,
    Bool(bool),
    Int(i128),
    Unsigned(u128),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Items(Vec<Any>),
    Entries(Vec<(Key, Any)>),
}

/// Like [`Any`], but sequences are tuples, which are hashable in Python.
#[derive(Debug, Clone, PartialEq)]
pub struct Key(Any);

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Any::None => serializer.serialize_none(),
            Any::Bool(value) => serializer.serialize_bool(*value),
            Any::Int(n) => serializer.serialize_i128(*n),
            Any::Unsigned(n) => serializer.serialize_u128(*n),
            Any::Float(n) => serializer.serialize_f64(*n),
            Any::Str(text) => serializer.serialize_str(text),
            Any::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Any::Items(items) => items.serialize(serializer),
            Any::Entries(entries) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let Any::Items(items) = &self.0 else {
            return self.0.serialize(serializer);
        };
        let mut tuple = serializer.serialize_tuple(items.len())?;
        for item in items {
            tuple.serialize_element(&Key(item.clone()))?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Any, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        Any::deserialize(deserializer).map(Key)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Any, E> {
        Ok(Any::None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Bool(value))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Any, E> {
        Ok(Any::Int(n.into()))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Any, E> {
        Ok(Any::Int(n.into()))
    }

    fn visit_i128<E: Error>(self, n: i128) -> Result<Any, E> {
        Ok(Any::Int(n))
    }

    fn visit_u128<E: Error>(self, n: u128) -> Result<Any, E> {
        Ok(Any::Unsigned(n))
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<Any, E> {
        Ok(Any::Float(n))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Any, E> {
        Ok(Any::Str(text.to_owned()))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Any, E> {
        Ok(Any::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Any, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Any::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Any, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Any::Entries(entries))
    }
}
