//! Deaths in the queue: putting, getting, small and large, bounded, and from strip to strip.

use crate::case::{FREE_CELLS, Play, curtain, turned};
use crate::common::{
    Child, End, Footprint, Ledger, Letter, Slate, briefly, isolated, linger, patiently, promptly,
};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::error::{GetError, PutError, WaitError};
use procession_engine::kill::{self, Deed};
use procession_engine::process;
use std::time::Duration;

/// Writers on the ledger.
const VICTIM: usize = 0;
const BYSTANDER: usize = 1;
const STAGE: usize = 2;
const EACH: usize = 900;

/// A queue and the books over it.
struct Mail {
    queue: Queue,
    ledger: Ledger,
    next: [usize; 3],
    size: usize,
}

impl Mail {
    fn new(slate: Slate, maxsize: usize, size: usize) -> Mail {
        let ledger = Ledger::on(slate, FREE_CELLS + 16, 3, EACH);
        Mail {
            queue: Queue::new(maxsize).expect("a queue"),
            ledger,
            next: [0; 3],
            size,
        }
    }

    fn put(&mut self, writer: usize, deadline: Deadline) -> Result<(), PutError> {
        let letter = Letter::new(writer, self.next[writer], self.size);
        self.ledger.begin(letter);
        let bytes = letter.bytes();
        let (head, tail) = bytes.split_at(10);
        self.queue.put(&[head, tail], deadline)?;
        self.ledger.sent(letter);
        self.next[writer] += 1;
        Ok(())
    }

    fn get(&self, deadline: Deadline) -> Result<Letter, GetError> {
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
    fn assert_complete(&self, in_dead_hands: usize) {
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
    /// Letters that fit a slot, enough of them for several strips.
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

    pub fn strips(slate: Slate) -> Getting {
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
                kill::arm(step, 1, Deed::Kill);
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

/// A queue whose oldest slot belongs to a writer that was stopped in the middle.
pub struct SteppingOver {
    mail: Mail,
    writer: Child,
    letters: usize,
}

impl SteppingOver {
    pub fn new(slate: Slate) -> SteppingOver {
        SteppingOver::over(slate, 4)
    }

    /// So many letters that strips leave the chain behind the one that stays.
    pub fn strips(slate: Slate) -> SteppingOver {
        SteppingOver::over(slate, 600)
    }

    fn over(slate: Slate, letters: usize) -> SteppingOver {
        let mut mail = Mail::new(slate, 0, 30);
        let writer = Child::fork(|| {
            kill::arm("queue.claimed", 1, Deed::Stop);
            mail.put(BYSTANDER, Deadline::NOW).expect("no limit");
        });
        writer.ended_or_stopped();
        SteppingOver {
            mail,
            writer,
            letters,
        }
    }
}

impl Play for SteppingOver {
    fn victim(&mut self, _: Slate) {
        for _ in 0..self.letters {
            self.mail.put(VICTIM, Deadline::NOW).expect("no limit");
            self.mail.get(promptly()).expect("a letter");
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
        self.writer.go_on();
        self.writer.succeed();
        // The victim's.
        self.mail.assert_complete(1);
    }
}

/// The reader is stopped right behind the slot it stepped over, and finds the second message next.
#[test]
fn a_message_that_was_stepped_over_comes_before_those_put_after_it() {
    let slate = Slate::new();
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let writer = Child::fork(|| {
            kill::arm("queue.claimed", 1, Deed::Stop);
            queue.put(&[b"1"], Deadline::NOW).expect("no limit");
        });
        assert!(matches!(writer.ended_or_stopped(), End::Stopped(_)));
        let reader = Child::fork(|| {
            kill::arm("queue.stepped_over", 1, Deed::Stop);
            for cell in 0..2 {
                let message = queue.get(patiently()).expect("a message");
                slate.write(FREE_CELLS + cell, message.bytes()[0].into());
            }
        });
        assert!(matches!(reader.ended_or_stopped(), End::Stopped(_)));
        writer.go_on();
        writer.succeed();
        queue.put(&[b"2"], Deadline::NOW).expect("no limit");
        reader.go_on();
        reader.succeed();
        let received = [0, 1].map(|cell| slate.read(FREE_CELLS + cell));
        assert_eq!(received, [b'1', b'2'].map(u64::from));
    });
}

/// Each strip that is over leaves, though the first one stays as long as its writer is stopped.
#[test]
fn a_stopped_producer_keeps_no_memory_of_what_passes_meanwhile() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        let writer = Child::fork(|| {
            kill::arm("queue.claimed", 1, Deed::Stop);
            queue.put(&[b"late"], Deadline::NOW).expect("no limit");
        });
        assert!(matches!(writer.ended_or_stopped(), End::Stopped(_)));
        let turn = |number: u32| {
            queue
                .put(&[&number.to_ne_bytes()], Deadline::NOW)
                .expect("no limit");
            let message = queue.get(promptly()).expect("a message");
            assert_eq!(message.bytes(), number.to_ne_bytes());
            assert_eq!(queue.len(), 1);
        };
        (0..600).for_each(turn);
        let before = Footprint::take();
        (0..5_000).for_each(turn);
        before.assert_about(4);
        writer.go_on();
        writer.succeed();
        assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"late");
        assert!(queue.is_empty());
    });
}

/// A bounded queue is no longer than it was while a slot of it stays claimed.
#[test]
fn a_stopped_producer_takes_one_place_of_a_bounded_queue() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(3).expect("a queue");
        let writer = Child::fork(|| {
            kill::arm("queue.claimed", 1, Deed::Stop);
            queue.put(&[b"late"], Deadline::NOW).expect("no limit");
        });
        assert!(matches!(writer.ended_or_stopped(), End::Stopped(_)));
        for _ in 0..2_000 {
            queue.put(&[b"1"], Deadline::NOW).expect("room for two");
            queue.put(&[b"2"], Deadline::NOW).expect("room for two");
            assert!(matches!(
                queue.put(&[b"3"], Deadline::NOW),
                Err(PutError::Full)
            ));
            assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"1");
            assert_eq!(queue.get(promptly()).expect("a message").bytes(), b"2");
        }
        writer.go_on();
        writer.succeed();
    });
}

/// As a worker of a pool does that stops in the middle of its result.
#[test]
fn a_stopped_reader_keeps_no_memory_of_what_passes_meanwhile() {
    isolated(|| {
        process::ensure().expect("an arena");
        let queue = Queue::new(0).expect("a queue");
        queue.put(&[&[7; 5_000]], Deadline::NOW).expect("no limit");
        let reader = Child::fork(|| {
            kill::arm("queue.taken", 1, Deed::Stop);
            assert_eq!(
                queue.get(promptly()).expect("a message").bytes(),
                [7; 5_000]
            );
        });
        assert!(matches!(reader.ended_or_stopped(), End::Stopped(_)));
        let turn = |number: u32| {
            queue
                .put(&[&number.to_ne_bytes()], Deadline::NOW)
                .expect("no limit");
            let message = queue.get(promptly()).expect("a message");
            assert_eq!(message.bytes(), number.to_ne_bytes());
        };
        (0..600).for_each(turn);
        let before = Footprint::take();
        (0..5_000).for_each(turn);
        before.assert_about(4);
        reader.go_on();
        reader.succeed();
    });
}
