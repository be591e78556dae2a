//! Signals that come just before a sleep.

use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use procession_engine::channel::{Message, Queue, pipe};
use procession_engine::error::{GetError, WaitError};
use procession_engine::sync::Event;
use procession_engine::{Deadline, signals};

/// How long a test waits for what is not expected to happen.
const LONG: Duration = Duration::from_secs(60);

static CALLS: AtomicU32 = AtomicU32::new(0);
/// Serializes the tests: signal handlers belong to the whole process, and only one thread at a time may be attentive.
static SERIAL: Mutex<()> = Mutex::new(());

extern "C" fn on_signal(_: c_int) {
    CALLS.fetch_add(1, Ordering::SeqCst);
}

fn handle(signal: c_int) {
    let handler = on_signal as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: the handler changes an atomic and nothing else.
    unsafe { libc::signal(signal, handler) };
    signals::follow(handler);
}

fn raise(signal: c_int) {
    // SAFETY: a signal with a handler, to the calling thread.
    unsafe { libc::raise(signal) };
}

#[test]
fn a_signal_before_the_sleep_ends_it() {
    let _serial = SERIAL.lock().unwrap();
    handle(libc::SIGUSR1);
    let event = Event::new().unwrap();
    let seen = signals::count();
    raise(libc::SIGUSR1);
    let slept = signals::attentively(seen, || event.wait(Deadline::after(LONG)));
    assert_eq!(slept, Err(WaitError::Interrupted));
    assert_ne!(signals::count(), seen);
}

#[test]
fn a_signal_before_a_sleep_on_several_words_ends_it() {
    let _serial = SERIAL.lock().unwrap();
    handle(libc::SIGUSR1);
    let queue = Queue::new(0).unwrap();
    let (end, _other) = pipe(true).unwrap();
    let seen = signals::count();
    raise(libc::SIGUSR1);
    let until = Deadline::after(LONG);
    let is_interrupted =
        |slept: Result<Message, GetError>| matches!(slept, Err(GetError::Interrupted));
    assert!(is_interrupted(
        signals::attentively(seen, || queue.get(until))
    ));
    assert!(is_interrupted(
        signals::attentively(seen, || end.recv(until))
    ));
}

#[test]
fn a_signal_of_another_thread_ends_the_sleep() {
    let _serial = SERIAL.lock().unwrap();
    handle(libc::SIGUSR1);
    let event = Event::new().unwrap();
    let seen = signals::count();
    // Before or after this thread falls asleep.
    let other = std::thread::spawn(|| raise(libc::SIGUSR1));
    let slept = signals::attentively(seen, || event.wait(Deadline::after(LONG)));
    other.join().unwrap();
    assert_eq!(slept, Err(WaitError::Interrupted));
}

#[test]
fn a_signal_that_another_thread_gets_ends_a_receive_that_sleeps_long() {
    let _serial = SERIAL.lock().unwrap();
    handle(libc::SIGUSR1);
    let (end, _other) = pipe(true).unwrap();
    // No test runs in the first thread of the process, which the kernel prefers for signals.
    let me = std::fs::read_link("/proc/thread-self").unwrap();
    let call = std::path::Path::new("/proc").join(me).join("syscall");
    let (seen, until) = (signals::count(), Deadline::after(LONG));
    let other = std::thread::spawn(move || {
        let polls = format!("{} ", libc::SYS_ppoll);
        while !std::fs::read_to_string(&call).unwrap().starts_with(&polls) {
            std::thread::yield_now();
        }
        raise(libc::SIGUSR1);
    });
    let received = signals::attentively(seen, || end.recv(until));
    other.join().unwrap();
    assert!(matches!(received, Err(GetError::Interrupted)));
}

#[test]
fn the_handler_that_is_followed_is_called() {
    let _serial = SERIAL.lock().unwrap();
    handle(libc::SIGUSR2);
    let (calls, seen) = (CALLS.load(Ordering::SeqCst), signals::count());
    raise(libc::SIGUSR2);
    assert_eq!(CALLS.load(Ordering::SeqCst), calls + 1);
    assert_eq!(signals::count(), seen + 1);
    let handler = on_signal as extern "C" fn(c_int) as usize;
    assert_eq!(signals::handler_of(libc::SIGUSR2), Some(handler));
}

#[test]
fn other_handlers_are_left_alone() {
    extern "C" fn another(_: c_int) {}
    let _serial = SERIAL.lock().unwrap();
    handle(libc::SIGUSR1);
    let handler = another as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGURG, handler) };
    signals::follow(handler);
    let seen = signals::count();
    raise(libc::SIGURG);
    assert_eq!(signals::count(), seen);
    assert_eq!(signals::handler_of(libc::SIGURG), Some(handler));
    assert_eq!(signals::handler_of(libc::SIGWINCH), None);
}

#[test]
fn a_sleep_that_no_signal_comes_before_lasts_until_its_time() {
    let _serial = SERIAL.lock().unwrap();
    let event = Event::new().unwrap();
    let until = Deadline::after(Duration::from_millis(20));
    let slept = signals::attentively(signals::count(), || event.wait(until));
    assert_eq!(slept, Err(WaitError::TimedOut));
    assert!(until.is_past());
}
