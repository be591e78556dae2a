//! The functions that Python may start, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_engine::process::child::{self, Function as PlainFunction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bytes::Bytes;
use super::message::{Response, RustRequest};
use super::wire;
use crate::error::Error;
use crate::process::set_process_name;
use crate::transfer::panic::{self, caught};

type Call = Arc<dyn Fn(&[u8]) -> Response + Send + Sync>;

static EXPORTS: Mutex<BTreeMap<String, Call>> = Mutex::new(BTreeMap::new());

fn exports() -> MutexGuard<'static, BTreeMap<String, Call>> {
    EXPORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets Python programs start functions of this program by name.
///
/// Call it before [`init`](crate::init()). The name of a function is its path as written here.
/// [`export()`](crate::python::export()) sets another name.
///
/// # Examples
/// ```
/// fn add(a: i64, b: i64) -> i64 {
///     a + b
/// }
///
/// mod text {
///     pub fn count(text: String) -> usize {
///         text.split_whitespace().count()
///     }
/// }
///
/// fn main() {
///     procession::python::export!(add, text::count);
///     procession::init();
/// }
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __export_to_python {
    ($($function:path),+ $(,)?) => {
        $($crate::python::export(stringify!($function), $function);)+
    };
}

/// Lets Python programs start a function under the given name. [`export!`](crate::python::export!) uses the
/// function's own name.
///
/// # Panics
/// Panics when another function has that name already.
///
/// # Examples
/// ```
/// procession::python::export("multiply", <i64 as std::ops::Mul>::mul);
/// procession::init();
/// ```
pub fn export<F, Args, Shape>(name: &str, function: F)
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Shape: Signature<Args>,
{
    let name: String = name.split_whitespace().collect();
    let call = call_of(name.clone(), function);
    let before = exports().insert(name.clone(), call);
    assert!(
        before.is_none(),
        "two functions are exported to Python as {name}: rename one of them"
    );
}

fn call_of<F, Args, Shape>(name: String, function: F) -> Call
where
    F: PlainFunction<Args, Shape>,
    F::Output: Serialize,
    Shape: Signature<Args>,
{
    Arc::new(move |message| {
        let given = wire::count_items(message).unwrap_or(0);
        if given != Shape::COUNT {
            return Response::Refused(format!(
                "{name} takes {}, and {given} came",
                in_words(Shape::COUNT)
            ));
        }
        let args = match Shape::read(message) {
            Ok(args) => args,
            Err(error) => {
                return Response::Refused(format!("the arguments are not {name}'s: {error}"));
            }
        };
        match caught(|| function.call(args)) {
            Err(panic) => Response::Panicked(panic),
            Ok(result) => match wire::encode(&result) {
                Ok(result) => Response::Returned(Bytes(result)),
                Err(error) => {
                    Response::Refused(format!("what {name} returned cannot go to Python: {error}"))
                }
            },
        }
    })
}

fn in_words(arguments: usize) -> String {
    match arguments {
        0 => "no arguments".to_owned(),
        1 => "one argument".to_owned(),
        more => format!("{more} arguments"),
    }
}

/// Calls the function with this name.
pub(super) fn call(name: &str, args: &[u8]) -> Response {
    let exports = exports();
    match exports.get(name).cloned() {
        Some(call) => {
            drop(exports);
            call(args)
        }
        None if exports.is_empty() => Response::Refused(format!(
            "there is no function {name}, because this program exports none: put \
             procession::python::export!({name}) before procession::init()"
        )),
        None => {
            let names: Vec<&str> = exports.keys().map(String::as_str).collect();
            Response::Refused(format!(
                "this program exports no function {name}; it has {}",
                names.join(", ")
            ))
        }
    }
}

/// Runs a request from Python, passes the response to `send`, and returns the exit code.
pub(crate) fn serve(request: &[u8], send: impl Fn(&[u8]) + Send + Sync + 'static) -> i32 {
    let send = Arc::new(send);
    let reporter = Arc::clone(&send);
    // Where panics abort, this is the last chance to report it.
    panic::watch(move |panic| send_response(&*reporter, &Response::Panicked(panic)));
    let response = match wire::decode::<RustRequest>(request) {
        Ok(request) => {
            set_process_name(request.name);
            call(&request.function, &request.args)
        }
        Err(error) => Response::Refused(format!("not a request of this version: {error}")),
    };
    child::close_inherited();
    send_response(&*send, &response);
    match response {
        Response::Returned(_) => 0,
        Response::Panicked(_) => 101,
        Response::Raised(_) | Response::Refused(_) => 1,
    }
}

fn send_response(send: &dyn Fn(&[u8]), response: &Response) {
    // Text and bytes can always be encoded.
    if let Ok(message) = wire::encode(response) {
        send(&message);
    }
}

/// The signature of a function whose arguments Python can send, each as a value of its own.
///
/// The trait is sealed.
pub trait Signature<Args>: sealed::Signature<Args> + 'static {}

pub(super) mod sealed {
    use crate::error::Error;

    pub trait Signature<Args> {
        const COUNT: usize;
        /// Decodes the arguments from the items of a tuple or list.
        fn read(message: &[u8]) -> Result<Args, Error>;
    }
}

impl<R: 'static> Signature<()> for fn() -> R {}

impl<R> sealed::Signature<()> for fn() -> R {
    const COUNT: usize = 0;

    fn read(_message: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

impl<A: DeserializeOwned + 'static, R: 'static> Signature<A> for fn(A) -> R {}

impl<A: DeserializeOwned, R> sealed::Signature<A> for fn(A) -> R {
    const COUNT: usize = 1;

    fn read(message: &[u8]) -> Result<A, Error> {
        wire::decode::<(A,)>(message).map(|(only,)| only)
    }
}

macro_rules! several_arguments {
    ($count:literal: $($arg:ident)+) => {
        impl<$($arg: DeserializeOwned + 'static,)+ R: 'static> Signature<($($arg,)+)>
            for fn($($arg),+) -> R {}

        impl<$($arg: DeserializeOwned,)+ R> sealed::Signature<($($arg,)+)> for fn($($arg),+) -> R {
            const COUNT: usize = $count;

            fn read(message: &[u8]) -> Result<($($arg,)+), Error> {
                wire::decode(message)
            }
        }
    };
}

several_arguments!(2: A B);
several_arguments!(3: A B C);
several_arguments!(4: A B C D);
several_arguments!(5: A B C D E);
several_arguments!(6: A B C D E G);
several_arguments!(7: A B C D E G H);
several_arguments!(8: A B C D E G H I);
