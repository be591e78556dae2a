//! The child's side: take the order, carry it out, answer.

use std::process::exit;
use std::sync::{Arc, OnceLock};

use procession_engine::channel::{Message, Queue};
use procession_engine::process::child;
use procession_engine::{self as engine, Deadline, Handle, error::GetError};

use super::tag;
use crate::call;
use crate::codec;
use crate::error::Result;
use crate::panic;

static NAME: OnceLock<String> = OnceLock::new();

/// The name of this process: the one it was started under, or `"MainProcess"`.
pub fn name() -> &'static str {
    NAME.get().map_or("MainProcess", String::as_str)
}

/// Runs what this process was started for, and exits.
pub(crate) fn serve() -> ! {
    let line = match take_seat() {
        Ok(line) => Arc::new(line),
        Err(error) => panic!("this process cannot take the place reserved for it: {error}"),
    };
    let code = match take_order(&line) {
        Ok(order) if order.bytes().first() == Some(&tag::ORDER) => {
            serve_order(&line, order.bytes())
        }
        Ok(order) => serve_python(&line, order.bytes()),
        Err(error) => {
            say(&line, tag::REFUSED, error.to_string().as_bytes());
            1
        }
    };
    engine::process::leave();
    exit(code)
}

/// Carries out what another process of this program ordered; the exit code.
fn serve_order(line: &Arc<Queue>, order: &[u8]) -> i32 {
    let reporter = Arc::clone(line);
    panic::watch(move |panic| {
        if let Ok(bytes) = codec::encode(&panic) {
            say(&reporter, tag::ABORTED, &bytes);
        }
    });
    match obey(order) {
        Ok(answer) => {
            // Either the result, or an `Err` in postcard's form: one byte, which is 1.
            let panicked = answer.first() == Some(&1);
            say(line, tag::ANSWER, &answer);
            if panicked { 101 } else { 0 }
        }
        Err(reason) => {
            say(line, tag::REFUSED, reason.as_bytes());
            1
        }
    }
}

/// Carries out what a Python process ordered; the exit code.
#[cfg(feature = "python")]
fn serve_python(line: &Arc<Queue>, order: &[u8]) -> i32 {
    let line = Arc::clone(line);
    crate::python::serve(order, move |answer| tell(&line, &[answer]))
}

#[cfg(not(feature = "python"))]
fn serve_python(line: &Arc<Queue>, _order: &[u8]) -> i32 {
    let reason = "a Python process started this program, which was built without the feature \"python\" of \
                  the crate procession";
    say(line, tag::REFUSED, reason.as_bytes());
    1
}

/// From here on this process goes by that name.
pub(crate) fn bear_name(name: String) {
    let _ = NAME.set(name);
}

fn take_seat() -> Result<Queue> {
    let summons = child::summons()?.ok_or(engine::Error::SeatGone)?;
    let handle = unhex(&summons.note).ok_or(engine::Error::BadHandle)?;
    Ok(Queue::open(&Handle::from_bytes(&handle)?)?)
}

fn obey(order: &[u8]) -> Result<Vec<u8>, String> {
    let (fingerprint, name, order) = parts(order).ok_or("an order cut short")?;
    if fingerprint != child::fingerprint() {
        return Err("parent and child are not the same build of the program".to_owned());
    }
    bear_name(name);
    let answer = call::carry_out(order);
    // Ends of pipes that the arguments did not claim must not keep their pipes open.
    child::close_inherited();
    answer
}

fn take_order(line: &Queue) -> Result<Message, GetError> {
    loop {
        match line.get(Deadline::NEVER) {
            Err(GetError::Interrupted) => {}
            done => return done,
        }
    }
}

fn parts(message: &[u8]) -> Option<(u64, String, &[u8])> {
    let (&[tag::ORDER], rest) = message.split_first_chunk()? else {
        return None;
    };
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (name, order) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some((u64::from_le_bytes(*fingerprint), name, order))
}

fn say(line: &Queue, tag: u8, bytes: &[u8]) {
    tell(line, &[&[tag], bytes]);
}

fn tell(line: &Queue, parts: &[&[u8]]) {
    // A parent that cannot be told sees how this process ended.
    while let Err(engine::error::PutError::Interrupted) = line.put(parts, Deadline::NEVER) {}
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
