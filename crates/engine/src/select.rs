//! Waits for several things at once: the first of any number of queues, pipes and processes.
//!
//! Nothing is received here. A caller that is told of a message tries to receive it, and waits again if another process
//! was faster.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{self, PollFd, PollFlags};

use crate::arena::home_if_any;
use crate::arena::owner::ProcId;
use crate::channel::{End, Queue};
use crate::deadline::Deadline;
use crate::error::WaitError;
use crate::eventcount::EventCount;
pub use crate::eventcount::EventKey;
use crate::process_table::wait_registry;
use crate::sync::spin::Spin;
use crate::sys::futex::{NAP, Slept};

/// The nap between checks of sources that no word reports on.
const BLIND_NAP: Duration = Duration::from_millis(20);
/// Words report every event, so no naps are needed.
const NO_NAP: Duration = Duration::MAX;
/// As [`BLIND_NAP`], for a process that has released its entry and is about to end.
const LAST_NAP: Duration = Duration::from_millis(1);

/// Something to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A queue that has a message, or is closed.
    Message(&'a Queue),
    /// A queue that has room, or is closed.
    Room(&'a Queue),
    /// A queue from which a message was received after [this key](Queue::event_key), or that is closed.
    RoomSince(&'a Queue, EventKey),
    /// An end of a pipe that has a message, or the end of the stream.
    Arrival(&'a End),
    /// An end of a pipe that has room for a small message, or whose peer is gone.
    Departure(&'a End),
    /// An end of a pipe from whose other end a message was received after [this key](End::event_key), or whose peer is
    /// gone.
    DepartureSince(&'a End, EventKey),
    /// A child that ended: its pidfd, and its id in the process table.
    Exit(BorrowedFd<'a>, ProcId),
    /// A wake handle that was notified after [this key](WakeHandle::event_key).
    WakeHandle(&'a WakeHandle, EventKey),
}

impl Source<'_> {
    /// Whether a wait would return at once.
    pub fn is_ready(&self) -> bool {
        self.is_ready_by_memory()
            || match self {
                Source::Arrival(end) | Source::Departure(end) | Source::DepartureSince(end, _) => {
                    end.peer_is_gone()
                }
                Source::Exit(pidfd, _) => has_ended(*pidfd),
                _ => false,
            }
    }

    /// As [`Source::is_ready`], as far as that is known without a system call.
    fn is_ready_by_memory(&self) -> bool {
        match self {
            Source::Message(queue) => queue.is_closed() || !queue.is_empty(),
            Source::Room(queue) => queue.is_closed() || queue.at().has_room_for_one(),
            Source::RoomSince(queue, key) => {
                queue.is_closed() || key.is_over(&queue.at().chain.space)
            }
            Source::Arrival(end) => !end.incoming().is_empty(),
            Source::Departure(end) => end.outgoing().has_room_for_one(),
            Source::DepartureSince(end, key) => key.is_over(&end.outgoing().chain.space),
            Source::Exit(..) => false,
            Source::WakeHandle(handle, key) => key.is_over(&handle.0),
        }
    }

    /// Announces that this thread is about to sleep. Adds the words to sleep on, and returns for how long at most.
    fn announce<'w>(&'w self, words: &mut Vec<(&'w AtomicU32, u32)>) -> Duration {
        match self {
            Source::Message(queue) => words.push(asleep_on(&queue.at().chain.items)),
            Source::Room(queue) => words.push(asleep_on(&queue.at().chain.space)),
            Source::RoomSince(queue, key) => {
                words.push((queue.at().chain.space.word(), key.0));
            }
            Source::Arrival(end) => {
                words.push(asleep_on(&end.incoming().chain.items));
                return watch(end.watch_others(), words);
            }
            Source::Departure(end) => {
                words.push(asleep_on(&end.outgoing().chain.space));
                return watch(end.watch_others(), words);
            }
            Source::DepartureSince(end, key) => {
                words.push((end.outgoing().chain.space.word(), key.0));
                return watch(end.watch_others(), words);
            }
            Source::Exit(_, slot) => {
                let liveness = home_if_any().and_then(|arena| arena.watch_liveness(*slot));
                let Some(liveness) = liveness else {
                    return LAST_NAP;
                };
                words.push(liveness);
                // A process that has not claimed its entry yet changes nothing there when it dies.
                let joined = home_if_any().is_some_and(|a| a.watch_closely(*slot).is_some());
                return if joined { NO_NAP } else { BLIND_NAP };
            }
            Source::WakeHandle(handle, key) => words.push((handle.0.word(), key.0)),
        }
        NO_NAP
    }

    /// Call after a sleep: wakes another thread that waits for the same event, since a wake-up may have been meant for
    /// it.
    fn pass_on(&self) {
        match self {
            Source::Message(queue) => queue.at().chain.items.woke(|| !queue.is_empty()),
            Source::Room(queue) => queue.at().chain.space.woke(|| true),
            Source::RoomSince(queue, key) => key.pass_on(&queue.at().chain.space),
            Source::Arrival(end) => {
                let incoming = end.incoming();
                incoming.chain.items.woke(|| !incoming.is_empty());
            }
            Source::Departure(end) => end.outgoing().chain.space.woke(|| true),
            Source::DepartureSince(end, key) => key.pass_on(&end.outgoing().chain.space),
            Source::Exit(..) | Source::WakeHandle(..) => {}
        }
    }
}

fn asleep_on(sleepers: &'static EventCount) -> (&'static AtomicU32, u32) {
    let key = sleepers.announce();
    (sleepers.word(), key)
}

/// Adds the words of the processes at a pipe's other end; returns the nap that is needed.
fn watch<'w>(
    others: Option<Vec<(&'w AtomicU32, u32)>>,
    words: &mut Vec<(&'w AtomicU32, u32)>,
) -> Duration {
    match others {
        Some(others) => {
            words.extend(others);
            NAP
        }
        None => BLIND_NAP,
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    matches!(
        event::poll(&mut watched, Some(&rustix::time::Timespec::default())),
        Ok(1..)
    )
}

/// An event count of this process alone, by which one thread wakes another that also waits for other things.
#[derive(Debug, Default)]
pub struct WakeHandle(EventCount);

impl WakeHandle {
    /// The key for a wait that ends once it is notified. Take it before the last look at what is announced.
    pub fn event_key(&self) -> EventKey {
        EventKey::now(&self.0)
    }

    /// Wakes the threads that wait for it.
    pub fn notify(&self) {
        self.0.notify(u32::MAX);
    }
}

/// Waits for the first of several sources.
#[derive(Debug, Default)]
pub struct Select {
    spin: Spin,
    /// The source the next check starts at, so that no source is always last.
    rotation: AtomicU32,
}

impl Select {
    /// Waits until one of the sources is ready; returns its index. If several are ready, the choice rotates.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], [`WaitError::Interrupted`].
    pub fn wait(&self, sources: &[Source<'_>], deadline: Deadline) -> Result<usize, WaitError> {
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed) as usize;
        let check_memory = || first(sources, rotation, |source| source.is_ready_by_memory());
        let check_all = || first(sources, rotation, |source| source.is_ready());
        if let Some(ready) = check_memory() {
            self.spin.hit();
            return Ok(ready);
        }
        if deadline == Deadline::NOW {
            return check_all().ok_or(WaitError::TimedOut);
        }
        if let Some(ready) = self.spin.until(check_memory) {
            return Ok(ready);
        }
        let mut sleeps = 0;
        let _call = wait_registry::Call::join();
        let found = loop {
            let mut words = Vec::with_capacity(sources.len() + 1);
            let naps = sources.iter().map(|source| source.announce(&mut words));
            let nap = naps.min().unwrap_or(NO_NAP);
            if let Some(ready) = check_all() {
                break Ok(ready);
            }
            if deadline.is_past() {
                break Err(WaitError::TimedOut);
            }
            sleeps += 1;
            let slept = if nap == NO_NAP && !words.is_empty() {
                wait_registry::sleep(&words, deadline)
            } else {
                let nap = nap.min(NAP).max(BLIND_NAP.min(LAST_NAP * sleeps));
                nap_on(&words, deadline.min(Deadline::after(nap)))
            };
            if slept == Slept::Interrupted {
                break Err(WaitError::Interrupted);
            }
        };
        if sleeps > 0 {
            sources.iter().for_each(Source::pass_on);
        }
        found
    }
}

/// The first ready source, checking those from `rotation` on and then those before it.
fn first(
    sources: &[Source<'_>],
    rotation: usize,
    is_ready: impl Fn(&Source<'_>) -> bool,
) -> Option<usize> {
    let count = sources.len();
    let mut order = (0..count).map(|at| (at + rotation) % count);
    order.find(|&at| is_ready(&sources[at]))
}

fn nap_on(words: &[(&AtomicU32, u32)], until: Deadline) -> Slept {
    if words.is_empty() {
        std::thread::sleep(until.remaining().unwrap_or(NAP));
        return Slept::Stirred;
    }
    wait_registry::nap(words, until)
}
