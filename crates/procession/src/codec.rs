//! Values as bytes: serde through postcard.

use std::any::type_name;
use std::cell::Cell;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::handing;

/// Buffers that grew beyond this are given back to the allocator.
const KEEP: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Hands the bytes of `value` to `with`. They lie in a buffer of the thread's, so that small messages
/// allocate nothing.
pub(crate) fn with_encoded<T: Serialize, R>(
    value: &T,
    with: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    // Taken out while in use: `Serialize` may be anybody's code, and put a message itself.
    let mut bytes = SPARE.take();
    bytes.clear();
    let result = encode_onto(&mut bytes, value).map(|()| with(&bytes));
    if bytes.capacity() <= KEEP {
        SPARE.set(bytes);
    }
    result
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    encode_onto(&mut bytes, value)?;
    Ok(bytes)
}

/// Appends the bytes of `value`, or nothing when it fails.
pub(crate) fn encode_onto<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    handing::take_reason();
    let before = bytes.len();
    postcard::serialize_with_flavor(value, Onto(bytes)).map_err(|error| {
        bytes.truncate(before);
        handing::take_reason().unwrap_or_else(|| Error::Encode {
            kind: type_name::<T>(),
            reason: error.to_string(),
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
    handing::take_reason();
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
