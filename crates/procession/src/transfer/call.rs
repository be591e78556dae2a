//! A call as bytes: the function, its arguments, and the result.
//!
//! A process and a pool task both carry calls of one function with one or more argument values; a process
//! carries one call. Request: `entry u32 | count u32 | captured values | arguments, one after the other`, where
//! a plain function has no captured values. Response: one `Result<R, Failure>` per call, in the order of the
//! arguments.

use std::marker::PhantomData;

use procession_engine::process::child::{self, EntryAdapter, EntryId, Function as PlainFunction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, JoinError, Panic};
use crate::transfer::codec;
use crate::transfer::function::Function;
use crate::transfer::panic::caught;

/// The size of `entry` and `count` in bytes.
const HEADER: usize = 8;

/// The first byte of a message on the control queue between a process and its parent.
pub(crate) mod tag {
    pub(crate) const REQUEST: u8 = 0;
    pub(crate) const RESPONSE: u8 = 1;
    /// Followed by the panic, where panics abort.
    pub(crate) const ABORTED: u8 = 2;
    /// Followed by the reason, as text.
    pub(crate) const REFUSED: u8 = 3;
}

/// Why a call has no result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked(Panic),
    Undelivered(String),
}

/// Returns the request to call `function` once for each of `args`.
pub(crate) fn request<F, Args, Shape>(function: &F, args: &[Args]) -> Result<Vec<u8>, Error>
where
    F: Function<Args, Shape>,
{
    function.request(args)
}

/// Like [`request`], for a plain function.
pub(crate) fn fn_request<F, Args, Shape>(function: F, args: &[Args]) -> Result<Vec<u8>, Error>
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Args: Serialize + DeserializeOwned + 'static,
    Shape: 'static,
{
    let entry = child::entry_of::<F, Shape, Each<Args, Shape>>(function)?;
    request_for_entry(entry, args)
}

/// Returns the request to call the function at `entry` once for each of `args`.
pub(crate) fn request_for_entry<Sent: Serialize>(
    entry: EntryId,
    args: &[Sent],
) -> Result<Vec<u8>, Error> {
    let mut bytes = header(entry, args)?;
    append_args(&mut bytes, args)?;
    Ok(bytes)
}

/// Like [`request`], for a function whose first argument is the same in all calls and is carried once.
pub(crate) fn request_with_captures<F, C, Args, R, Sent>(
    function: F,
    captured: &C,
    args: &[Sent],
) -> Result<Vec<u8>, Error>
where
    F: PlainFunction<(C, Args), fn(C, Args) -> R, Output = R>,
    C: Serialize + DeserializeOwned + 'static,
    Args: DeserializeOwned + 'static,
    R: Serialize + 'static,
    Sent: Serialize,
{
    let entry = child::entry_of::<F, _, EachWith<C, Args, R>>(function)?;
    let mut bytes = header(entry, args)?;
    codec::encode_onto(&mut bytes, captured)?;
    append_args(&mut bytes, args)?;
    Ok(bytes)
}

fn header<Args>(entry: EntryId, args: &[Args]) -> Result<Vec<u8>, Error> {
    let count = u32::try_from(args.len()).map_err(|_| Error::Encode {
        kind: std::any::type_name::<[Args]>(),
        reason: "there are more than u32::MAX of them".to_owned(),
    })?;
    let mut bytes = Vec::with_capacity(HEADER + size_of_val(args));
    bytes.extend_from_slice(&entry.as_u32().to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    Ok(bytes)
}

fn append_args<Args: Serialize>(bytes: &mut Vec<u8>, args: &[Args]) -> Result<(), Error> {
    args.iter()
        .try_for_each(|args| codec::encode_onto(bytes, args))
}

/// Runs a request and returns the response. Returns a reason when this program cannot run the request.
pub(crate) fn run_request(request: &[u8]) -> Result<Vec<u8>, String> {
    let index = request
        .first_chunk::<4>()
        .ok_or("a request without a header")?;
    let entry = child::entry(EntryId::from_u32(u32::from_le_bytes(*index)))
        .ok_or("there is no such function in this executable")?;
    let response = caught(|| entry.call(&request[4..])).map_err(|panic| panic.to_string())?;
    response.ok_or_else(|| format!("{} cannot be called this way", entry.name()))
}

/// Makes a call here and returns its response.
pub(crate) fn local_response<R: Serialize>(call: impl FnOnce() -> R) -> Vec<u8> {
    let mut response = Vec::new();
    append(&mut response, &caught(call).map_err(Failure::Panicked));
    response
}

fn append<R: Serialize>(response: &mut Vec<u8>, result: &Result<R, Failure>) {
    if let Err(error) = codec::encode_onto(response, result) {
        let failure = Err::<(), _>(Failure::Undelivered(error.to_string()));
        codec::encode_onto(response, &failure).expect("text can always be encoded");
    }
}

/// Decodes the next result of a response.
pub(crate) fn next_result<R: DeserializeOwned>(
    response: &mut &[u8],
) -> Result<Result<R, Failure>, Error> {
    let (result, rest) = codec::decode_front(response)?;
    *response = rest;
    Ok(result)
}

/// Reads the result of the process `pid` from a message on its control queue. Returns `None` for its request.
pub(crate) fn process_result<R: DeserializeOwned>(
    pid: u32,
    message: &[u8],
) -> Option<Result<R, JoinError>> {
    let undelivered = |reason: String| JoinError::Undelivered { pid, reason };
    let (tag, mut bytes) = message.split_first()?;
    match *tag {
        tag::RESPONSE => Some(match next_result(&mut bytes) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Failure::Panicked(panic))) => Err(JoinError::Panicked(panic)),
            Ok(Err(Failure::Undelivered(reason))) => Err(undelivered(reason)),
            Err(error) => Err(undelivered(error.to_string())),
        }),
        tag::ABORTED => Some(Err(match codec::decode(bytes) {
            Ok(panic) => JoinError::Panicked(panic),
            Err(error) => undelivered(error.to_string()),
        })),
        tag::REFUSED => Some(Err(undelivered(
            String::from_utf8_lossy(bytes).into_owned(),
        ))),
        _ => None,
    }
}

struct Each<Args, Shape>(PhantomData<fn(Args) -> Shape>);

impl<F, Args, Shape> EntryAdapter<F> for Each<Args, Shape>
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
{
    fn run(function: F, input: &[u8]) -> Vec<u8> {
        let (count, args) = counted(input);
        responses(count, args, |args| caught(|| function.call(args)))
    }
}

struct EachWith<C, Args, R>(PhantomData<fn(C, Args) -> R>);

impl<F, C, Args, R> EntryAdapter<F> for EachWith<C, Args, R>
where
    F: PlainFunction<(C, Args), fn(C, Args) -> R, Output = R>,
    C: DeserializeOwned + 'static,
    Args: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    fn run(function: F, input: &[u8]) -> Vec<u8> {
        let (count, captured) = counted(input);
        let (mut first, args) = match codec::decode_front::<C>(captured) {
            Ok((value, rest)) => (Some(value), rest),
            Err(error) => return failed_responses(count, &error),
        };
        responses(count, args, |args| {
            caught(|| {
                // Each call owns its captured values.
                let captured = first.take().unwrap_or_else(|| {
                    let again = codec::decode_front(captured);
                    again.expect("the same bytes were decoded before").0
                });
                function.call((captured, args))
            })
        })
    }
}

pub(crate) fn counted(input: &[u8]) -> (u32, &[u8]) {
    let (count, rest) = input
        .split_first_chunk::<4>()
        .expect("a request has a count");
    (u32::from_le_bytes(*count), rest)
}

fn failed_responses(count: u32, error: &Error) -> Vec<u8> {
    let mut response = Vec::new();
    for _ in 0..count {
        append::<()>(&mut response, &Err(Failure::Undelivered(error.to_string())));
    }
    response
}

/// Makes a call with each of the arguments in `input`, and returns the response.
pub(crate) fn responses<Args, R>(
    count: u32,
    mut input: &[u8],
    mut call: impl FnMut(Args) -> Result<R, Panic>,
) -> Vec<u8>
where
    Args: DeserializeOwned,
    R: Serialize,
{
    let mut response = Vec::new();
    for _ in 0..count {
        let result = match codec::decode_front::<Args>(input) {
            Ok((args, rest)) => {
                input = rest;
                call(args).map_err(Failure::Panicked)
            }
            Err(error) => Err(Failure::Undelivered(error.to_string())),
        };
        append(&mut response, &result);
    }
    response
}
