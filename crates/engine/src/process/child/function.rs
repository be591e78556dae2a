//! What counts as a function that another process can run.

/// A plain function that takes `Args`.
///
/// `Args` is the one argument of a function of one argument, and a tuple of them otherwise:
/// `fn()` takes `()`, `fn(A)` takes `A`, `fn(A, B)` takes `(A, B)`. `Shape` is the function
/// pointer type and only keeps the arities apart; the compiler always infers it.
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

mod sealed {
    /// Implemented for what can be called, and for nothing else: so whatever is zero-sized and a
    /// `Function` is a `fn` item or a closure.
    pub trait Callable<Shape> {}
}

impl<F, R> sealed::Callable<fn() -> R> for F where F: Fn() -> R {}

impl<F, R> Function<(), fn() -> R> for F
where
    F: Fn() -> R + Copy + Send + Sync + 'static,
{
    type Output = R;

    fn call(self, (): ()) -> R {
        self()
    }
}

impl<F, A, R> sealed::Callable<fn(A) -> R> for F where F: Fn(A) -> R {}

impl<F, A, R> Function<A, fn(A) -> R> for F
where
    F: Fn(A) -> R + Copy + Send + Sync + 'static,
{
    type Output = R;

    fn call(self, args: A) -> R {
        self(args)
    }
}

macro_rules! several_arguments {
    ($($arg:ident)+) => {
        impl<F, $($arg,)+ R> sealed::Callable<fn($($arg),+) -> R> for F where F: Fn($($arg),+) -> R {}

        impl<F, $($arg,)+ R> Function<($($arg,)+), fn($($arg),+) -> R> for F
        where
            F: Fn($($arg),+) -> R + Copy + Send + Sync + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "each argument is named after its type")]
            fn call(self, ($($arg,)+): ($($arg,)+)) -> R {
                self($($arg),+)
            }
        }
    };
}

several_arguments!(A B);
several_arguments!(A B C);
several_arguments!(A B C D);
several_arguments!(A B C D E);
several_arguments!(A B C D E G);
several_arguments!(A B C D E G H);
several_arguments!(A B C D E G H I);
