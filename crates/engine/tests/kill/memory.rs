//! Deaths in the arena: taking and giving back memory, growing, holding objects, taking a slot.

use crate::case::{FREE_CELLS, Play, assert_bystander_goes_on, curtain, turned};
use crate::common::{Child, End, Slate, die, promptly, reap_orphans};
use procession_engine::channel::Queue;
use procession_engine::failpoint::{self, Action};
use procession_engine::process::{self, ExitState, Reservation};
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, ProcId};

/// Takes memory, fills it, looks at it and gives it back.
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
pub struct Taking {
    sizes: &'static [usize],
}

impl Taking {
    pub fn small(_: Slate) -> Taking {
        Taking {
            sizes: &[1, 100, 100, 5_000],
        }
    }

    pub fn large(_: Slate) -> Taking {
        Taking {
            sizes: &[300_000, 2 << 20],
        }
    }

    fn turn(&self, fill: u8) {
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

impl Play for Taking {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        (0..6).for_each(|_| self.turn(1));
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            self.turn(2);
            turned(slate);
        }
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, slate: Slate) {
        (0..3).for_each(|_| self.turn(3));
        assert_bystander_goes_on(slate);
    }
}

/// So much memory that new segments are needed all the time.
pub struct Growing;

impl Growing {
    pub fn new(_: Slate) -> Growing {
        Growing
    }

    fn turn() {
        let many: Vec<_> = (0..40)
            .map(|_| SharedBytes::new(60_000).expect("memory"))
            .collect();
        use_bytes(60_000, 9);
        drop(many);
    }
}

impl Play for Growing {
    fn victim(&mut self, _: Slate) {
        (0..2).for_each(|_| Growing::turn());
    }

    fn while_stopped(&mut self, slate: Slate) {
        self.survive(slate);
    }

    fn survive(&mut self, _: Slate) {
        (0..3).for_each(|_| Growing::turn());
    }
}

/// So little memory that what lies free in one size must go before there is room for another.
pub struct Tight;

impl Tight {
    pub fn new(_: Slate) -> Tight {
        let memory = process::memory().expect("an arena");
        process::set_memory_limit(Some(memory.resident + (16 << 20))).expect("an arena");
        Tight
    }

    fn turn(fill: u8) {
        for size in [2 << 20, 5 << 19, 3 << 20, 7 << 19, 4 << 20, 5 << 20] {
            use_bytes(size, fill);
        }
    }
}

impl Play for Tight {
    fn victim(&mut self, _: Slate) {
        (0..2).for_each(|_| Tight::turn(1));
    }

    fn while_stopped(&mut self, _: Slate) {
        Tight::turn(2);
    }

    fn survive(&mut self, _: Slate) {
        (0..2).for_each(|_| Tight::turn(3));
    }
}

/// Memory of messages of all kinds that is given back while others take it.
pub struct GivingBack;

impl GivingBack {
    pub fn new(_: Slate) -> GivingBack {
        GivingBack
    }

    fn turn(fill: u8) {
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
        // So many that the cells of their blocks go as well, and are taken anew.
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

impl Play for GivingBack {
    fn victim(&mut self, _: Slate) {
        GivingBack::turn(1);
    }

    fn while_stopped(&mut self, _: Slate) {
        GivingBack::turn(2);
    }

    fn survive(&mut self, _: Slate) {
        (0..2).for_each(|_| GivingBack::turn(3));
    }
}

/// An object that several processes open and drop, of which the victim is the last to hold some.
pub struct Holding {
    kept: SharedBytes,
    handed_over: Option<SharedBytes>,
}

impl Holding {
    pub fn new(_: Slate) -> Holding {
        let make = || SharedBytes::new(64).expect("memory");
        Holding {
            kept: make(),
            handed_over: Some(make()),
        }
    }
}

impl Play for Holding {
    fn victim(&mut self, slate: Slate) {
        slate.write(FREE_CELLS, 1);
        for _ in 0..4 {
            let again = SharedBytes::open(&self.kept.handle()).expect("it is held");
            again.write_at(0, &[5]);
        }
        slate.until(FREE_CELLS + 1, 1);
        self.handed_over = None;
    }

    const BYSTANDER: bool = true;

    fn bystander(&mut self, slate: Slate) {
        // From here on the victim alone holds what was handed over.
        self.handed_over = None;
        slate.write(FREE_CELLS + 1, 1);
        for _ in 0..20 {
            SharedBytes::open(&self.kept.handle())
                .expect("it is held")
                .write_at(0, &[6]);
        }
    }

    fn survive(&mut self, _: Slate) {
        self.handed_over = None;
        for _ in 0..6 {
            let again = SharedBytes::open(&self.kept.handle()).expect("it is held");
            again.write_at(0, &[7]);
        }
    }
}

/// More holders than fit in the object itself.
pub struct Crowding {
    kept: SharedBytes,
    crowd: Vec<Reservation>,
}

impl Crowding {
    pub fn new(_: Slate) -> Crowding {
        let kept = SharedBytes::new(64).expect("memory");
        Crowding {
            kept,
            crowd: (0..CROWD)
                .map(|_| Reservation::reserve().expect("a slot"))
                .collect(),
        }
    }

    fn turn(&self) {
        let own = SharedBytes::new(64).expect("memory");
        for shared in [&own, &self.kept] {
            for slot in &self.crowd {
                slot.hold(&shared.handle()).expect("it is held here");
            }
        }
    }
}

/// Beyond those that the head has room for, as many as find their place in the first table taken.
const CROWD: usize = 48;

impl Play for Crowding {
    fn victim(&mut self, _: Slate) {
        self.turn();
    }

    fn while_stopped(&mut self, _: Slate) {
        self.turn();
    }

    fn survive(&mut self, _: Slate) {
        self.turn();
    }
}

/// A process that forks on its own, and dies before, during or after it.
pub struct Forking {
    kept: SharedBytes,
}

impl Forking {
    pub fn new(_: Slate) -> Forking {
        Forking {
            kept: SharedBytes::new(64).expect("memory"),
        }
    }

    fn turn(&self) {
        let own = SharedBytes::new(64).expect("memory");
        let child = Child::fork(|| {
            // The one to die is the parent.
            failpoint::disarm();
            own.write_at(0, &[1]);
            self.kept.write_at(0, &[1]);
            drop(SharedBytes::new(64).expect("memory"));
        });
        child.succeed();
    }
}

impl Play for Forking {
    /// A slot reserved for a child that was never born is given up after a while only.
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, _: Slate) {
        (0..3).for_each(|_| self.turn());
    }

    fn survive(&mut self, _: Slate) {
        (0..3).for_each(|_| self.turn());
    }

    fn verify(&mut self, _: Slate) {
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
    /// The other one will die at that step, with a few things in its hands. It waits for its word:
    /// the dead are reaped by whoever comes by, and that shall be the victim.
    fn one_that_dies_at(slate: Slate, step: &'static str) -> Reaping {
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
            slate.until(DIE, 1);
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

    pub fn idle(slate: Slate) -> Reaping {
        Reaping::one_that_dies_at(slate, "nowhere")
    }

    pub fn making(slate: Slate) -> Reaping {
        Reaping::one_that_dies_at(slate, "object.filled")
    }

    pub fn freeing(slate: Slate) -> Reaping {
        Reaping::one_that_dies_at(slate, "object.dying")
    }

    pub fn retiring(slate: Slate) -> Reaping {
        Reaping::one_that_dies_at(slate, "chunk_list.retiring")
    }

    pub fn dismantling(slate: Slate) -> Reaping {
        Reaping::one_that_dies_at(slate, "chunk_list.dismantling")
    }
}

impl Play for Reaping {
    fn victim(&mut self, slate: Slate) {
        let dead = self.dead.as_ref().and_then(Child::slot);
        let slot = dead.expect("it had a slot");
        slate.write(DIE, 1);
        while process::exit_state(slot) == ExitState::Alive {
            std::thread::yield_now();
        }
        process::reap(slot);
        process::sweep();
    }

    fn survive(&mut self, slate: Slate) {
        slate.write(DIE, 1);
        let dead = self.dead.take().expect("it is not reaped yet");
        let (end, exit_state) = dead.join();
        assert_eq!(end, End::Killed(libc::SIGKILL));
        assert_ne!(exit_state, Some(ExitState::Alive));
        while self.queue.get(Deadline::NOW).is_ok() {}
        assert!(self.queue.is_empty());
        self.queue.put(&[b"x"], Deadline::NOW).expect("no limit");
    }
}

/// A process that leaves in order, and dies while it does.
pub struct Leaving {
    kept: SharedBytes,
}

impl Leaving {
    pub fn new(_: Slate) -> Leaving {
        Leaving {
            kept: SharedBytes::new(64).expect("memory"),
        }
    }
}

impl Play for Leaving {
    fn victim(&mut self, _: Slate) {
        self.kept.write_at(0, &[1]);
        process::leave();
    }

    fn survive(&mut self, _: Slate) {
        self.kept.write_at(0, &[2]);
    }
}

/// A forked process that moves to a slot reserved by somebody else.
pub struct Moving {
    kept: SharedBytes,
    slot: Option<ProcId>,
}

impl Moving {
    pub fn new(_: Slate) -> Moving {
        let kept = SharedBytes::new(64).expect("memory");
        let slot = Reservation::reserve().expect("a slot");
        slot.hold(&kept.handle()).expect("it is held here");
        Moving {
            kept,
            slot: Some(slot.keep()),
        }
    }
}

impl Play for Moving {
    fn victim(&mut self, _: Slate) {
        let slot = self.slot.expect("reserved");
        process::note_pid(slot, std::process::id());
        process::move_to_entry(slot).expect("it is reserved for this");
        self.kept.write_at(0, &[1]);
    }

    fn survive(&mut self, _: Slate) {
        self.kept.write_at(0, &[2]);
    }

    fn verify(&mut self, _: Slate) {
        process::reap(self.slot.expect("reserved"));
    }
}

/// A process that a thread of its own entered, whose first thread then takes its life word over.
pub struct HandingOver(Moving);

impl HandingOver {
    pub fn new(slate: Slate) -> HandingOver {
        HandingOver(Moving::new(slate))
    }
}

impl Play for HandingOver {
    /// The child comes to some steps, too.
    const VISITS: &[u32] = &[1];

    fn victim(&mut self, slate: Slate) {
        std::thread::scope(|scope| {
            let entering = scope.spawn(|| self.0.victim(slate));
            entering.join().expect("it has a slot")
        });
        // Before a fork it does.
        Child::fork(failpoint::disarm).succeed();
        self.0.kept.write_at(0, &[3]);
    }

    fn survive(&mut self, slate: Slate) {
        self.0.survive(slate);
    }

    fn verify(&mut self, slate: Slate) {
        self.0.verify(slate);
        sweep_orphans();
    }
}

/// Reaps those whom nobody else can: children of the victim, and slots it reserved in vain.
pub fn sweep_orphans() {
    reap_orphans();
    let limit = Deadline::after(std::time::Duration::from_secs(20));
    while process::memory_stats().processes > 1 && !limit.is_past() {
        process::sweep();
        std::thread::yield_now();
    }
}
