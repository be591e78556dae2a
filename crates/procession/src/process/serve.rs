//! The child's side: take the order, carry it out, answer.

use std::process::exit;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use procession_engine::channel::{Message, Queue};
use procession_engine::process::child;
use procession_engine::{self as engine, Deadline, Handle, error::GetError};

use super::tag;
use crate::call;
use crate::codec;
use crate::error::{Panic, Result};
use crate::panic;

static NAME: RwLock<&str> = RwLock::new("MainProcess");

/// The name of this process: the one it was started under, or `"MainProcess"`.
///
/// # Examples
/// ```
/// use procession::Process;
///
/// fn who() -> String {
///     procession::process_name().to_owned()
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let process = Process::builder().name("scout").spawn(who, ())?;
/// assert_eq!(process.join()?, "scout");
/// # Ok(())
/// # }
/// ```
pub fn name() -> &'static str {
    *NAME.read().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the name from being used or changed by others.
pub(super) fn held_name() -> HeldName {
    HeldName(NAME.write().unwrap_or_else(PoisonError::into_inner))
}

/// See [`held_name`].
pub(super) struct HeldName(RwLockWriteGuard<'static, &'static str>);

impl HeldName {
    /// To be done once in a process: names are never freed.
    pub(super) fn set(mut self, name: String) {
        *self.0 = name.leak();
    }
}

/// Runs what this process was started for, and exits.
pub(crate) fn serve() -> ! {
    let line = match take_seat() {
        Ok(line) => Arc::new(line),
        Err(error) => panic!("this process cannot take the place reserved for it: {error}"),
    };
    let done = match take_order(&line) {
        Ok(order) if order.bytes().first() == Some(&tag::ORDER) => {
            panic::watch(on_abort(&line));
            obey(order.bytes()).map(|answer| deliver(&line, &answer))
        }
        Ok(order) => obey_python(&line, order.bytes()),
        Err(error) => Err(error.to_string()),
    };
    let code = done.unwrap_or_else(|reason| {
        say(&line, tag::REFUSED, reason.as_bytes());
        1
    });
    engine::process::leave();
    exit(code)
}

/// Carries out what a Python process ordered; the exit code, or why it was not done.
#[cfg(feature = "python")]
fn obey_python(line: &Arc<Queue>, order: &[u8]) -> Result<i32, String> {
    let line = Arc::clone(line);
    Ok(crate::python::serve(order, move |answer| {
        tell(&line, &[answer]);
    }))
}

#[cfg(not(feature = "python"))]
fn obey_python(_line: &Arc<Queue>, _order: &[u8]) -> Result<i32, String> {
    let reason = "a Python process started this program, which was built without the feature \"python\" of \
                  the crate procession";
    Err(reason.to_owned())
}

/// From here on this process goes by that name.
#[cfg(feature = "python")]
pub(crate) fn bear_name(name: String) {
    held_name().set(name);
}

/// Reports a panic that ends this process.
pub(super) fn on_abort(line: &Arc<Queue>) -> impl Fn(Panic) + Send + Sync + 'static {
    let line = Arc::clone(line);
    move |panic| {
        if let Ok(bytes) = codec::encode(&panic) {
            say(&line, tag::ABORTED, &bytes);
        }
    }
}

/// Sends the answer to the parent; returns the exit code that goes with it.
pub(super) fn deliver(line: &Queue, answer: &[u8]) -> i32 {
    // Either the result, or an `Err` in postcard's form: one byte, which is 1.
    let panicked = answer.first() == Some(&1);
    say(line, tag::ANSWER, answer);
    if panicked { 101 } else { 0 }
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
    held_name().set(name);
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
