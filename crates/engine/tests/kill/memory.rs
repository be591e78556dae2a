//! Deaths in the arena: allocating and freeing memory, growing, holding objects, claiming a process entry.

use crate::case::{FREE_CELLS, Scenario, assert_bystander_goes_on, is_over, round_done};
use crate::common::{Child, End, SharedCells, die, promptly, reap_orphans};
use procession_engine::channel::Queue;
use procession_engine::failpoint::{self, Action};
use procession_engine::process::{self, ExitState, Reservation};
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, ProcId};

/// Allocates memory, fills it, checks it and frees it.
fn use_bytes(len: usize, fill: u8) {
    let bytes = SharedBytes::new(len).expect("memory");
    let mut seen = vec![1; len.min(5_000)];
    bytes.read_at(0, &mut seen);
    assert!(
        seen.iter().all(|&byte| byte == 0),
        "new memory is not zeroed"
    );
    bytes.write_at(0, &vec![fill; seen.len()]);
    bytes.read_at(0, &mut seen);
    assert!(
        seen.iter().all(|&byte| byte == fill),
        "somebody else writes here"
    );
}

/// Memory of a few sizes, one after the other and several at a time.
pub struct Allocating {
    sizes: &'static [usize],
}

impl Allocating {
    pub fn small(_: SharedCells) -> Allocating {
        Allocating {
            sizes: &[1, 100, 100, 5_000],
        }
    }

    pub fn large(_: SharedCells) -> Allocating {
        Allocating {
            sizes: &[300_000, 2 << 20],
        }
    }

    fn round(&self, fill: u8) {
        for &size in self.sizes {
            use_bytes(size, fill);
        }
        let several: Vec<_> = self
            .sizes
            .iter()
            .map(|&size| SharedBytes::new(size).expect("memory"))
            .collect();
        self.sizes.iter().for_each(|&size| use_bytes(size, fill));
        drop(several);
    }
}

impl Scenario for Allocating {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: SharedCells) {
        (0..6).for_each(|_| self.round(1));
    }

    fn bystander(&mut self, cells: SharedCells) {
        while !is_over(cells) {
            self.round(2);
            round_done(cells);
        }
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, cells: SharedCells) {
        (0..3).for_each(|_| self.round(3));
        assert_bystander_goes_on(cells);
    }
}

/// So much memory that new segments are needed all the time.
pub struct Growing;

impl Growing {
    pub fn new(_: SharedCells) -> Growing {
        Growing
    }

    fn round() {
        let many: Vec<_> = (0..40)
            .map(|_| SharedBytes::new(60_000).expect("memory"))
            .collect();
        use_bytes(60_000, 9);
        drop(many);
    }
}

impl Scenario for Growing {
    fn victim(&mut self, _: SharedCells) {
        (0..2).for_each(|_| Growing::round());
    }

    fn while_stopped(&mut self, cells: SharedCells) {
        self.survive(cells);
    }

    fn survive(&mut self, _: SharedCells) {
        (0..3).for_each(|_| Growing::round());
    }
}

/// So little memory that free blocks of one size must be released before another size fits.
pub struct Tight;

impl Tight {
    pub fn new(_: SharedCells) -> Tight {
        let memory = process::memory().expect("an arena");
        process::set_memory_limit(Some(memory.resident + (16 << 20))).expect("an arena");
        Tight
    }

    fn round(fill: u8) {
        for size in [2 << 20, 5 << 19, 3 << 20, 7 << 19, 4 << 20, 5 << 20] {
            use_bytes(size, fill);
        }
    }
}

impl Scenario for Tight {
    fn victim(&mut self, _: SharedCells) {
        (0..2).for_each(|_| Tight::round(1));
    }

    fn while_stopped(&mut self, _: SharedCells) {
        Tight::round(2);
    }

    fn survive(&mut self, _: SharedCells) {
        (0..2).for_each(|_| Tight::round(3));
    }
}

/// Memory of all kinds of messages is released while others allocate it.
pub struct Releasing;

impl Releasing {
    pub fn new(_: SharedCells) -> Releasing {
        Releasing
    }

    fn round(fill: u8) {
        let queue = Queue::new(0).expect("memory");
        for size in [40, 800, 3_000, 20_000] {
            for _ in 0..40 {
                let put = queue.put(&[&vec![fill; size]], promptly());
                put.expect("there is room");
            }
            process::trim();
            for _ in 0..40 {
                let message = queue.get(promptly()).expect("it was put");
                assert_eq!(message.bytes(), vec![fill; size]);
            }
            process::trim();
        }
        // So many that the cells of their blocks are released as well, and allocated anew.
        for count in [600, 300] {
            let make = |_| SharedBytes::new(100).expect("memory");
            let many: Vec<_> = (0..count).map(make).collect();
            many.iter()
                .for_each(|bytes| bytes.write_at(0, &[fill; 100]));
            let mut seen = [0; 100];
            for bytes in &many {
                bytes.read_at(0, &mut seen);
                assert_eq!(seen, [fill; 100], "somebody else writes here");
            }
            let old = many[count - 1].handle();
            drop(many);
            process::trim();
            let again: Vec<_> = (0..count).map(make).collect();
            assert!(again.iter().all(|bytes| bytes.handle() != old));
            assert!(SharedBytes::open(&old).is_err(), "an old handle is known");
        }
    }
}

impl Scenario for Releasing {
    fn victim(&mut self, _: SharedCells) {
        Releasing::round(1);
    }

    fn while_stopped(&mut self, _: SharedCells) {
        Releasing::round(2);
    }

    fn survive(&mut self, _: SharedCells) {
        (0..2).for_each(|_| Releasing::round(3));
    }
}

/// An object that several processes open and drop. The victim is the last holder of some of it.
pub struct Holding {
    kept: SharedBytes,
    handed_over: Option<SharedBytes>,
}

impl Holding {
    pub fn new(_: SharedCells) -> Holding {
        let make = || SharedBytes::new(64).expect("memory");
        Holding {
            kept: make(),
            handed_over: Some(make()),
        }
    }
}

impl Scenario for Holding {
    fn victim(&mut self, cells: SharedCells) {
        cells.write(FREE_CELLS, 1);
        for _ in 0..4 {
            let again = SharedBytes::open(&self.kept.handle()).expect("it is held");
            again.write_at(0, &[5]);
        }
        cells.until(FREE_CELLS + 1, 1);
        self.handed_over = None;
    }

    const BYSTANDER: bool = true;

    fn bystander(&mut self, cells: SharedCells) {
        // From here on only the victim holds the object that was handed over.
        self.handed_over = None;
        cells.write(FREE_CELLS + 1, 1);
        for _ in 0..20 {
            SharedBytes::open(&self.kept.handle())
                .expect("it is held")
                .write_at(0, &[6]);
        }
    }

    fn survive(&mut self, _: SharedCells) {
        self.handed_over = None;
        for _ in 0..6 {
            let again = SharedBytes::open(&self.kept.handle()).expect("it is held");
            again.write_at(0, &[7]);
        }
    }
}

/// More holders than fit into the object itself.
pub struct ManyHolders {
    kept: SharedBytes,
    holders: Vec<Reservation>,
}

impl ManyHolders {
    pub fn new(_: SharedCells) -> ManyHolders {
        let kept = SharedBytes::new(64).expect("memory");
        ManyHolders {
            kept,
            holders: (0..HOLDERS)
                .map(|_| Reservation::reserve().expect("a slot"))
                .collect(),
        }
    }

    fn round(&self) {
        let own = SharedBytes::new(64).expect("memory");
        for shared in [&own, &self.kept] {
            for slot in &self.holders {
                slot.hold(&shared.handle()).expect("it is held here");
            }
        }
    }
}

/// Enough, beyond those that fit into the head, that some find their place in the first table taken.
const HOLDERS: usize = 48;

impl Scenario for ManyHolders {
    fn victim(&mut self, _: SharedCells) {
        self.round();
    }

    fn while_stopped(&mut self, _: SharedCells) {
        self.round();
    }

    fn survive(&mut self, _: SharedCells) {
        self.round();
    }
}

/// A process that forks by itself, and dies before, during or after the fork.
pub struct Forking {
    kept: SharedBytes,
}

impl Forking {
    pub fn new(_: SharedCells) -> Forking {
        Forking {
            kept: SharedBytes::new(64).expect("memory"),
        }
    }

    fn round(&self) {
        let own = SharedBytes::new(64).expect("memory");
        let child = Child::fork(|| {
            // The parent is the one to die.
            failpoint::disarm();
            own.write_at(0, &[1]);
            self.kept.write_at(0, &[1]);
            drop(SharedBytes::new(64).expect("memory"));
        });
        child.succeed();
    }
}

impl Scenario for Forking {
    /// An entry reserved for a child that was never born is released only after a while.
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, _: SharedCells) {
        (0..3).for_each(|_| self.round());
    }

    fn survive(&mut self, _: SharedCells) {
        (0..3).for_each(|_| self.round());
    }

    fn verify(&mut self, _: SharedCells) {
        sweep_orphans();
    }
}

/// A process that dies while it reaps another one.
pub struct Reaping {
    dead: Option<Child>,
    queue: Queue,
}

const DIE: usize = FREE_CELLS;

impl Reaping {
    /// The other process dies at that step, while it owns several things. It waits for a signal first: any process that
    /// comes by reaps the dead, and here this must be the victim.
    fn one_that_dies_at(cells: SharedCells, step: &'static str) -> Reaping {
        let shared = SharedBytes::new(64).expect("memory");
        let queue = Queue::new(0).expect("a queue");
        let dead = Child::fork(|| {
            let mut all = Vec::new();
            for _ in 0..4 {
                all.push(SharedBytes::new(5_000).expect("memory"));
            }
            let own = Queue::new(0).expect("a queue");
            for _ in 0..20 {
                queue.put(&[&[1; 300]], Deadline::NOW).expect("no limit");
                own.put(&[&[1; 300]], Deadline::NOW).expect("no limit");
            }
            let again = SharedBytes::open(&shared.handle()).expect("it is held");
            cells.until(DIE, 1);
            failpoint::arm(step, 1, Action::Kill);
            drop(SharedBytes::new(5_000).expect("memory"));
            for _ in 0..18 {
                queue.get(Deadline::NOW).expect("a message");
            }
            drop(own);
            std::mem::forget((all, again));
            die();
        });
        Reaping {
            dead: Some(dead),
            queue,
        }
    }

    pub fn idle(cells: SharedCells) -> Reaping {
        Reaping::one_that_dies_at(cells, "nowhere")
    }

    pub fn making(cells: SharedCells) -> Reaping {
        Reaping::one_that_dies_at(cells, "object.filled")
    }

    pub fn freeing(cells: SharedCells) -> Reaping {
        Reaping::one_that_dies_at(cells, "object.dying")
    }

    pub fn retiring(cells: SharedCells) -> Reaping {
        Reaping::one_that_dies_at(cells, "chunk_list.retiring")
    }

    pub fn dismantling(cells: SharedCells) -> Reaping {
        Reaping::one_that_dies_at(cells, "chunk_list.dismantling")
    }
}

impl Scenario for Reaping {
    fn victim(&mut self, cells: SharedCells) {
        let dead = self.dead.as_ref().and_then(Child::proc_id);
        let slot = dead.expect("it had a slot");
        cells.write(DIE, 1);
        while process::exit_state(slot) == ExitState::Alive {
            std::thread::yield_now();
        }
        process::reap(slot);
        process::sweep();
    }

    fn survive(&mut self, cells: SharedCells) {
        cells.write(DIE, 1);
        let dead = self.dead.take().expect("it is not reaped yet");
        let (end, exit_state) = dead.join();
        assert_eq!(end, End::Killed(libc::SIGKILL));
        assert_ne!(exit_state, Some(ExitState::Alive));
        while self.queue.get(Deadline::NOW).is_ok() {}
        assert!(self.queue.is_empty());
        self.queue.put(&[b"x"], Deadline::NOW).expect("no limit");
    }
}

/// A process that leaves the tree in order, and dies while it does.
pub struct Leaving {
    kept: SharedBytes,
}

impl Leaving {
    pub fn new(_: SharedCells) -> Leaving {
        Leaving {
            kept: SharedBytes::new(64).expect("memory"),
        }
    }
}

impl Scenario for Leaving {
    fn victim(&mut self, _: SharedCells) {
        self.kept.write_at(0, &[1]);
        process::leave();
    }

    fn survive(&mut self, _: SharedCells) {
        self.kept.write_at(0, &[2]);
    }
}

/// A forked process that moves to an entry reserved by another process.
pub struct Moving {
    kept: SharedBytes,
    slot: Option<ProcId>,
}

impl Moving {
    pub fn new(_: SharedCells) -> Moving {
        let kept = SharedBytes::new(64).expect("memory");
        let slot = Reservation::reserve().expect("a slot");
        slot.hold(&kept.handle()).expect("it is held here");
        Moving {
            kept,
            slot: Some(slot.keep()),
        }
    }
}

impl Scenario for Moving {
    fn victim(&mut self, _: SharedCells) {
        let slot = self.slot.expect("reserved");
        process::note_pid(slot, std::process::id());
        process::move_to_entry(slot).expect("it is reserved for this");
        self.kept.write_at(0, &[1]);
    }

    fn survive(&mut self, _: SharedCells) {
        self.kept.write_at(0, &[2]);
    }

    fn verify(&mut self, _: SharedCells) {
        process::reap(self.slot.expect("reserved"));
    }
}

/// A thread other than the first enters the process into the table. The first thread then takes over its liveness
/// word.
pub struct HandingOver(Moving);

impl HandingOver {
    pub fn new(cells: SharedCells) -> HandingOver {
        HandingOver(Moving::new(cells))
    }
}

impl Scenario for HandingOver {
    /// The child passes some steps, too.
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, cells: SharedCells) {
        std::thread::scope(|scope| {
            let entering = scope.spawn(|| self.0.victim(cells));
            entering.join().expect("it has a slot")
        });
        // The first thread takes over before a fork.
        Child::fork(failpoint::disarm).succeed();
        self.0.kept.write_at(0, &[3]);
    }

    fn survive(&mut self, cells: SharedCells) {
        self.0.survive(cells);
    }

    fn verify(&mut self, cells: SharedCells) {
        self.0.verify(cells);
        sweep_orphans();
    }
}

/// Reaps the processes that no other process can reap: children of the victim, and entries it reserved in vain.
pub fn sweep_orphans() {
    reap_orphans();
    let limit = Deadline::after(std::time::Duration::from_secs(20));
    while process::memory_stats().processes > 1 && !limit.is_past() {
        process::sweep();
        std::thread::yield_now();
    }
}
