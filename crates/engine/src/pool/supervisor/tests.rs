//! What a supervisor decides, without any process.

use std::time::{Duration, Instant};

use super::{Action, EXIT_TIMEOUT, FailedStart, Policy, Supervisor};
use crate::arena::owner::ProcId;

const GRACE: Duration = Duration::from_millis(500);

/// The sender of a message that is none of the watched workers.
fn stranger() -> ProcId {
    ProcId::from_u32(99 << 20).unwrap()
}

/// A pool whose workers are numbers, at a time that the test sets.
struct Pool {
    supervisor: Supervisor,
    now: Instant,
    last: u32,
    tasks: usize,
}

impl Pool {
    fn new(wanted: usize, policy: Policy) -> Pool {
        let now = Instant::now();
        Pool {
            supervisor: Supervisor::new(policy, wanted, now),
            now,
            last: 0,
            tasks: 1,
        }
    }

    fn patient(wanted: usize) -> Pool {
        let is_final = false;
        Pool::new(
            wanted,
            Policy {
                grace: GRACE,
                is_final,
            },
        )
    }

    fn r#final(wanted: usize) -> Pool {
        let policy = Policy {
            grace: Duration::ZERO,
            is_final: true,
        };
        Pool::new(wanted, policy)
    }

    /// A pool whose workers are ready.
    fn ready(mut self) -> Pool {
        for worker in self.start_all() {
            self.supervisor.ready(worker);
        }
        self
    }

    fn next(&mut self) -> Action {
        self.supervisor.next_action(self.tasks, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Starts workers as long as the supervisor wants.
    fn start_all(&mut self) -> Vec<ProcId> {
        let mut started = Vec::new();
        while self.next() == Action::Start {
            started.push(self.start_asked());
        }
        started
    }

    fn exit(&mut self, worker: ProcId, by_kill: bool) -> Option<FailedStart> {
        self.supervisor.exited(worker, by_kill);
        self.supervisor.remove_exited(self.now).unwrap().1
    }

    /// Lets the next worker fail to start as soon as it may; returns how long that took.
    fn fail(&mut self, by_kill: bool) -> (Duration, FailedStart) {
        let before = self.now;
        let worker = loop {
            match self.next() {
                Action::Start => break self.start_asked(),
                Action::Wait(Some(until)) => self.now = until,
                other => panic!("{other:?}"),
            }
        };
        (self.now - before, self.exit(worker, by_kill).unwrap())
    }

    fn start_asked(&mut self) -> ProcId {
        self.last += 1;
        let worker = ProcId::from_u32(self.last << 20).unwrap();
        self.supervisor.started(worker, self.now);
        worker
    }

    fn active(&self) -> Vec<ProcId> {
        let staying = self.supervisor.workers.iter();
        let staying = staying.filter(|worker| !worker.retires);
        staying.map(|worker| worker.id).collect()
    }
}

#[test]
fn as_many_workers_are_started_as_are_wanted() {
    let mut pool = Pool::patient(3);
    assert_eq!(pool.start_all().len(), 3);
    assert!(
        matches!(pool.next(), Action::Wait(Some(_))),
        "they may die unnoticed"
    );
    let mut pool = Pool::patient(3).ready();
    assert_eq!(pool.next(), Action::Wait(None));
}

#[test]
fn a_worker_that_cannot_be_watched_counts() {
    let mut pool = Pool::patient(1);
    assert_eq!(pool.next(), Action::Start);
    pool.supervisor.started_unwatched(pool.now);
    assert!(matches!(pool.next(), Action::Wait(Some(_))));
}

#[test]
fn a_worker_that_cannot_be_watched_is_checked_at_intervals() {
    let mut pool = Pool::patient(1);
    pool.supervisor.started_unwatched(pool.now);
    pool.supervisor.ready(stranger());
    for _ in 0..3 {
        let Action::Wait(Some(until)) = pool.next() else {
            panic!("nothing says when it exits");
        };
        pool.now = until;
        assert_eq!(pool.next(), Action::CheckUnwatched);
    }
}

#[test]
fn a_worker_that_cannot_be_watched_is_replaced_at_once_if_it_was_ready() {
    let mut pool = Pool::patient(1);
    pool.supervisor.started_unwatched(pool.now);
    pool.supervisor.ready(stranger());
    pool.supervisor.exited_unwatched(true);
    assert!(pool.supervisor.has_exits());
    let removed = pool.supervisor.remove_exited_unwatched(pool.now);
    assert_eq!(removed, Some(None));
    assert!(!pool.supervisor.has_exits());
    assert_eq!(pool.next(), Action::Start);
}

#[test]
fn workers_that_cannot_be_watched_and_never_start_end_the_tries() {
    let mut pool = Pool::patient(1);
    for count in 1..=3 {
        pool.supervisor.started_unwatched(pool.now);
        pool.supervisor.exited_unwatched(false);
        let removed = pool.supervisor.remove_exited_unwatched(pool.now);
        let gives_up = count == 3;
        assert_eq!(removed, Some(Some(FailedStart { count, gives_up })));
    }
}

#[test]
fn a_closed_pool_ends_after_its_workers_that_cannot_be_watched() {
    let mut pool = Pool::patient(1);
    pool.supervisor.started_unwatched(pool.now);
    pool.supervisor.ready(stranger());
    pool.supervisor.close();
    pool.tasks = 0;
    assert!(matches!(pool.next(), Action::Wait(Some(_))));
    pool.supervisor.exited_unwatched(false);
    pool.supervisor.remove_exited_unwatched(pool.now);
    assert_eq!(pool.next(), Action::End);
}

#[test]
fn a_failed_initializer_counts_once_in_a_worker_that_cannot_be_watched() {
    let mut pool = Pool::patient(1);
    pool.supervisor.started_unwatched(pool.now);
    let failed = pool.supervisor.initializer_failed(stranger(), pool.now);
    assert_eq!(failed.count, 1);
    pool.supervisor.exited_unwatched(false);
    let removed = pool.supervisor.remove_exited_unwatched(pool.now);
    assert_eq!(removed, Some(None));
}

#[test]
fn a_dead_worker_is_replaced_at_once() {
    let mut pool = Pool::patient(2).ready();
    let dead = pool.active()[0];
    pool.supervisor.gone(dead, pool.now);
    assert!(matches!(pool.next(), Action::Reap(worker, Some(_)) if worker == dead));
    assert_eq!(pool.exit(dead, true), None);
    assert_eq!(pool.next(), Action::Start);
}

#[test]
fn a_worker_that_lives_on_as_another_program_is_killed() {
    let mut pool = Pool::patient(1).ready();
    let worker = pool.active()[0];
    pool.supervisor.gone(worker, pool.now);
    let Action::Reap(_, Some(until)) = pool.next() else {
        panic!("it may exit by itself");
    };
    pool.now = until;
    pool.supervisor.still_alive(worker, pool.now);
    assert_eq!(pool.next(), Action::Kill(worker));
    let until = pool.now + EXIT_TIMEOUT;
    assert_eq!(pool.next(), Action::Reap(worker, Some(until)));
}

#[test]
fn a_worker_that_nobody_came_to_kill_is_killed_once_more() {
    let mut pool = Pool::patient(1).ready();
    let worker = pool.active()[0];
    pool.supervisor.terminate(pool.now);
    pool.pass(GRACE);
    while pool.next() != Action::Kill(worker) {}
    while !matches!(pool.next(), Action::Reap(_, Some(_))) {}
    pool.pass(EXIT_TIMEOUT);
    pool.supervisor.still_alive(worker, pool.now);
    assert_eq!(pool.next(), Action::Kill(worker));
    pool.exit(worker, true);
    assert_eq!(pool.next(), Action::End);
}

#[test]
fn a_worker_that_has_not_reported_is_looked_after() {
    let mut pool = Pool::patient(1);
    let worker = pool.start_all()[0];
    let Action::Wait(Some(until)) = pool.next() else {
        panic!("its death causes no event");
    };
    pool.now = until;
    assert_eq!(pool.next(), Action::Reap(worker, Some(until)));
    pool.supervisor.still_alive(worker, pool.now);
    assert!(matches!(pool.next(), Action::Wait(Some(next)) if next > until));
    pool.supervisor.ready(worker);
    assert_eq!(pool.next(), Action::Wait(None));
}

#[test]
fn failed_starts_are_repeated_ever_later_and_not_for_ever() {
    let mut pool = Pool::patient(1);
    let (pause, first) = pool.fail(false);
    assert_eq!((pause, first.gives_up), (Duration::ZERO, false));
    let (pause, second) = pool.fail(false);
    assert_eq!((pause, second.gives_up), (Duration::from_millis(50), false));
    let (pause, third) = pool.fail(false);
    assert_eq!(pause, Duration::from_millis(100));
    assert_eq!((third.count, third.gives_up), (3, true));
}

#[test]
fn workers_that_are_killed_get_more_tries() {
    let mut pool = Pool::patient(1);
    let given_up: Vec<bool> = (0..8).map(|_| pool.fail(true).1.gives_up).collect();
    assert_eq!(
        given_up,
        [false, false, false, false, false, false, false, true]
    );
    let (pause, _) = pool.fail(true);
    assert_eq!(pause, Duration::from_secs(1), "it does not grow further");
}

#[test]
fn each_of_many_workers_may_fail_once() {
    let mut pool = Pool::patient(5);
    let given_up: Vec<bool> = (0..5).map(|_| pool.fail(false).1.gives_up).collect();
    assert_eq!(given_up, [false, false, false, false, true]);
}

#[test]
fn no_pool_gives_up_while_a_worker_works() {
    let mut pool = Pool::patient(2).ready();
    let dead = pool.active()[0];
    assert_eq!(pool.exit(dead, false), None);
    for _ in 0..10 {
        assert!(!pool.fail(false).1.gives_up);
    }
    assert!(!pool.supervisor.has_given_up());
}

#[test]
fn a_patient_pool_tries_again_when_it_has_tasks() {
    let mut pool = Pool::patient(2);
    while !pool.fail(false).1.gives_up {}
    pool.tasks = 0;
    pool.pass(Duration::from_secs(60));
    assert_eq!(pool.next(), Action::Wait(None));
    pool.tasks = 1;
    assert!(
        pool.fail(false).1.gives_up,
        "each further failure fails the tasks"
    );
    pool.pass(Duration::from_secs(60));
    let worker = pool.start_all()[0];
    pool.supervisor.ready(worker);
    assert!(!pool.supervisor.has_given_up());
    assert_eq!(pool.next(), Action::Start, "all workers are wanted again");
}

#[test]
fn a_final_pool_ends_when_it_gives_up() {
    let mut pool = Pool::r#final(1);
    while !pool.fail(false).1.gives_up {}
    assert!(pool.supervisor.is_ending());
    assert_eq!(pool.next(), Action::End);
}

#[test]
fn a_failed_initializer_is_counted_once_or_final() {
    let mut pool = Pool::patient(1);
    let worker = pool.start_all()[0];
    assert!(
        !pool
            .supervisor
            .initializer_failed(worker, pool.now)
            .gives_up
    );
    assert_eq!(pool.exit(worker, false), None);

    let mut pool = Pool::r#final(2);
    let workers = pool.start_all();
    assert!(
        pool.supervisor
            .initializer_failed(workers[0], pool.now)
            .gives_up
    );
    let killed = [pool.next(), pool.next()];
    assert_eq!(killed, [Action::Kill(workers[0]), Action::Kill(workers[1])]);
    assert_eq!(pool.exit(workers[1], true), None);
}

#[test]
fn a_worker_whose_task_must_end_is_asked_and_then_killed() {
    let mut pool = Pool::patient(1).ready();
    let worker = pool.active()[0];
    pool.supervisor.stop(worker, pool.now);
    assert_eq!(pool.next(), Action::Terminate(worker));
    assert_eq!(pool.next(), Action::Wait(Some(pool.now + GRACE)));
    pool.pass(GRACE);
    assert_eq!(pool.next(), Action::Kill(worker));
    assert_eq!(pool.next(), Action::Wait(None));

    let mut pool = Pool::r#final(1).ready();
    let worker = pool.active()[0];
    pool.supervisor.stop(worker, pool.now);
    assert_eq!(pool.next(), Action::Kill(worker));
}

#[test]
fn a_worker_killed_for_its_task_is_no_failed_start() {
    let mut pool = Pool::r#final(1);
    let worker = pool.start_all()[0];
    pool.supervisor.stop(worker, pool.now);
    assert_eq!(pool.exit(worker, true), None);
    assert_eq!(pool.next(), Action::Start);
}

#[test]
fn idle_workers_leave_first_and_of_these_the_newest() {
    let mut pool = Pool::patient(4).ready();
    let workers = pool.active();
    let leaving = pool.supervisor.resize(2, &[workers[3]]);
    assert_eq!(leaving, [workers[2], workers[1]]);
    assert_eq!(pool.active(), [workers[0], workers[3]]);
    assert_eq!(pool.exit(workers[1], false), None);
    assert_eq!(pool.next(), Action::Wait(None), "it is not replaced");
    assert!(pool.supervisor.resize(3, &[]).is_empty());
    assert_eq!(pool.next(), Action::Start);
}

#[test]
fn a_closed_pool_replaces_workers_only_for_its_tasks() {
    let mut pool = Pool::patient(3).ready();
    let workers = pool.active();
    pool.supervisor.close();
    for worker in workers {
        assert_eq!(pool.exit(worker, false), None);
    }
    assert_eq!(pool.start_all().len(), 1, "one task is left");
    pool.tasks = 0;
    let worker = pool.active()[0];
    assert_eq!(
        pool.exit(worker, false).map(|failed| failed.gives_up),
        Some(false)
    );
    assert_eq!(pool.next(), Action::End);
}

#[test]
fn a_terminated_pool_asks_all_lets_them_leave_and_kills_the_rest() {
    let mut pool = Pool::patient(2).ready();
    let workers = pool.active();
    pool.supervisor.terminate(pool.now);
    assert_eq!(pool.next(), Action::Terminate(workers[0]));
    assert_eq!(pool.next(), Action::Terminate(workers[1]));
    assert_eq!(pool.next(), Action::Dismiss(workers.clone()));
    assert_eq!(
        pool.next(),
        Action::Reap(workers[0], Some(pool.now + GRACE))
    );
    pool.exit(workers[0], false);
    pool.pass(GRACE);
    assert_eq!(pool.next(), Action::Kill(workers[1]));
    assert!(matches!(pool.next(), Action::Reap(worker, Some(_)) if worker == workers[1]));
    pool.exit(workers[1], true);
    assert_eq!(pool.next(), Action::End);
}

#[test]
fn a_terminated_pool_starts_nothing() {
    let mut pool = Pool::patient(1);
    pool.supervisor.terminate(pool.now);
    assert!(!pool.supervisor.is_short());
    assert_eq!(pool.next(), Action::End);
}

#[test]
fn a_program_that_ends_the_workers_itself_gets_no_others() {
    let mut pool = Pool::patient(1).ready();
    pool.supervisor.stop_replacing();
    let worker = pool.active()[0];
    pool.exit(worker, true);
    assert_eq!(pool.next(), Action::Wait(None));
    assert!(pool.supervisor.is_short(), "unless it asks for them");
}
