//! The traits of functions that another process can run.

use std::marker::PhantomData;

/// A plain function that takes `Args`.
///
/// `Args` is the argument of a function with one argument, and a tuple otherwise: `fn()` takes `()`, `fn(A)` takes
/// `A`, `fn(A, B)` takes `(A, B)`. `Shape` is the function pointer type. It only keeps the arities apart, and the
/// compiler always infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that takes `{Args}`",
    note = "pass a plain `fn`, and its arguments by value: nothing for no argument is `()`, \
            several are a tuple"
)]
pub trait Function<Args, Shape>: sealed::Callable<Shape> + Copy + Send + Sync + 'static {
    /// What the function returns.
    type Output;

    /// Calls the function.
    fn call(self, args: Args) -> Self::Output;
}

/// A plain function that a worker with a state of type `S` can call with `Args`.
///
/// That is every [`Function`], and every function that takes a `&mut S` before its other arguments. `Shape` tells
/// these apart; the compiler always infers it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that takes `{Args}`, nor one that takes `&mut {S}` and `{Args}`",
    note = "pass a plain `fn`, and its arguments by value: nothing for no argument is `()`, \
            several are a tuple",
    note = "this pool's workers keep a `{S}`: a function may ask for a `&mut {S}` before its other arguments"
)]
pub trait TaskFunction<S, Args, Shape>:
    sealed::Callable<Shape> + Copy + Send + Sync + 'static
{
    /// What the function returns.
    type Output;

    /// Calls the function. A function that takes the state gets it from `state`.
    fn call<'s>(self, state: impl FnOnce() -> &'s mut S, args: Args) -> Self::Output
    where
        S: 's;
}

/// The shape of a function that takes a `&mut S` first and otherwise has the shape `Rest`.
#[derive(Debug)]
pub struct WithState<S, Rest>(PhantomData<fn(S) -> Rest>);

pub(crate) mod sealed {
    /// Implemented for callable types, and for nothing else. So whatever is zero-sized and `Callable` is a `fn` item
    /// or a closure.
    pub trait Callable<Shape> {}
}

macro_rules! functions {
    ($args:ty, $pattern:pat, ($($arg:ident)*)) => {
        impl<F, $($arg,)* R> sealed::Callable<fn($($arg),*) -> R> for F where F: Fn($($arg),*) -> R {}

        impl<F, $($arg,)* R> Function<$args, fn($($arg),*) -> R> for F
        where
            F: Fn($($arg),*) -> R + Copy + Send + Sync + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "each argument is named after its type")]
            fn call(self, $pattern: $args) -> R {
                self($($arg),*)
            }
        }

        impl<F, S, $($arg,)* R> TaskFunction<S, $args, fn($($arg),*) -> R> for F
        where
            F: Fn($($arg),*) -> R + Copy + Send + Sync + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "each argument is named after its type")]
            fn call<'s>(self, _: impl FnOnce() -> &'s mut S, $pattern: $args) -> R
            where
                S: 's,
            {
                self($($arg),*)
            }
        }

        impl<F, S, $($arg,)* R> sealed::Callable<WithState<S, fn($($arg),*) -> R>> for F
        where
            F: Fn(&mut S, $($arg),*) -> R,
        {
        }

        impl<F, S, $($arg,)* R> TaskFunction<S, $args, WithState<S, fn($($arg),*) -> R>> for F
        where
            F: Fn(&mut S, $($arg),*) -> R + Copy + Send + Sync + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "each argument is named after its type")]
            fn call<'s>(self, state: impl FnOnce() -> &'s mut S, $pattern: $args) -> R
            where
                S: 's,
            {
                self(state(), $($arg),*)
            }
        }
    };
}

functions!((), (), ());
functions!(A, A, (A));
functions!((A, B), (A, B), (A B));
functions!((A, B, C), (A, B, C), (A B C));
functions!((A, B, C, D), (A, B, C, D), (A B C D));
functions!((A, B, C, D, E), (A, B, C, D, E), (A B C D E));
functions!((A, B, C, D, E, G), (A, B, C, D, E, G), (A B C D E G));
functions!((A, B, C, D, E, G, H), (A, B, C, D, E, G, H), (A B C D E G H));
functions!((A, B, C, D, E, G, H, I), (A, B, C, D, E, G, H, I), (A B C D E G H I));
