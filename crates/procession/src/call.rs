//! A call as bytes: which function, its arguments, and what came of it.
//!
//! A process and a task of a pool both carry a run of calls of one function; for a process it is
//! one. The order: `entry u32 | count u32 | what was captured | arguments, one after the other`, where a plain
//! function captured nothing. The answer: one `Result<R, Failure>` for each of the arguments, in their order.

use std::marker::PhantomData;

use procession_engine::process::child::{self, EntryId, Function as PlainFunction, Glue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::error::{Error, Panic};
use crate::function::Function;
use crate::panic::caught;

/// The entry and the count.
const HEADER: usize = 8;

/// Why one call gave no result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked(Panic),
    Undelivered(String),
}

/// The order to call `function` once for each of `args`.
pub(crate) fn order<F, Args, Shape>(function: &F, args: &[Args]) -> Result<Vec<u8>, Error>
where
    F: Function<Args, Shape>,
{
    function.order(args)
}

/// As [`order`], for a plain function.
pub(crate) fn plain_order<F, Args, Shape>(function: F, args: &[Args]) -> Result<Vec<u8>, Error>
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Args: Serialize + DeserializeOwned + 'static,
    Shape: 'static,
{
    let entry = child::entry_of::<F, Args, Shape, Each<Args, Shape>>(function)?;
    let mut bytes = beginning(entry, args)?;
    append_args(&mut bytes, args)?;
    Ok(bytes)
}

/// As [`order`], for a function whose first argument is the same in all calls, and is carried once.
pub(crate) fn order_with<F, C, Args, R>(
    function: F,
    captured: &C,
    args: &[Args],
) -> Result<Vec<u8>, Error>
where
    F: PlainFunction<(C, Args), fn(C, Args) -> R, Output = R>,
    C: Serialize + DeserializeOwned + 'static,
    Args: Serialize + DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let entry = child::entry_of::<F, _, _, EachWith<C, Args, R>>(function)?;
    let mut bytes = beginning(entry, args)?;
    codec::encode_onto(&mut bytes, captured)?;
    append_args(&mut bytes, args)?;
    Ok(bytes)
}

fn beginning<Args>(entry: EntryId, args: &[Args]) -> Result<Vec<u8>, Error> {
    let count = u32::try_from(args.len()).map_err(|_| Error::Encode {
        kind: std::any::type_name::<[Args]>(),
        reason: "there are more than four thousand million of them".to_owned(),
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

/// Carries out an order. Gives a reason when it is none of this program's.
pub(crate) fn carry_out(order: &[u8]) -> Result<Vec<u8>, String> {
    let index = order
        .first_chunk::<4>()
        .ok_or("an order without a beginning")?;
    let entry = child::entry(EntryId::from_u32(u32::from_le_bytes(*index)))
        .ok_or("there is no such function in this executable")?;
    let answer = caught(|| entry.call(&order[4..])).map_err(|panic| panic.to_string())?;
    answer.ok_or_else(|| format!("{} is not to be called", entry.name()))
}

/// The answer of a call that was not ordered, but made right here.
pub(crate) fn answer_of<R: Serialize>(call: impl FnOnce() -> R) -> Vec<u8> {
    let mut answer = Vec::new();
    append(&mut answer, &caught(call).map_err(Failure::Panicked));
    answer
}

fn append<R: Serialize>(answer: &mut Vec<u8>, result: &Result<R, Failure>) {
    if let Err(error) = codec::encode_onto(answer, result) {
        let failure = Err::<(), _>(Failure::Undelivered(error.to_string()));
        codec::encode_onto(answer, &failure).expect("text can be encoded");
    }
}

/// Takes the next result off an answer.
pub(crate) fn next_result<R: DeserializeOwned>(
    answer: &mut &[u8],
) -> Result<Result<R, Failure>, Error> {
    let (result, rest) = codec::decode_front(answer)?;
    *answer = rest;
    Ok(result)
}

struct Each<Args, Shape>(PhantomData<fn(Args) -> Shape>);

impl<F, Args, Shape> Glue<F> for Each<Args, Shape>
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
{
    fn run(function: F, input: &[u8]) -> Vec<u8> {
        let (count, args) = counted(input);
        answers(count, args, |args| Ok(function.call(args)))
    }
}

struct EachWith<C, Args, R>(PhantomData<fn(C, Args) -> R>);

impl<F, C, Args, R> Glue<F> for EachWith<C, Args, R>
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
            Err(error) => return no_answers(count, &error),
        };
        answers(count, args, |args| {
            // Each call has a value of its own.
            let captured = match first.take() {
                Some(captured) => captured,
                None => codec::decode_front(captured)?.0,
            };
            Ok(function.call((captured, args)))
        })
    }
}

fn counted(input: &[u8]) -> (u32, &[u8]) {
    let (count, rest) = input
        .split_first_chunk::<4>()
        .expect("an order has a count");
    (u32::from_le_bytes(*count), rest)
}

fn no_answers(count: u32, error: &Error) -> Vec<u8> {
    let mut answer = Vec::new();
    for _ in 0..count {
        append::<()>(&mut answer, &Err(Failure::Undelivered(error.to_string())));
    }
    answer
}

/// What comes of a call with each of the arguments in `input`.
fn answers<Args, R>(
    count: u32,
    mut input: &[u8],
    mut call: impl FnMut(Args) -> Result<R, Error>,
) -> Vec<u8>
where
    Args: DeserializeOwned,
    R: Serialize,
{
    let mut answer = Vec::new();
    for _ in 0..count {
        let result = match codec::decode_front::<Args>(input) {
            Ok((args, rest)) => {
                input = rest;
                match caught(|| call(args)) {
                    Ok(Ok(result)) => Ok(result),
                    Ok(Err(error)) => Err(Failure::Undelivered(error.to_string())),
                    Err(panic) => Err(Failure::Panicked(panic)),
                }
            }
            Err(error) => Err(Failure::Undelivered(error.to_string())),
        };
        append(&mut answer, &result);
    }
    answer
}
