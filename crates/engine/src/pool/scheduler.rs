//! The submitting process's private state: which records are in use, for which tasks, and which tasks wait.

use std::collections::VecDeque;
use std::time::Duration;

use crate::arena::owner::ProcId;
use crate::deadline::{Deadline, monotonic_ns};
use crate::error::{Error, Result};
use crate::objects::object_ref::ObjectRef;
use crate::sys::atomic::Ordering;
use crate::value::SharedBytes;

use super::event::{Cancelled, Event, Lost, Task};
use super::layout::SharedState;
use super::record::{self, Stage};
use super::ring::{self, RingMemory, RingSlot};
use super::room::{Load, Room};
use super::waiting::{Waiting, WaitingTasks};

/// A task in a record.
#[derive(Debug)]
struct Queued {
    task: Task,
    attempt: u32,
    /// Keeps a long payload alive.
    _payload: Option<SharedBytes>,
    /// Keeps alive the objects that the payload refers to.
    _held: Vec<ObjectRef>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    placed: Option<Queued>,
    /// The record's place in the list of those with a time limit, if its task has one.
    timed: u32,
}

#[derive(Debug)]
pub(super) struct Scheduler {
    slots: Vec<Slot>,
    /// Free record numbers, the last freed on top: its memory is warm in the cache.
    free: Vec<u32>,
    waiting: WaitingTasks,
    /// Records whose tasks have a time limit.
    timed: Vec<u32>,
    /// No task exceeds its time limit before this time.
    timed_until: u64,
    /// Until when the watcher sleeps, if it does. A limit that ends sooner must wake it.
    watched_until: Deadline,
    deadline_wake: bool,
    /// No more tasks are accepted.
    pub(super) closing: bool,
    /// The total weight of all tasks that have not ended.
    pub(super) weight: u64,
    /// The room that a submitter waits for.
    pub(super) awaited: Option<Room>,
    /// A submitter waits for the end of any task.
    pub(super) end_awaited: bool,
    /// Events that did not come from a worker.
    pub(super) events: VecDeque<Event>,
}

/// Why a task was not queued.
enum NotQueued {
    /// The ring had no free slot.
    NoRingSlot(Vec<ObjectRef>),
    Failed(Error),
}

impl Scheduler {
    pub(super) fn new(capacity: u32) -> Scheduler {
        Scheduler {
            slots: (0..capacity)
                .map(|_| Slot {
                    generation: 0,
                    placed: None,
                    timed: 0,
                })
                .collect(),
            free: (0..capacity).rev().collect(),
            waiting: WaitingTasks::default(),
            timed: Vec::new(),
            timed_until: u64::MAX,
            watched_until: Deadline::NOW,
            deadline_wake: false,
            closing: false,
            weight: 0,
            awaited: None,
            end_awaited: false,
            events: VecDeque::new(),
        }
    }

    /// The number of tasks that are not done.
    pub(super) fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len() + self.waiting.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn load(&self) -> Load {
        Load {
            waiting: self.waiting.len(),
            tasks: self.outstanding(),
            weight: self.weight,
        }
    }

    /// Whether a submitter waits for room and there is room again. The caller then wakes it.
    pub(super) fn has_room_again(&mut self) -> bool {
        let load = self.load();
        let has_room = self.awaited.take_if(|room| room.is_worth_waking(load));
        std::mem::take(&mut self.end_awaited) || has_room.is_some()
    }

    /// Queues the task, or lets it wait behind the others. Returns how many workers to wake.
    #[inline]
    pub(super) fn accept(
        &mut self,
        shared: &SharedState,
        task: Task,
        parts: &[&[u8]],
        mut held: Vec<ObjectRef>,
    ) -> Result<u32> {
        if self.waiting.is_empty() && !self.free.is_empty() {
            match self.place(shared, task, parts, held) {
                Ok(()) => {
                    self.weight += task.weight;
                    return Ok(1);
                }
                Err(NotQueued::Failed(error)) => return Err(error),
                Err(NotQueued::NoRingSlot(back)) => held = back,
            }
        }
        let payload = parts.concat().into_boxed_slice();
        self.weight += task.weight;
        self.waiting.push(Waiting {
            task,
            payload,
            held,
        });
        Ok(0)
    }

    /// Gives free records to waiting tasks. Returns how many workers to wake.
    pub(super) fn refill(&mut self, shared: &SharedState) -> u32 {
        let mut placed = 0;
        while !self.free.is_empty() {
            let Some(waiting) = self.waiting.pop() else {
                break;
            };
            let Waiting {
                task,
                payload,
                held,
            } = waiting;
            match self.place(shared, task, &[&payload], held) {
                Ok(()) => placed += 1,
                Err(NotQueued::NoRingSlot(held)) => {
                    self.waiting.unpop(Waiting {
                        task,
                        payload,
                        held,
                    });
                    break;
                }
                Err(NotQueued::Failed(error)) => {
                    self.weight -= task.weight;
                    self.events.push_back(Event::Refused {
                        job: task.job,
                        index: task.index,
                        error,
                    });
                }
            }
        }
        placed
    }

    fn place(
        &mut self,
        shared: &SharedState,
        task: Task,
        parts: &[&[u8]],
        held: Vec<ObjectRef>,
    ) -> std::result::Result<(), NotQueued> {
        let number = *self.free.last().expect("checked by the callers");
        // Checked before anything is written, as a task may be tried again and again.
        if !ring::has_room(shared) {
            return Err(NotQueued::NoRingSlot(held));
        }
        let payload = shared
            .write(number, (task.job, task.index), parts)
            .map_err(NotQueued::Failed)?;
        shared.write_attempt(number, 0);
        let slot = &mut self.slots[number as usize];
        record::publish(shared.state(number), slot.generation);
        let ring_slot = RingSlot {
            number,
            generation: slot.generation,
        };
        ring::put(shared, ring_slot);
        slot.placed = Some(Queued {
            task,
            attempt: 0,
            _payload: payload,
            _held: held,
        });
        self.free.pop();
        if let Some(timeout) = task.timeout {
            slot.timed = self.timed.len() as u32;
            self.timed.push(number);
            let limit = Deadline::after(timeout);
            if limit < self.watched_until {
                self.watched_until = limit;
                self.deadline_wake = true;
            }
            self.timed_until = self.timed_until.min(after(monotonic_ns(), timeout));
        }
        Ok(())
    }

    /// Notes that the watcher is about to sleep until then.
    pub(super) fn note_sleep(&mut self, until: Deadline) {
        self.watched_until = until;
    }

    /// Whether the watcher sleeps too long for a task that was queued since the last call.
    pub(super) fn needs_deadline_wake(&mut self) -> bool {
        std::mem::take(&mut self.deadline_wake)
    }

    /// Ends the task of a ring slot and frees its record; `None` if it has ended already.
    pub(super) fn settle(&mut self, shared: &SharedState, ring_slot: RingSlot) -> Option<Task> {
        let slot = self.slots.get(ring_slot.number as usize)?;
        let live = slot.placed.is_some() && slot.generation == ring_slot.generation;
        // A revoked task was reported already; its record stays until its worker is gone.
        if !live || record::load(shared.state(ring_slot.number)).stage() == Stage::Revoked {
            return None;
        }
        Some(self.free(shared, ring_slot.number))
    }

    fn free(&mut self, shared: &SharedState, number: u32) -> Task {
        let slot = &mut self.slots[number as usize];
        record::release(shared.state(number), slot.generation);
        slot.generation = record::next_generation(slot.generation);
        let placed = slot.placed.take().expect("only placed records are freed");
        self.forget(number, placed.task)
    }

    fn forget(&mut self, number: u32, task: Task) -> Task {
        self.free.push(number);
        self.weight -= task.weight;
        if task.timeout.is_some() {
            let at = self.slots[number as usize].timed;
            self.timed.swap_remove(at as usize);
            if let Some(&moved) = self.timed.get(at as usize) {
                self.slots[moved as usize].timed = at;
            }
        }
        task
    }

    /// Every task in a record. Walks over all records; for questions about all workers.
    fn placed(&self) -> impl Iterator<Item = (u32, u32, Task)> + '_ {
        self.slots.iter().zip(0..).filter_map(|(slot, number)| {
            let placed = slot.placed.as_ref()?;
            Some((number, slot.generation, placed.task))
        })
    }

    /// Ends or repeats the tasks a dead worker ran. The worker's results must have been consumed before.
    pub(super) fn recover_tasks_of(&mut self, shared: &SharedState, dead: ProcId) -> Vec<Lost> {
        let held: Vec<u32> = self
            .placed()
            .map(|(number, ..)| number)
            .filter(|&number| record::load(shared.state(number)).owner() == dead.as_u32())
            .collect();
        let mut lost = Vec::new();
        for number in held {
            match record::load(shared.state(number)).stage() {
                Stage::Revoked => drop(self.free(shared, number)),
                Stage::Running => lost.push(self.lose(shared, number)),
                // Its result is on the way.
                _ => {}
            }
        }
        lost
    }

    fn lose(&mut self, shared: &SharedState, number: u32) -> Lost {
        let slot = &mut self.slots[number as usize];
        let placed = slot.placed.as_mut().expect("only placed records are lost");
        let task = placed.task;
        let attempt = placed.attempt + 1;
        let item = item(shared, number, task);
        let mut repeated = false;
        if placed.attempt < task.retries {
            placed.attempt = attempt;
            record::release(shared.state(number), slot.generation);
            slot.generation = record::next_generation(slot.generation);
            shared.write_attempt(number, attempt);
            record::publish(shared.state(number), slot.generation);
            let generation = slot.generation;
            repeated = ring::offer(shared, RingSlot { number, generation });
        }
        if !repeated {
            self.free(shared, number);
        }
        Lost {
            job: task.job,
            index: task.index,
            item,
            attempts: attempt,
            repeated,
        }
    }

    /// The tasks of a job in records, or one of them.
    ///
    /// Walks over the records; their number does not grow with the number of waiting tasks. An index by job would cost
    /// every task more than it saves a cancellation.
    fn placed_of(&self, job: u64, index: Option<u64>) -> Vec<(u32, u32, Task)> {
        let matches =
            |task: &Task| task.job == job && index.is_none_or(|index| task.index == index);
        self.placed().filter(|(_, _, task)| matches(task)).collect()
    }

    /// Cancels the tasks of a job, or one of them.
    pub(super) fn cancel(
        &mut self,
        shared: &SharedState,
        job: u64,
        index: Option<u64>,
    ) -> Cancelled {
        let withdrawn = self.withdraw(shared, job, index);
        let running = self.placed_of(job, index).into_iter();
        let running = running.filter_map(|(number, generation, task)| {
            Some((task.index, self.revoke(shared, number, generation)?))
        });
        Cancelled {
            running: running.collect(),
            withdrawn,
        }
    }

    /// Withdraws the unclaimed tasks of a job, or one of them.
    pub(super) fn withdraw(
        &mut self,
        shared: &SharedState,
        job: u64,
        index: Option<u64>,
    ) -> Vec<u64> {
        let waiting = self.waiting.withdraw(job, index);
        self.weight -= weight(&waiting);
        let mut withdrawn: Vec<_> = waiting.iter().map(|waiting| waiting.task.index).collect();
        for (number, generation, task) in self.placed_of(job, index) {
            if record::withdraw(shared.state(number), generation) {
                self.drop_withdrawn(number, generation, task);
                withdrawn.push(task.index);
            }
        }
        withdrawn
    }

    /// Withdraws every unclaimed task.
    pub(super) fn withdraw_all(&mut self, shared: &SharedState) {
        while let Some(waiting) = self.waiting.pop() {
            self.weight -= waiting.task.weight;
        }
        let placed: Vec<_> = self.placed().collect();
        for (number, generation, task) in placed {
            if record::withdraw(shared.state(number), generation) {
                self.drop_withdrawn(number, generation, task);
            }
        }
    }

    /// Frees the record of a withdrawn task.
    fn drop_withdrawn(&mut self, number: u32, generation: u32, task: Task) {
        let slot = &mut self.slots[number as usize];
        slot.generation = record::next_generation(generation);
        slot.placed = None;
        self.forget(number, task);
    }

    /// The number of unclaimed tasks in records.
    pub(super) fn queued(&self, shared: &SharedState) -> usize {
        self.placed()
            .filter(|&(number, ..)| record::load(shared.state(number)).stage() == Stage::Queued)
            .count()
    }

    /// The workers that run a task.
    pub(super) fn busy(&self, shared: &SharedState) -> Vec<ProcId> {
        self.placed()
            .map(|(number, ..)| record::load(shared.state(number)))
            .filter(|state| matches!(state.stage(), Stage::Running | Stage::Revoked))
            .filter_map(|state| ProcId::from_u32(state.owner()))
            .collect()
    }

    fn revoke(&self, shared: &SharedState, number: u32, generation: u32) -> Option<ProcId> {
        record::revoke(shared.state(number), generation).and_then(ProcId::from_u32)
    }

    /// Revokes the first task that exceeded its time limit, or returns after what time to check again.
    pub(super) fn overdue(
        &mut self,
        shared: &SharedState,
        now: u64,
    ) -> (Option<Event>, Option<Duration>) {
        if self.timed.is_empty() {
            self.timed_until = u64::MAX;
            return (None, None);
        }
        // No task can exceed its limit before the shortest time left at the last check.
        if let Some(left) = self.timed_until.checked_sub(now).filter(|left| *left > 0) {
            return (None, Some(Duration::from_nanos(left)));
        }
        let mut recheck_in = None;
        for &number in &self.timed {
            let slot = &self.slots[number as usize];
            let Some(task) = slot.placed.as_ref().map(|placed| placed.task) else {
                continue;
            };
            let limit = task.timeout.unwrap_or(Duration::MAX);
            let started = match record::load(shared.state(number)).stage() {
                Stage::Running => {
                    let started = shared.started_at(number);
                    match started.load(Ordering::Relaxed) {
                        0 => now,
                        at => at,
                    }
                }
                // Not begun: a worker that claims it now has the whole limit left.
                Stage::Queued => now,
                _ => continue,
            };
            let ran = Duration::from_nanos(now.saturating_sub(started));
            if let Some(left) = limit.checked_sub(ran).filter(|left| !left.is_zero()) {
                recheck_in = Some(recheck_in.map_or(left, |soonest: Duration| soonest.min(left)));
            } else if let Some(worker) = self.revoke(shared, number, slot.generation) {
                let overdue = Event::Overdue {
                    job: task.job,
                    index: task.index,
                    item: item(shared, number, task),
                    ran,
                    limit,
                    worker,
                };
                // There may be others.
                return (Some(overdue), None);
            }
        }
        self.timed_until = recheck_in.map_or(u64::MAX, |left| after(now, left));
        (None, recheck_in)
    }
}

/// The total weight of waiting tasks.
fn weight(waiting: &[Waiting]) -> u64 {
    waiting.iter().map(|waiting| waiting.task.weight).sum()
}

/// That much time after `now`, on the machine's monotonic clock.
fn after(now: u64, time: Duration) -> u64 {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    now.saturating_add(nanos)
}

/// The item that the worker of a task has come to.
fn item(shared: &SharedState, number: u32, task: Task) -> u64 {
    task.first_item + u64::from(shared.position(number).load(Ordering::Relaxed))
}
