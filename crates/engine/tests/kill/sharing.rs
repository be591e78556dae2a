//! Deaths of readers and writers of one lock.

use crate::case::{FREE_CELLS, Play, assert_bystander_goes_on, curtain, turned};
use crate::common::{Slate, briefly, linger, patiently, promptly};
use procession_engine::Deadline;
use procession_engine::error::LockError;
use procession_engine::sync::{Acquired, RwLock};

/// What is guarded: a writer changes one after the other, so that they differ in between.
const LEFT: usize = FREE_CELLS;
const RIGHT: usize = FREE_CELLS + 1;
const TURNS: usize = 8;

/// A lock held to read and to write by three processes.
pub struct ReadingAndWriting {
    lock: RwLock,
}

impl ReadingAndWriting {
    pub fn new(_: Slate) -> ReadingAndWriting {
        ReadingAndWriting {
            lock: RwLock::new().expect("a lock"),
        }
    }

    fn read(&self, slate: Slate, deadline: Deadline) -> Result<(), LockError> {
        let (hold, state) = self.lock.read(deadline)?;
        assert!(self.lock.is_reading(&hold));
        for _ in 0..2 {
            if state == Acquired::Clean {
                assert_eq!(slate.read(LEFT), slate.read(RIGHT), "half written");
            }
            linger();
        }
        self.lock.leave(hold);
        Ok(())
    }

    fn write(&self, slate: Slate, deadline: Deadline) -> Result<(), LockError> {
        let state = self.lock.write(deadline)?;
        assert!(self.lock.is_writing());
        if state == Acquired::Clean {
            assert_eq!(slate.read(LEFT), slate.read(RIGHT), "half written");
        }
        let next = slate.read(LEFT) + 1;
        slate.write(LEFT, next);
        linger();
        slate.write(RIGHT, next);
        self.lock.finish(true);
        Ok(())
    }
}

impl Play for ReadingAndWriting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, slate: Slate) {
        for _ in 0..TURNS {
            self.read(slate, patiently()).expect("the lock");
            self.write(slate, patiently()).expect("the lock");
            // Outside for a while, or the bystander would never get in.
            linger();
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            self.write(slate, patiently()).expect("the lock");
            self.read(slate, patiently()).expect("the lock");
            turned(slate);
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        for done in [self.read(slate, briefly()), self.write(slate, briefly())] {
            match done {
                Ok(()) | Err(LockError::TimedOut) => {}
                Err(error) => panic!("while the victim is stopped: {error}"),
            }
        }
    }

    fn survive(&mut self, slate: Slate) {
        for _ in 0..TURNS / 2 {
            self.read(slate, promptly()).expect("the lock");
            self.write(slate, promptly()).expect("the lock");
        }
        assert_bystander_goes_on(slate);
    }

    fn verify(&mut self, slate: Slate) {
        self.write(slate, promptly()).expect("nobody else is left");
        let (hold, state) = self.lock.read(promptly()).expect("nobody else is left");
        assert_eq!(state, Acquired::Clean, "a writer said that all is well");
        self.lock.leave(hold);
    }
}
