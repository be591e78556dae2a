//! Values as bytes: serde through postcard.

use std::any::type_name;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::handing;

/// What fits in here is encoded without an allocation.
const SMALL: usize = 256;
/// What a type of few bytes usually fits in, since clearing more takes longer than encoding it.
const TINY: usize = 48;

/// Hands the bytes of `value` to `with`.
#[inline]
pub(crate) fn with_encoded<T: Serialize, R>(
    value: &T,
    with: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    handing::forget_reason();
    if size_of::<T>() <= TINY / 2 && !std::mem::needs_drop::<T>() {
        return with_encoded_in::<TINY, T, R>(value, with);
    }
    with_encoded_in::<SMALL, T, R>(value, with)
}

#[inline]
fn with_encoded_in<const ROOM: usize, T: Serialize, R>(
    value: &T,
    with: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    let mut room = [0; ROOM];
    match handing::serialising(|| postcard::to_slice(value, &mut room)) {
        Ok(bytes) => Ok(with(bytes)),
        // It may only have been too long; what else is wrong with it is found again.
        Err(_) => encode(value).map(|bytes| with(&bytes)),
    }
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    encode_onto(&mut bytes, value)?;
    Ok(bytes)
}

/// Appends the bytes of `value`, or nothing when it fails.
pub(crate) fn encode_onto<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    handing::forget_reason();
    let before = bytes.len();
    let encode = || postcard::serialize_with_flavor(value, Onto(bytes));
    handing::serialising(encode).map_err(|error| {
        bytes.truncate(before);
        handing::take_reason().unwrap_or_else(|| Error::Encode {
            kind: type_name::<T>(),
            reason: match error {
                // Postcard keeps what it said to itself.
                postcard::Error::SerdeSerCustom => {
                    "its `Serialize` refused (a path that is not UTF-8? pass an OsString)"
                        .to_owned()
                }
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

/// Reads a value and returns what follows it.
pub(crate) fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Error> {
    handing::forget_reason();
    postcard::take_from_bytes(bytes).map_err(|error| {
        handing::take_reason().unwrap_or_else(|| Error::Decode {
            kind: type_name::<T>(),
            reason: error.to_string(),
        })
    })
}

struct Onto<'a>(&'a mut Vec<u8>);

impl Flavor for Onto<'_> {
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
