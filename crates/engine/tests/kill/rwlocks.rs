//! Deaths of readers and writers of one lock.

use crate::case::{FREE_CELLS, Scenario, assert_bystander_goes_on, is_over, round_done};
use crate::common::{SharedCells, briefly, linger, patiently, promptly};
use procession_engine::Deadline;
use procession_engine::error::LockError;
use procession_engine::sync::{Acquired, RwLock};

/// The guarded data. A writer changes one after the other, so they differ in between.
const LEFT: usize = FREE_CELLS;
const RIGHT: usize = FREE_CELLS + 1;
const ROUNDS: usize = 8;

/// A lock that three processes hold to read and to write.
pub struct ReadingAndWriting {
    lock: RwLock,
}

impl ReadingAndWriting {
    pub fn new(_: SharedCells) -> ReadingAndWriting {
        ReadingAndWriting {
            lock: RwLock::new().expect("a lock"),
        }
    }

    fn read(&self, cells: SharedCells, deadline: Deadline) -> Result<(), LockError> {
        let (hold, state) = self.lock.read(deadline)?;
        assert!(self.lock.is_reading(&hold));
        for _ in 0..2 {
            if state == Acquired::Clean {
                assert_eq!(cells.read(LEFT), cells.read(RIGHT), "half written");
            }
            linger();
        }
        self.lock.leave(hold);
        Ok(())
    }

    fn write(&self, cells: SharedCells, deadline: Deadline) -> Result<(), LockError> {
        let state = self.lock.write(deadline)?;
        assert!(self.lock.is_writing());
        if state == Acquired::Clean {
            assert_eq!(cells.read(LEFT), cells.read(RIGHT), "half written");
        }
        let next = cells.read(LEFT) + 1;
        cells.write(LEFT, next);
        linger();
        cells.write(RIGHT, next);
        self.lock.finish(true);
        Ok(())
    }
}

impl Scenario for ReadingAndWriting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS {
            self.read(cells, patiently()).expect("the lock");
            self.write(cells, patiently()).expect("the lock");
            // Stays outside for a while. Otherwise the bystander would never get in.
            linger();
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            self.write(cells, patiently()).expect("the lock");
            self.read(cells, patiently()).expect("the lock");
            round_done(cells);
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        for done in [self.read(cells, briefly()), self.write(cells, briefly())] {
            match done {
                Ok(()) | Err(LockError::TimedOut) => {}
                Err(error) => panic!("while the victim is stopped: {error}"),
            }
        }
    }

    fn survive(&mut self, cells: SharedCells) {
        for _ in 0..ROUNDS / 2 {
            self.read(cells, promptly()).expect("the lock");
            self.write(cells, promptly()).expect("the lock");
        }
        assert_bystander_goes_on(cells);
    }

    fn verify(&mut self, cells: SharedCells) {
        self.write(cells, promptly()).expect("nobody else is left");
        let (hold, state) = self.lock.read(promptly()).expect("nobody else is left");
        assert_eq!(state, Acquired::Clean, "a writer said that all is well");
        self.lock.leave(hold);
    }
}
