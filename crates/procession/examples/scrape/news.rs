//! What the main thread hears: outcomes, their end, and Ctrl-C.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::outcome::Outcome;

/// One thing that happened.
#[derive(Debug)]
pub enum News {
    /// An address has its outcome.
    Outcome(Outcome),
    /// All addresses have theirs, or gathering them failed.
    Over(thread::Result<procession::Result<()>>),
    /// Ctrl-C was pressed.
    Interrupted,
}

/// Keeps Ctrl-C from this thread and from all that it starts, until [`open`] waits for it.
///
/// Ctrl-C reaches the whole process group, and only one process may answer it: each child does this first
/// thing too.
pub fn put_interrupts_off() -> nix::Result<()> {
    interrupt().thread_block()
}

/// Both ends of the news, with Ctrl-C already on it.
pub fn open() -> (Sender<News>, Receiver<News>) {
    let (teller, heard) = channel();
    let on_interrupt = teller.clone();
    thread::spawn(move || {
        while interrupt().wait().is_ok() && on_interrupt.send(News::Interrupted).is_ok() {}
    });
    (teller, heard)
}

fn interrupt() -> SigSet {
    SigSet::from_iter([Signal::SIGINT])
}
