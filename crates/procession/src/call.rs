//! A call as bytes: which function, its arguments, and what came of it.
//!
//! A process and a task of a pool both carry a run of calls of one function; for a process it is
//! one. The order: `entry u32 | count u32 | arguments, one after the other`. The answer: one
//! `Result<R, Failure>` for each of the arguments, in their order.

use std::marker::PhantomData;

use procession_engine::process::child::{self, EntryId, Function, Glue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::error::{Error, Panic};
use crate::panic::caught;

const HEADER: usize = 8;

/// Why one call gave no result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked(Panic),
    Undelivered(String),
}

/// The order to call `function` once for each of `args`.
pub(crate) fn order<F, Args, Shape>(function: F, args: &[Args]) -> Result<Vec<u8>, Error>
where
    F: Function<Args, Shape>,
    F::Output: Serialize,
    Args: Serialize + DeserializeOwned + 'static,
    Shape: 'static,
{
    order_of(
        child::entry_of::<F, Shape, Each<Args, Shape>>(function)?,
        args,
    )
}

/// The order to call what is at `entry` once for each of `args`.
pub(crate) fn order_of<Sent: Serialize>(entry: EntryId, args: &[Sent]) -> Result<Vec<u8>, Error> {
    let count = u32::try_from(args.len()).map_err(|_| Error::Encode {
        kind: std::any::type_name::<[Sent]>(),
        reason: "there are more than four thousand million of them".to_owned(),
    })?;
    let mut bytes = Vec::with_capacity(HEADER + size_of_val(args));
    bytes.extend_from_slice(&entry.as_u32().to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    for args in args {
        codec::encode_onto(&mut bytes, args)?;
    }
    Ok(bytes)
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
    F: Function<Args, Shape>,
    F::Output: Serialize,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
{
    fn run(function: F, input: &[u8]) -> Vec<u8> {
        answer_each(input, |args| caught(|| function.call(args)))
    }
}

/// Calls with each of the arguments that follow an order's entry. Gives the answer.
pub(crate) fn answer_each<Args: DeserializeOwned, R: Serialize>(
    input: &[u8],
    mut call: impl FnMut(Args) -> Result<R, Panic>,
) -> Vec<u8> {
    let (count, mut input) = input
        .split_first_chunk::<4>()
        .expect("an order has a count");
    let mut answer = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let result = match codec::decode_front::<Args>(input) {
            Ok((args, rest)) => {
                input = rest;
                call(args).map_err(Failure::Panicked)
            }
            Err(error) => Err(Failure::Undelivered(error.to_string())),
        };
        if let Err(error) = codec::encode_onto(&mut answer, &result) {
            let failure = Err::<(), _>(Failure::Undelivered(error.to_string()));
            codec::encode_onto(&mut answer, &failure).expect("text can be encoded");
        }
    }
    answer
}
