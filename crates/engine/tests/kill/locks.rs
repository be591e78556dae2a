//! Deaths in locks and semaphores.

use crate::case::{
    FREE_CELLS, Play, assert_bystander_goes_on, assert_bystander_goes_on_after, curtain, turned,
};
use crate::common::{Child, Slate, briefly, die, linger, patiently, promptly};
use procession_engine::Deadline;
use procession_engine::error::{LockError, WaitError};
use procession_engine::sync::{Acquired, Lock, RLock, Semaphore};

const INSIDE: usize = FREE_CELLS;
const TURNS: usize = 6;

/// Holding the lock: nobody else may be inside, unless it died there.
fn stay_inside(slate: Slate, acquired: Acquired) {
    let before = slate.count(INSIDE);
    if acquired == Acquired::AfterOwnerDied {
        slate.write(INSIDE, 1);
    } else {
        assert_eq!(before, 0, "two are inside");
    }
    linger();
    slate.write(INSIDE, 0);
}

/// A lock taken and released by three processes.
pub struct Locking {
    lock: Lock,
}

impl Locking {
    pub fn new(_: Slate) -> Locking {
        Locking {
            lock: Lock::new().expect("a lock"),
        }
    }

    fn turn(&self, slate: Slate, deadline: Deadline) -> Result<(), LockError> {
        let acquired = self.lock.acquire_for_repair(deadline)?;
        stay_inside(slate, acquired);
        self.lock.release().expect("it is held");
        Ok(())
    }
}

impl Play for Locking {
    const BYSTANDER: bool = true;

    fn victim(&mut self, slate: Slate) {
        for _ in 0..TURNS {
            self.turn(slate, patiently()).expect("the lock");
            // Outside for a while, or the bystander would never get in and the victim never wait.
            linger();
            self.lock.acquire(patiently()).expect("the lock");
            stay_inside(slate, Acquired::Clean);
            self.lock.release().expect("it is held");
            linger();
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            self.turn(slate, patiently()).expect("the lock");
            turned(slate);
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        match self.turn(slate, briefly()) {
            Ok(()) | Err(LockError::TimedOut) => {}
            Err(error) => panic!("while the victim is stopped: {error}"),
        }
    }

    fn survive(&mut self, slate: Slate) {
        for _ in 0..TURNS {
            self.turn(slate, promptly()).expect("the lock");
        }
        assert_bystander_goes_on(slate);
    }

    fn verify(&mut self, _: Slate) {
        assert!(!self.lock.is_held(), "nobody is left who could hold it");
    }
}

/// A lock whose next holder is told of the death, once.
pub struct Telling {
    lock: Lock,
}

impl Telling {
    pub fn new(_: Slate) -> Telling {
        Telling {
            lock: Lock::new().expect("a lock"),
        }
    }
}

impl Play for Telling {
    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            self.lock.acquire(Deadline::NEVER).expect("the lock");
            self.lock.release().expect("it is held");
        }
    }

    fn survive(&mut self, _: Slate) {
        if self.lock.is_held() {
            assert_eq!(self.lock.acquire(promptly()), Err(LockError::OwnerDied));
        }
        self.lock.acquire(promptly()).expect("it is told once");
        self.lock.release().expect("it is held");
        for _ in 0..TURNS {
            self.lock.acquire(promptly()).expect("the lock");
            self.lock.release().expect("it is held");
        }
    }
}

/// A lock whose holder is dead already when the victim comes.
pub struct Inheriting {
    lock: Lock,
}

impl Inheriting {
    pub fn new(_: Slate) -> Inheriting {
        let lock = Lock::new().expect("a lock");
        let dead = Child::fork(|| {
            lock.acquire(Deadline::NOW).expect("it is new");
            die();
        });
        dead.join();
        Inheriting { lock }
    }
}

impl Play for Inheriting {
    fn victim(&mut self, _: Slate) {
        self.lock.acquire_for_repair(patiently()).expect("the lock");
        self.lock.release().expect("it is held");
    }

    fn survive(&mut self, _: Slate) {
        for _ in 0..TURNS {
            self.lock.acquire_for_repair(promptly()).expect("the lock");
            self.lock.release().expect("it is held");
        }
    }
}

/// A recursive lock.
pub struct Recursing {
    lock: RLock,
}

impl Recursing {
    pub fn new(_: Slate) -> Recursing {
        Recursing {
            lock: RLock::new().expect("a lock"),
        }
    }

    fn turn(&self, slate: Slate, deadline: Deadline) -> Result<(), LockError> {
        let acquired = self.lock.acquire_for_repair(deadline)?;
        self.lock.acquire(deadline).expect("it is mine already");
        assert_eq!(self.lock.count(), 2);
        stay_inside(slate, acquired);
        self.lock.release().expect("it is mine");
        self.lock.release().expect("it is mine");
        Ok(())
    }
}

impl Play for Recursing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, slate: Slate) {
        for _ in 0..TURNS {
            self.turn(slate, patiently()).expect("the lock");
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            self.turn(slate, patiently()).expect("the lock");
            turned(slate);
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        match self.turn(slate, briefly()) {
            Ok(()) | Err(LockError::TimedOut) => {}
            Err(error) => panic!("while the victim is stopped: {error}"),
        }
    }

    fn survive(&mut self, slate: Slate) {
        for _ in 0..TURNS {
            self.turn(slate, promptly()).expect("the lock");
        }
        assert_bystander_goes_on(slate);
    }
}

/// A semaphore of three: a death loses its own unit at most.
pub struct Counting {
    semaphore: Semaphore,
}

impl Counting {
    pub fn new(_: Slate) -> Counting {
        Counting {
            semaphore: Semaphore::new(3, Some(3)).expect("a semaphore"),
        }
    }
}

impl Play for Counting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            self.semaphore.acquire(patiently()).expect("a unit");
            linger();
            self.semaphore.release(1).expect("a unit is out");
            // So that the bystander gets all of them, and the victim has to wait.
            linger();
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            self.semaphore.acquire(patiently()).expect("a unit");
            let more = (0..2)
                .filter(|_| self.semaphore.acquire(briefly()).is_ok())
                .count();
            (0..3).for_each(|_| linger());
            self.semaphore
                .release(1 + more as u32)
                .expect("the units are out");
            turned(slate);
            // Units go to whoever comes first: without a pause that would be this process again and again.
            linger();
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, slate: Slate) {
        for _ in 0..TURNS {
            self.semaphore.acquire(promptly()).expect("a unit");
            self.semaphore.release(1).expect("a unit is out");
        }
        assert_bystander_goes_on(slate);
    }

    fn verify(&mut self, _: Slate) {
        let value = self.semaphore.value();
        assert!((2..=3).contains(&value), "{value} of 3 units are left");
    }
}

/// A semaphore at zero, on which the bystander sleeps for units the victim and others give.
pub struct Giving {
    semaphore: Semaphore,
}

impl Giving {
    pub fn new(_: Slate) -> Giving {
        Giving {
            semaphore: Semaphore::new(0, None).expect("a semaphore"),
        }
    }
}

impl Play for Giving {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..TURNS {
            linger();
            self.semaphore.release(1).expect("there is no limit");
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            match self.semaphore.acquire(briefly()) {
                Ok(()) => turned(slate),
                Err(WaitError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, slate: Slate) {
        let give = || self.semaphore.release(4).expect("there is no limit");
        assert_bystander_goes_on_after(slate, give);
    }
}
