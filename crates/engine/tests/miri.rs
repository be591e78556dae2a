//! Tests of everything that one process can do, for Miri to follow (`make miri`).
//!
//! Two threads stand for two processes. What a lock, event or queue orders is read and written by plain accesses, so
//! that Miri reports a race where one of them orders too little.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI16, AtomicU8, AtomicU32};
use std::thread;

use procession_engine::channel::{MessageBuf, Queue};
use procession_engine::pool::{Event as PoolEvent, RESULT_HEAD, Task, TaskQueue, WorkerEndpoint};
use procession_engine::select::{Select, Source};
use procession_engine::store::{Store, StoreError};
use procession_engine::sync::{
    Barrier, Condition, Event, Lock, RLock, RwLock, Semaphore, WaitOutcome,
};
use procession_engine::value::SharedBytes;
use procession_engine::{CowBuffer, Deadline, Handle, ObjectRef};

/// Enough rounds for two threads to interleave. Miri is slow.
const ROUNDS: usize = if cfg!(miri) { 6 } else { 500 };

/// One size for each way a message is stored: in a slot of a first chunk, of a wide one, and in a block of its own.
const SIZES: [usize; 5] = [0, 30, 700, 5_000, 17_000];

/// A number that is changed in two steps. Nobody may see it between the two.
struct Guarded(SharedBytes);

impl Guarded {
    fn new() -> Guarded {
        Guarded(SharedBytes::new(16).unwrap())
    }

    fn read(&self) -> u64 {
        let mut halves = [[0; 8]; 2];
        self.0.read_at(0, halves.as_flattened_mut());
        assert_eq!(halves[0], halves[1]);
        u64::from_le_bytes(halves[0])
    }

    fn add(&self, more: u64) {
        let sum = (self.read() + more).to_le_bytes();
        self.0.write_at(0, &sum);
        self.0.write_at(8, &sum);
    }
}

/// Runs `work` in two threads at once.
fn twice(work: impl Fn() + Sync) {
    thread::scope(|scope| {
        scope.spawn(&work);
        work();
    });
}

#[test]
fn shared_bytes_are_read_and_written() {
    for size in [0, 1, 16, 300, 5_000] {
        let bytes = SharedBytes::new(size).unwrap();
        let other = SharedBytes::open(&bytes.handle()).unwrap();
        let written: Vec<u8> = (0..size).map(|at| at as u8).collect();
        bytes.write_at(0, &written);
        let mut read = vec![0; size];
        drop(bytes);
        other.read_at(0, &mut read);
        assert_eq!(read, written);
        other.write_bytes(size / 3, &written[..size / 3]);
        other.read_bytes(size / 3, &mut read[..size / 3]);
        assert_eq!(read[..size / 3], written[..size / 3]);
        let handle = other.handle();
        drop(other);
        assert!(SharedBytes::open(&handle).is_err());
    }
}

#[test]
fn atomics_of_every_size_count_beside_those_who_copy() {
    let bytes = SharedBytes::new(16).unwrap();
    twice(|| {
        for _ in 0..ROUNDS {
            bytes.atomic::<AtomicU8>(1).fetch_add(1, SeqCst);
            bytes.atomic::<AtomicI16>(2).fetch_sub(1, SeqCst);
            bytes.atomic_u32(4).fetch_add(1, SeqCst);
            bytes.atomic_u64(8).fetch_add(1, SeqCst);
            let mut seen = [0; 2];
            bytes.write_bytes(0, &[7]);
            bytes.read_bytes(0, &mut seen);
            assert_eq!(seen[0], 7);
        }
    });
    assert_eq!(bytes.atomic_u64(8).load(SeqCst), 2 * ROUNDS as u64);
    assert_eq!(bytes.atomic::<AtomicU32>(4).load(SeqCst), 2 * ROUNDS as u32);
}

#[test]
fn locks_of_every_kind_let_one_thread_change_what_they_guard() {
    let guarded = Guarded::new();
    let change = |inside: &(dyn Fn(&dyn Fn()) + Sync)| {
        let before = guarded.read();
        twice(|| (0..ROUNDS).for_each(|_| inside(&|| guarded.add(1))));
        assert_eq!(guarded.read(), before + 2 * ROUNDS as u64);
    };
    let lock = Lock::new().unwrap();
    change(&|add| {
        lock.acquire(Deadline::NEVER).unwrap();
        assert!(!lock.try_acquire());
        add();
        lock.release().unwrap();
    });
    let lock = RLock::new().unwrap();
    change(&|add| {
        lock.acquire(Deadline::NEVER).unwrap();
        assert!(lock.try_acquire());
        add();
        lock.release().unwrap();
        lock.release().unwrap();
    });
    let semaphore = Semaphore::new(1, Some(1)).unwrap();
    change(&|add| {
        semaphore.acquire(Deadline::NEVER).unwrap();
        add();
        semaphore.release(1).unwrap();
    });
    let lock = RwLock::new().unwrap();
    change(&|add| {
        lock.write(Deadline::NEVER).unwrap();
        add();
        lock.finish(true);
        let (hold, _) = lock.read(Deadline::NEVER).unwrap();
        guarded.read();
        lock.leave(hold);
    });
}

#[test]
fn what_was_done_before_an_event_is_seen_after_it() {
    let (there, back) = (Event::new().unwrap(), Event::new().unwrap());
    let guarded = Guarded::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                there.wait(Deadline::NEVER).unwrap();
                there.clear();
                assert_eq!(guarded.read(), 2 * round as u64 + 1);
                guarded.add(1);
                back.set();
            }
        });
        for _ in 0..ROUNDS {
            guarded.add(1);
            there.set();
            back.wait(Deadline::NEVER).unwrap();
            back.clear();
        }
    });
    assert_eq!(guarded.read(), 2 * ROUNDS as u64);
}

#[test]
fn whoever_waits_for_a_condition_sees_what_it_was_notified_of() {
    let (lock, condition) = (Lock::new().unwrap(), Condition::new().unwrap());
    let guarded = Guarded::new();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            for round in 1..=ROUNDS as u64 {
                lock.acquire(Deadline::NEVER).unwrap();
                while guarded.read() < round {
                    let ring_slot = condition.enroll().unwrap();
                    lock.release().unwrap();
                    condition.sleep(&ring_slot, Deadline::NEVER).unwrap();
                    assert!(ring_slot.leave());
                    lock.acquire(Deadline::NEVER).unwrap();
                }
                lock.release().unwrap();
            }
        });
        for _ in 0..ROUNDS {
            lock.acquire(Deadline::NEVER).unwrap();
            guarded.add(1);
            condition.notify(1);
            lock.release().unwrap();
        }
        waiter.join().unwrap();
    });
    assert_eq!(condition.waiters(), 0);
}

#[test]
fn a_barrier_is_passed_after_what_the_last_one_did() {
    let barrier = Barrier::new(2).unwrap();
    let guarded = Guarded::new();
    twice(|| {
        for round in 1..=ROUNDS as u64 {
            if let WaitOutcome::Last(guard) = barrier.arrive(Deadline::NEVER).unwrap() {
                guarded.add(1);
                guard.open().unwrap();
            }
            assert_eq!(guarded.read(), round);
            let WaitOutcome::Last(guard) = barrier.arrive(Deadline::NEVER).unwrap() else {
                continue;
            };
            guard.open().unwrap();
        }
    });
}

#[test]
fn messages_of_all_sizes_come_whole_and_in_order() {
    let queue = Queue::joinable(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let size = SIZES[round % SIZES.len()];
                let message = vec![round as u8; size];
                let (front, back) = message.split_at(size / 3);
                queue.put(&[front, back], Deadline::NEVER).unwrap();
            }
        });
        for round in 0..ROUNDS {
            let message = queue.get(Deadline::NEVER).unwrap();
            let size = SIZES[round % SIZES.len()];
            assert_eq!(message.bytes(), vec![round as u8; size]);
            let rest = message.without_front(2).into_vec();
            assert_eq!(rest.len(), size.saturating_sub(2));
            queue.task_done().unwrap();
        }
    });
    assert_eq!(queue.join(Deadline::NOW), Ok(0));
    // More messages than the first chunk holds, and some are left when the queue ends.
    for number in 0..60 {
        queue.put(&[&[number; 20]], Deadline::NOW).unwrap();
    }
    for number in 0..40 {
        assert_eq!(queue.get(Deadline::NOW).unwrap().bytes(), [number; 20]);
    }
    let mut latest = Vec::new();
    assert!(queue.latest(&mut latest).unwrap());
    assert_eq!(latest, [59; 20]);
    queue.put(&[&[1; 5_000]], Deadline::NOW).unwrap();
    queue.close();
    assert!(queue.put(&[], Deadline::NOW).is_err());
}

#[test]
fn a_full_queue_waits_for_its_consumer_and_both_take_turns() {
    let queue = Queue::new(2).unwrap();
    let (sent, received) = (Guarded::new(), Guarded::new());
    let (sending, receiving) = (Lock::new().unwrap(), Lock::new().unwrap());
    let with = |lock: &Lock, change: &dyn Fn()| {
        lock.acquire(Deadline::NEVER).unwrap();
        change();
        lock.release().unwrap();
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..ROUNDS as u64 {
                    queue
                        .put(&[&number.to_le_bytes()], Deadline::NEVER)
                        .unwrap();
                    with(&sending, &|| sent.add(number));
                }
            });
        }
        twice(|| {
            for _ in 0..ROUNDS {
                let message = queue.get(Deadline::NEVER).unwrap();
                let number = u64::from_le_bytes(message.bytes().try_into().unwrap());
                with(&receiving, &|| received.add(number));
            }
        });
    });
    assert_eq!(sent.read(), received.read());
}

#[test]
fn a_message_is_written_where_it_arrives_and_sent_on() {
    let queue = Queue::new(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for size in SIZES {
                let mut buffer = MessageBuf::new(size, &[]).unwrap();
                buffer.bytes_mut().fill(1);
                queue.put_buf(&mut Some(buffer), Deadline::NEVER).unwrap();
            }
        });
        for size in SIZES {
            let message = queue.get(Deadline::NEVER).unwrap();
            let place = message.bytes().as_ptr();
            let mut buffer = message.into_buf().unwrap();
            assert_eq!(buffer.bytes(), vec![1; size]);
            buffer.bytes_mut().fill(2);
            buffer.truncate(size / 2);
            assert_eq!(buffer.bytes().as_ptr(), place);
            assert_eq!(buffer.bytes(), vec![2; size / 2]);
        }
    });
}

#[test]
fn a_message_holds_objects_until_it_is_gone() {
    let queue = Queue::new(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for size in SIZES {
                let enclosed = SharedBytes::new(size).unwrap();
                enclosed.write_at(0, &vec![3; size]);
                let handle = enclosed.handle();
                let held = [ObjectRef::of(&handle).unwrap()];
                let parts: [&[u8]; 2] = [&handle.to_bytes(), &vec![4; size]];
                queue.put_with(&parts, &held, Deadline::NEVER).unwrap();
            }
        });
        for size in SIZES {
            let message = queue.get(Deadline::NEVER).unwrap();
            assert!(message.holds_objects());
            let (name, rest) = message.bytes().split_at(32);
            assert_eq!(rest, vec![4; size]);
            let handle = Handle::from_bytes(name).unwrap();
            let enclosed = SharedBytes::open(&handle).unwrap();
            let mut seen = vec![0; size];
            enclosed.read_at(0, &mut seen);
            assert_eq!(seen, vec![3; size]);
            drop(enclosed);
            assert!(message.into_buf().is_err());
        }
    });
}

#[test]
fn a_borrowed_message_is_the_programs_own_memory() {
    const LENGTH: usize = 17_000;
    let queue = Queue::new(0).unwrap();
    let kept = SharedBytes::new(8).unwrap();
    let handle = kept.handle();
    let held = [ObjectRef::of(&handle).unwrap()];
    queue
        .put_with(&[&[5; LENGTH]], &held, Deadline::NOW)
        .unwrap();
    drop((held, kept));
    let borrowed = queue.get(Deadline::NOW).unwrap().lend().unwrap();
    assert!(SharedBytes::open(&handle).is_ok());
    borrowed.detach_all();
    assert!(SharedBytes::open(&handle).is_err());
    assert!(borrowed.slice(LENGTH - 1..LENGTH + 1).is_none());
    let (front, back) = (
        borrowed.slice(0..LENGTH / 2).unwrap(),
        borrowed.slice(LENGTH / 2..LENGTH).unwrap(),
    );
    drop(borrowed);
    thread::scope(|scope| {
        for view in [front, back] {
            scope.spawn(move || {
                // SAFETY: the two regions do not overlap, and each is one thread's.
                let bytes = unsafe { std::slice::from_raw_parts_mut(view.as_ptr(), view.len()) };
                assert_eq!(bytes, [5; LENGTH / 2]);
                bytes.fill(6);
            });
        }
    });
    queue.put(&[&[7; 100]], Deadline::NOW).unwrap();
    // The message shares its pages with others.
    assert!(queue.get(Deadline::NOW).unwrap().lend().is_err());
}

#[test]
fn a_cow_buffer_is_borrowed_once_and_copied_for_others() {
    const LENGTH: usize = 17_000;
    let mut buffer = MessageBuf::new(LENGTH, &[]).unwrap();
    buffer.bytes_mut().fill(1);
    let cow_buffer = buffer.into_cow_buffer().unwrap();
    assert_eq!(cow_buffer.bytes(), [1; LENGTH]);
    let borrowed = CowBuffer::open(&cow_buffer.handle())
        .unwrap()
        .lend()
        .unwrap();
    let second = CowBuffer::open(&cow_buffer.handle())
        .unwrap()
        .lend()
        .unwrap_err();
    assert_eq!(second.bytes(), [1; LENGTH]);
    let view = borrowed.slice(10..LENGTH).unwrap();
    drop((cow_buffer, borrowed, second));
    // SAFETY: the view is this thread's own memory.
    assert_eq!(unsafe { view.as_ptr().read() }, 1);
}

#[test]
fn the_first_of_several_queues_ends_a_wait() {
    let queues = [Queue::new(0).unwrap(), Queue::new(0).unwrap()];
    let select = Select::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..4 {
                let queue = &queues[round % 2];
                queue.put(&[&[round as u8]], Deadline::NEVER).unwrap();
            }
        });
        for _ in 0..4 {
            let sources = [Source::Message(&queues[0]), Source::Message(&queues[1])];
            let at = select.wait(&sources, Deadline::NEVER).unwrap();
            let message = queues[at].get(Deadline::NOW).unwrap();
            assert_eq!(usize::from(message.bytes()[0]) % 2, at);
        }
    });
}

#[test]
fn tasks_are_claimed_done_and_reported() {
    let task_queue = TaskQueue::with_capacity(16).unwrap();
    let worker = WorkerEndpoint::open(&task_queue.handle()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let mut claim = worker.claim(Deadline::NEVER).unwrap();
                let answer = claim.bytes().to_vec();
                match round % 2 {
                    0 => claim.finish(1, &[&answer]).unwrap(),
                    _ => {
                        let mut buffer = MessageBuf::new(RESULT_HEAD + answer.len(), &[]).unwrap();
                        buffer.bytes_mut()[RESULT_HEAD..].copy_from_slice(&answer);
                        claim.finish_buf(1, &mut Some(buffer)).unwrap()
                    }
                };
            }
        });
        let question = |index: usize| {
            let mut bytes = vec![0; SIZES[index % SIZES.len()]];
            bytes.extend([1, index as u8]);
            bytes
        };
        for index in 0..ROUNDS {
            let task = Task {
                job: 1,
                index: index as u64,
                ..Task::default()
            };
            task_queue.submit(task, &[&question(index)]).unwrap();
        }
        for _ in 0..ROUNDS {
            match task_queue.next_event(Deadline::NEVER, &[]).unwrap() {
                PoolEvent::Result { index, reply, .. } => {
                    assert_eq!(reply.bytes(), question(index as usize));
                }
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(task_queue.outstanding(), 0);
}

#[test]
fn a_store_grows_and_keeps_what_it_was_given() {
    let store = Store::new().unwrap();
    let other = Store::open(&store.handle()).unwrap();
    for number in 0..ROUNDS as u32 {
        let (key, value) = (number.to_le_bytes(), [number as u8; 100]);
        let mut access = store.enter(Deadline::NEVER).unwrap().unwrap();
        if let Err(StoreError::NoRoom(room)) = access.set(&key, &value) {
            access.grow(room).unwrap();
            access.set(&key, &value).unwrap();
        }
    }
    let access = other.enter(Deadline::NEVER).unwrap().unwrap();
    for number in 0..ROUNDS as u32 {
        let mut found = Vec::new();
        assert!(access.get(&number.to_le_bytes(), &mut found).unwrap());
        assert_eq!(found, [number as u8; 100]);
        if number % 2 == 0 {
            assert!(access.remove(&number.to_le_bytes(), &mut found).unwrap());
        }
    }
    assert_eq!(access.len(), ROUNDS / 2);
    access.clear();
    assert!(access.is_empty());
}
