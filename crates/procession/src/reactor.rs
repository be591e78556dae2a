//! How a future learns that something is there.
//!
//! One thread waits for what up to [`FULL`] futures wait for, and wakes those that can go on. It takes
//! nothing: the future does when it is polled, so one that is dropped before has taken nothing either.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use procession_engine::channel::{End, Queue};
use procession_engine::select::{Alarm, Moment, Select, Source};
use procession_engine::{self as engine, Deadline, OwnerId};

use crate::shared::Shared;
use crate::taker::Taker;

/// So many a thread waits for: the kernel lets it sleep on 128 words, and a pipe takes several.
const FULL: usize = 40;

/// What a future waits for.
#[derive(Clone)]
pub(crate) enum Awaited {
    Message(Shared<Queue>),
    Room(Shared<Queue>, Moment),
    Arrival(Arc<End>),
    Departure(Arc<End>, Moment),
    /// The end of a child: its pidfd and its seat.
    Exit(Arc<OwnedFd>, OwnerId),
}

impl Awaited {
    fn source(&self) -> Source<'_> {
        match self {
            Awaited::Message(queue) => Source::Message(queue),
            Awaited::Room(queue, moment) => Source::RoomSince(queue, *moment),
            Awaited::Arrival(end) => Source::Arrival(end),
            Awaited::Departure(end, moment) => Source::DepartureSince(end, *moment),
            Awaited::Exit(pidfd, seat) => Source::Exit(pidfd.as_fd(), *seat),
        }
    }
}

/// Resolves when what it waits for may be there; to an error when there is no thread to wait in.
pub(crate) fn ready(awaited: Awaited) -> impl Future<Output = engine::Result<()>> + Send {
    Ready {
        awaited,
        place: None,
    }
}

struct Ready {
    awaited: Awaited,
    place: Option<Place>,
}

impl Future for Ready {
    type Output = engine::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<engine::Result<()>> {
        match &self.place {
            Some(place) if place.renew(context.waker()) => Poll::Pending,
            Some(_) => Poll::Ready(Ok(())),
            None => {
                let place = Place::take(self.awaited.clone(), context.waker().clone())?;
                self.place = Some(place);
                Poll::Pending
            }
        }
    }
}

struct Entry {
    awaited: Awaited,
    waker: Waker,
}

/// What one thread waits for.
#[derive(Default)]
struct Watch {
    entries: Mutex<BTreeMap<u64, Entry>>,
    /// Rings when the entries have changed.
    alarm: Alarm,
}

/// An entry of a future that waits; taken out when this is dropped. A forked child that has it as well has no
/// part in it: its parent's thread may hold the entries for ever there.
struct Place {
    taker: Taker,
    watch: Arc<Watch>,
    number: u64,
}

impl Place {
    fn take(awaited: Awaited, waker: Waker) -> engine::Result<Place> {
        let mut entry = Entry { awaited, waker };
        let mut all = watches();
        let number = all.next;
        all.next += 1;
        for watch in &all.watches {
            match watch.add(number, entry) {
                Ok(()) => {
                    let watch = Arc::clone(watch);
                    return Ok(Place::of(watch, number));
                }
                Err(back) => entry = back,
            }
        }
        let watch = Arc::new(Watch::default());
        watch.entries().insert(number, entry);
        Watch::start(Arc::clone(&watch))?;
        all.watches.push(Arc::clone(&watch));
        Ok(Place::of(watch, number))
    }

    fn of(watch: Arc<Watch>, number: u64) -> Place {
        Place {
            taker: Taker::me(),
            watch,
            number,
        }
    }

    /// Whether it goes on waiting; it is this waker that is to be woken then.
    fn renew(&self, waker: &Waker) -> bool {
        if !self.taker.is_me() {
            return false;
        }
        let mut waker = waker.clone();
        let mut entries = self.watch.entries();
        let entry = entries.get_mut(&self.number);
        let waits = entry.map(|entry| std::mem::swap(&mut entry.waker, &mut waker));
        // The old one goes behind the lock: with it may go a task that waits here as well.
        drop(entries);
        waits.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.taker.is_me() {
            return;
        }
        let removed = self.watch.entries().remove(&self.number);
        if removed.is_some() {
            // The thread lets go of what it waited for.
            self.watch.alarm.ring();
        }
    }
}

impl Watch {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, number: u64, entry: Entry) -> Result<(), Entry> {
        let mut entries = self.entries();
        if entries.len() >= FULL {
            return Err(entry);
        }
        entries.insert(number, entry);
        drop(entries);
        self.alarm.ring();
        Ok(())
    }

    fn start(watch: Arc<Watch>) -> engine::Result<()> {
        let thread = std::thread::Builder::new().name("procession-async".to_owned());
        let started = thread.spawn(move || watch.run());
        let what = "start the thread that waits for futures";
        let started = started.map_err(|source| engine::Error::Os { what, source });
        started.map(drop)
    }

    fn run(&self) {
        let select = Select::default();
        loop {
            let count = self.alarm.count();
            let awaited: Vec<(u64, Awaited)> = self
                .entries()
                .iter()
                .map(|(number, entry)| (*number, entry.awaited.clone()))
                .collect();
            let alarm = [Source::Alarm(&self.alarm, count)];
            let sources = awaited.iter().map(|(_, awaited)| awaited.source());
            let sources: Vec<Source<'_>> = alarm.into_iter().chain(sources).collect();
            if select.wait(&sources, Deadline::NEVER).is_err() {
                continue;
            }
            let there = awaited
                .iter()
                .filter(|(_, awaited)| awaited.source().is_ready());
            let mut entries = self.entries();
            let woken: Vec<Entry> = there
                .filter_map(|(number, _)| entries.remove(number))
                .collect();
            drop(entries);
            for entry in woken {
                // What an executor does there is not to be the end of all other futures.
                let _ = catch_unwind(AssertUnwindSafe(|| entry.waker.wake()));
            }
        }
    }
}

/// All threads that wait for futures.
pub(crate) struct Watches {
    /// The process they are threads of: a forked child has none of its parent's.
    process: u32,
    watches: Vec<Arc<Watch>>,
    next: u64,
}

pub(crate) fn watches() -> MutexGuard<'static, Watches> {
    static WATCHES: Mutex<Watches> = Mutex::new(Watches {
        process: 0,
        watches: Vec::new(),
        next: 0,
    });
    let mut all = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if all.process != process {
        all.process = process;
        // The parent's threads may have been in the middle of them.
        std::mem::forget(std::mem::take(&mut all.watches));
    }
    all
}
