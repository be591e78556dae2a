//! Deaths in condition, event and barrier.

use crate::case::{
    FREE_CELLS, Scenario, assert_bystander_goes_on, is_over, round_done, stopped_at,
};
use crate::common::{Child, End, PROMPTLY, SharedCells, briefly, isolated, linger, promptly};
use procession_engine::Deadline;
use procession_engine::error::{LockError, WaitError};
use procession_engine::failpoint::{self, Action};
use procession_engine::sync::{
    Acquired, Barrier, BarrierError, Condition, Event, Lock, Turns, WaitOutcome,
};

const ROUNDS: usize = 5;
const GIVEN: usize = FREE_CELLS;

fn hold(lock: &Lock) {
    let acquired: Result<Acquired, LockError> =
        lock.acquire_for_repair(Deadline::after(5 * PROMPTLY));
    acquired.expect("the lock");
}

/// A condition over a lock. The victim waits and notifies, the bystander waits.
pub struct Waiting {
    lock: Lock,
    condition: Condition,
}

impl Waiting {
    pub fn new(_: SharedCells) -> Waiting {
        Waiting {
            lock: Lock::new().expect("a lock"),
            condition: Condition::new().expect("a condition"),
        }
    }

    fn wait(&self, deadline: Deadline) -> Result<(), WaitError> {
        hold(&self.lock);
        let ticket = self.condition.enroll().expect("a ticket");
        self.lock.release().expect("it is held");
        let waited = self.condition.sleep(&ticket, deadline);
        drop(ticket);
        waited
    }

    fn notify(&self, count: usize) {
        hold(&self.lock);
        self.condition.notify(count);
        self.lock.release().expect("it is held");
    }
}

impl Scenario for Waiting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            self.notify(1);
            let _ = self.wait(briefly());
            self.notify(8);
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            match self.wait(briefly()) {
                Ok(()) => round_done(cells),
                Err(WaitError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        let limit = promptly();
        cells.write(GIVEN, 0);
        // A notification may go to the dead waiter or come between two waits, so a few are needed.
        let notifier = Child::fork(|| {
            while cells.read(GIVEN) == 0 && !limit.is_past() {
                self.notify(1);
            }
        });
        assert_bystander_goes_on(cells);
        cells.write(GIVEN, 1);
        notifier.succeed();
    }

    fn verify(&mut self, _: SharedCells) {
        assert_eq!(self.condition.waiters(), 0, "a waiter is left");
    }
}

/// Several processes wait under a lock, and all are notified together.
pub struct Requeuing {
    waiting: Waiting,
}

impl Requeuing {
    pub fn new(cells: SharedCells) -> Requeuing {
        Requeuing {
            waiting: Waiting::new(cells),
        }
    }

    fn wait(&self, deadline: Deadline) -> Result<(), WaitError> {
        let Waiting { lock, condition } = &self.waiting;
        hold(lock);
        let ticket = condition.enroll_under(lock).expect("a ticket");
        lock.release().expect("it is held");
        let waited = condition.sleep(&ticket, deadline);
        let was_moved = ticket.was_moved();
        drop(ticket);
        hold(lock);
        if was_moved {
            lock.pass_on();
        }
        lock.release().expect("it is held");
        waited
    }

    fn go_on_waiting(&self, cells: SharedCells) {
        while !is_over(cells) {
            if self.wait(briefly()).is_ok() {
                round_done(cells);
            }
        }
    }
}

impl Scenario for Requeuing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            linger();
            self.waiting.notify(8);
            let _ = self.wait(briefly());
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        let others = [(); 2].map(|()| Child::fork(|| self.go_on_waiting(cells)));
        self.go_on_waiting(cells);
        others.iter().for_each(Child::succeed);
    }

    fn survive(&mut self, cells: SharedCells) {
        let limit = promptly();
        cells.write(GIVEN, 0);
        let notifier = Child::fork(|| {
            while cells.read(GIVEN) == 0 && !limit.is_past() {
                self.waiting.notify(8);
                linger();
            }
        });
        assert_bystander_goes_on(cells);
        cells.write(GIVEN, 1);
        notifier.succeed();
    }

    fn verify(&mut self, cells: SharedCells) {
        self.waiting.verify(cells);
    }
}

/// An event that one side sets and clears, and the other side waits for.
pub struct Signalling {
    event: Event,
}

impl Signalling {
    pub fn new(_: SharedCells) -> Signalling {
        Signalling {
            event: Event::new().expect("an event"),
        }
    }
}

impl Scenario for Signalling {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            self.event.clear();
            linger();
            let _ = self.event.wait(briefly());
            self.event.set();
            self.event.wait(promptly()).expect("it was just set");
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            if self.event.wait(briefly()).is_ok() {
                round_done(cells);
            }
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, cells: SharedCells) {
        self.event.clear();
        assert!(!self.event.is_set());
        self.event.set();
        self.event.wait(promptly()).expect("it is set");
        assert_bystander_goes_on(cells);
    }
}

/// A barrier of two at which the victim and the bystander meet.
pub struct Meeting {
    barrier: Barrier,
}

impl Meeting {
    pub fn new(_: SharedCells) -> Meeting {
        Meeting {
            barrier: Barrier::new(2).expect("a barrier"),
        }
    }

    fn meet(&self, deadline: Deadline) -> Result<u32, BarrierError> {
        match self.barrier.arrive(deadline)? {
            WaitOutcome::Last(guard) => guard.open(),
            WaitOutcome::Passed { index } => Ok(index),
        }
    }
}

impl Scenario for Meeting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for turn in 0..ROUNDS {
            // Sometimes the first to arrive, sometimes the last.
            (0..turn % 2 * 4).for_each(|_| linger());
            let _ = self.meet(promptly());
        }
    }

    fn bystander(&mut self, _: SharedCells) {
        // The victim is the other party. Without it the barrier breaks, at the latest at the timeout.
        while self.meet(Deadline::after(PROMPTLY / 10)).is_ok() {
            linger();
        }
        assert!(self.barrier.is_broken(), "its other party is gone");
    }

    fn survive(&mut self, _: SharedCells) {}

    fn verify(&mut self, _: SharedCells) {
        self.barrier.reset();
        assert_eq!(
            (self.barrier.waiting(), self.barrier.is_broken()),
            (0, false)
        );
        let other = Child::fork(|| {
            self.meet(promptly()).expect("the other party is here");
        });
        self.meet(promptly()).expect("the other party is here");
        other.succeed();
    }
}

/// A barrier of two that the victim breaks and resets while the bystander waits there.
pub struct Resetting {
    meeting: Meeting,
}

impl Resetting {
    pub fn new(cells: SharedCells) -> Resetting {
        Resetting {
            meeting: Meeting::new(cells),
        }
    }
}

impl Scenario for Resetting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            linger();
            self.meeting.barrier.abort();
            linger();
            self.meeting.barrier.reset();
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            let passed = self.meeting.barrier.arrive(briefly()).is_ok();
            assert!(!passed, "nobody else comes");
            if self.meeting.barrier.is_broken() {
                self.meeting.barrier.reset();
            }
            round_done(cells);
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        assert_bystander_goes_on(cells);
    }

    fn verify(&mut self, cells: SharedCells) {
        self.meeting.verify(cells);
    }
}

/// A condition gets so many waiters that it needs more memory, and is dropped again.
pub struct ManyWaiters;

impl ManyWaiters {
    pub fn new(_: SharedCells) -> ManyWaiters {
        ManyWaiters
    }

    fn round() {
        let condition = Condition::new().expect("a condition");
        let waiters: Vec<_> = (0..40)
            .map(|_| condition.enroll().expect("a ticket"))
            .collect();
        assert_eq!(condition.notify(100), 40);
        drop(waiters);
    }
}

impl Scenario for ManyWaiters {
    fn victim(&mut self, _: SharedCells) {
        (0..2).for_each(|_| ManyWaiters::round());
    }

    fn while_stopped(&mut self, _: SharedCells) {
        ManyWaiters::round();
    }

    fn survive(&mut self, _: SharedCells) {
        (0..2).for_each(|_| ManyWaiters::round());
    }
}

/// The notifier is stopped after it has chosen the waiter to notify.
#[test]
fn a_notification_for_one_who_gives_up_goes_to_the_next_in_the_line() {
    isolated(|| {
        let condition = Condition::new().expect("a condition");
        let [first, second, third] = [(); 3].map(|()| condition.enroll().expect("a ticket"));
        let notifier = stopped_at("condition.chosen", 1, || assert_eq!(condition.notify(1), 1));
        assert!(!first.leave(), "nobody was notified yet");
        notifier.resume();
        notifier.succeed();
        assert!(second.leave(), "it is the next");
        assert!(!third.leave(), "one was to be notified");
    });
}

/// The leaving process is stopped when its place is free and not yet on the free list.
#[test]
fn one_that_gives_up_does_not_change_the_turn_of_the_next_in_its_place() {
    const PLACES: usize = 26;
    const READY: usize = FREE_CELLS;
    let cells = SharedCells::new();
    isolated(|| {
        let condition = Condition::new().expect("a condition");
        let leaver = Child::fork(|| {
            failpoint::arm("condition.given_up", 1, Action::Stop);
            let ticket = condition.enroll().expect("a ticket");
            cells.write(READY, 1);
            cells.until(READY, 2);
            drop(ticket);
        });
        cells.until(READY, 1);
        let waiting: Vec<_> = (1..PLACES)
            .map(|_| condition.enroll().expect("a ticket"))
            .collect();
        cells.write(READY, 2);
        assert!(matches!(leaver.ended_or_stopped(), End::Stopped(_)));
        let last = condition.enroll().expect("a ticket");
        leaver.resume();
        leaver.succeed();
        assert_eq!(condition.notify(1), 1);
        assert!(waiting[0].is_notified(), "it came first");
        assert!(!last.is_notified());
        assert_eq!(last.into_index(), 0, "the free place was not taken");
    });
}
