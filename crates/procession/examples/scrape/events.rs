//! What the main thread receives: outcomes, their end, and Ctrl-C.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::outcome::Outcome;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// An address has its outcome.
    Outcome(Outcome),
    /// All addresses have theirs, or gathering them failed.
    Over(thread::Result<procession::Result<()>>),
    /// Ctrl-C was pressed.
    Interrupted,
}

/// The channel of events; it serves one run after the other.
#[derive(Debug)]
pub struct Events {
    pub sender: Sender<Event>,
    pub receiver: Receiver<Event>,
}

/// Keeps Ctrl-C from this thread and from all that it starts, until [`Events::open`] waits for it.
///
/// Ctrl-C reaches the whole process group, and only one process may answer it: each child does this first
/// thing too.
pub fn put_interrupts_off() -> nix::Result<()> {
    interrupt().thread_block()
}

impl Events {
    /// Opens the channel, and starts a thread that sends Ctrl-C to it.
    pub fn open() -> Self {
        let (sender, receiver) = channel();
        let on_interrupt = sender.clone();
        thread::spawn(move || {
            while interrupt().wait().is_ok() && on_interrupt.send(Event::Interrupted).is_ok() {}
        });
        Self { sender, receiver }
    }
}

fn interrupt() -> SigSet {
    SigSet::from_iter([Signal::SIGINT])
}
