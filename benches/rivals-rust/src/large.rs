//! Large buffers through Procession's engine, and its pipe between processes that sleep.

use std::hint::black_box;

use procession::{Connection, Process};
use procession_engine::channel::{MessageBuf, Queue};
use procession_engine::{Deadline, Handle};

use crate::harness::{clocked, steady};
use crate::ipc::asleep;

const LARGE: usize = 64 << 20;

fn produce(queue: [u8; 32], n: u64) {
    let queue = Queue::open(&Handle::from_bytes(&queue).expect("a handle")).expect("a queue");
    let source = vec![7; LARGE];
    queue.put(&[b"ready"], Deadline::NEVER).expect("room");
    for _ in 0..n {
        let mut message = MessageBuf::new(LARGE, &[]).expect("memory");
        message.bytes_mut().copy_from_slice(&source);
        queue
            .put_buf(&mut Some(message), Deadline::NEVER)
            .expect("room");
    }
}

/// Another process copies a buffer into shared memory; this one reads it in place.
pub fn stream() -> f64 {
    let rate = steady(|n| {
        let queue = Queue::new(2).expect("shared memory");
        let producer = Process::spawn(produce, (queue.handle().to_bytes(), n)).expect("a process");
        queue
            .get(Deadline::NEVER)
            .expect("the producer's first message");
        let took = clocked(|| {
            for _ in 0..n {
                let message = queue.get(Deadline::NEVER).expect("a buffer");
                assert_eq!(message.bytes()[LARGE - 1], 7);
            }
        });
        producer.join().expect("no panic");
        took
    });
    rate * LARGE as f64 / 1e6
}

/// Only the copying.
pub fn memcpy() -> f64 {
    let (source, mut target) = (vec![7_u8; LARGE], vec![0_u8; LARGE]);
    let rate = steady(|n| {
        clocked(|| (0..n).for_each(|_| black_box(&mut target).copy_from_slice(black_box(&source))))
    });
    rate * LARGE as f64 / 1e6
}

fn echo(connection: Connection<u64, u64>) {
    while let Ok(number) = connection.recv() {
        connection.send(number).expect("the other side lives");
    }
}

pub fn ping_pong_asleep() -> f64 {
    let (ours, theirs) = procession::pipe::<u64, u64>().expect("shared memory");
    let process = Process::spawn(echo, theirs).expect("a process");
    let rate = asleep(|i| {
        ours.send(i).expect("the echo lives");
        assert_eq!(ours.recv().expect("the echo lives"), i);
    });
    drop(ours);
    process.join().expect("no panic");
    rate
}
