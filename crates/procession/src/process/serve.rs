//! The child's side: receive the request, run it, respond.

use std::process::exit;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use procession_engine::channel::{Message, Queue};
use procession_engine::process::child;
use procession_engine::{self as engine, Deadline, Handle, error::GetError};

use crate::error::{Panic, Result};
use crate::transfer::call::{self, tag};
use crate::transfer::codec;
use crate::transfer::panic;

static NAME: RwLock<&str> = RwLock::new("MainProcess");

/// Returns the name with which this process was started, or `"MainProcess"`.
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

/// Locks the name, so that no other thread uses or changes it.
pub(super) fn lock_name() -> NameLock {
    NameLock(NAME.write().unwrap_or_else(PoisonError::into_inner))
}

/// See [`lock_name`].
pub(super) struct NameLock(RwLockWriteGuard<'static, &'static str>);

impl NameLock {
    /// Sets the name. Call it once per process, because names are never freed.
    pub(super) fn set(mut self, name: String) {
        *self.0 = name.leak();
    }
}

/// Sends a response to the parent.
pub(crate) type Respond = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Runs the request of this process, and exits. Requests of Python processes go to `foreign`, which returns the
/// exit code, or the reason why it did not run the request.
pub(crate) fn serve(foreign: impl FnOnce(&[u8], Respond) -> Result<i32, String>) -> ! {
    let control = match connect() {
        Ok(control) => Arc::new(control),
        Err(error) => panic!("this child cannot claim its process entry: {error}"),
    };
    let done = match receive_request(&control) {
        Ok(request) if request.bytes().first() == Some(&tag::REQUEST) => {
            panic::watch(on_abort(&control));
            run_own_request(request.bytes()).map(|response| deliver(&control, &response))
        }
        Ok(request) => {
            let control = Arc::clone(&control);
            let respond = move |response: &[u8]| send_parts(&control, &[response]);
            foreign(request.bytes(), Box::new(respond))
        }
        Err(error) => Err(error.to_string()),
    };
    let code = done.unwrap_or_else(|reason| {
        send(&control, tag::REFUSED, reason.as_bytes());
        1
    });
    engine::process::leave();
    exit(code)
}

/// Sets the name of this process.
#[cfg(feature = "python")]
pub(crate) fn set_process_name(name: String) {
    lock_name().set(name);
}

/// Returns a callback that reports a panic which is about to abort this process.
pub(super) fn on_abort(control: &Arc<Queue>) -> impl Fn(Panic) + Send + Sync + 'static {
    let control = Arc::clone(control);
    move |panic| {
        if let Ok(bytes) = codec::encode(&panic) {
            send(&control, tag::ABORTED, &bytes);
        }
    }
}

/// Sends the response to the parent, and returns the matching exit code.
pub(super) fn deliver(control: &Queue, response: &[u8]) -> i32 {
    // Postcard encodes `Err` as a first byte of 1.
    let panicked = response.first() == Some(&1);
    send(control, tag::RESPONSE, response);
    if panicked { 101 } else { 0 }
}

fn connect() -> Result<Queue> {
    let handshake = child::answer_variable()?.ok_or(engine::Error::SeatGone)?;
    let handle = unhex(&handshake.tag).ok_or(engine::Error::BadHandle)?;
    Ok(Queue::open(&Handle::from_bytes(&handle)?)?)
}

fn run_own_request(request: &[u8]) -> Result<Vec<u8>, String> {
    let (fingerprint, name, request) = parts(request).ok_or("the request is cut short")?;
    if fingerprint != child::fingerprint() {
        return Err("parent and child are not the same build of the program".to_owned());
    }
    lock_name().set(name);
    let response = call::run_request(request);
    // Ends of pipes that the arguments did not claim must not keep their pipes open.
    child::close_inherited();
    response
}

fn receive_request(control: &Queue) -> Result<Message, GetError> {
    loop {
        match control.get(Deadline::NEVER) {
            Err(GetError::Interrupted) => {}
            done => return done,
        }
    }
}

fn parts(message: &[u8]) -> Option<(u64, String, &[u8])> {
    let (&[tag::REQUEST], rest) = message.split_first_chunk()? else {
        return None;
    };
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (name, request) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some((u64::from_le_bytes(*fingerprint), name, request))
}

fn send(control: &Queue, tag: u8, bytes: &[u8]) {
    send_parts(control, &[&[tag], bytes]);
}

fn send_parts(control: &Queue, parts: &[&[u8]]) {
    // If the parent cannot receive it, it still sees how this process ends.
    while let Err(engine::error::PutError::Interrupted) = control.put(parts, Deadline::NEVER) {}
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
