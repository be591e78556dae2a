//! Tasks that have not found a free record yet, in the order of their submission, and indexed by job.
//!
//! Each task refers to the previous task of its job. So the tasks of a job are found and withdrawn without a look at
//! any other job's, however many tasks wait. Consecutive tasks of one job, as those of a `map`, need no lookup in the
//! table of jobs.

use std::collections::VecDeque;

use crate::id_map::IdMap;
use crate::objects::object_ref::ObjectRef;

use super::event::Task;

/// No place.
const NONE: u64 = u64::MAX;

/// This many places of withdrawn tasks may lie between others, however few tasks wait.
const MIN_GAPS: usize = 1024;

/// A task with its payload and the objects it keeps alive.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) task: Task,
    pub(super) payload: Box<[u8]>,
    pub(super) held: Vec<ObjectRef>,
}

#[derive(Debug)]
struct Place {
    /// `None` once the task was withdrawn.
    waiting: Option<Waiting>,
    /// Where the previous task of the same job waits, or waited.
    before: u64,
}

/// The waiting tasks.
#[derive(Debug, Default)]
pub(super) struct WaitingTasks {
    places: VecDeque<Place>,
    /// The number of the first place.
    base: u64,
    /// How many places hold a task.
    count: usize,
    /// Where the last task of each job waits, except for the job of [`Self::run`].
    last: IdMap<u64, u64>,
    /// The job of the most recent task, and where that task waits.
    run: Option<(u64, u64)>,
}

impl WaitingTasks {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub(super) fn push(&mut self, waiting: Waiting) {
        let job = waiting.task.job;
        let number = self.base + self.places.len() as u64;
        let before = match self.run.replace((job, number)) {
            Some((same, before)) if same == job => before,
            other => {
                if let Some((job, number)) = other {
                    self.last.insert(job, number);
                }
                self.last.remove(&job).unwrap_or(NONE)
            }
        };
        let waiting = Some(waiting);
        self.places.push_back(Place { waiting, before });
        self.count += 1;
    }

    /// Removes the first task.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        loop {
            let number = self.base;
            let place = self.places.pop_front()?;
            self.base += 1;
            if let Some(waiting) = place.waiting {
                self.count -= 1;
                self.forget(waiting.task.job, number);
                return Some(waiting);
            }
        }
    }

    /// Puts back the task that was popped last.
    pub(super) fn unpop(&mut self, waiting: Waiting) {
        let job = waiting.task.job;
        self.base -= 1;
        if self.last_of(job).is_none() {
            self.last.insert(job, self.base);
        }
        let (waiting, before) = (Some(waiting), NONE);
        self.places.push_front(Place { waiting, before });
        self.count += 1;
    }

    /// Removes the tasks of a job, or one of them.
    pub(super) fn withdraw(&mut self, job: u64, index: Option<u64>) -> Vec<Waiting> {
        let mut taken = Vec::new();
        let mut left = None;
        let mut at = self.last_of(job);
        while let Some(number) = at {
            let Some(place) = self.place(number) else {
                break;
            };
            at = (place.before != NONE).then_some(place.before);
            let is_meant =
                |waiting: &Waiting| index.is_none_or(|index| waiting.task.index == index);
            if place.waiting.as_ref().is_some_and(is_meant) {
                taken.extend(place.waiting.take());
            } else if place.waiting.is_some() {
                left.get_or_insert(number);
            }
        }
        self.run = self.run.filter(|(last, _)| *last != job);
        match left {
            Some(number) => drop(self.last.insert(job, number)),
            None => drop(self.last.remove(&job)),
        }
        self.count -= taken.len();
        self.compact();
        taken.reverse();
        taken
    }

    fn last_of(&self, job: u64) -> Option<u64> {
        match self.run {
            Some((last, number)) if last == job => Some(number),
            _ => self.last.get(&job).copied(),
        }
    }

    /// The place with that number; `None` if it was popped.
    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let at = number.checked_sub(self.base)?;
        self.places.get_mut(at as usize)
    }

    /// Updates the index after the first task was popped: its job may have no other tasks.
    #[inline]
    fn forget(&mut self, job: u64, number: u64) {
        if let Some((last, last_number)) = self.run
            && last == job
        {
            if last_number == number {
                self.run = None;
            }
            return;
        }
        let next = self.places.front().and_then(|place| place.waiting.as_ref());
        if next.is_some_and(|next| next.task.job == job) {
            // The row of this job goes on: no lookup in the table is needed.
            return;
        }
        if self.last.get(&job) == Some(&number) {
            self.last.remove(&job);
        }
    }

    /// Closes the gaps once there are more of them than tasks, so each withdrawal pays for its own gap.
    fn compact(&mut self) {
        if self.places.len() - self.count <= self.count.max(MIN_GAPS) {
            return;
        }
        let places = std::mem::take(&mut self.places);
        self.base = 0;
        self.count = 0;
        self.last.clear();
        self.run = None;
        for waiting in places.into_iter().filter_map(|place| place.waiting) {
            self.push(waiting);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn waiting(job: u64, index: u64) -> Waiting {
        Waiting {
            task: Task {
                job,
                index,
                ..Task::default()
            },
            payload: Box::default(),
            held: Vec::new(),
        }
    }

    fn names(tasks: impl IntoIterator<Item = Waiting>) -> Vec<(u64, u64)> {
        let name = |waiting: Waiting| (waiting.task.job, waiting.task.index);
        tasks.into_iter().map(name).collect()
    }

    fn all(tasks: &mut WaitingTasks) -> Vec<(u64, u64)> {
        names(std::iter::from_fn(|| tasks.pop()))
    }

    #[test]
    fn tasks_come_out_in_the_order_in_which_they_came() {
        let mut tasks = WaitingTasks::default();
        let order = [(1, 0), (1, 1), (2, 0), (1, 2), (3, 0)];
        for (job, index) in order {
            tasks.push(waiting(job, index));
        }
        let first = tasks.pop().unwrap();
        tasks.unpop(first);
        assert_eq!(all(&mut tasks), order);
        assert!(tasks.last.is_empty() && tasks.run.is_none());
    }

    #[test]
    fn a_job_is_withdrawn_and_the_others_stay() {
        let mut tasks = WaitingTasks::default();
        for index in 0..4 {
            tasks.push(waiting(1, index));
            tasks.push(waiting(2, index));
        }
        assert_eq!(names(tasks.pop()), [(1, 0)]);
        let taken = tasks.withdraw(1, None);
        assert_eq!(names(taken), [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(names(tasks.withdraw(2, Some(3))), [(2, 3)]);
        assert_eq!(names(tasks.withdraw(2, Some(1))), [(2, 1)]);
        assert!(tasks.withdraw(7, None).is_empty());
        assert_eq!(tasks.len(), 2);
        assert_eq!(all(&mut tasks), [(2, 0), (2, 2)]);
        assert!(tasks.is_empty() && tasks.last.is_empty() && tasks.run.is_none());
    }

    #[test]
    fn what_was_put_back_is_found_by_its_job() {
        let mut tasks = WaitingTasks::default();
        for (job, index) in [(1, 0), (2, 0), (1, 1)] {
            tasks.push(waiting(job, index));
        }
        let first = tasks.pop().unwrap();
        tasks.unpop(first);
        // The newer task has no link to it, and is asked first: the older one was popped, and is at the front again.
        assert_eq!(names(tasks.withdraw(1, None)), [(1, 0), (1, 1)]);
        let only = tasks.pop().unwrap();
        tasks.unpop(only);
        assert_eq!(names(tasks.withdraw(2, None)), [(2, 0)]);
        assert!(tasks.is_empty());
    }

    #[test]
    fn gaps_are_closed_and_jobs_found_afterwards() {
        let mut tasks = WaitingTasks::default();
        for job in 0..10 * MIN_GAPS as u64 {
            tasks.push(waiting(job, 0));
            tasks.push(waiting(u64::MAX, job));
        }
        for job in 0..10 * MIN_GAPS as u64 {
            assert_eq!(names(tasks.withdraw(job, None)), [(job, 0)]);
        }
        assert!(tasks.places.len() <= 2 * tasks.len());
        assert_eq!(tasks.withdraw(u64::MAX, None).len(), 10 * MIN_GAPS);
        assert!(tasks.places.is_empty());
    }
}
