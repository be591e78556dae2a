//! Closures for other processes: what they capture is named, and is carried there.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function and what it captured; made by [`closure!`](crate::closure).
///
/// Goes wherever a plain function does: [`Process::spawn`](crate::Process::spawn),
/// [`Pool::map`](crate::Pool::map) and all the others.
#[derive(Clone)]
pub struct Closure<F, C> {
    pub(crate) function: F,
    pub(crate) captured: C,
}

impl<F, C> Closure<F, C>
where
    C: Serialize + DeserializeOwned + 'static,
{
    /// What [`closure!`](crate::closure) calls.
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

/// A closure that another process can call.
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
/// In brackets stands what is captured: `name: Type` takes the variable of that name, and `name: Type = value` any
/// value. Then come the arguments, as of a closure, with their types, and a block. All types have to be written
/// down, since another process has to know them; they are carried by serde. Without `->` nothing is returned.
///
/// It is a plain `fn` in truth, whose first argument is what was captured:
///
/// * Captured values are moved into it and owned by each call. A task of a pool that is many calls
///   ([`Pool::map`](crate::Pool::map)) carries them once, and each call reads a value of its own from that; with
///   [`Pool::imap`](crate::Pool::imap), whose tasks are single calls, they go along with each item.
/// * Shared objects ([`Queue`](crate::Queue), [`Lock`](crate::Lock), ...) may be captured where they may be arguments:
///   by a process that is started, and by the initializer of a pool.
/// * It sees nothing else of what is around it but items: no other variables, no type parameters, no `self`.
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
/// What serde cannot carry does not compile:
///
/// ```compile_fail,E0277
/// let counter = std::rc::Rc::new(std::cell::Cell::new(0));
/// procession::closure!([counter: std::rc::Rc<std::cell::Cell<u32>>] |n: u32| -> u32 { n + counter.get() });
/// ```
///
/// Nor does a reference:
///
/// ```compile_fail
/// let name = String::from("Ada");
/// procession::closure!([name: &'static str = &name] || -> usize { name.len() });
/// ```
///
/// Nor does a variable that was not named:
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

/// Starts a process that runs a block, with what the block captures.
///
/// `spawn!(|name: Type, ...| -> Type { ... })` takes the variables of these names;
/// `spawn!([name: Type = value, ...] || -> Type { ... })` takes any values, as [`closure!`](crate::closure) does, which
/// says what may be captured and how. It returns what [`Process::spawn`](crate::Process::spawn) does.
///
/// # Examples
/// ```
/// use procession::{Queue, spawn};
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let offset = 2;
///     let names = vec!["Ada".to_owned(), "Grace".to_owned()];
///     let process = spawn!(|offset: usize, names: Vec<String>| -> usize { names.len() + offset })?;
///     assert_eq!(process.join()?, 4);
///
///     let queue = Queue::new()?;
///     let process = spawn!([queue: Queue<u32> = queue.clone()] || { queue.put(5).unwrap(); })?;
///     process.join()?;
///     assert_eq!(queue.get()?, 5);
///     Ok(())
/// }
/// ```
///
/// What serde cannot carry does not compile:
///
/// ```compile_fail,E0277
/// let file = std::fs::File::open("/dev/null").unwrap();
/// procession::spawn!(|file: std::fs::File| { drop(file); });
/// ```
#[macro_export]
macro_rules! spawn {
    ([$($capture:tt)*] $($rest:tt)+) => {
        $crate::Process::spawn($crate::closure!([$($capture)*] $($rest)+), ())
    };
    (|| $($rest:tt)+) => {
        $crate::spawn!([] || $($rest)+)
    };
    (|$($($name:ident)+ : $type:ty),* $(,)?| $($rest:tt)+) => {
        $crate::spawn!([$($($name)+ : $type),*] || $($rest)+)
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "write spawn!(|captured: Type| -> Type { ... }) or spawn!([captured: Type = value] || -> Type { ... }), with every type"
        )
    };
}
