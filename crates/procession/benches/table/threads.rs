//! Channels between threads of one process: the upper bound for processes.

use crate::harness::{clocked, steady};
use std::sync::{Mutex, mpsc};
use std::thread;

/// One thread sends, this one receives, over crossbeam's unbounded channel.
pub fn crossbeam_stream() -> f64 {
    steady(|n| {
        let (sender, receiver) = crossbeam_channel::unbounded::<u64>();
        clocked(|| {
            let producer = thread::spawn(move || (0..n).try_for_each(|i| sender.send(i)));
            assert_eq!(receiver.iter().count() as u64, n);
            producer
                .join()
                .expect("no panic")
                .expect("the receiver lives");
        })
    })
}

/// The same over the standard library's channel.
pub fn std_stream() -> f64 {
    steady(|n| {
        let (sender, receiver) = mpsc::channel::<u64>();
        clocked(|| {
            let producer = thread::spawn(move || (0..n).try_for_each(|i| sender.send(i)));
            assert_eq!(receiver.iter().count() as u64, n);
            producer
                .join()
                .expect("no panic")
                .expect("the receiver lives");
        })
    })
}

/// Round trips of a number between two threads, over two crossbeam channels.
pub fn crossbeam_ping_pong() -> f64 {
    steady(|n| {
        let (to, from_us) = crossbeam_channel::bounded::<u64>(64);
        let (back, answers) = crossbeam_channel::bounded::<u64>(64);
        let echo = thread::spawn(move || from_us.iter().try_for_each(|i| back.send(i)));
        let took = clocked(|| {
            for i in 0..n {
                to.send(i).expect("the echo lives");
                answers.recv().expect("the echo lives");
            }
        });
        drop(to);
        echo.join().expect("no panic").expect("this thread lives");
        took
    })
}

/// Round trips over two of the standard library's channels.
pub fn std_ping_pong() -> f64 {
    steady(|n| {
        let (to, from_us) = mpsc::sync_channel::<u64>(64);
        let (back, answers) = mpsc::sync_channel::<u64>(64);
        let echo = thread::spawn(move || from_us.iter().try_for_each(|i| back.send(i)));
        let took = clocked(|| {
            for i in 0..n {
                to.send(i).expect("the echo lives");
                answers.recv().expect("the echo lives");
            }
        });
        drop(to);
        echo.join().expect("no panic").expect("this thread lives");
        took
    })
}

/// Locking and unlocking a free mutex.
pub fn std_mutex() -> f64 {
    let mutex = Mutex::new(0_u64);
    steady(|n| {
        clocked(|| {
            for _ in 0..n {
                *std::hint::black_box(&mutex).lock().expect("not poisoned") += 1;
            }
        })
    })
}
