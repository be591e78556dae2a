//! Wakes futures whose operation may be ready.
//!
//! One thread waits on behalf of up to [`MAX_INTERESTS`] futures and wakes those that may proceed. It takes no
//! messages itself: a future does that when it is polled, so a future dropped before that has taken nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use procession_engine::channel::{End, Queue};
use procession_engine::select::{self, Select, Source};
use procession_engine::{self as engine, Deadline, ProcId};

use crate::sync::guard_owner::GuardOwner;
use crate::transfer::shared::Shared;

/// How many futures one thread serves. The kernel lets a thread sleep on 128 futex words, and a pipe needs
/// several.
const MAX_INTERESTS: usize = 40;

/// What a future waits for.
#[derive(Clone)]
pub(crate) enum Interest {
    QueueMessage(Shared<Queue>),
    QueueRoom(Shared<Queue>, select::EventKey),
    PipeMessage(Arc<End>),
    PipeRoom(Arc<End>, select::EventKey),
    /// The end of a child: its pidfd and process entry.
    Exit(Arc<OwnedFd>, ProcId),
}

impl Interest {
    fn source(&self) -> Source<'_> {
        match self {
            Interest::QueueMessage(queue) => Source::Message(queue),
            Interest::QueueRoom(queue, key) => Source::RoomSince(queue, *key),
            Interest::PipeMessage(end) => Source::Arrival(end),
            Interest::PipeRoom(end, key) => Source::DepartureSince(end, *key),
            Interest::Exit(pidfd, proc_id) => Source::Exit(pidfd.as_fd(), *proc_id),
        }
    }
}

/// Resolves when the operation may be ready, or with an error when no thread can be started to wait.
pub(crate) fn ready(interest: Interest) -> impl Future<Output = engine::Result<()>> + Send {
    Ready {
        interest,
        registration: None,
    }
}

struct Ready {
    interest: Interest,
    registration: Option<Registration>,
}

impl Future for Ready {
    type Output = engine::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<engine::Result<()>> {
        match &self.registration {
            Some(registration) if registration.renew(context.waker()) => Poll::Pending,
            Some(_) => Poll::Ready(Ok(())),
            None => {
                let registration =
                    Registration::new(self.interest.clone(), context.waker().clone())?;
                self.registration = Some(registration);
                Poll::Pending
            }
        }
    }
}

struct Entry {
    interest: Interest,
    waker: Waker,
}

/// One thread and the futures it serves.
#[derive(Default)]
struct Reactor {
    entries: Mutex<BTreeMap<u64, Entry>>,
    /// Woken when the entries change.
    waker_source: select::WakeHandle,
}

/// The registration of a waiting future, removed on drop. In a forked child the copy does nothing, because a
/// thread of the parent may have held the lock of the entries during the fork.
struct Registration {
    owner: GuardOwner,
    reactor: Arc<Reactor>,
    number: u64,
}

impl Registration {
    fn new(interest: Interest, waker: Waker) -> engine::Result<Registration> {
        let mut entry = Entry { interest, waker };
        let mut all = reactors();
        let number = all.next;
        all.next += 1;
        for reactor in &all.reactors {
            match reactor.add(number, entry) {
                Ok(()) => {
                    let reactor = Arc::clone(reactor);
                    return Ok(Registration::of(reactor, number));
                }
                Err(back) => entry = back,
            }
        }
        let reactor = Arc::new(Reactor::default());
        reactor.entries().insert(number, entry);
        Reactor::start(Arc::clone(&reactor))?;
        all.reactors.push(Arc::clone(&reactor));
        Ok(Registration::of(reactor, number))
    }

    fn of(reactor: Arc<Reactor>, number: u64) -> Registration {
        Registration {
            owner: GuardOwner::current(),
            reactor,
            number,
        }
    }

    /// Updates the waker. Returns whether the future is still registered.
    fn renew(&self, waker: &Waker) -> bool {
        if !self.owner.is_current() {
            return false;
        }
        let mut waker = waker.clone();
        let mut entries = self.reactor.entries();
        let entry = entries.get_mut(&self.number);
        let waits = entry.map(|entry| std::mem::swap(&mut entry.waker, &mut waker));
        // Drop the old waker after unlocking: that may drop a task that is registered here as well.
        drop(entries);
        waits.is_some()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.owner.is_current() {
            return;
        }
        let removed = self.reactor.entries().remove(&self.number);
        if removed.is_some() {
            // Make the thread drop what it waited for.
            self.reactor.waker_source.notify();
        }
    }
}

impl Reactor {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, number: u64, entry: Entry) -> Result<(), Entry> {
        let mut entries = self.entries();
        if entries.len() >= MAX_INTERESTS {
            return Err(entry);
        }
        entries.insert(number, entry);
        drop(entries);
        self.waker_source.notify();
        Ok(())
    }

    fn start(reactor: Arc<Reactor>) -> engine::Result<()> {
        let thread = std::thread::Builder::new().name("procession-async".to_owned());
        let started = thread.spawn(move || reactor.run());
        let what = "start the thread that waits for futures";
        let started = started.map_err(|source| engine::Error::Os { what, source });
        started.map(drop)
    }

    fn run(&self) {
        let select = Select::default();
        loop {
            let key = self.waker_source.event_key();
            let interest: Vec<(u64, Interest)> = self
                .entries()
                .iter()
                .map(|(number, entry)| (*number, entry.interest.clone()))
                .collect();
            let waker_source = [Source::WakeHandle(&self.waker_source, key)];
            let sources = interest.iter().map(|(_, interest)| interest.source());
            let sources: Vec<Source<'_>> = waker_source.into_iter().chain(sources).collect();
            if select.wait(&sources, Deadline::NEVER).is_err() {
                continue;
            }
            let there = interest
                .iter()
                .filter(|(_, interest)| interest.source().is_ready());
            let mut entries = self.entries();
            let woken: Vec<Entry> = there
                .filter_map(|(number, _)| entries.remove(number))
                .collect();
            drop(entries);
            for entry in woken {
                // A panic of an executor must not end the other futures.
                let _ = catch_unwind(AssertUnwindSafe(|| entry.waker.wake()));
            }
        }
    }
}

/// All threads that wait for futures.
pub(crate) struct Reactors {
    /// The process of these threads. A forked child has none of its parent's threads.
    process: u32,
    reactors: Vec<Arc<Reactor>>,
    next: u64,
}

pub(crate) fn reactors() -> MutexGuard<'static, Reactors> {
    static REACTORS: Mutex<Reactors> = Mutex::new(Reactors {
        process: 0,
        reactors: Vec::new(),
        next: 0,
    });
    let mut all = REACTORS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if all.process != process {
        all.process = process;
        // The parent's threads may have been changing them during the fork, so leak them.
        std::mem::forget(std::mem::take(&mut all.reactors));
    }
    all
}
