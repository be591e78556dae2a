//! A reference to an engine object that serde can send to another process.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use procession_engine::{self as engine, Handle, Opened, channel, sync, value};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::transfer::context;

/// An engine object that has a handle.
pub(crate) trait Object: Opened {
    const KIND: &'static str;
    /// The newtype name of its handle in serde's data model, for formats that treat objects specially.
    const MARK: &'static str;
    fn handle(&self) -> Handle;
    fn open(handle: &Handle) -> engine::Result<Self>
    where
        Self: Sized;
}

macro_rules! objects {
    ($($type:ty: $kind:literal,)+) => {$(
        impl Object for $type {
            const KIND: &'static str = $kind;
            const MARK: &'static str = concat!("procession::", $kind);

            fn handle(&self) -> Handle {
                <$type>::handle(self)
            }

            fn open(handle: &Handle) -> engine::Result<Self> {
                <$type>::open(handle)
            }
        }
    )+};
}

objects! {
    channel::Queue: "Queue",
    sync::Barrier: "Barrier",
    sync::Condition: "Condvar",
    sync::Event: "Event",
    sync::Lock: "Lock",
    sync::RLock: "RLock",
    sync::RwLock: "RwLock",
    sync::Semaphore: "Semaphore",
    value::SharedBytes: "Value or Array",
}

/// A reference to an open object. Clones share it.
pub(crate) struct Shared<E>(Arc<E>);

impl<E> Shared<E> {
    pub(crate) fn new(object: E) -> Shared<E> {
        Shared(Arc::new(object))
    }
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Shared<E> {
        Shared(Arc::clone(&self.0))
    }
}

impl<E: Opened> Deref for Shared<E> {
    type Target = E;

    /// # Panics
    /// Panics in a forked process that does not hold the object: see [`Opened::check`].
    #[inline]
    #[track_caller]
    fn deref(&self) -> &E {
        if let Err(error) = self.0.check() {
            panic!("{error}");
        }
        &self.0
    }
}

impl<E: Object> fmt::Debug for Shared<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.handle())
    }
}

impl<E: Object> Shared<E> {
    /// Serialises the object's handle under the name `mark`, and attaches the object.
    pub(crate) fn serialize_as<S: Serializer>(
        &self,
        mark: &'static str,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let handle = self.handle();
        context::attach(&handle, E::KIND).map_err(context::fail_ser)?;
        serializer.serialize_newtype_struct(mark, &HandleBytes(handle.to_bytes()))
    }

    /// Opens the object whose handle was serialised under the name `mark`.
    pub(crate) fn deserialize_as<'de, D: Deserializer<'de>>(
        mark: &'static str,
        deserializer: D,
    ) -> Result<Shared<E>, D::Error> {
        deserializer.deserialize_newtype_struct(mark, Opener(PhantomData))
    }
}

struct HandleBytes([u8; 32]);

impl Serialize for HandleBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

struct Opener<E>(PhantomData<E>);

impl<'de, E: Object> Visitor<'de> for Opener<E> {
    type Value = Shared<E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of the kind {}", E::KIND)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Shared<E>, D::Error> {
        deserializer.deserialize_bytes(self)
    }

    fn visit_bytes<F: Error>(self, bytes: &[u8]) -> Result<Shared<E>, F> {
        let open = || E::open(&Handle::from_bytes(bytes)?);
        open()
            .map(Shared::new)
            .map_err(|error| context::fail_de(error.into()))
    }
}

impl<E: Object> Serialize for Shared<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_as(E::MARK, serializer)
    }
}

impl<'de, E: Object> Deserialize<'de> for Shared<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<E>, D::Error> {
        Shared::deserialize_as(E::MARK, deserializer)
    }
}
