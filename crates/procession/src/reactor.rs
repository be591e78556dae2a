//! How a future learns that something is there.
//!
//! One thread waits for what up to [`FULL`] futures wait for, and wakes those that can go on. It takes
//! nothing: the future does when it is polled, so one that is dropped before has taken nothing either.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use procession_engine::channel::{End, Queue};
use procession_engine::select::{Alarm, Select, Source};
use procession_engine::{Deadline, OwnerId};

use crate::shared::Shared;

/// So many a thread waits for: the kernel lets it sleep on 128 words, and a pipe takes several.
const FULL: usize = 40;

/// What a future waits for.
#[derive(Clone)]
pub(crate) enum Awaited {
    Message(Shared<Queue>),
    Room(Shared<Queue>),
    Arrival(Arc<End>),
    /// Room for a message of so many bytes.
    Departure(Arc<End>, usize),
    /// The end of a child: its pidfd and its seat.
    Exit(Arc<OwnedFd>, OwnerId),
}

impl Awaited {
    fn source(&self) -> Source<'_> {
        match self {
            Awaited::Message(queue) => Source::Message(queue),
            Awaited::Room(queue) => Source::Room(queue),
            Awaited::Arrival(end) => Source::Arrival(end),
            Awaited::Departure(end, size) => Source::Departure(end, *size),
            Awaited::Exit(pidfd, seat) => Source::Exit(pidfd.as_fd(), *seat),
        }
    }
}

/// Resolves when what it waits for may be there.
pub(crate) fn ready(awaited: Awaited) -> impl Future<Output = ()> + Send {
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
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &self.place {
            Some(place) if place.renew(context.waker()) => Poll::Pending,
            Some(_) => Poll::Ready(()),
            None => {
                let place = Place::take(self.awaited.clone(), context.waker().clone());
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

/// An entry of a future that waits; taken out when this is dropped.
struct Place {
    watch: Arc<Watch>,
    number: u64,
}

impl Place {
    fn take(awaited: Awaited, waker: Waker) -> Place {
        let mut entry = Entry { awaited, waker };
        let mut all = watches();
        let number = all.next;
        all.next += 1;
        for watch in &all.watches {
            match watch.add(number, entry) {
                Ok(()) => {
                    let watch = Arc::clone(watch);
                    return Place { watch, number };
                }
                Err(back) => entry = back,
            }
        }
        let watch = Arc::new(Watch::default());
        watch.entries().insert(number, entry);
        all.watches.push(Arc::clone(&watch));
        Watch::start(Arc::clone(&watch));
        Place { watch, number }
    }

    /// Whether it goes on waiting; it is this waker that is to be woken then.
    fn renew(&self, waker: &Waker) -> bool {
        let mut entries = self.watch.entries();
        let entry = entries.get_mut(&self.number);
        entry.map(|entry| entry.waker.clone_from(waker)).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
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

    fn start(watch: Arc<Watch>) {
        let thread = std::thread::Builder::new().name("procession-async".to_owned());
        thread
            .spawn(move || watch.run())
            .expect("a thread that waits for futures can be started");
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
            woken.into_iter().for_each(|entry| entry.waker.wake());
        }
    }
}

/// All threads that wait for futures.
struct Watches {
    /// The process they are threads of: a forked child has none of its parent's.
    process: u32,
    watches: Vec<Arc<Watch>>,
    next: u64,
}

fn watches() -> MutexGuard<'static, Watches> {
    static WATCHES: Mutex<Watches> = Mutex::new(Watches {
        process: 0,
        watches: Vec::new(),
        next: 0,
    });
    let mut all = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if all.process != process {
        all.process = process;
        all.watches.clear();
    }
    all
}
