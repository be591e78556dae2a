//! Encodes values with serde and postcard.
//!
//! [`Codec`] is what queues and processes are generic over: this format, or that of Python's plain data.

mod refusal;

use std::any::type_name;

use postcard::ser_flavors::Flavor;
use procession_engine::{ObjectRef, channel};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, JoinError};
use crate::transfer::call;
use crate::transfer::context::{self, Serialising};
use crate::transfer::shared::Object;

/// How values become bytes for another process.
///
/// The trait is sealed.
pub trait Codec: sealed::Codec {}

pub(crate) mod sealed {
    use std::fmt::Debug;

    use procession_engine::ObjectRef;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use crate::error::{Error, JoinError};

    pub trait Codec: 'static {
        /// The settings of a process that only this codec has.
        type Settings: Debug + Default;

        /// The newtype name of a queue's handle in serde's data model.
        const QUEUE: &'static str;

        /// Passes the bytes of a message to `with`, and the objects it refers to.
        fn with_message<T: Serialize, R>(
            message: &T,
            with: impl FnOnce(&[u8], &[ObjectRef]) -> R,
        ) -> Result<R, Error>;

        fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Error>;

        /// Reads the result of the process `pid` from a message on its control queue. Returns `None` when it is
        /// another message.
        fn result<R: DeserializeOwned>(pid: u32, message: &[u8]) -> Option<Result<R, JoinError>>;
    }
}

/// The codec between Rust processes: serde with [postcard](https://docs.rs/postcard).
///
/// Messages may refer to shared objects.
#[derive(Debug)]
pub enum RustCodec {}

impl Codec for RustCodec {}

impl sealed::Codec for RustCodec {
    type Settings = ();

    const QUEUE: &'static str = channel::Queue::MARK;

    #[inline]
    fn with_message<T: Serialize, R>(
        message: &T,
        with: impl FnOnce(&[u8], &[ObjectRef]) -> R,
    ) -> Result<R, Error> {
        with_written(message, Serialising::message(), with)
    }

    #[inline]
    fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Error> {
        decode(message)
    }

    fn result<R: DeserializeOwned>(pid: u32, message: &[u8]) -> Option<Result<R, JoinError>> {
        call::process_result(pid, message)
    }
}

/// Values up to this size in bytes are encoded without an allocation.
const SMALL: usize = 256;
/// The same for types of few bytes: clearing a larger buffer takes longer than encoding them.
const TINY: usize = 48;

/// Passes the bytes of `value` to `with`.
#[inline]
pub(crate) fn with_encoded<T: Serialize, R>(
    value: &T,
    with: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    with_written(value, Serialising::next(), |bytes, _| with(bytes))
}

#[inline]
fn with_written<T: Serialize, R>(
    value: &T,
    serialising: Serialising,
    with: impl FnOnce(&[u8], &[ObjectRef]) -> R,
) -> Result<R, Error> {
    context::forget_reason();
    if size_of::<T>() <= TINY / 2 && !std::mem::needs_drop::<T>() {
        return with_written_in::<TINY, T, R>(value, serialising, with);
    }
    with_written_in::<SMALL, T, R>(value, serialising, with)
}

#[inline]
fn with_written_in<const ROOM: usize, T: Serialize, R>(
    value: &T,
    serialising: Serialising,
    with: impl FnOnce(&[u8], &[ObjectRef]) -> R,
) -> Result<R, Error> {
    if let Ok(bytes) = postcard::to_slice(value, &mut [0; ROOM]) {
        return Ok(with(bytes, &serialising.take_attached()));
    }
    // It may only be too long. Any other failure occurs again below.
    drop(serialising.take_attached());
    let mut bytes = Vec::new();
    append(&mut bytes, value)?;
    Ok(with(&bytes, &serialising.take_attached()))
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    encode_onto(&mut bytes, value)?;
    Ok(bytes)
}

/// Appends the bytes of `value`, or nothing when encoding fails.
pub(crate) fn encode_onto<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    let _serialising = Serialising::next();
    append(bytes, value)
}

fn append<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    context::forget_reason();
    let before = bytes.len();
    postcard::serialize_with_flavor(value, VecWriter(bytes)).map_err(|error| {
        bytes.truncate(before);
        context::take_reason().unwrap_or_else(|| Error::Encode {
            kind: type_name::<T>(),
            reason: match error {
                postcard::Error::SerdeSerCustom => refusal::of(value),
                error => error.to_string(),
            },
        })
    })
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match decode_front(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(Error::Decode {
            kind: type_name::<T>(),
            reason: format!("{} bytes are left over", rest.len()),
        }),
    }
}

/// Decodes a value, and returns it with the remaining bytes.
pub(crate) fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Error> {
    context::forget_reason();
    postcard::take_from_bytes(bytes).map_err(|error| {
        context::take_reason().unwrap_or_else(|| Error::Decode {
            kind: type_name::<T>(),
            reason: match error {
                postcard::Error::SerdeDeCustom => "its `Deserialize` refused it".to_owned(),
                error => error.to_string(),
            },
        })
    })
}

struct VecWriter<'a>(&'a mut Vec<u8>);

impl Flavor for VecWriter<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
