//! What is left behind when all is dropped: nothing.

use procession::{
    Array, Barrier, Condvar, Event, JoinableQueue, Lock, Pool, Process, Queue, RLock, Receiver,
    Semaphore, Sender, Value,
};
use procession_engine::process::{Census, census};

procession::test_support!();

type Numbers = (Queue<u32>, JoinableQueue<u32>, Value<u32>, Array<u32>);
type Gates = (Lock, RLock, Semaphore, Condvar, Event, Barrier);

fn use_all(numbers: Numbers, gates: Gates, replies: Sender<Vec<u8>>, die: bool) {
    numbers.0.put(1).unwrap();
    numbers.1.put(2).unwrap();
    let _turn = gates.0.lock().unwrap();
    let _again = gates.1.lock().unwrap();
    gates.2.acquire().forget();
    gates.4.set();
    replies.send(vec![0; 100_000]).unwrap();
    if die {
        std::process::abort();
    }
}

fn twice(n: u64) -> u64 {
    2 * n
}

fn die(_: u64) {
    std::process::abort();
}

fn round(dying: bool) {
    let numbers: Numbers = (
        Queue::new().unwrap(),
        JoinableQueue::new().unwrap(),
        Value::new(0).unwrap(),
        Array::zeroed(100).unwrap(),
    );
    let gates: Gates = (
        Lock::new().unwrap(),
        RLock::new().unwrap(),
        Semaphore::new(1).unwrap(),
        Condvar::new().unwrap(),
        Event::new().unwrap(),
        Barrier::new(2).unwrap(),
    );
    let (sender, receiver): (_, Receiver<Vec<u8>>) = procession::one_way().unwrap();
    let process = Process::spawn(use_all, (numbers, gates, sender, dying)).unwrap();
    assert_eq!(receiver.recv().unwrap().len(), 100_000);
    assert_eq!(process.join().is_err(), dying);
    drop(receiver);

    let mail = Queue::new().unwrap();
    (0..3).for_each(|n| mail.put((n, Queue::<u64>::new().unwrap())).unwrap());
    assert!(mail.get().unwrap().1.is_empty());
    drop(mail);

    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(twice, 0..50).unwrap().len(), 50);
    if dying {
        pool.apply(die, 1).unwrap_err();
        pool.terminate();
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn children() -> String {
    let own = format!("/proc/self/task/{}/children", std::process::id());
    std::fs::read_to_string(own).unwrap_or_default()
}

#[test]
fn no_object_seat_descriptor_or_process_is_left() {
    // The first round leaves what is made once a process.
    round(false);
    round(true);
    let count = |census: Census| (census.seats, census.objects, census.blocks_in_use);
    let before = (count(census()), descriptors());
    for dying in [false, true, true] {
        round(dying);
        assert_eq!((count(census()), descriptors()), before);
        assert_eq!(children(), "");
    }
}
