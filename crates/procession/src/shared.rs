//! A reference to an object of the engine, which serde can hand to a child.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use procession_engine::{self as engine, Handle, channel, sync, value};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::handing;

/// An engine object that has a handle.
pub(crate) trait Object: Sized {
    const KIND: &'static str;
    fn handle(&self) -> Handle;
    fn open(handle: &Handle) -> engine::Result<Self>;
}

macro_rules! objects {
    ($($type:ty: $kind:literal,)+) => {$(
        impl Object for $type {
            const KIND: &'static str = $kind;

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

/// Clones share one open object.
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

impl<E> Deref for Shared<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0
    }
}

impl<E: Object> fmt::Debug for Shared<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.handle())
    }
}

impl<E: Object> Serialize for Shared<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let handle = self.handle();
        handing::hand_over(&handle, E::KIND).map_err(handing::explain_ser)?;
        handle.to_bytes().serialize(serializer)
    }
}

impl<'de, E: Object> Deserialize<'de> for Shared<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<E>, D::Error> {
        let bytes = <[u8; 32]>::deserialize(deserializer)?;
        let open = || E::open(&Handle::from_bytes(&bytes)?);
        open()
            .map(Shared::new)
            .map_err(|error| handing::explain(error.into()))
    }
}
