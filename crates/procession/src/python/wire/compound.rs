//! Encodes containers.

use procession_wire::varint;
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::WireError;
use super::serializer::{Writer, Written};

/// A container whose tag has been written.
pub(super) struct Compound<'w, 'a> {
    writer: &'w mut Writer<'a>,
    /// The offset of its count.
    start: usize,
    /// The announced number of items, if there was one.
    announced: Option<usize>,
    count: usize,
    /// Whether it ends the dict that stands for a variant.
    of_a_variant: bool,
}

impl<'w, 'a> Compound<'w, 'a> {
    pub(super) fn new(writer: &'w mut Writer<'a>, announced: Option<usize>) -> Compound<'w, 'a> {
        let start = writer.out.len();
        if let Some(count) = announced {
            varint::write(writer.out, count);
        }
        Compound {
            writer,
            start,
            announced,
            count: 0,
            of_a_variant: false,
        }
    }

    pub(super) fn of_a_variant(self) -> Compound<'w, 'a> {
        Compound {
            of_a_variant: true,
            ..self
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.count += 1;
        value.serialize(&mut *self.writer)
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.writer.in_key = true;
        self.item(key)?;
        self.writer.in_key = false;
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Written {
        self.count += 1;
        self.writer.text(name);
        value.serialize(&mut *self.writer)
    }

    fn close(self) -> Written {
        match self.announced {
            None => {
                let mut count = Vec::new();
                varint::write(&mut count, self.count);
                self.writer.out.splice(self.start..self.start, count);
            }
            Some(announced) if announced != self.count => {
                return Err(WireError::new(format_args!(
                    "a container announced {announced} items and has {}",
                    self.count
                )));
            }
            Some(_) => {}
        }
        self.writer.leave();
        if self.of_a_variant {
            self.writer.leave();
        }
        Ok(())
    }
}

macro_rules! items {
    ($($kind:ident: $method:ident,)+) => {$(
        impl $kind for Compound<'_, '_> {
            type Ok = ();
            type Error = WireError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.item(value)
            }

            fn end(self) -> Written {
                self.close()
            }
        }
    )+};
}

items! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($kind:ident)+) => {$(
        impl $kind for Compound<'_, '_> {
            type Ok = ();
            type Error = WireError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Written {
                self.field(name, value)
            }

            fn end(self) -> Written {
                self.close()
            }
        }
    )+};
}

fields!(SerializeStruct SerializeStructVariant);

impl SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = WireError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Written {
        self.close()
    }
}
