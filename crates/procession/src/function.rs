//! What another process can be told to call.

use std::marker::PhantomData;

use procession_engine::process::child::Function as PlainFunction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call;
use crate::closure::Closure;
use crate::error::Error;

/// What takes `Args` and can be called in another process: a plain `fn`, or a [`closure!`](crate::closure).
///
/// `Args` is the one argument of a function of one argument, and a tuple of them otherwise: `fn()` takes `()`,
/// `fn(A)` takes `A`, `fn(A, B)` takes `(A, B)`. Arguments and result are carried by serde. `Shape` only keeps
/// functions apart; the compiler always infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called in another process with `{Args}`",
    note = "pass a plain `fn` or a `closure!`, and its arguments by value: nothing for no argument is `()`, \
            several are a tuple",
    note = "arguments and result have to implement serde's `Serialize` and `Deserialize`"
)]
pub trait Function<Args, Shape>: 'static {
    /// What the function returns.
    type Output;

    /// The order to call it once for each of `args`.
    #[doc(hidden)]
    fn order(&self, args: &[Args]) -> Result<Vec<u8>, Error>;
}

/// The shape of a plain function.
#[derive(Debug)]
pub struct Bare<Shape>(PhantomData<Shape>);

/// The shape of a function behind a closure.
#[derive(Debug)]
pub struct WithCaptures<Shape>(PhantomData<Shape>);

impl<F, Args, Shape> Function<Args, Bare<Shape>> for F
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Args: Serialize + DeserializeOwned + 'static,
    Shape: 'static,
{
    type Output = <F as PlainFunction<Args, Shape>>::Output;

    fn order(&self, args: &[Args]) -> Result<Vec<u8>, Error> {
        call::plain_order(*self, args)
    }
}

impl<F, C, Args, R> Function<Args, WithCaptures<fn(C, Args) -> R>> for Closure<F, C>
where
    F: PlainFunction<(C, Args), fn(C, Args) -> R, Output = R>,
    C: Serialize + DeserializeOwned + 'static,
    Args: Serialize + DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    type Output = R;

    fn order(&self, args: &[Args]) -> Result<Vec<u8>, Error> {
        call::order_with(self.function, &self.captured, args)
    }
}
