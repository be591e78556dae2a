//! Queues, pipes and processes as futures.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use procession::{Connection, Event, JoinableQueue, Process, Queue};
use tokio::time::timeout;

procession::test_support!();

const MOMENT: Duration = Duration::from_millis(20);

/// Runs a future to its end, in a runtime of one thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(future)
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    let mut future = std::pin::pin!(future);
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn echo(pipe: Connection<String, String>) {
    while let Ok(text) = pipe.recv() {
        pipe.send(text).unwrap();
    }
}

fn produce(queue: Queue<u64>, count: u64) {
    (0..count).for_each(|n| queue.put(n).unwrap());
}

fn consume(queue: JoinableQueue<u64>) -> u64 {
    queue.iter().map(|n| n.unwrap()).sum()
}

fn wait_for(event: Event) {
    event.wait();
}

#[test]
fn what_another_process_puts_is_received() {
    let queue = Queue::new().unwrap();
    let process = Process::spawn(produce, (queue.clone(), 500)).unwrap();
    block_on(async {
        for n in 0..500 {
            assert_eq!(queue.get_async().await.unwrap(), n);
        }
        process.await.unwrap();
        queue.close();
        assert!(queue.get_async().await.is_err());
    });
}

#[test]
fn putting_waits_for_room() {
    let queue = JoinableQueue::bounded(2).unwrap();
    let process = Process::spawn(consume, queue.clone()).unwrap();
    block_on(async {
        for n in 1..=300 {
            queue.put_async(n).await.unwrap();
        }
        queue.close();
        assert!(queue.put_async(0).await.is_err());
        assert_eq!(process.await.unwrap(), 300 * 301 / 2);
    });
}

#[test]
fn a_pipe_answers() {
    let (ours, theirs) = procession::pipe::<String, String>().unwrap();
    let process = Process::spawn(echo, theirs).unwrap();
    let long = "long".repeat(200_000);
    block_on(async {
        for text in ["short", &long, "again"] {
            ours.send_async(text.to_owned()).await.unwrap();
            assert_eq!(ours.recv_async().await.unwrap(), text);
        }
        process.kill().unwrap();
        assert!(ours.recv_async().await.is_err());
        assert!(process.await.is_err());
    });
}

#[test]
fn sending_waits_until_the_pipe_has_room() {
    let (sender, receiver) = procession::one_way::<Vec<u8>>().unwrap();
    let large = vec![1; 900_000];
    block_on(async {
        sender.send_async(large.clone()).await.unwrap();
        assert!(
            timeout(MOMENT, sender.send_async(large.clone()))
                .await
                .is_err()
        );
        let receive = async {
            receiver.recv_async().await.unwrap();
            receiver.recv_async().await.unwrap();
        };
        let (sent, ()) = tokio::join!(sender.send_async(large.clone()), receive);
        sent.unwrap();
        assert!(
            receiver.try_recv().is_err(),
            "what was given up was not sent"
        );
    });
}

#[test]
fn a_receiver_that_is_dropped_loses_no_message() {
    let queue = Queue::new().unwrap();
    block_on(async {
        assert!(timeout(MOMENT, queue.get_async()).await.is_err());
        assert!(poll_once(queue.get_async()).is_pending());
        queue.put(1).unwrap();
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.get_async().await.unwrap(), 1);
    });
}

#[test]
fn the_first_of_a_message_and_an_end_is_waited_for() {
    let (queue, event) = (Queue::<u64>::new().unwrap(), Event::new().unwrap());
    let mut process = Process::spawn(wait_for, event.clone()).unwrap();
    block_on(async {
        queue.put(7).unwrap();
        tokio::select! {
            biased;
            ended = process.join_async() => panic!("it waits: {ended:?}"),
            got = queue.get_async() => assert_eq!(got.unwrap(), 7),
        }
        event.set();
        tokio::select! {
            got = queue.get_async() => panic!("nothing was put: {got:?}"),
            ended = process.join_async() => ended.unwrap(),
        }
    });
}

#[test]
fn a_hundred_receivers_wait_without_a_hundred_threads() {
    let before = threads();
    let queues: Vec<Queue<u64>> = (0..100).map(|_| Queue::new().unwrap()).collect();
    block_on(async {
        let tasks: Vec<_> = queues
            .iter()
            .cloned()
            .map(|queue| async move { queue.get_async().await.unwrap() })
            .collect();
        let local = tokio::task::LocalSet::new();
        let sum = local.run_until(async {
            let tasks: Vec<_> = tasks.into_iter().map(tokio::task::spawn_local).collect();
            tokio::task::yield_now().await;
            assert!(threads() < before + 20);
            for (queue, n) in queues.iter().zip(0..) {
                queue.put(n).unwrap();
            }
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            sum
        });
        assert_eq!(sum.await, 99 * 100 / 2);
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
