//! Queue as its users see it.

mod common;

use common::{
    Child, DeliveryLog, Footprint, SharedCells, TestMessage, briefly, die, isolated, promptly,
};
use procession_engine::channel::{MessageBuf, Queue};
use procession_engine::error::{GetError, PutError, WaitError};
use procession_engine::value::SharedBytes;
use procession_engine::{CowBuffer, Deadline, Handle, ObjectRef, process};

const LOG: usize = 16;
const EACH: usize = 1_000;

fn text(queue: &Queue, deadline: Deadline) -> String {
    String::from_utf8(queue.get(deadline).unwrap().into_vec()).unwrap()
}

#[test]
fn what_one_process_puts_another_gets() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let producer = Child::fork(|| {
            queue
                .put(&[b"Hello ", b"from producer!"], Deadline::NEVER)
                .unwrap()
        });
        assert_eq!(text(&queue, Deadline::NEVER), "Hello from producer!");
        producer.succeed();
    });
}

#[test]
fn messages_come_in_the_order_in_which_they_were_put() {
    isolated(|| {
        let cells = SharedCells::new();
        let log = DeliveryLog::new(cells, LOG, 1, EACH);
        let queue = Queue::new(0).unwrap();
        let producer = Child::fork(|| {
            for number in 0..EACH {
                // Small and large ones, alternating.
                let message =
                    TestMessage::new(0, number, if number % 10 == 9 { 9_000 } else { 30 });
                log.begin(message);
                queue.put(&[&message.bytes()], Deadline::NEVER).unwrap();
                log.sent(message);
            }
        });
        for number in 0..EACH {
            let message = queue.get(promptly()).unwrap();
            assert_eq!(log.received(message.bytes()).number, number);
        }
        producer.succeed();
        assert!(queue.is_empty());
    });
}

#[test]
fn many_producers_and_consumers_lose_and_double_nothing() {
    isolated(|| {
        let cells = SharedCells::new();
        let log = DeliveryLog::new(cells, LOG, 3, EACH);
        let queue = Queue::new(0).unwrap();
        let producers: Vec<_> = (0..3)
            .map(|writer| {
                Child::fork(|| {
                    for number in 0..EACH {
                        let message = TestMessage::new(writer, number, 30 + number % 200);
                        log.begin(message);
                        queue.put(&[&message.bytes()], Deadline::NEVER).unwrap();
                        log.sent(message);
                    }
                })
            })
            .collect();
        let consume = || {
            while let Ok(message) = queue.get(Deadline::NEVER) {
                log.received(message.bytes());
            }
        };
        let consumers = [Child::fork(consume), Child::fork(consume)];
        producers.iter().for_each(Child::succeed);
        queue.close();
        consumers.iter().for_each(Child::succeed);
        assert_eq!(log.received_count(), 3 * EACH);
    });
}

#[test]
fn a_bounded_queue_is_full_until_somebody_gets() {
    isolated(|| {
        let queue = Queue::new(2).unwrap();
        assert_eq!(queue.maxsize(), 2);
        queue.put(&[b"1"], Deadline::NOW).unwrap();
        assert!(!queue.is_full() && !queue.would_refuse());
        queue.put(&[b"2"], Deadline::NOW).unwrap();
        assert!(queue.is_full() && queue.would_refuse());
        assert_eq!(queue.len(), 2);
        assert!(matches!(
            queue.put(&[b"3"], Deadline::NOW),
            Err(PutError::Full)
        ));
        assert!(matches!(queue.put(&[b"3"], briefly()), Err(PutError::Full)));
        let producer = Child::fork(|| queue.put(&[b"3"], Deadline::NEVER).unwrap());
        assert_eq!(text(&queue, Deadline::NOW), "1");
        producer.succeed();
        assert!(queue.would_refuse());
        assert_eq!(
            (text(&queue, promptly()), text(&queue, promptly())),
            ("2".into(), "3".into())
        );
        assert!(!queue.would_refuse());
        (0..2).for_each(|_| queue.put(&[b"4"], Deadline::NOW).unwrap());
        queue.close();
        assert!(!queue.would_refuse(), "it says that it is closed");
    });
}

#[test]
fn an_empty_queue_times_out_or_waits() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        assert!(matches!(queue.get(Deadline::NOW), Err(GetError::Empty)));
        assert!(matches!(queue.get(briefly()), Err(GetError::Empty)));
        let consumer = Child::fork(|| assert_eq!(text(&queue, Deadline::NEVER), "late"));
        queue.put(&[b"late"], Deadline::NOW).unwrap();
        consumer.succeed();
    });
}

#[test]
fn messages_of_all_sizes_come_whole() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let cells = SharedCells::new();
        let log = DeliveryLog::new(cells, LOG, 1, 64);
        let queue = Queue::new(0).unwrap();
        let sizes = [
            24,
            63,
            64,
            65,
            95,
            96,
            97,
            127,
            128,
            4_095,
            4_096,
            4_097,
            300_000,
            20 << 20,
        ];
        for (number, size) in sizes.into_iter().enumerate() {
            let message = TestMessage::new(0, number, size);
            log.begin(message);
            queue.put(&[&message.bytes()], Deadline::NOW).unwrap();
        }
        queue.put(&[], Deadline::NOW).unwrap();
        for number in 0..sizes.len() {
            assert_eq!(
                log.received(queue.get(Deadline::NOW).unwrap().bytes())
                    .number,
                number
            );
        }
        assert_eq!(queue.get(Deadline::NOW).unwrap().len(), 0);
        drop(queue);
        before.assert_unchanged();
    });
}

#[test]
fn a_message_outlives_its_producer_and_its_queue() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        for size in [10, 100_000] {
            let producer = Child::fork(|| {
                queue.put(&[&vec![7; size]], Deadline::NOW).unwrap();
                die();
            });
            producer.join();
            assert_eq!(queue.get(promptly()).unwrap().bytes(), vec![7; size]);
        }
        queue.put(&[&[9; 50_000]], Deadline::NOW).unwrap();
        let message = queue.get(Deadline::NOW).unwrap();
        drop(queue);
        assert_eq!(message.bytes(), [9; 50_000]);
    });
}

#[test]
fn a_consumer_killed_in_its_sleep_takes_nothing_along() {
    isolated(|| {
        let cells = SharedCells::new();
        let queue = Queue::new(0).unwrap();
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                Child::fork(|| {
                    cells.count(0);
                    let _ = queue.get(Deadline::NEVER);
                    loop {
                        std::thread::park();
                    }
                })
            })
            .collect();
        cells.until(0, 3);
        consumers.iter().for_each(Child::kill);
        for consumer in &consumers {
            consumer.join();
        }
        queue.put(&[b"for the living"], Deadline::NOW).unwrap();
        assert_eq!(text(&queue, promptly()), "for the living");
    });
}

#[test]
fn joining_waits_until_all_tasks_are_done() {
    isolated(|| {
        let queue = Queue::joinable(0).unwrap();
        queue.join(Deadline::NOW).unwrap();
        (0..3).for_each(|_| queue.put(&[b"task"], Deadline::NOW).unwrap());
        assert_eq!(queue.unfinished(), 3);
        assert_eq!(queue.join(briefly()), Err(WaitError::TimedOut));
        let worker = Child::fork(|| {
            for _ in 0..3 {
                queue.get(Deadline::NOW).unwrap();
                queue.task_done().unwrap();
            }
        });
        queue.join(promptly()).unwrap();
        worker.succeed();
        assert!(queue.task_done().is_err(), "nothing is unfinished");
        assert_eq!(queue.unfinished(), 0);
    });
}

#[test]
fn closing_ends_the_stream_after_what_was_put() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let consumer = Child::fork(|| {
            assert_eq!(text(&queue, Deadline::NEVER), "last");
            assert!(matches!(queue.get(Deadline::NEVER), Err(GetError::Closed)));
        });
        queue.put(&[b"last"], Deadline::NOW).unwrap();
        queue.close();
        assert!(matches!(
            queue.put(&[b"later"], Deadline::NOW),
            Err(PutError::Closed)
        ));
        consumer.succeed();
    });
}

#[test]
fn a_long_queue_gives_its_memory_back() {
    isolated(|| {
        process::ensure().unwrap();
        let queue = Queue::new(0).unwrap();
        let short = Footprint::take();
        for _ in 0..3 {
            (0..2_000).for_each(|_| queue.put(&[b"x"], Deadline::NOW).unwrap());
            assert_eq!(queue.len(), 2_000);
            (0..2_000).for_each(|_| drop(queue.get(Deadline::NOW).unwrap()));
        }
        short.assert_about(4);
    });
}

#[test]
fn a_forked_child_that_drops_a_message_frees_nothing_of_its_parents() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        queue.put(&[&[7; 20_000]], Deadline::NOW).unwrap();
        let mut message = Some(queue.get(Deadline::NOW).unwrap());
        Child::fork(|| drop(message.take())).succeed();
        // It would get the block of a message that was freed.
        queue.put(&[&[9; 20_000]], Deadline::NOW).unwrap();
        assert!(message.unwrap().bytes().iter().all(|byte| *byte == 7));
    });
}

#[test]
fn objects_live_while_a_message_that_holds_them_waits() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        queue.put(&[b"the first chunk"], Deadline::NOW).unwrap();
        drop(queue.get(Deadline::NOW).unwrap());
        let before = Footprint::take();
        let value = SharedBytes::new(8).unwrap();
        value.write_at(0, b"enclosed");
        let handle = value.handle();
        let held = [ObjectRef::of(&handle).unwrap()];
        queue
            .put_with(&[&handle.to_bytes()], &held, Deadline::NOW)
            .unwrap();
        drop((held, value));
        let message = queue.get(Deadline::NOW).unwrap();
        assert!(message.holds_objects());
        let value = SharedBytes::open(&Handle::from_bytes(message.bytes()).unwrap()).unwrap();
        let mut found = [0; 8];
        value.read_at(0, &mut found);
        assert_eq!(&found, b"enclosed");
        drop((message, value));
        assert!(SharedBytes::open(&handle).is_err());
        before.assert_unchanged();
    });
}

#[test]
fn the_newest_message_is_read_without_being_received() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let mut seen = Vec::new();
        assert!(!queue.latest(&mut seen).unwrap());
        for size in [3, 700, 200_000, 0, 5_000, 8] {
            let message = vec![size as u8; size];
            queue.put(&[&message], Deadline::NOW).unwrap();
            assert!(queue.latest(&mut seen).unwrap());
            assert_eq!(seen, message);
            if queue.len() > 2 {
                queue.get(Deadline::NOW).unwrap();
            }
        }
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.get(Deadline::NOW).unwrap().len(), 5_000);
    });
}

#[test]
fn what_a_borrowed_message_keeps_alive_stays_alive_through_a_fork() {
    isolated(|| {
        let queue = Queue::new(0).unwrap();
        let object = SharedBytes::new(8).unwrap();
        let handle = object.handle();
        let held = ObjectRef::of(&handle).unwrap();
        queue
            .put_with(&[&vec![7; 100_000]], &[held], Deadline::NOW)
            .unwrap();
        drop(object);
        let borrowed = queue.get(Deadline::NOW).unwrap().lend().unwrap();
        Child::fork(|| ()).succeed();
        process::sweep();
        assert!(SharedBytes::open(&handle).is_ok());
        borrowed.detach_all();
        process::sweep();
        assert!(SharedBytes::open(&handle).is_err());
    });
}

#[test]
fn what_one_user_of_a_cow_buffer_writes_is_not_seen_by_the_next() {
    isolated(|| {
        const LENGTH: usize = 100_000;
        let mut buf = MessageBuf::new(LENGTH, &[]).unwrap();
        buf.bytes_mut().fill(1);
        let cow_buffer = buf.into_cow_buffer().unwrap();
        let first = CowBuffer::open(&cow_buffer.handle())
            .unwrap()
            .lend()
            .unwrap();
        let view = first.slice(0..LENGTH).unwrap();
        // SAFETY: the view is this process's own memory, and no other thread accesses it.
        unsafe { view.as_ptr().write_bytes(2, LENGTH) };
        let second = CowBuffer::open(&cow_buffer.handle())
            .unwrap()
            .lend()
            .unwrap_err();
        assert_eq!(second.bytes(), [1; LENGTH]);
    });
}

#[test]
fn tasks_that_nobody_reports_keep_no_memory() {
    isolated(|| {
        process::ensure().unwrap();
        let queue = Queue::joinable(0).unwrap();
        let turn = |_| {
            queue.put(&[b"task"], Deadline::NOW).unwrap();
            queue.get(Deadline::NOW).unwrap();
        };
        (0..600).for_each(turn);
        let before = Footprint::take();
        (0..5_000).for_each(turn);
        before.assert_about(4);
        assert_eq!(queue.unfinished(), 5_600);
        (0..5_600).for_each(|_| queue.task_done().unwrap());
        assert_eq!(queue.join(promptly()), Ok(0));
        assert!(queue.task_done().is_err());
    });
}

#[test]
fn joining_tells_the_tasks_of_the_dead_once_no_living_process_has_any() {
    isolated(|| {
        // More processes than the queue itself has words for.
        const WORKERS: usize = 24;
        let cells = SharedCells::new();
        let queue = Queue::joinable(0).unwrap();
        (0..WORKERS).for_each(|_| queue.put(&[b"task"], Deadline::NOW).unwrap());
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                Child::fork(|| {
                    queue.get(Deadline::NOW).unwrap();
                    cells.count(0);
                    cells.until(1, 1);
                    if number % 2 == 0 {
                        die();
                    }
                    cells.until(2, 1);
                    queue.task_done().unwrap();
                })
            })
            .collect();
        cells.until(0, WORKERS as u64);
        cells.write(1, 1);
        workers.iter().step_by(2).for_each(|worker| {
            worker.join();
        });
        assert_eq!(queue.join(briefly()), Err(WaitError::TimedOut));
        cells.write(2, 1);
        workers.iter().skip(1).step_by(2).for_each(Child::succeed);
        assert_eq!(queue.join(promptly()), Ok(WORKERS as u64 / 2));
        // Another process may still report them.
        (0..WORKERS / 2).for_each(|_| queue.task_done().unwrap());
        assert_eq!(queue.join(promptly()), Ok(0));
    });
}

#[test]
fn a_task_may_be_reported_by_another_than_its_receiver_and_before_it_is_received() {
    isolated(|| {
        let queue = Queue::joinable(0).unwrap();
        (0..2).for_each(|_| queue.put(&[b"task"], Deadline::NOW).unwrap());
        queue.task_done().unwrap();
        Child::fork(|| drop(queue.get(Deadline::NOW).unwrap())).succeed();
        assert_eq!(queue.unfinished(), 1);
        queue.get(Deadline::NOW).unwrap();
        Child::fork(|| queue.task_done().unwrap()).succeed();
        assert_eq!(queue.join(promptly()), Ok(0));
        assert!(queue.task_done().is_err());
    });
}

#[test]
fn a_long_queue_knows_its_length_and_its_limit() {
    isolated(|| {
        let queue = Queue::new(5_000).unwrap();
        (0..5_000).for_each(|_| queue.put(&[b"x"], Deadline::NOW).unwrap());
        for _ in 0..600 {
            assert_eq!((queue.len(), queue.is_full()), (5_000, true));
            let refused = queue.put(&[b"x"], Deadline::NOW);
            assert!(matches!(refused, Err(PutError::Full)));
            queue.get(Deadline::NOW).unwrap();
            assert_eq!((queue.len(), queue.is_full()), (4_999, false));
            queue.put(&[b"x"], Deadline::NOW).unwrap();
        }
        for left in (0..5_000).rev() {
            queue.get(Deadline::NOW).unwrap();
            assert_eq!((queue.len(), queue.is_empty()), (left, left == 0));
        }
    });
}

fn is_readable(queue: &Queue) -> bool {
    let mut watched = libc::pollfd {
        fd: queue.fileno().unwrap(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one record, which outlives the call; the call does not wait.
    unsafe { libc::poll(&raw mut watched, 1, 0) == 1 }
}

#[test]
fn its_descriptor_is_readable_exactly_while_a_message_waits() {
    isolated(|| {
        let (queue, cells) = (Queue::new(0).unwrap(), SharedCells::new());
        // A process that had the queue open before any process asked for the descriptor.
        let child = Child::fork(|| {
            cells.until(0, 1);
            queue.put(&[b"one"], Deadline::NEVER).unwrap();
            cells.write(1, 1);
            cells.until(0, 2);
            assert!(is_readable(&queue), "the other message waits");
            queue.get(Deadline::NOW).unwrap();
            assert!(!is_readable(&queue), "nothing waits");
        });
        assert!(!is_readable(&queue));
        cells.write(0, 1);
        cells.until(1, 1);
        assert!(is_readable(&queue));
        queue.get(Deadline::NOW).unwrap();
        assert!(!is_readable(&queue));
        queue.put(&[b"two"], Deadline::NEVER).unwrap();
        cells.write(0, 2);
        child.succeed();
        assert!(!is_readable(&queue), "the other process took it");
        queue.close();
        assert!(is_readable(&queue), "get does not wait at its end");
    });
}
