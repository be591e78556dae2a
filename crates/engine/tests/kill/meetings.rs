//! Deaths in condition, event and barrier.

use crate::case::{FREE_CELLS, Play, assert_bystander_goes_on, curtain, stopped_at, turned};
use crate::common::{Child, End, PROMPTLY, Slate, briefly, isolated, linger, promptly};
use procession_engine::Deadline;
use procession_engine::error::{LockError, WaitError};
use procession_engine::failpoint::{self, Action};
use procession_engine::sync::{
    Acquired, Barrier, BarrierError, Condition, Event, Lock, Turns, WaitOutcome,
};

const TURNS: usize = 5;
const GIVEN: usize = FREE_CELLS;

fn hold(lock: &Lock) {
    let acquired: Result<Acquired, LockError> =
        lock.acquire_for_repair(Deadline::after(5 * PROMPTLY));
    acquired.expect("the lock");
}

/// A condition over a lock: the victim waits and notifies, the bystander waits.
pub struct Waiting {
    lock: Lock,
    condition: Condition,
}

impl Waiting {
    pub fn new(_: Slate) -> Waiting {
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

impl Play for Waiting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            self.notify(1);
            let _ = self.wait(briefly());
            self.notify(8);
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            match self.wait(briefly()) {
                Ok(()) => turned(slate),
                Err(WaitError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, slate: Slate) {
        let limit = promptly();
        slate.write(GIVEN, 0);
        // A notification may go to the dead waiter or come between two waits: a few are needed.
        let notifier = Child::fork(|| {
            while slate.read(GIVEN) == 0 && !limit.is_past() {
                self.notify(1);
            }
        });
        assert_bystander_goes_on(slate);
        slate.write(GIVEN, 1);
        notifier.succeed();
    }

    fn verify(&mut self, _: Slate) {
        assert_eq!(self.condition.waiters(), 0, "a waiter is left on the books");
    }
}

/// Several wait under a lock and are notified together.
pub struct Sending {
    waiting: Waiting,
}

impl Sending {
    pub fn new(slate: Slate) -> Sending {
        Sending {
            waiting: Waiting::new(slate),
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

    fn go_on_waiting(&self, slate: Slate) {
        while !curtain(slate) {
            if self.wait(briefly()).is_ok() {
                turned(slate);
            }
        }
    }
}

impl Play for Sending {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            linger();
            self.waiting.notify(8);
            let _ = self.wait(briefly());
        }
    }

    fn bystander(&mut self, slate: Slate) {
        let others = [(); 2].map(|()| Child::fork(|| self.go_on_waiting(slate)));
        self.go_on_waiting(slate);
        others.iter().for_each(Child::succeed);
    }

    fn survive(&mut self, slate: Slate) {
        let limit = promptly();
        slate.write(GIVEN, 0);
        let notifier = Child::fork(|| {
            while slate.read(GIVEN) == 0 && !limit.is_past() {
                self.waiting.notify(8);
                linger();
            }
        });
        assert_bystander_goes_on(slate);
        slate.write(GIVEN, 1);
        notifier.succeed();
    }

    fn verify(&mut self, slate: Slate) {
        self.waiting.verify(slate);
    }
}

/// An event that one side sets and clears, and the other waits for.
pub struct Signalling {
    event: Event,
}

impl Signalling {
    pub fn new(_: Slate) -> Signalling {
        Signalling {
            event: Event::new().expect("an event"),
        }
    }
}

impl Play for Signalling {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            self.event.clear();
            linger();
            let _ = self.event.wait(briefly());
            self.event.set();
            self.event.wait(promptly()).expect("it was just set");
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            if self.event.wait(briefly()).is_ok() {
                turned(slate);
            }
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, slate: Slate) {
        self.event.clear();
        assert!(!self.event.is_set());
        self.event.set();
        self.event.wait(promptly()).expect("it is set");
        assert_bystander_goes_on(slate);
    }
}

/// A barrier of two at which the victim and the bystander meet.
pub struct Meeting {
    barrier: Barrier,
}

impl Meeting {
    pub fn new(_: Slate) -> Meeting {
        Meeting {
            barrier: Barrier::new(2).expect("a barrier"),
        }
    }

    fn meet(&self, deadline: Deadline) -> Result<u32, BarrierError> {
        match self.barrier.arrive(deadline)? {
            WaitOutcome::Last(turnstile) => turnstile.open(),
            WaitOutcome::Passed { index } => Ok(index),
        }
    }
}

impl Play for Meeting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for turn in 0..TURNS {
            // Now the first to come, now the last.
            (0..turn % 2 * 4).for_each(|_| linger());
            let _ = self.meet(promptly());
        }
    }

    fn bystander(&mut self, _: Slate) {
        // The victim is the other party: without it the barrier breaks, at the latest in time.
        while self.meet(Deadline::after(PROMPTLY / 10)).is_ok() {
            linger();
        }
        assert!(self.barrier.is_broken(), "its other party is gone");
    }

    fn survive(&mut self, _: Slate) {}

    fn verify(&mut self, _: Slate) {
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

/// A barrier of two that the victim breaks and resets while the bystander waits for somebody to come.
pub struct Resetting {
    meeting: Meeting,
}

impl Resetting {
    pub fn new(slate: Slate) -> Resetting {
        Resetting {
            meeting: Meeting::new(slate),
        }
    }
}

impl Play for Resetting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            linger();
            self.meeting.barrier.abort();
            linger();
            self.meeting.barrier.reset();
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            let passed = self.meeting.barrier.arrive(briefly()).is_ok();
            assert!(!passed, "nobody else comes");
            if self.meeting.barrier.is_broken() {
                self.meeting.barrier.reset();
            }
            turned(slate);
        }
    }

    fn survive(&mut self, slate: Slate) {
        assert_bystander_goes_on(slate);
    }

    fn verify(&mut self, slate: Slate) {
        self.meeting.verify(slate);
    }
}

/// So many wait on a condition that it needs more memory, and it is dropped again.
pub struct Crowding;

impl Crowding {
    pub fn new(_: Slate) -> Crowding {
        Crowding
    }

    fn turn() {
        let condition = Condition::new().expect("a condition");
        let crowd: Vec<_> = (0..40)
            .map(|_| condition.enroll().expect("a ticket"))
            .collect();
        assert_eq!(condition.notify(100), 40);
        drop(crowd);
    }
}

impl Play for Crowding {
    fn victim(&mut self, _: Slate) {
        (0..2).for_each(|_| Crowding::turn());
    }

    fn while_stopped(&mut self, _: Slate) {
        Crowding::turn();
    }

    fn survive(&mut self, _: Slate) {
        (0..2).for_each(|_| Crowding::turn());
    }
}

/// The notifier is stopped when it has chosen whom to notify.
#[test]
fn a_notification_for_one_who_gives_up_goes_to_the_next_in_the_line() {
    isolated(|| {
        let condition = Condition::new().expect("a condition");
        let [first, second, third] = [(); 3].map(|()| condition.enroll().expect("a ticket"));
        let notifier = stopped_at("condition.chosen", 1, || assert_eq!(condition.notify(1), 1));
        assert!(!first.leave(), "nobody was notified yet");
        notifier.go_on();
        notifier.succeed();
        assert!(second.leave(), "it is the next");
        assert!(!third.leave(), "one was to be notified");
    });
}

/// It is stopped when its place is free and not yet on the list of free ones.
#[test]
fn one_that_gives_up_does_not_change_the_turn_of_the_next_in_its_place() {
    const PLACES: usize = 26;
    const READY: usize = FREE_CELLS;
    let slate = Slate::new();
    isolated(|| {
        let condition = Condition::new().expect("a condition");
        let leaver = Child::fork(|| {
            failpoint::arm("condition.given_up", 1, Action::Stop);
            let ticket = condition.enroll().expect("a ticket");
            slate.write(READY, 1);
            slate.until(READY, 2);
            drop(ticket);
        });
        slate.until(READY, 1);
        let waiting: Vec<_> = (1..PLACES)
            .map(|_| condition.enroll().expect("a ticket"))
            .collect();
        slate.write(READY, 2);
        assert!(matches!(leaver.ended_or_stopped(), End::Stopped(_)));
        let last = condition.enroll().expect("a ticket");
        leaver.go_on();
        leaver.succeed();
        assert_eq!(condition.notify(1), 1);
        assert!(waiting[0].is_notified(), "it came first");
        assert!(!last.is_notified());
        assert_eq!(last.into_index(), 0, "the free place was not taken");
    });
}
