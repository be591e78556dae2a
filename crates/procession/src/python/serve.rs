//! A process that Python started: carry out its order, answer.

use std::sync::Arc;

use procession_engine::process::child;

use super::message::{Answer, RustOrder};
use super::{export, wire};
use crate::panic;
use crate::process::bear_name;

/// Carries out an order of Python's; gives the answer to `tell`, and returns the exit code.
pub(crate) fn serve(order: &[u8], tell: impl Fn(&[u8]) + Send + Sync + 'static) -> i32 {
    let tell = Arc::new(tell);
    let reporter = Arc::clone(&tell);
    // Where panics abort, this is the last that is heard of the process.
    panic::watch(move |panic| say(&*reporter, &Answer::Panicked(panic)));
    let answer = match wire::decode::<RustOrder>(order) {
        Ok(order) => {
            bear_name(order.name);
            export::call(&order.function, &order.args)
        }
        Err(error) => Answer::Refused(format!("not an order of this version's: {error}")),
    };
    child::close_inherited();
    say(&*tell, &answer);
    match answer {
        Answer::Returned(_) => 0,
        Answer::Panicked(_) => 101,
        Answer::Raised(_) | Answer::Refused(_) => 1,
    }
}

fn say(tell: &dyn Fn(&[u8]), answer: &Answer) {
    // Text and bytes can always be written.
    if let Ok(message) = wire::encode(answer) {
        tell(&message);
    }
}
