//! Functions that another process can call.

use std::marker::PhantomData;

use procession_engine::process::child::{
    Function as PlainFunction, TaskFunction as PlainTaskFunction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::worker_state as state;
use crate::error::Error;
use crate::transfer::call;
use crate::transfer::closure::Closure;

/// A function that takes `Args` and can be called in another process: a plain `fn`, or a
/// [`closure!`](crate::closure).
///
/// `Args` is the argument type for one parameter, and a tuple otherwise: `fn()` takes `()`, `fn(A)` takes `A`,
/// `fn(A, B)` takes `(A, B)`. Serde carries arguments and result. `Shape` only distinguishes implementations;
/// the compiler infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called in another process with `{Args}`",
    note = "pass a plain `fn` or a `closure!`, and its arguments by value: no arguments are `()`, \
            several are a tuple",
    note = "arguments and result must implement serde's `Serialize` and `Deserialize`"
)]
pub trait Function<Args, Shape>: 'static {
    /// What the function returns.
    type Output;

    /// Returns the request to call it once for each of `args`.
    #[doc(hidden)]
    fn request(&self, args: &[Args]) -> Result<Vec<u8>, Error>;
}

/// The shape of a plain function.
#[derive(Debug)]
pub struct FnShape<Shape>(PhantomData<Shape>);

/// The shape of a function behind a closure.
#[derive(Debug)]
pub struct ClosureShape<Shape>(PhantomData<Shape>);

impl<F, Args, Shape> Function<Args, FnShape<Shape>> for F
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Args: Serialize + DeserializeOwned + 'static,
    Shape: 'static,
{
    type Output = <F as PlainFunction<Args, Shape>>::Output;

    fn request(&self, args: &[Args]) -> Result<Vec<u8>, Error> {
        call::fn_request(*self, args)
    }
}

impl<F, C, Args, R> Function<Args, ClosureShape<fn(C, Args) -> R>> for Closure<F, C>
where
    F: PlainFunction<(C, Args), fn(C, Args) -> R, Output = R>,
    C: Serialize + DeserializeOwned + 'static,
    Args: Serialize + DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    type Output = R;

    fn request(&self, args: &[Args]) -> Result<Vec<u8>, Error> {
        call::request_with_captures(self.function, &self.captured, args)
    }
}

/// A function that takes `Args` and can be called by a pool worker with a state of type `S`: every
/// [`Function`], and every plain `fn` that takes a `&mut S` before its other arguments.
///
/// `Shape` only distinguishes implementations; the compiler infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called by a worker that keeps a `{S}` with `{Args}`",
    note = "pass a plain `fn` or a `closure!`, and its arguments by value: no arguments are `()`, \
            several are a tuple",
    note = "this pool's workers keep a `{S}`: a plain `fn` may take a `&mut {S}` before its other arguments",
    note = "arguments and result must implement serde's `Serialize` and `Deserialize`"
)]
pub trait TaskFunction<S, Args, Shape>: 'static {
    /// What the function returns.
    type Output;

    /// Returns the request to call it once for each of `args`, which deserialise as `Args`.
    #[doc(hidden)]
    fn request_for<Sent: Serialize>(&self, args: &[Sent]) -> Result<Vec<u8>, Error>;
}

impl<F, S, Args, Shape> TaskFunction<S, Args, FnShape<Shape>> for F
where
    F: PlainTaskFunction<S, Args, Shape>,
    F::Output: Serialize,
    S: 'static,
    Args: DeserializeOwned + 'static,
    Shape: 'static,
{
    type Output = <F as PlainTaskFunction<S, Args, Shape>>::Output;

    fn request_for<Sent: Serialize>(&self, args: &[Sent]) -> Result<Vec<u8>, Error> {
        state::request::<S, F, Args, Shape, Sent>(*self, args)
    }
}

impl<F, C, S, Args, R> TaskFunction<S, Args, ClosureShape<fn(C, Args) -> R>> for Closure<F, C>
where
    F: PlainFunction<(C, Args), fn(C, Args) -> R, Output = R>,
    C: Serialize + DeserializeOwned + 'static,
    Args: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    type Output = R;

    fn request_for<Sent: Serialize>(&self, args: &[Sent]) -> Result<Vec<u8>, Error> {
        call::request_with_captures(self.function, &self.captured, args)
    }
}
