//! The submitting process's side of a task queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Handle;
use crate::channel::{Message, Queue, Watched};
use crate::deadline::{Deadline, monotonic_ns};
use crate::error::{Error, GetError, PutError, Result};
use crate::sys::futex;
use crate::{ObjectRef, ProcId, process};

use super::assist::Aside;
use super::layout::SharedState;
use super::message::{self, MessageKind, WorkerMessage};
use super::ring::{self, RingSlot};
use super::room::Room;
use super::scheduler::Scheduler;

/// Tasks that lie in shared memory at once, unless told otherwise. Others wait in the submitter's own.
const CAPACITY: u32 = 1024;

/// A run of results this long is worth a [`BREATHER`] before going to sleep.
const BURST: u32 = 4;

/// While results come in quick succession, the submitter looks for them this often instead of having
/// each worker wake it for each of them.
const BREATHER: Duration = Duration::from_micros(40);

/// A task as the submitter names it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Task {
    /// The job it is part of; any number.
    pub job: u64,
    /// Its place within the job; any number.
    pub index: u64,
    /// How long it may run once a worker has it.
    pub timeout: Option<Duration>,
    /// How many times it is tried again when the worker that has it dies.
    pub retries: u32,
    /// The number of its first item, by the submitter's count.
    pub first_item: u64,
    /// The memory it takes until it ends, in bytes, by the submitter's count; see [`Room`].
    pub weight: u64,
}

/// What [`TaskQueue::next_event`] reports.
#[derive(Debug)]
pub enum Event {
    /// A task is done.
    Result {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// What the worker passed to `finish`.
        verdict: u8,
        /// The result.
        reply: WorkerMessage,
    },
    /// A worker let go of a task without a result, and lives.
    Abandoned {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
    },
    /// A task could not be given to the workers.
    Refused {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// Why.
        error: Error,
    },
    /// A worker said something outside of any task.
    Notice {
        /// Who.
        worker: ProcId,
        /// What it passed to `notify`.
        verdict: u8,
        /// The rest of it.
        reply: WorkerMessage,
    },
    /// A watched worker is gone; all it sent was reported before. [`TaskQueue::lost_by`] says what it held.
    Gone(ProcId),
    /// A task ran longer than it may. It is ended; its worker has to be killed.
    Overdue {
        /// The task's job.
        job: u64,
        /// Its place in the job.
        index: u64,
        /// The item its worker had come to.
        item: u64,
        /// For how long that ran.
        ran: Duration,
        /// How long it was allowed to.
        limit: Duration,
        /// Who runs it, and claims nothing any more.
        worker: ProcId,
    },
    /// [`TaskQueue::ring`] was called.
    Rung,
}

/// A task that went down with its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The task's job.
    pub job: u64,
    /// Its place in the job.
    pub index: u64,
    /// The item its worker had come to.
    pub item: u64,
    /// How many workers died over it.
    pub attempts: u32,
    /// Whether it is queued again; otherwise it has ended.
    pub repeated: bool,
}

/// What [`TaskQueue::cancel`] could do. The tasks named have ended; no event follows for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Places of the tasks that had not begun.
    pub withdrawn: Vec<u64>,
    /// Places of the tasks that run, and the workers that have to be killed for it.
    pub running: Vec<(u64, ProcId)>,
}

/// Tasks, offered by the process that makes the task queue to workers at their [`WorkerEndpoint`](super::WorkerEndpoint).
#[derive(Debug)]
pub struct TaskQueue {
    shared: SharedState,
    results: Queue,
    submitter: ProcId,
    scheduler: Mutex<Scheduler>,
    /// Signalled when there is room again for who waits for it.
    room: Condvar,
    /// A watched worker that is gone while what it sent is still being reported.
    gone: Mutex<VecDeque<ProcId>>,
    /// Results reported since the last sleep.
    burst: AtomicU32,
    /// There is a ring among the results: another would say no more.
    rung: AtomicBool,
    aside: Aside,
}

impl TaskQueue {
    /// A new task queue.
    pub fn new() -> Result<TaskQueue> {
        TaskQueue::with_capacity(CAPACITY)
    }

    /// A new task queue with room for at least `tasks` tasks in shared memory. Others wait outside of it.
    pub fn with_capacity(tasks: u32) -> Result<TaskQueue> {
        let capacity = tasks.clamp(8, 1 << 20).next_power_of_two();
        let results = Queue::new(0)?;
        Ok(TaskQueue {
            shared: SharedState::new(capacity, &results.handle())?,
            results,
            submitter: process::me(),
            scheduler: Mutex::new(Scheduler::new(capacity)),
            room: Condvar::new(),
            gone: Mutex::default(),
            burst: AtomicU32::new(0),
            rung: AtomicBool::new(false),
            aside: Aside::default(),
        })
    }

    /// What a worker opens its [`WorkerEndpoint`](super::WorkerEndpoint) with.
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Every object that has to be held for a worker which is being started.
    pub fn handles(&self) -> [Handle; 2] {
        [self.shared.handle(), self.results.handle()]
    }

    fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, sleepers: u32) {
        if sleepers > 0 {
            ring::ring(&self.shared, |doorbell| futex::wake(doorbell, sleepers));
        }
    }

    /// Queues a task. Never waits; tasks are claimed in the order in which they were submitted. Returns what all tasks
    /// weigh that have not ended.
    pub fn submit(&self, task: Task, parts: &[&[u8]]) -> Result<u64> {
        self.submit_with(task, parts, Vec::new())
    }

    /// As [`TaskQueue::submit`], with objects that stay alive until the task has ended.
    ///
    /// # Errors
    /// As [`TaskQueue::submit`].
    pub fn submit_with(&self, task: Task, parts: &[&[u8]], objects: Vec<ObjectRef>) -> Result<u64> {
        let mut scheduler = self.scheduler();
        if scheduler.closing {
            return Err(Error::Invalid("the task_queue is closed".into()));
        }
        let sleepers = scheduler.accept(&self.shared, task, parts, objects)?;
        let deadline_wake = scheduler.needs_deadline_wake();
        let weight = scheduler.weight;
        drop(scheduler);
        self.wake(sleepers);
        self.wake_for_deadline(deadline_wake);
        Ok(weight)
    }

    /// Tasks that have not ended.
    pub fn outstanding(&self) -> usize {
        self.scheduler().outstanding()
    }

    /// What all tasks weigh that have not ended.
    pub fn weight(&self) -> u64 {
        self.scheduler().weight
    }

    /// Waits until there is room for another task; for one that had to wait, until it is worth it. False at `deadline`.
    pub fn wait_for_room(&self, room: Room, deadline: Deadline) -> bool {
        let mut scheduler = self.scheduler();
        let mut is_left = room.is_left(scheduler.load());
        while !is_left {
            if deadline.is_past() {
                return false;
            }
            scheduler.awaited = Some(room.or(scheduler.awaited));
            let nap = deadline.remaining().unwrap_or(futex::NAP).min(futex::NAP);
            scheduler = match self.room.wait_timeout(scheduler, nap) {
                Ok((scheduler, _)) => scheduler,
                Err(poisoned) => poisoned.into_inner().0,
            };
            is_left = room.is_worth_waking(scheduler.load());
        }
        true
    }

    /// What happened next, waiting for it until `deadline`. One thread at a time calls this.
    ///
    /// The workers in `watch` are reported when they are gone, for as long as they are in the list.
    pub fn next_event(
        &self,
        deadline: Deadline,
        watch: &[ProcId],
    ) -> std::result::Result<Event, GetError> {
        loop {
            if let Some(event) = self.scheduler().events.pop_front() {
                return Ok(event);
            }
            match self.next_message() {
                Err(GetError::Empty) => {}
                Err(error) => return Err(error),
                Ok(message) => match self.receive(message) {
                    Some(event) => return Ok(event),
                    None => continue,
                },
            }
            if let Some(worker) = self.gone().pop_front() {
                // A ring that woke the dead one woke nobody.
                self.wake(u32::MAX);
                return Ok(Event::Gone(worker));
            }
            let mut scheduler = self.scheduler();
            let (overdue, look_again) = scheduler.overdue(&self.shared, monotonic_ns());
            if let Some(event) = overdue {
                return Ok(event);
            }
            let until = look_again.map_or(deadline, |time| deadline.min(Deadline::after(time)));
            // In one piece with the look: a task that comes in between is either seen or wakes the sleeper.
            scheduler.note_sleep(until);
            drop(scheduler);
            if !deadline.is_past() && self.aside.nap() {
                continue;
            }
            match self.results.get_watching(watch, until) {
                Ok(Watched::Message(message)) => {
                    if let Some(event) = self.receive(message) {
                        return Ok(event);
                    }
                }
                Ok(Watched::Gone(worker)) => self.gone().push_back(worker),
                Err(GetError::Empty) if !deadline.is_past() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks for results for a moment, and gives them to `file` as `next_event` would report them, until
    /// `is_done`; any number of threads may do so. False if that was not to be seen in so short a time.
    pub fn assist(&self, is_done: impl Fn() -> bool, mut file: impl FnMut(Event)) -> bool {
        let mut passed_on = false;
        self.aside.enter();
        let done = self.aside.spin.until(|| {
            while let Some(event) = self.take_event() {
                match event {
                    Event::Result { .. } => file(event),
                    other => {
                        self.scheduler().events.push_back(other);
                        passed_on = true;
                    }
                }
            }
            is_done().then_some(())
        });
        self.aside.leave(done.is_some() && !passed_on);
        if passed_on {
            // It may be asleep by now.
            let _ = self.ring();
        }
        done.is_some()
    }

    /// An event that a worker has sent.
    fn take_event(&self) -> Option<Event> {
        if self.results.is_empty() {
            return None;
        }
        // Until the task is settled nobody may conclude from an empty queue that it never will be.
        let mut scheduler = self.scheduler();
        let event = loop {
            let message = self.results.get(Deadline::NOW).ok()?;
            if let Some(event) = self.read(message, &mut scheduler) {
                break event;
            }
        };
        self.refill(scheduler);
        Some(event)
    }

    fn gone(&self) -> MutexGuard<'_, VecDeque<ProcId>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message that is there, or comes within a breather while many come.
    fn next_message(&self) -> std::result::Result<Message, GetError> {
        loop {
            match self.results.get(Deadline::NOW) {
                Err(GetError::Empty) if self.burst.swap(0, Ordering::Relaxed) >= BURST => {
                    std::thread::sleep(BREATHER);
                }
                Ok(message) => {
                    self.burst.fetch_add(1, Ordering::Relaxed);
                    return Ok(message);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&self, message: Message) -> Option<Event> {
        let mut scheduler = self.scheduler();
        let event = self.read(message, &mut scheduler)?;
        self.refill(scheduler);
        Some(event)
    }

    fn read(&self, message: Message, scheduler: &mut Scheduler) -> Option<Event> {
        let (tone, verdict, worker, ring_slot, reply) = WorkerMessage::parse(message)?;
        match tone {
            MessageKind::Result => {
                let Task { job, index, .. } = scheduler.settle(&self.shared, ring_slot)?;
                Some(Event::Result {
                    job,
                    index,
                    verdict,
                    reply,
                })
            }
            MessageKind::Abandoned => {
                let Task { job, index, .. } = scheduler.settle(&self.shared, ring_slot)?;
                Some(Event::Abandoned { job, index })
            }
            MessageKind::Notice => Some(Event::Notice {
                worker: ProcId::from_u32(worker)?,
                verdict,
                reply,
            }),
            MessageKind::Rung => {
                // Before what the ring was for is looked at.
                self.rung.store(false, Ordering::SeqCst);
                Some(Event::Rung)
            }
        }
    }

    fn refill(&self, mut scheduler: MutexGuard<'_, Scheduler>) {
        let waited = scheduler.waiting() > 0;
        let placed = scheduler.refill(&self.shared);
        let deadline_wake = scheduler.needs_deadline_wake();
        let last = scheduler.closing && scheduler.waiting() == 0 && !self.shared.is_closed();
        let is_room = scheduler.has_room_again();
        drop(scheduler);
        if last {
            self.shut_down_workers();
        }
        if waited {
            self.wake(placed);
            self.wake_for_deadline(deadline_wake);
        }
        if is_room {
            self.room.notify_all();
        }
    }

    /// Wakes the watcher if it sleeps beyond the limit of a task.
    fn wake_for_deadline(&self, deadline_wake: bool) {
        if deadline_wake {
            // Without memory for it, the limit is seen when the watcher wakes for another reason.
            let _ = self.ring();
        }
    }

    /// What a worker held that [`Event::Gone`] reported. Tasks with retries left are queued again.
    pub fn lost_by(&self, worker: ProcId) -> Vec<Lost> {
        let mut scheduler = self.scheduler();
        let lost = scheduler.recover_tasks_of(&self.shared, worker);
        self.refill(scheduler);
        self.wake(lost.len() as u32);
        lost
    }

    /// Ends the tasks of a job, or the one at `index`.
    pub fn cancel(&self, job: u64, index: Option<u64>) -> Cancelled {
        let mut scheduler = self.scheduler();
        let cancelled = scheduler.cancel(&self.shared, job, index);
        self.refill(scheduler);
        cancelled
    }

    /// Ends those tasks of a job that have not begun. Returns their places; no event follows for them.
    pub fn withdraw(&self, job: u64) -> Vec<u64> {
        let mut scheduler = self.scheduler();
        let withdrawn = scheduler.withdraw(&self.shared, job, None);
        self.refill(scheduler);
        withdrawn
    }

    /// Lets a worker go: it finishes what it has claimed, and finds the task queue closed then.
    pub fn dismiss(&self, worker: ProcId) {
        self.shared.dismiss(worker);
        // Nobody else can tell which of the sleepers it is.
        self.wake(u32::MAX);
    }

    /// Lets several workers go, as [`TaskQueue::dismiss`] does with one.
    pub fn dismiss_all(&self, workers: &[ProcId]) {
        for &worker in workers {
            self.shared.dismiss(worker);
        }
        self.wake(u32::MAX);
    }

    /// Ends all tasks that have not begun; no event follows for them.
    pub fn withdraw_all(&self) {
        let mut scheduler = self.scheduler();
        scheduler.withdraw_all(&self.shared);
        self.refill(scheduler);
    }

    /// How many tasks nobody has claimed: of those in shared memory, and of those that wait outside of it.
    pub fn backlog(&self) -> (usize, usize) {
        let scheduler = self.scheduler();
        (scheduler.queued(&self.shared), scheduler.waiting())
    }

    /// Whether workers sent something that was not looked at yet.
    pub fn has_messages(&self) -> bool {
        !self.results.is_empty()
    }

    /// The workers that have claimed a task and not ended it.
    pub fn busy(&self) -> Vec<ProcId> {
        self.scheduler().busy(&self.shared)
    }

    /// Makes `next_event` return, from any thread.
    pub fn ring(&self) -> std::result::Result<(), PutError> {
        if self.rung.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let nothing = RingSlot {
            number: u32::MAX,
            generation: 0,
        };
        let header = message::header(MessageKind::Rung, 0, self.submitter, nothing);
        let rung = self.results.put(&[&header], Deadline::NEVER);
        if rung.is_err() {
            self.rung.store(false, Ordering::SeqCst);
        }
        rung
    }

    /// Takes no more tasks, and sends the workers home once all tasks are claimed.
    pub fn close(&self) {
        let mut scheduler = self.scheduler();
        scheduler.closing = true;
        let last = scheduler.waiting() == 0;
        drop(scheduler);
        if last {
            self.shut_down_workers();
        }
    }

    /// Says that there are no workers any more, nor will be: the memory that they left free goes back, unless other
    /// queues want it. For who keeps a pool that is over.
    pub fn over(&self) {
        process::trim_for_last_channel();
    }

    /// No task waits outside of the shared memory any more: who finds none there may leave.
    fn shut_down_workers(&self) {
        self.shared.close();
        self.wake(u32::MAX);
    }
}

impl Drop for TaskQueue {
    /// Workers that outlive the task queue find it closed. A forked copy of it closes nothing.
    fn drop(&mut self) {
        if process::me() == self.submitter {
            self.shut_down_workers();
        }
    }
}
