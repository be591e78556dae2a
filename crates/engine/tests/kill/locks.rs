//! Deaths in locks and semaphores.

use crate::case::{
    FREE_CELLS, Scenario, assert_bystander_goes_on, assert_bystander_goes_on_after, is_over,
    round_done,
};
use crate::common::{Child, SharedCells, briefly, die, linger, patiently, promptly};
use procession_engine::Deadline;
use procession_engine::error::{LockError, WaitError};
use procession_engine::sync::{Acquired, Lock, RLock, Semaphore};

const INSIDE: usize = FREE_CELLS;
const ROUNDS: usize = 6;

/// Called by the holder of the lock. No other process may be inside, unless it died there.
fn stay_inside(cells: SharedCells, acquired: Acquired) {
    let before = cells.count(INSIDE);
    if acquired == Acquired::AfterOwnerDied {
        cells.write(INSIDE, 1);
    } else {
        assert_eq!(before, 0, "two are inside");
    }
    linger();
    cells.write(INSIDE, 0);
}

/// A lock taken and released by three processes.
pub struct Locking {
    lock: Lock,
}

impl Locking {
    pub fn new(_: SharedCells) -> Locking {
        Locking {
            lock: Lock::new().expect("a lock"),
        }
    }

    fn round(&self, cells: SharedCells, deadline: Deadline) -> Result<(), LockError> {
        let acquired = self.lock.acquire_for_repair(deadline)?;
        stay_inside(cells, acquired);
        self.lock.release().expect("it is held");
        Ok(())
    }
}

impl Scenario for Locking {
    const BYSTANDER: bool = true;

    fn victim(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS {
            self.round(cells, patiently()).expect("the lock");
            // Stays outside for a while. Otherwise the bystander would never get in and the victim would never wait.
            linger();
            self.lock.acquire(patiently()).expect("the lock");
            stay_inside(cells, Acquired::Clean);
            self.lock.release().expect("it is held");
            linger();
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            self.round(cells, patiently()).expect("the lock");
            round_done(cells);
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        match self.round(cells, briefly()) {
            Ok(()) | Err(LockError::TimedOut) => {}
            Err(error) => panic!("while the victim is stopped: {error}"),
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS {
            self.round(cells, promptly()).expect("the lock");
        }
        assert_bystander_goes_on(cells);
    }

    fn verify(&mut self, _: SharedCells) {
        assert!(!self.lock.is_held(), "nobody is left who could hold it");
    }
}

/// A lock whose next holder is told of the death, once.
pub struct Telling {
    lock: Lock,
}

impl Telling {
    pub fn new(_: SharedCells) -> Telling {
        Telling {
            lock: Lock::new().expect("a lock"),
        }
    }
}

impl Scenario for Telling {
    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            self.lock.acquire(Deadline::NEVER).expect("the lock");
            self.lock.release().expect("it is held");
        }
    }

    fn survive(&mut self, _: SharedCells) {
        if self.lock.is_held() {
            assert_eq!(self.lock.acquire(promptly()), Err(LockError::OwnerDied));
        }
        self.lock.acquire(promptly()).expect("it is told once");
        self.lock.release().expect("it is held");
        for _ in 0..ROUNDS {
            self.lock.acquire(promptly()).expect("the lock");
            self.lock.release().expect("it is held");
        }
    }
}

/// A lock whose holder is already dead when the victim comes.
pub struct Inheriting {
    lock: Lock,
}

impl Inheriting {
    pub fn new(_: SharedCells) -> Inheriting {
        let lock = Lock::new().expect("a lock");
        let dead = Child::fork(|| {
            lock.acquire(Deadline::NOW).expect("it is new");
            die();
        });
        dead.join();
        Inheriting { lock }
    }
}

impl Scenario for Inheriting {
    fn victim(&mut self, _: SharedCells) {
        self.lock.acquire_for_repair(patiently()).expect("the lock");
        self.lock.release().expect("it is held");
    }

    fn survive(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
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
    pub fn new(_: SharedCells) -> Recursing {
        Recursing {
            lock: RLock::new().expect("a lock"),
        }
    }

    fn round(&self, cells: SharedCells, deadline: Deadline) -> Result<(), LockError> {
        let acquired = self.lock.acquire_for_repair(deadline)?;
        self.lock.acquire(deadline).expect("it is mine already");
        assert_eq!(self.lock.count(), 2);
        stay_inside(cells, acquired);
        self.lock.release().expect("it is mine");
        self.lock.release().expect("it is mine");
        Ok(())
    }
}

impl Scenario for Recursing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS {
            self.round(cells, patiently()).expect("the lock");
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            self.round(cells, patiently()).expect("the lock");
            round_done(cells);
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        match self.round(cells, briefly()) {
            Ok(()) | Err(LockError::TimedOut) => {}
            Err(error) => panic!("while the victim is stopped: {error}"),
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS {
            self.round(cells, promptly()).expect("the lock");
        }
        assert_bystander_goes_on(cells);
    }
}

/// A semaphore of three: a death loses at most the dead process's own unit.
pub struct Counting {
    semaphore: Semaphore,
}

impl Counting {
    pub fn new(_: SharedCells) -> Counting {
        Counting {
            semaphore: Semaphore::new(3, Some(3)).expect("a semaphore"),
        }
    }
}

impl Scenario for Counting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            self.semaphore.acquire(patiently()).expect("a unit");
            linger();
            self.semaphore.release(1).expect("a unit is out");
            // So that the bystander gets all units, and the victim has to wait.
            linger();
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            self.semaphore.acquire(patiently()).expect("a unit");
            let more = (0..2)
                .filter(|_| self.semaphore.acquire(briefly()).is_ok())
                .count();
            (0..3).for_each(|_| linger());
            self.semaphore
                .release(1 + more as u32)
                .expect("the units are out");
            round_done(cells);
            // The first to come gets a unit: without a pause that would be this process again and again.
            linger();
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS {
            self.semaphore.acquire(promptly()).expect("a unit");
            self.semaphore.release(1).expect("a unit is out");
        }
        assert_bystander_goes_on(cells);
    }

    fn verify(&mut self, _: SharedCells) {
        let value = self.semaphore.value();
        assert!((2..=3).contains(&value), "{value} of 3 units are left");
    }
}

/// A semaphore at zero. The bystander sleeps there for units that the victim and others release.
pub struct Giving {
    semaphore: Semaphore,
}

impl Giving {
    pub fn new(_: SharedCells) -> Giving {
        Giving {
            semaphore: Semaphore::new(0, None).expect("a semaphore"),
        }
    }
}

impl Scenario for Giving {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..ROUNDS {
            linger();
            self.semaphore.release(1).expect("there is no limit");
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            match self.semaphore.acquire(briefly()) {
                Ok(()) => round_done(cells),
                Err(WaitError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        let give = || self.semaphore.release(4).expect("there is no limit");
        assert_bystander_goes_on_after(cells, give);
    }
}
