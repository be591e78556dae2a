//! The submitting process's side of a task queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::arena::owner::ProcId;
use crate::channel::{Message, Queue, Watched};
use crate::deadline::{Deadline, monotonic_ns};
use crate::error::{Error, GetError, PutError, Result};
use crate::objects::handle::Handle;
use crate::objects::object_ref::ObjectRef;
use crate::process;
use crate::sys::futex;

use super::assist::Assistants;
use super::event::{Cancelled, Event, Lost, Results, Task};
use super::layout::SharedState;
use super::message::{self, MessageKind, WorkerMessage};
use super::ring::{RingMemory, RingSlot};
use super::room::Room;
use super::scheduler::Scheduler;

/// The default number of tasks in shared memory. Further tasks wait in the submitter's own memory.
const CAPACITY: u32 = 1024;

/// After a run of results this long, a [`BURST_PAUSE`] pays before going to sleep.
const BURST: u32 = 4;

/// While results come in quick succession, the submitter checks for them this often. Otherwise each worker would
/// have to wake it for each result.
const BURST_PAUSE: Duration = Duration::from_micros(40);

/// Tasks that the creating process offers to workers at their [`WorkerEndpoint`](super::WorkerEndpoint).
#[derive(Debug)]
pub struct TaskQueue {
    shared: SharedState,
    results: Queue,
    submitter: ProcId,
    scheduler: Mutex<Scheduler>,
    /// Signalled when there is room again for a submitter that waits for it, or never will be.
    room: Condvar,
    /// Watched workers that are gone, while what they sent is still being reported.
    gone: Mutex<VecDeque<ProcId>>,
    /// Results reported since the last sleep.
    burst: AtomicU32,
    /// The results queue holds a wake-up message already: another one would add nothing.
    rung: AtomicBool,
    assistants: Assistants,
}

impl TaskQueue {
    /// Creates a task queue.
    pub fn new() -> Result<TaskQueue> {
        TaskQueue::with_capacity(CAPACITY)
    }

    /// Creates a task queue with room for at least `tasks` tasks in shared memory. Further tasks wait outside of it.
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
            assistants: Assistants::default(),
        })
    }

    /// The handle with which a worker opens its [`WorkerEndpoint`](super::WorkerEndpoint).
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Every object that must be kept alive for a worker that is being started.
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
            self.shared.doorbell().notify_fenced(sleepers);
        }
    }

    /// Queues a task. Never waits. Tasks are claimed in the order of their submission. Returns the total weight of all
    /// tasks that have not ended.
    pub fn submit(&self, task: Task, parts: &[&[u8]]) -> Result<u64> {
        self.submit_with(task, parts, Vec::new())
    }

    /// As [`TaskQueue::submit`], with objects that stay alive until the task has ended.
    ///
    /// # Errors
    /// As [`TaskQueue::submit`].
    pub fn submit_with(&self, task: Task, parts: &[&[u8]], objects: Vec<ObjectRef>) -> Result<u64> {
        self.accept(self.scheduler(), task, parts, objects)
    }

    /// As [`TaskQueue::submit`], but waits while `most` tasks have not ended. `None` at `deadline`.
    ///
    /// # Errors
    /// As [`TaskQueue::submit`], also if the task queue is closed meanwhile.
    pub fn submit_within(
        &self,
        most: usize,
        task: Task,
        parts: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Option<u64>> {
        let mut scheduler = self.scheduler();
        while !scheduler.closing && scheduler.outstanding() >= most {
            if deadline.is_past() {
                return Ok(None);
            }
            scheduler.end_awaited = true;
            scheduler = self.sleep_for_room(scheduler, deadline);
        }
        let weight = self.accept(scheduler, task, parts, Vec::new())?;
        Ok(Some(weight))
    }

    #[inline]
    fn accept(
        &self,
        mut scheduler: MutexGuard<'_, Scheduler>,
        task: Task,
        parts: &[&[u8]],
        objects: Vec<ObjectRef>,
    ) -> Result<u64> {
        if scheduler.closing {
            return Err(Error::Invalid("the task queue is closed".into()));
        }
        let sleepers = scheduler.accept(&self.shared, task, parts, objects)?;
        let deadline_wake = scheduler.needs_deadline_wake();
        let weight = scheduler.weight;
        drop(scheduler);
        self.wake(sleepers);
        self.wake_for_deadline(deadline_wake);
        Ok(weight)
    }

    /// Sleeps until there may be room.
    fn sleep_for_room<'a>(
        &self,
        scheduler: MutexGuard<'a, Scheduler>,
        deadline: Deadline,
    ) -> MutexGuard<'a, Scheduler> {
        let nap = deadline.remaining().unwrap_or(futex::NAP).min(futex::NAP);
        match self.room.wait_timeout(scheduler, nap) {
            Ok((scheduler, _)) => scheduler,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// The number of tasks that have not ended.
    pub fn outstanding(&self) -> usize {
        self.scheduler().outstanding()
    }

    /// The total weight of all tasks that have not ended.
    pub fn weight(&self) -> u64 {
        self.scheduler().weight
    }

    /// Waits until there is room for another task. A caller that had to wait is woken only once there is enough room
    /// to make the wake-up worth its cost. False at `deadline`.
    pub fn wait_for_room(&self, room: Room, deadline: Deadline) -> bool {
        let mut scheduler = self.scheduler();
        let mut has_room = room.allows_more(scheduler.load());
        while !has_room {
            if deadline.is_past() {
                return false;
            }
            scheduler.awaited = Some(room.or(scheduler.awaited));
            scheduler = self.sleep_for_room(scheduler, deadline);
            has_room = room.is_worth_waking(scheduler.load());
        }
        true
    }

    /// Waits for the next event until `deadline`. One thread at a time may call this.
    ///
    /// Reports the workers in `watch` when they are gone, for as long as they are in the list.
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
                // If a doorbell ring woke the dead worker, it woke no other.
                self.wake(u32::MAX);
                return Ok(Event::Gone(worker));
            }
            let mut scheduler = self.scheduler();
            // A thread that assists may have emptied the queue since, and has then passed on what was in it.
            if let Some(event) = scheduler.events.pop_front() {
                return Ok(event);
            }
            let (overdue, recheck_in) = scheduler.overdue(&self.shared, monotonic_ns());
            if let Some(event) = overdue {
                return Ok(event);
            }
            let until = recheck_in.map_or(deadline, |time| deadline.min(Deadline::after(time)));
            // Under the same lock as the check: a task that comes in between is either seen or wakes the sleeper.
            scheduler.note_sleep(until);
            drop(scheduler);
            if !deadline.is_past() && self.assistants.nap() {
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

    /// Looks for results for a moment, until `is_done`, and delivers them. Any number of threads may do so. False if
    /// `is_done` did not become true within that moment.
    pub fn assist(&self, is_done: impl Fn() -> bool, results: &impl Results) -> bool {
        let mut passed_on = false;
        self.assistants.enter();
        let done = self.assistants.spin.until(|| {
            while let Some(result) = self.take_result(&mut passed_on) {
                results.take(result);
            }
            is_done().then_some(())
        });
        self.assistants.leave(done.is_some() && !passed_on);
        if passed_on {
            // The watching thread may be asleep by now.
            let _ = self.ring();
        }
        done.is_some()
    }

    /// Takes a result that a worker has sent. Passes the events before it on to the watching thread.
    fn take_result(&self, passed_on: &mut bool) -> Option<Event> {
        if self.results.is_empty() {
            return None;
        }
        // Until the task is settled, and the event passed on, no thread may conclude from an empty queue that they will
        // never come.
        let mut scheduler = self.scheduler();
        let mut result = None;
        while result.is_none()
            && let Ok(message) = self.results.get(Deadline::NOW)
        {
            match self.read(message, &mut scheduler) {
                event @ (None | Some(Event::Result { .. })) => result = event,
                Some(other) => {
                    scheduler.events.push_back(other);
                    *passed_on = true;
                }
            }
        }
        self.refill(scheduler);
        result
    }

    fn gone(&self) -> MutexGuard<'_, VecDeque<ProcId>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message that is there, or that comes within a [`BURST_PAUSE`] during a burst.
    fn next_message(&self) -> std::result::Result<Message, GetError> {
        loop {
            match self.results.get(Deadline::NOW) {
                Err(GetError::Empty) if self.burst.swap(0, Ordering::Relaxed) >= BURST => {
                    std::thread::sleep(BURST_PAUSE);
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
        let (kind, result_kind, worker, ring_slot, reply) = WorkerMessage::parse(message)?;
        match kind {
            MessageKind::Result => {
                let Task { job, index, .. } = scheduler.settle(&self.shared, ring_slot)?;
                Some(Event::Result {
                    job,
                    index,
                    result_kind,
                    reply,
                })
            }
            MessageKind::Abandoned => {
                let Task { job, index, .. } = scheduler.settle(&self.shared, ring_slot)?;
                Some(Event::Abandoned { job, index })
            }
            MessageKind::Notice => Some(Event::Notice {
                worker: ProcId::from_u32(worker)?,
                result_kind,
                reply,
            }),
            MessageKind::Rung => {
                // Reset before the caller looks at what the wake-up was for.
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

    /// Wakes the watcher if it would sleep beyond the time limit of a task.
    fn wake_for_deadline(&self, deadline_wake: bool) {
        if deadline_wake {
            // If there is no memory for the message, the watcher sees the limit when it wakes for another reason.
            let _ = self.ring();
        }
    }

    /// The tasks held by a worker that [`Event::Gone`] reported. Tasks with retries left are queued again.
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

    /// Ends the unclaimed tasks of a job. Returns their places; no event follows for them.
    pub fn withdraw(&self, job: u64) -> Vec<u64> {
        let mut scheduler = self.scheduler();
        let withdrawn = scheduler.withdraw(&self.shared, job, None);
        self.refill(scheduler);
        withdrawn
    }

    /// Dismisses workers: each finishes the task that it has claimed, and then finds the task queue closed.
    pub fn dismiss_all(&self, workers: &[ProcId]) {
        for &worker in workers {
            self.shared.dismiss(worker);
        }
        // Wakes all: no other process can tell which of the sleepers it is.
        self.wake(u32::MAX);
    }

    /// Ends all unclaimed tasks; no event follows for them.
    pub fn withdraw_all(&self) {
        let mut scheduler = self.scheduler();
        scheduler.withdraw_all(&self.shared);
        self.refill(scheduler);
    }

    /// The numbers of unclaimed tasks: those in shared memory, and those that wait outside of it.
    pub fn backlog(&self) -> (usize, usize) {
        let scheduler = self.scheduler();
        (scheduler.queued(&self.shared), scheduler.waiting())
    }

    /// Whether workers sent messages that were not read yet.
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

    /// Whether it accepts no more tasks.
    pub fn is_closing(&self) -> bool {
        self.scheduler().closing
    }

    /// Accepts no more tasks, and lets the workers exit once all tasks are claimed.
    pub fn close(&self) {
        let mut scheduler = self.scheduler();
        scheduler.closing = true;
        let last = scheduler.waiting() == 0;
        drop(scheduler);
        if last {
            self.shut_down_workers();
        }
        // For those who wait for room there will be none.
        self.room.notify_all();
    }

    /// Says that there are no workers any more, and that none will follow. Returns the memory that they left free to
    /// the system, unless other queues need it. For a caller that keeps a pool after its end.
    pub fn over(&self) {
        process::trim_for_last_channel();
    }

    /// No task waits outside the shared memory any more: a worker that finds none inside may exit.
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
