//! Closures for other processes, which name their captures.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function and its captured values, created by [`closure!`](crate::closure).
///
/// Use it wherever a plain function is accepted: [`Process::spawn`](crate::Process::spawn),
/// [`Pool::map`](crate::PoolHandle::map) and so on.
#[derive(Clone)]
pub struct Closure<F, C> {
    pub(crate) function: F,
    pub(crate) captured: C,
}

impl<F, C> Closure<F, C>
where
    C: Serialize + DeserializeOwned + 'static,
{
    /// Implementation of [`closure!`](crate::closure).
    #[doc(hidden)]
    pub fn new(function: F, captured: C) -> Closure<F, C> {
        Closure { function, captured }
    }
}

impl<F, C: fmt::Debug> fmt::Debug for Closure<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closure")
            .field("captured", &self.captured)
            .finish_non_exhaustive()
    }
}

/// Creates a closure that another process can call.
///
/// ```
/// # use procession::closure;
/// # let offset = 1_u64;
/// # let words = vec![String::new()];
/// # let _ =
/// closure!([offset: u64, longest: usize = words.len()] |word: String| -> bool {
///     word.len() as u64 + offset > longest as u64
/// })
/// # ;
/// ```
///
/// The brackets list the captured values: `name: Type` captures the variable of that name, and `name: Type =
/// value` captures a value. Arguments with types and a block follow, as in a closure. Every type must be
/// written, because the other process has to know it; serde carries the values. Without `->` the closure
/// returns `()`.
///
/// The macro defines a plain `fn` whose first argument holds the captured values:
///
/// * Captured values are moved in, and each call owns its own. A pool task that makes several calls
///   ([`Pool::map`](crate::PoolHandle::map)) carries them once, and each call decodes its own copy. With
///   [`Pool::imap`](crate::PoolHandle::imap), whose tasks are single calls, they go along with each item.
/// * Shared objects ([`Queue`](crate::Queue), [`Lock`](crate::Lock), ...) may be captured wherever they may be
///   arguments: for a new process, and for the initializer of a pool.
/// * The block sees items, but no other variables, no type parameters and no `self`.
///
/// # Examples
/// ```
/// use procession::{Pool, closure};
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = Pool::new(2)?;
///     let offset = 10;
///     let raised = pool.map(closure!([offset: u64] |n: u64| -> u64 { n + offset }), [1, 2, 3])?;
///     assert_eq!(raised, [11, 12, 13]);
///     Ok(())
/// }
/// ```
///
/// A value that serde cannot carry does not compile:
///
/// ```compile_fail,E0277
/// let counter = std::rc::Rc::new(std::cell::Cell::new(0));
/// procession::closure!([counter: std::rc::Rc<std::cell::Cell<u32>>] |n: u32| -> u32 { n + counter.get() });
/// ```
///
/// A reference does not compile:
///
/// ```compile_fail
/// let name = String::from("Ada");
/// procession::closure!([name: &'static str = &name] || -> usize { name.len() });
/// ```
///
/// A variable that is not listed does not compile:
///
/// ```compile_fail,E0434
/// let offset = 5;
/// procession::closure!([] |n: u64| -> u64 { n + offset });
/// ```
#[macro_export]
macro_rules! closure {
    ([$($capture:tt)*] || $($rest:tt)+) => {
        $crate::closure!([$($capture)*] | | $($rest)+)
    };
    (
        [$($($name:ident)+ : $type:ty $(= $value:expr)?),* $(,)?]
        |$($($arg:ident)+ : $arg_type:ty),* $(,)?| $(-> $output:ty)? $body:block
    ) => {{
        #[allow(unused_parens, clippy::too_many_arguments, clippy::type_complexity)]
        fn __procession_closure(
            ($($($name)+,)*): ($($type,)*),
            ($($($arg)+),*): ($($arg_type),*),
        ) $(-> $output)? $body

        let captured: ($($type,)*) = ($($crate::closure!(@value $($name)+ $(= $value)?),)*);
        $crate::Closure::new(__procession_closure, captured)
    }};
    (@value $($name:ident)+ = $value:expr) => { $value };
    (@value mut $name:ident) => { $name };
    (@value $name:ident) => { $name };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "write closure!([captured: Type, other: Type = value] |argument: Type| -> Type { ... }), with every type, and \
             a name for each argument (_unused instead of _)"
        )
    };
}
