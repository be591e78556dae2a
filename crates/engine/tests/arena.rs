//! The shared memory as its users see it: what was used is freed, and no two users get the same memory.

mod common;

use common::{Child, Footprint, SharedCells, die, isolated};
use procession_engine::channel::Queue;
use procession_engine::value::SharedBytes;
use procession_engine::{Deadline, Error, ObjectRef, process};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn memory_used_and_given_back_is_used_again() {
    isolated(|| {
        process::ensure().unwrap();
        let turn = || {
            drop(
                (0..50)
                    .map(|_| SharedBytes::new(10_000).unwrap())
                    .collect::<Vec<_>>(),
            )
        };
        turn();
        let segments = process::memory_stats().segments;
        (0..20).for_each(|_| turn());
        assert_eq!(process::memory_stats().segments, segments);
        assert_eq!(process::memory_stats().objects, 0);
    });
}

#[test]
fn a_limit_holds_for_all_processes_until_it_is_taken_back() {
    isolated(|| {
        process::ensure().unwrap();
        let small = SharedBytes::new(1 << 20).unwrap();
        let limit = process::memory().unwrap().resident + (4 << 20);
        let refused = || {
            let error = SharedBytes::new(8 << 20).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
            assert!(error.to_string().contains("set_memory_limit"), "{error}");
        };
        process::set_memory_limit(Some(limit)).unwrap();
        assert_eq!(process::memory().unwrap().limit, Some(limit));
        refused();
        Child::fork(refused).succeed();
        small.write_at(0, &[1]);
        drop(SharedBytes::new(2 << 20).unwrap());
        process::set_memory_limit(None).unwrap();
        drop(SharedBytes::new(8 << 20).unwrap());
        assert_eq!(process::memory().unwrap().limit, None);
    });
}

#[test]
fn what_lies_free_in_other_sizes_makes_room_under_a_limit() {
    isolated(|| {
        process::ensure().unwrap();
        let before = process::memory().unwrap();
        process::set_memory_limit(Some(before.resident + (8 << 20))).unwrap();
        for size in [3 << 20, 4 << 20, 5 << 20, 6 << 20, 7 << 20, 20_000] {
            let count = (6 << 20) / size;
            let many: Vec<_> = (0..count.max(1))
                .map(|_| SharedBytes::new(size).unwrap())
                .collect();
            let now = process::memory().unwrap();
            assert!(now.in_use >= (many.len() * size) as u64);
            assert!(now.resident <= before.resident + (8 << 20));
        }
        assert!(process::memory().unwrap().in_use < 1 << 20);
    });
}

#[test]
fn what_lies_free_in_any_size_goes_back() {
    isolated(|| {
        process::ensure().unwrap();
        for size in [64, 2_000, 5_000, 60_000, 3 << 20] {
            let count = (8 << 20) / size;
            let many: Vec<_> = (0..count)
                .map(|_| SharedBytes::new(size).unwrap())
                .collect();
            let neighbour = SharedBytes::new(size).unwrap();
            neighbour.write_at(0, &[7]);
            let before = process::memory().unwrap();
            drop(many);
            let given = process::trim();
            // The trimming thread may have been faster.
            let gone = before.resident - process::memory().unwrap().resident;
            assert!(gone >= 6 << 20, "{gone} bytes of blocks of {size}");
            assert!(gone >= given);
            let mut seen = [0];
            neighbour.read_at(0, &mut seen);
            assert_eq!(seen, [7]);
        }
    });
}

#[test]
fn memory_grows_after_the_program_closed_its_descriptor() {
    isolated(|| {
        let number = process::arena_fd().unwrap();
        let other = std::fs::File::create_new(format!("/tmp/procession-{}", std::process::id()));
        let mut other = other.unwrap();
        std::io::Write::write_all(&mut other, &[9; 4096]).unwrap();
        // SAFETY: as careless programs do, which close or replace descriptors of others.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&other), number) };
        let grown = SharedBytes::new(30 << 20).unwrap();
        grown.write_at((30 << 20) - 1, &[7]);
        Child::fork(|| {
            let mut seen = [0];
            grown.read_at((30 << 20) - 1, &mut seen);
            assert_eq!(seen, [7]);
            drop(SharedBytes::new(60 << 20).unwrap());
        })
        .succeed();
        drop(grown);
        process::trim();
        assert_eq!(other.metadata().unwrap().len(), 4096);
        let path = format!("/tmp/procession-{}", std::process::id());
        assert_eq!(std::fs::read(&path).unwrap(), [9; 4096]);
        std::fs::remove_file(path).unwrap();
        assert_ne!(process::arena_fd().ok(), Some(number));
    });
}

#[test]
fn processes_that_take_memory_at_once_never_share_it() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let work = |mark: u8| {
            for round in 0..60 {
                let size = 64 << (round % 8);
                let many: Vec<_> = (0..8).map(|_| SharedBytes::new(size).unwrap()).collect();
                many.iter()
                    .for_each(|bytes| bytes.write_at(0, &vec![mark; size]));
                for bytes in &many {
                    let mut seen = vec![0; size];
                    bytes.read_at(0, &mut seen);
                    assert!(
                        seen.iter().all(|&byte| byte == mark),
                        "somebody else writes here"
                    );
                }
            }
        };
        let others = [Child::fork(|| work(1)), Child::fork(|| work(2))];
        work(3);
        others.iter().for_each(Child::succeed);
        before.assert_unchanged();
    });
}

#[test]
fn memory_of_the_dead_comes_back() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        for _ in 0..5 {
            let child = Child::fork(|| {
                std::mem::forget(
                    (0..10)
                        .map(|_| SharedBytes::new(100_000).unwrap())
                        .collect::<Vec<_>>(),
                );
                die();
            });
            child.join();
            before.assert_unchanged();
        }
    });
}

#[test]
fn memory_grown_by_a_child_is_seen_by_its_parent() {
    isolated(|| {
        let cells = SharedCells::new();
        let kept = SharedBytes::new(32).unwrap();
        let child = Child::fork(|| {
            let grown = SharedBytes::new(30 << 20).unwrap();
            grown.write_at((30 << 20) - 1, &[7]);
            kept.write_at(0, &grown.handle().to_bytes());
            cells.write(0, 1);
            cells.until(0, 2);
        });
        cells.until(0, 1);
        let mut handle = [0; 32];
        kept.read_at(0, &mut handle);
        let grown =
            SharedBytes::open(&procession_engine::Handle::from_bytes(&handle).unwrap()).unwrap();
        cells.write(0, 2);
        child.succeed();
        let mut seen = [0];
        grown.read_at((30 << 20) - 1, &mut seen);
        assert_eq!(seen, [7]);
    });
}

#[test]
fn a_hundred_processes_may_hold_one_object() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let cells = SharedCells::new();
        let shared = SharedBytes::new(8).unwrap();
        let holders: Vec<_> = (0..100)
            .map(|_| {
                Child::fork(|| {
                    cells.until(0, 1);
                    shared
                        .atomic_u64(0)
                        .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                })
            })
            .collect();
        cells.write(0, 1);
        holders.iter().for_each(Child::succeed);
        assert_eq!(
            shared
                .atomic_u64(0)
                .load(std::sync::atomic::Ordering::SeqCst),
            100
        );
        drop(holders);
        drop(shared);
        before.assert_unchanged();
    });
}

#[test]
fn handles_of_another_tree_and_nonsense_are_refused() {
    use procession_engine::{Error, Handle};
    isolated(|| {
        assert!(matches!(
            Handle::from_bytes(&[0; 32]),
            Err(Error::BadHandle)
        ));
        let cells = SharedCells::new();
        // Forked before there is an arena: this child creates its own.
        let stranger = Child::fork(|| {
            let bytes = SharedBytes::new(8).unwrap().handle().to_bytes();
            for (at, word) in bytes.chunks(8).enumerate() {
                cells.write(at, u64::from_le_bytes(word.try_into().unwrap()));
            }
        });
        stranger.succeed();
        let bytes: Vec<u8> = (0..4).flat_map(|at| cells.read(at).to_le_bytes()).collect();
        let handle = Handle::from_bytes(&bytes).unwrap();
        assert!(matches!(
            SharedBytes::open(&handle),
            Err(Error::ForeignHandle)
        ));
    });
}

#[test]
fn an_object_handed_back_and_forth_is_never_lost() {
    use procession_engine::ProcId;
    isolated(|| {
        const ROUNDS: u64 = 20_000;
        let cells = SharedCells::new();
        let baton = SharedBytes::new(8).unwrap();
        let handle = baton.handle();
        let pass_on = |me: usize| {
            let mut mine = Some(SharedBytes::open(&handle).unwrap());
            cells.write(2 + me, process::me().as_u32().into());
            cells.until(3 - me, 1);
            let other = ProcId::from_u32(cells.read(3 - me) as u32).unwrap();
            if me == 1 {
                mine = None;
            }
            cells.until(4, 1);
            for round in (me as u64..ROUNDS).step_by(2) {
                cells.until(0, round);
                let held = mine
                    .take()
                    .unwrap_or_else(|| SharedBytes::open(&handle).unwrap());
                process::hold_for(other, &handle).unwrap();
                drop(held);
                cells.write(0, round + 1);
            }
        };
        let holders = [Child::fork(|| pass_on(0)), Child::fork(|| pass_on(1))];
        drop(baton);
        cells.write(4, 1);
        // Each released entry makes the engine look at all objects for those without a holder.
        while cells.read(0) < ROUNDS && !holders.iter().any(Child::has_ended) {
            drop(process::Reservation::reserve().unwrap());
        }
        holders.iter().for_each(Child::succeed);
    });
}

/// A process that cannot map all memory must not take an object for unheld if a message holds it.
#[test]
fn an_object_in_a_message_outlives_a_process_that_cannot_look_there() {
    isolated(|| {
        let (queue, signal) = (Queue::new(0).unwrap(), Queue::new(0).unwrap());
        signal.put(&[b"warm"], Deadline::NEVER).unwrap();
        signal.get(Deadline::NEVER).unwrap();
        let mut bytes = Some(SharedBytes::new(64).unwrap());
        let name = bytes.as_ref().map(|bytes| {
            bytes.write_at(0, b"here");
            bytes.handle()
        });
        let name = name.expect("it was made");
        let last = Child::fork(|| {
            allow_no_more_memory();
            signal.get(Deadline::NEVER).expect("the signal");
            drop(bytes.take());
        });
        let held = ObjectRef::of(&name).expect("it is there");
        // So long that its block lies in memory that the other process has not mapped.
        let message: [&[u8]; 2] = [&name.to_bytes(), &[0; 200_000]];
        queue.put_with(&message, &[held], Deadline::NEVER).unwrap();
        drop(bytes);
        signal.put(&[b"go"], Deadline::NEVER).unwrap();
        last.succeed();
        let message = queue.get(Deadline::NOW).expect("the message");
        let opened = SharedBytes::open(&name).expect("the object is there");
        drop(message);
        let mut seen = [0; 4];
        opened.read_at(0, &mut seen);
        assert_eq!(&seen, b"here");
    });
}

/// A process that may not map more memory gets an error at each try, and its tries use up nothing that others need.
#[test]
fn trying_for_memory_that_cannot_be_mapped_uses_nothing_up() {
    isolated(|| {
        drop(SharedBytes::new(64).unwrap());
        Child::fork(|| {
            allow_no_more_memory();
            for _ in 0..5_000 {
                let failed = SharedBytes::new(50 << 20).expect_err("there is no room for it");
                assert!(matches!(failed, Error::OutOfMemory { .. }), "{failed}");
            }
        })
        .succeed();
        let segments = process::memory_stats().segments;
        assert!(segments < 16, "{segments} pieces of memory");
        drop(SharedBytes::new(50 << 20).expect("this process may, and gets it"));
    });
}

fn allow_no_more_memory() {
    let size = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages = size.split(' ').next().and_then(|pages| pages.parse().ok());
    let limit = Rlimit {
        current: pages.map(|pages: u64| pages * 4096),
        maximum: getrlimit(Resource::As).maximum,
    };
    setrlimit(Resource::As, limit).expect("a limit may be lowered");
}
