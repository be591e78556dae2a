//! How much a submitter may have outstanding before it waits for tasks to end.
//!
//! A task takes memory from the moment it is submitted. A submitter that has many tasks and can wait submits the next
//! one when there is room. The workers still never run out of tasks, and memory does not grow with the work to come.

/// With this many tasks waiting outside the shared memory, workers have enough to do.
const MAX_WAITING: usize = 1024;

/// Below this total weight, in bytes, there is room for more tasks.
const LIGHT: u64 = 16 << 20;

/// Below this total weight, there is room until each worker has a second task.
const HEAVY: u64 = 64 << 20;

/// The load of a task queue: its tasks that have not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Tasks outside the shared memory.
    pub(super) waiting: usize,
    /// All tasks.
    pub(super) tasks: usize,
    /// The sum of [`Task::weight`](super::Task::weight).
    pub(super) weight: u64,
}

/// How much room a task queue has for the tasks of a submitter that can wait.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    workers: usize,
}

impl Room {
    /// Room for a pool of that many workers.
    pub fn for_workers(workers: usize) -> Room {
        Room { workers }
    }

    /// Whether tasks of this total weight leave room, however many there are.
    pub fn is_light(weight: u64) -> bool {
        weight < LIGHT
    }

    /// Whether there are too few tasks to wait, whatever they weigh. Each worker always has one, and one more is ready
    /// for the first worker that ends its own.
    fn has_few(self, load: Load) -> bool {
        load.tasks <= self.workers || load.weight < HEAVY && load.tasks < 2 * self.workers + 2
    }

    /// Whether another task may be submitted.
    pub(super) fn allows_more(self, load: Load) -> bool {
        load.waiting < MAX_WAITING && (Room::is_light(load.weight) || self.has_few(load))
    }

    /// Whether to wake a submitter that waits for room. If tasks are small, there is room for many of them by then: a
    /// wake-up for each would cost more than the tasks themselves.
    pub(super) fn is_worth_waking(self, load: Load) -> bool {
        let is_light = Room::is_light(load.weight.saturating_add(LIGHT / 4));
        load.waiting < MAX_WAITING - MAX_WAITING / 8 && (is_light || self.has_few(load))
    }

    /// The larger of two.
    pub(super) fn or(self, other: Option<Room>) -> Room {
        let workers = other.map_or(0, |other| other.workers);
        Room {
            workers: self.workers.max(workers),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn load(tasks: usize, each: u64) -> Load {
        Load {
            waiting: tasks.saturating_sub(1024),
            tasks,
            weight: tasks as u64 * each,
        }
    }

    /// How many tasks of `each` bytes are outstanding when there is no room for more.
    fn most(room: Room, each: u64) -> usize {
        (0..)
            .find(|&tasks| !room.allows_more(load(tasks, each)))
            .unwrap()
    }

    #[test]
    fn the_memory_of_tasks_is_bounded_and_no_worker_is_idle() {
        let room = Room::for_workers(4);
        assert_eq!(most(room, 100), 2048, "as many as are worth having");
        assert_eq!(most(room, 64 << 10), 256, "16 MiB");
        assert_eq!(most(room, 8 << 20), 8, "64 MiB");
        assert_eq!(most(room, 4 << 20), 10, "two for each worker and two");
        assert_eq!(most(room, 1 << 30), 5, "one for each worker and one");
    }

    #[test]
    fn who_waits_is_woken_for_many_small_tasks_or_one_large() {
        let room = Room::for_workers(4);
        let woken = |full: usize, each| {
            let tasks = (0..full).rev();
            full - tasks
                .clone()
                .find(|&left| room.is_worth_waking(load(left, each)))
                .unwrap()
        };
        assert!(woken(most(room, 100), 100) > 100);
        assert!(woken(most(room, 16 << 10), 16 << 10) > 100);
        assert_eq!(woken(most(room, 4 << 20), 4 << 20), 1);
        assert_eq!(woken(most(room, 1 << 30), 1 << 30), 1);
    }

    #[test]
    fn the_larger_room_is_found_for_all_who_wait() {
        let (small, large) = (Room::for_workers(1), Room::for_workers(9));
        assert_eq!(small.or(None).workers, 1);
        assert_eq!(small.or(Some(large)).workers, 9);
        assert_eq!(large.or(Some(small)).workers, 9);
    }
}
