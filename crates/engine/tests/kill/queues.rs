//! Deaths in the queue: putting, getting, small and large, bounded, and from chunk to chunk.

use crate::case::{FREE_CELLS, Play, curtain, turned};
use crate::common::{Child, Ledger, Letter, Slate, briefly, linger, patiently, promptly};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::error::{GetError, PutError, WaitError};
use procession_engine::failpoint::{self, Action};
use std::time::Duration;

/// Writers on the ledger.
pub const VICTIM: usize = 0;
pub const BYSTANDER: usize = 1;
pub const STAGE: usize = 2;
const EACH: usize = 900;

/// A queue and the books over it.
pub struct Mail {
    queue: Queue,
    ledger: Ledger,
    next: [usize; 3],
    size: usize,
}

impl Mail {
    pub fn new(slate: Slate, maxsize: usize, size: usize) -> Mail {
        let ledger = Ledger::on(slate, FREE_CELLS + 16, 3, EACH);
        Mail {
            queue: Queue::new(maxsize).expect("a queue"),
            ledger,
            next: [0; 3],
            size,
        }
    }

    pub fn put(&mut self, writer: usize, deadline: Deadline) -> Result<(), PutError> {
        let letter = Letter::new(writer, self.next[writer], self.size);
        self.ledger.begin(letter);
        let bytes = letter.bytes();
        let (head, tail) = bytes.split_at(10);
        self.queue.put(&[head, tail], deadline)?;
        self.ledger.sent(letter);
        self.next[writer] += 1;
        Ok(())
    }

    pub fn get(&self, deadline: Deadline) -> Result<Letter, GetError> {
        self.queue
            .get(deadline)
            .map(|message| self.ledger.received(message.bytes()))
    }

    /// Gets all that is there.
    fn drain(&self) {
        loop {
            match self.get(Deadline::NOW) {
                Ok(_) => {}
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Every letter came once, but for the one a dead reader may have had in its hands.
    pub fn assert_complete(&self, in_dead_hands: usize) {
        self.drain();
        let missing = self.ledger.missing();
        assert!(missing.len() <= in_dead_hands, "lost: {missing:?}");
        assert_eq!((self.queue.len(), self.queue.is_empty()), (0, true));
    }
}

/// The victim puts, the bystander gets.
pub struct Putting {
    mail: Mail,
    letters: usize,
}

impl Putting {
    /// Letters that fit a slot, enough of them for several chunks.
    pub fn small(slate: Slate) -> Putting {
        Putting {
            mail: Mail::new(slate, 0, 30),
            letters: 700,
        }
    }

    /// Letters in a block of their own.
    pub fn large(slate: Slate) -> Putting {
        Putting {
            mail: Mail::new(slate, 0, 20_000),
            letters: 24,
        }
    }

    /// Letters larger than a segment is at first.
    pub fn huge(slate: Slate) -> Putting {
        Putting {
            mail: Mail::new(slate, 0, 3 << 20),
            letters: 5,
        }
    }

    /// No more than three at a time.
    pub fn bounded(slate: Slate) -> Putting {
        Putting {
            mail: Mail::new(slate, 3, 30),
            letters: 60,
        }
    }

    /// No more than three at a time, in blocks.
    pub fn bounded_large(slate: Slate) -> Putting {
        Putting {
            mail: Mail::new(slate, 3, 5_000),
            letters: 24,
        }
    }
}

impl Play for Putting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..self.letters {
            self.mail.put(VICTIM, patiently()).expect("room");
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            match self.mail.get(briefly()) {
                Ok(_) => turned(slate),
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
            if self.mail.queue.maxsize() > 0 {
                // So that the victim has to wait for room.
                linger();
            }
        }
    }

    fn while_stopped(&mut self, _: Slate) {
        for _ in 0..2 {
            match self.mail.put(STAGE, briefly()) {
                Ok(()) | Err(PutError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, _: Slate) {
        let limit = promptly();
        for _ in 0..6 {
            self.mail
                .put(STAGE, limit)
                .expect("room, as the bystander gets");
        }
        while self
            .mail
            .ledger
            .missing()
            .iter()
            .any(|letter| letter.writer == STAGE)
        {
            assert!(
                !limit.is_past(),
                "the bystander does not get what the living put"
            );
            std::thread::yield_now();
        }
    }

    fn verify(&mut self, _: Slate) {
        self.mail.assert_complete(0);
        let room = match self.mail.queue.maxsize() {
            0 => return,
            room => room,
        };
        for _ in 0..room {
            self.mail
                .put(STAGE, Deadline::NOW)
                .expect("the dead take no room");
        }
        assert!(matches!(
            self.mail.put(STAGE, Deadline::NOW),
            Err(PutError::Full)
        ));
        self.mail.drain();
    }
}

/// The victim gets what the bystander puts.
pub struct Getting {
    mail: Mail,
    letters: usize,
}

impl Getting {
    pub fn small(slate: Slate) -> Getting {
        Getting {
            mail: Mail::new(slate, 0, 30),
            letters: 60,
        }
    }

    pub fn chunks(slate: Slate) -> Getting {
        Getting {
            mail: Mail::new(slate, 0, 30),
            letters: 600,
        }
    }

    pub fn large(slate: Slate) -> Getting {
        Getting {
            mail: Mail::new(slate, 0, 20_000),
            letters: 24,
        }
    }

    pub fn bounded(slate: Slate) -> Getting {
        Getting {
            mail: Mail::new(slate, 3, 30),
            letters: 40,
        }
    }
}

impl Play for Getting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..self.letters {
            match self.mail.get(Deadline::after(Duration::from_millis(300))) {
                Ok(_) => {}
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while self.mail.next[BYSTANDER] < self.letters && !curtain(slate) {
            if self.mail.queue.maxsize() > 0 {
                // So that the victim has to wait for letters.
                linger();
            }
            match self.mail.put(BYSTANDER, briefly()) {
                Ok(()) => turned(slate),
                Err(PutError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        let limit = promptly();
        for _ in 0..6 {
            // The bystander puts too: only who gets makes room for itself.
            while let Err(error) = self.mail.put(STAGE, Deadline::NOW) {
                assert!(matches!(error, PutError::Full), "{error}");
                self.mail.get(limit).expect("it is full");
            }
            self.mail.get(limit).expect("there is one at least");
        }
    }

    fn verify(&mut self, _: Slate) {
        self.mail.assert_complete(1);
    }
}

/// The victim gets, and says that the task is done.
pub struct Tasks {
    mail: Mail,
}

impl Tasks {
    pub fn new(slate: Slate) -> Tasks {
        let mut mail = Mail::new(slate, 0, 30);
        mail.queue = Queue::joinable(0).expect("a queue");
        for _ in 0..TASKS {
            mail.put(STAGE, Deadline::NOW).expect("no limit");
        }
        Tasks { mail }
    }
}

const TASKS: usize = 12;

impl Play for Tasks {
    fn victim(&mut self, _: Slate) {
        for _ in 0..TASKS / 2 {
            self.mail.get(Deadline::NOW).expect("a task");
            self.mail.queue.task_done().expect("it was got");
        }
        let joined = self.mail.queue.join(briefly());
        assert!(matches!(joined, Ok(_) | Err(WaitError::TimedOut)));
    }

    fn survive(&mut self, _: Slate) {
        let unfinished = self.mail.queue.unfinished();
        assert!(
            (TASKS as u64 / 2..=TASKS as u64).contains(&unfinished),
            "{unfinished} unfinished"
        );
        self.mail.drain();
        for _ in 0..unfinished {
            self.mail.queue.task_done().expect("it is unfinished");
        }
        assert_eq!(self.mail.queue.join(promptly()).expect("all is done"), 0);
        assert!(self.mail.queue.task_done().is_err());
    }

    fn verify(&mut self, _: Slate) {
        self.mail.assert_complete(1);
    }
}

/// The victim makes, uses and drops queues of its own.
pub struct Making;

impl Making {
    pub fn new(_: Slate) -> Making {
        Making
    }

    fn turn(slate: Slate) {
        let mut mail = Mail::new(slate, 0, 5_000);
        let handle = mail.queue.handle();
        for _ in 0..4 {
            mail.put(STAGE, Deadline::NOW).expect("no limit");
        }
        let again = Queue::open(&handle).expect("it is open here");
        again.get(Deadline::NOW).expect("a letter");
    }
}

impl Play for Making {
    fn victim(&mut self, slate: Slate) {
        for _ in 0..6 {
            Making::turn(slate);
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, slate: Slate) {
        for _ in 0..6 {
            Making::turn(slate);
        }
    }
}

/// The victim closes the queue the bystander waits on.
pub struct Closing {
    mail: Mail,
}

impl Closing {
    pub fn new(slate: Slate) -> Closing {
        Closing {
            mail: Mail::new(slate, 0, 30),
        }
    }
}

impl Play for Closing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..3 {
            self.mail.put(VICTIM, patiently()).expect("no limit");
        }
        self.mail.queue.close();
    }

    fn bystander(&mut self, _: Slate) {
        while self.mail.get(patiently()).is_ok() {}
    }

    fn survive(&mut self, _: Slate) {
        self.mail.queue.close();
        assert!(matches!(
            self.mail.put(STAGE, Deadline::NOW),
            Err(PutError::Closed)
        ));
    }

    fn verify(&mut self, _: Slate) {
        assert!(matches!(
            self.mail.get(Deadline::NOW),
            Err(GetError::Closed)
        ));
        assert!(self.mail.ledger.missing().is_empty());
    }
}

/// A queue in which others died before the victim comes: it dies over what they left.
pub struct Repairing {
    mail: Mail,
}

impl Repairing {
    pub fn small(slate: Slate) -> Repairing {
        Repairing::over(
            slate,
            Mail::new(slate, 0, 30),
            &[
                "queue.claimed",
                "queue.written",
                "queue.taken",
                "queue.copied",
            ],
        )
    }

    pub fn large(slate: Slate) -> Repairing {
        let steps = [
            "queue.block_named",
            "queue.block_passed",
            "queue.taken",
            "queue.block_owned",
        ];
        Repairing::over(slate, Mail::new(slate, 0, 5_000), &steps)
    }

    /// Of tasks, which are counted: two were never put.
    pub fn tasks(slate: Slate) -> Repairing {
        let mut mail = Mail::new(slate, 0, 30);
        mail.queue = Queue::joinable(0).expect("a queue");
        let steps = ["queue.claimed", "queue.written", "tasks.begun"];
        Repairing::over(slate, mail, &steps)
    }

    fn over(_: Slate, mut mail: Mail, steps: &[&'static str]) -> Repairing {
        for &step in steps {
            mail.put(STAGE, Deadline::NOW).expect("no limit");
            // A number nobody else uses: what it put may arrive or not.
            mail.next[BYSTANDER] += 1;
            let dead = Child::fork(|| {
                failpoint::arm(step, 1, Action::Kill);
                let _ = mail.put(BYSTANDER, Deadline::NOW);
                let _ = mail.get(Deadline::NOW);
            });
            dead.join();
        }
        Repairing { mail }
    }
}

impl Play for Repairing {
    fn victim(&mut self, _: Slate) {
        self.mail.put(VICTIM, Deadline::NOW).expect("no limit");
        assert!(self.mail.queue.len() < 20);
        for _ in 0..4 {
            let _ = self.mail.get(Deadline::NOW);
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        for _ in 0..6 {
            self.mail.put(STAGE, Deadline::NOW).expect("no limit");
            self.mail.get(promptly()).expect("a letter");
        }
    }

    fn verify(&mut self, _: Slate) {
        // The victim's, and that of the one that died with a block it owned.
        self.mail.assert_complete(2);
        if self.mail.queue.is_joinable() {
            let received = self.mail.ledger.received_count() as u64;
            let unfinished = self.mail.queue.unfinished();
            assert!(
                (received..=received + 2).contains(&unfinished),
                "{unfinished} unfinished, {received} received"
            );
            for _ in 0..unfinished {
                self.mail.queue.task_done().expect("it is unfinished");
            }
            assert_eq!(self.mail.queue.join(promptly()).expect("all is done"), 0);
        }
    }
}
