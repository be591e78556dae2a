//! Deaths in the queue: putting and getting, small and large messages, bounded queues, chunk changes.

use crate::case::{FREE_CELLS, Scenario, is_over, round_done};
use crate::common::{
    Child, DeliveryLog, SharedCells, TestMessage, briefly, linger, patiently, promptly,
};
use procession_engine::Deadline;
use procession_engine::channel::Queue;
use procession_engine::error::{GetError, PutError, WaitError};
use procession_engine::failpoint::{self, Action};
use std::time::Duration;

/// Numbers of the writers in the log.
pub const VICTIM: usize = 0;
pub const BYSTANDER: usize = 1;
pub const SURVIVOR: usize = 2;
const EACH: usize = 900;

/// A queue, and the log of its messages.
pub struct LoggedQueue {
    queue: Queue,
    log: DeliveryLog,
    next: [usize; 3],
    size: usize,
}

impl LoggedQueue {
    pub fn new(cells: SharedCells, maxsize: usize, size: usize) -> LoggedQueue {
        let log = DeliveryLog::new(cells, FREE_CELLS + 16, 3, EACH);
        LoggedQueue {
            queue: Queue::new(maxsize).expect("a queue"),
            log,
            next: [0; 3],
            size,
        }
    }

    pub fn put(&mut self, writer: usize, deadline: Deadline) -> Result<(), PutError> {
        let message = TestMessage::new(writer, self.next[writer], self.size);
        self.log.begin(message);
        let bytes = message.bytes();
        let (head, tail) = bytes.split_at(10);
        self.queue.put(&[head, tail], deadline)?;
        self.log.sent(message);
        self.next[writer] += 1;
        Ok(())
    }

    pub fn get(&self, deadline: Deadline) -> Result<TestMessage, GetError> {
        self.queue
            .get(deadline)
            .map(|message| self.log.received(message.bytes()))
    }

    /// Gets everything that is there.
    fn drain(&self) {
        loop {
            match self.get(Deadline::NOW) {
                Ok(_) => {}
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Fails unless every message came once, except those that dead readers may have received.
    pub fn assert_complete(&self, in_dead_hands: usize) {
        self.drain();
        let missing = self.log.missing();
        assert!(missing.len() <= in_dead_hands, "lost: {missing:?}");
        assert_eq!((self.queue.len(), self.queue.is_empty()), (0, true));
    }
}

/// The victim puts, the bystander gets.
pub struct Putting {
    logged: LoggedQueue,
    messages: usize,
}

impl Putting {
    /// Messages that fit into a slot, and enough of them for several chunks.
    pub fn small(cells: SharedCells) -> Putting {
        Putting {
            logged: LoggedQueue::new(cells, 0, 30),
            messages: 700,
        }
    }

    /// Messages in a block of their own.
    pub fn large(cells: SharedCells) -> Putting {
        Putting {
            logged: LoggedQueue::new(cells, 0, 20_000),
            messages: 24,
        }
    }

    /// Messages larger than the first segment.
    pub fn huge(cells: SharedCells) -> Putting {
        Putting {
            logged: LoggedQueue::new(cells, 0, 3 << 20),
            messages: 5,
        }
    }

    /// At most three at a time.
    pub fn bounded(cells: SharedCells) -> Putting {
        Putting {
            logged: LoggedQueue::new(cells, 3, 30),
            messages: 60,
        }
    }

    /// At most three at a time, in blocks.
    pub fn bounded_large(cells: SharedCells) -> Putting {
        Putting {
            logged: LoggedQueue::new(cells, 3, 5_000),
            messages: 24,
        }
    }
}

impl Scenario for Putting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..self.messages {
            self.logged.put(VICTIM, patiently()).expect("room");
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            match self.logged.get(briefly()) {
                Ok(_) => round_done(cells),
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
            if self.logged.queue.maxsize() > 0 {
                // So that the victim has to wait for room.
                linger();
            }
        }
    }

    fn while_stopped(&mut self, _: SharedCells) {
        for _ in 0..2 {
            match self.logged.put(SURVIVOR, briefly()) {
                Ok(()) | Err(PutError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, _: SharedCells) {
        let limit = promptly();
        for _ in 0..6 {
            self.logged
                .put(SURVIVOR, limit)
                .expect("room, as the bystander gets");
        }
        while self
            .logged
            .log
            .missing()
            .iter()
            .any(|message| message.writer == SURVIVOR)
        {
            assert!(
                !limit.is_past(),
                "the bystander does not get what the living put"
            );
            std::thread::yield_now();
        }
    }

    fn verify(&mut self, _: SharedCells) {
        self.logged.assert_complete(0);
        let room = match self.logged.queue.maxsize() {
            0 => return,
            room => room,
        };
        for _ in 0..room {
            self.logged
                .put(SURVIVOR, Deadline::NOW)
                .expect("the dead take no room");
        }
        assert!(matches!(
            self.logged.put(SURVIVOR, Deadline::NOW),
            Err(PutError::Full)
        ));
        self.logged.drain();
    }
}

/// The victim gets what the bystander puts.
pub struct Getting {
    logged: LoggedQueue,
    messages: usize,
}

impl Getting {
    pub fn small(cells: SharedCells) -> Getting {
        Getting {
            logged: LoggedQueue::new(cells, 0, 30),
            messages: 60,
        }
    }

    pub fn chunks(cells: SharedCells) -> Getting {
        Getting {
            logged: LoggedQueue::new(cells, 0, 30),
            messages: 600,
        }
    }

    pub fn large(cells: SharedCells) -> Getting {
        Getting {
            logged: LoggedQueue::new(cells, 0, 20_000),
            messages: 24,
        }
    }

    pub fn bounded(cells: SharedCells) -> Getting {
        Getting {
            logged: LoggedQueue::new(cells, 3, 30),
            messages: 40,
        }
    }
}

impl Scenario for Getting {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..self.messages {
            match self.logged.get(Deadline::after(Duration::from_millis(300))) {
                Ok(_) => {}
                Err(GetError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn bystander(&mut self, cells: SharedCells) {
        while self.logged.next[BYSTANDER] < self.messages && !is_over(cells) {
            if self.logged.queue.maxsize() > 0 {
                // So that the victim has to wait for messages.
                linger();
            }
            match self.logged.put(BYSTANDER, briefly()) {
                Ok(()) => round_done(cells),
                Err(PutError::Full) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        let limit = promptly();
        for _ in 0..6 {
            // The bystander puts too: this process has to get messages to make room for its own.
            while let Err(error) = self.logged.put(SURVIVOR, Deadline::NOW) {
                assert!(matches!(error, PutError::Full), "{error}");
                self.logged.get(limit).expect("it is full");
            }
            self.logged.get(limit).expect("there is one at least");
        }
    }

    fn verify(&mut self, _: SharedCells) {
        self.logged.assert_complete(1);
    }
}

/// The victim gets tasks, and reports that they are done.
pub struct Tasks {
    logged: LoggedQueue,
}

impl Tasks {
    pub fn new(cells: SharedCells) -> Tasks {
        let mut logged = LoggedQueue::new(cells, 0, 30);
        logged.queue = Queue::joinable(0).expect("a queue");
        for _ in 0..TASKS {
            logged.put(SURVIVOR, Deadline::NOW).expect("no limit");
        }
        Tasks { logged }
    }
}

const TASKS: usize = 12;

impl Scenario for Tasks {
    fn victim(&mut self, _: SharedCells) {
        for _ in 0..TASKS / 2 {
            self.logged.get(Deadline::NOW).expect("a task");
            self.logged.queue.task_done().expect("it was got");
        }
        let joined = self.logged.queue.join(briefly());
        assert!(matches!(joined, Ok(_) | Err(WaitError::TimedOut)));
    }

    fn survive(&mut self, _: SharedCells) {
        let unfinished = self.logged.queue.unfinished();
        assert!(
            (TASKS as u64 / 2..=TASKS as u64).contains(&unfinished),
            "{unfinished} unfinished"
        );
        self.logged.drain();
        for _ in 0..unfinished {
            self.logged.queue.task_done().expect("it is unfinished");
        }
        assert_eq!(self.logged.queue.join(promptly()).expect("all is done"), 0);
        assert!(self.logged.queue.task_done().is_err());
    }

    fn verify(&mut self, _: SharedCells) {
        self.logged.assert_complete(1);
    }
}

/// The victim creates, uses and drops queues of its own.
pub struct Making;

impl Making {
    pub fn new(_: SharedCells) -> Making {
        Making
    }

    fn round(cells: SharedCells) {
        let mut logged = LoggedQueue::new(cells, 0, 5_000);
        let handle = logged.queue.handle();
        for _ in 0..4 {
            logged.put(SURVIVOR, Deadline::NOW).expect("no limit");
        }
        let again = Queue::open(&handle).expect("it is open here");
        again.get(Deadline::NOW).expect("a message");
    }
}

impl Scenario for Making {
    fn victim(&mut self, cells: SharedCells) {
        for _ in 0..6 {
            Making::round(cells);
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, cells: SharedCells) {
        for _ in 0..6 {
            Making::round(cells);
        }
    }
}

/// The victim closes the queue that the bystander waits at.
pub struct Closing {
    logged: LoggedQueue,
}

impl Closing {
    pub fn new(cells: SharedCells) -> Closing {
        Closing {
            logged: LoggedQueue::new(cells, 0, 30),
        }
    }
}

impl Scenario for Closing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        for _ in 0..3 {
            self.logged.put(VICTIM, patiently()).expect("no limit");
        }
        self.logged.queue.close();
    }

    fn bystander(&mut self, _: SharedCells) {
        while self.logged.get(patiently()).is_ok() {}
    }

    fn survive(&mut self, _: SharedCells) {
        self.logged.queue.close();
        assert!(matches!(
            self.logged.put(SURVIVOR, Deadline::NOW),
            Err(PutError::Closed)
        ));
    }

    fn verify(&mut self, _: SharedCells) {
        assert!(matches!(
            self.logged.get(Deadline::NOW),
            Err(GetError::Closed)
        ));
        assert!(self.logged.log.missing().is_empty());
    }
}

/// Other processes have died in the queue before the victim comes. It dies while it repairs what they left.
pub struct Repairing {
    logged: LoggedQueue,
}

impl Repairing {
    pub fn small(cells: SharedCells) -> Repairing {
        Repairing::over(
            cells,
            LoggedQueue::new(cells, 0, 30),
            &[
                "queue.claimed",
                "queue.written",
                "queue.taken",
                "queue.copied",
            ],
        )
    }

    pub fn large(cells: SharedCells) -> Repairing {
        let steps = [
            "queue.block_named",
            "queue.block_passed",
            "queue.taken",
            "queue.block_owned",
        ];
        Repairing::over(cells, LoggedQueue::new(cells, 0, 5_000), &steps)
    }

    /// A queue of tasks, which are counted. Two of them were never put.
    pub fn tasks(cells: SharedCells) -> Repairing {
        let mut logged = LoggedQueue::new(cells, 0, 30);
        logged.queue = Queue::joinable(0).expect("a queue");
        let steps = ["queue.claimed", "queue.written", "tasks.begun"];
        Repairing::over(cells, logged, &steps)
    }

    fn over(_: SharedCells, mut logged: LoggedQueue, steps: &[&'static str]) -> Repairing {
        for &step in steps {
            logged.put(SURVIVOR, Deadline::NOW).expect("no limit");
            // A number that no other process uses: the message may or may not arrive.
            logged.next[BYSTANDER] += 1;
            let dead = Child::fork(|| {
                failpoint::arm(step, 1, Action::Kill);
                let _ = logged.put(BYSTANDER, Deadline::NOW);
                let _ = logged.get(Deadline::NOW);
            });
            dead.join();
        }
        Repairing { logged }
    }
}

impl Scenario for Repairing {
    fn victim(&mut self, _: SharedCells) {
        self.logged.put(VICTIM, Deadline::NOW).expect("no limit");
        assert!(self.logged.queue.len() < 20);
        for _ in 0..4 {
            let _ = self.logged.get(Deadline::NOW);
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        for _ in 0..6 {
            self.logged.put(SURVIVOR, Deadline::NOW).expect("no limit");
            self.logged.get(promptly()).expect("a message");
        }
    }

    fn verify(&mut self, _: SharedCells) {
        // The victim's message, and that of the process that died with a block it owned.
        self.logged.assert_complete(2);
        if self.logged.queue.is_joinable() {
            let received = self.logged.log.received_count() as u64;
            let unfinished = self.logged.queue.unfinished();
            assert!(
                (received..=received + 2).contains(&unfinished),
                "{unfinished} unfinished, {received} received"
            );
            for _ in 0..unfinished {
                self.logged.queue.task_done().expect("it is unfinished");
            }
            assert_eq!(self.logged.queue.join(promptly()).expect("all is done"), 0);
        }
    }
}
