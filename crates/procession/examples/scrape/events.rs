//! The events of the main thread: outcomes, their end, and Ctrl-C.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::outcome::Outcome;

/// An event.
#[derive(Debug)]
pub enum Event {
    /// An outcome of one address.
    Outcome(Outcome),
    /// All outcomes have been reported, or gathering them failed.
    Finished(thread::Result<procession::Result<()>>),
    /// Ctrl-C was pressed.
    Interrupted,
}

/// Blocks Ctrl-C in this thread and all threads it starts, until [`open`] waits for it.
///
/// Ctrl-C reaches the whole process group, but only one process may handle it, so each child calls this first.
pub fn block_interrupts() -> nix::Result<()> {
    interrupt().thread_block()
}

/// Creates the event channel, and starts to report Ctrl-C on it.
pub fn open() -> (Sender<Event>, Receiver<Event>) {
    let (sender, receiver) = channel();
    let on_interrupt = sender.clone();
    thread::spawn(move || {
        while interrupt().wait().is_ok() && on_interrupt.send(Event::Interrupted).is_ok() {}
    });
    (sender, receiver)
}

fn interrupt() -> SigSet {
    SigSet::from_iter([Signal::SIGINT])
}
