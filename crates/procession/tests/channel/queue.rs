//! Queues that any number of processes put into and get from.

use std::cell::RefCell;
use std::time::Duration;

use procession::{Event, GetError, JoinableQueue, Process, PutError, Queue};
use serde::{Deserialize, Serialize, Serializer};

procession::test_support!();

fn produce(queue: Queue<String>) {
    queue.put("Hello from producer!".to_owned()).unwrap();
}

#[test]
fn a_message_reaches_another_process() {
    let queue = Queue::new().unwrap();
    let producer = Process::spawn(produce, queue.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), "Hello from producer!");
    producer.join().unwrap();
}

fn put_and_die(queue: Queue<u64>) {
    queue.put(7).unwrap();
    std::process::abort();
}

#[test]
fn a_message_survives_the_producer_that_is_killed_after_put() {
    let queue = Queue::new().unwrap();
    Process::spawn(put_and_die, queue.clone())
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(queue.try_get().unwrap(), 7);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Circle { radius: f64 },
    Named(String, Vec<u8>),
}

#[test]
fn any_type_that_serde_knows_can_be_a_message() {
    let queue = Queue::new().unwrap();
    queue.put(Shape::Circle { radius: 1.5 }).unwrap();
    queue.put(Shape::Named("x".to_owned(), vec![1, 2])).unwrap();
    assert_eq!(queue.get().unwrap(), Shape::Circle { radius: 1.5 });
    assert_eq!(
        queue.get().unwrap(),
        Shape::Named("x".to_owned(), vec![1, 2])
    );
}

#[test]
fn messages_keep_their_order_and_are_counted() {
    let queue = Queue::new().unwrap();
    assert!(queue.is_empty());
    for n in 0..1000 {
        queue.put(n).unwrap();
    }
    assert_eq!(queue.len(), 1000);
    assert!((0..1000).all(|n| queue.get().unwrap() == n));
}

#[test]
fn a_full_queue_gives_the_message_back() {
    let queue = Queue::bounded(1).unwrap();
    assert_eq!(queue.capacity(), Some(1));
    queue.put("first".to_owned()).unwrap();
    assert!(queue.is_full());
    match queue.try_put("second".to_owned()) {
        Err(PutError::Full(message)) => assert_eq!(message, "second"),
        other => panic!("{other:?}"),
    }
    let late = queue
        .put_timeout("third".to_owned(), Duration::from_millis(1))
        .unwrap_err();
    assert_eq!(late.into_inner(), "third");
}

/// A type that counts how often it is serialised.
struct Counted<'a>(&'a std::cell::Cell<u32>);

impl Serialize for Counted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.set(self.0.get() + 1);
        serializer.serialize_unit()
    }
}

#[test]
fn what_has_no_room_is_not_turned_into_bytes() {
    let (queue, times) = (Queue::bounded(1).unwrap(), std::cell::Cell::new(0));
    queue.try_put(Counted(&times)).unwrap();
    let refused = queue.try_put(Counted(&times)).unwrap_err();
    assert!(matches!(refused, PutError::Full(_)));
    assert_eq!(times.get(), 1);
}

fn consume_all(queue: Queue<u64>, sums: Queue<u64>) {
    sums.put(queue.iter().map(Result::unwrap).sum()).unwrap();
}

#[test]
fn several_consumers_share_the_messages_of_a_bounded_queue() {
    let (queue, sums) = (Queue::bounded(4).unwrap(), Queue::new().unwrap());
    let args = || (queue.clone(), sums.clone());
    let consumers: Vec<_> = (0..3)
        .map(|_| Process::spawn(consume_all, args()).unwrap())
        .collect();
    for n in 1..=1000 {
        queue.put(n).unwrap();
    }
    queue.close();
    for consumer in consumers {
        consumer.join().unwrap();
    }
    let total: u64 = (0..3).map(|_| sums.get().unwrap()).sum();
    assert_eq!(total, 500_500);
}

#[test]
fn getting_from_an_empty_queue_can_be_limited() {
    let queue = Queue::<u8>::new().unwrap();
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert!(matches!(
        queue.get_timeout(Duration::from_millis(1)),
        Err(GetError::Empty)
    ));
}

#[test]
fn a_closed_queue_gives_what_it_has_and_takes_no_more() {
    let queue = Queue::new().unwrap();
    queue.put(1).unwrap();
    queue.close();
    assert!(matches!(queue.put(2), Err(PutError::Closed(2))));
    assert_eq!(queue.get().unwrap(), 1);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

#[test]
fn a_large_message_passes() {
    let queue = Queue::new().unwrap();
    let message: Vec<u32> = (0..3_000_000).collect();
    queue.put(message.clone()).unwrap();
    assert!(queue.get().unwrap() == message);
}

fn finish(queue: JoinableQueue<u32>) {
    for message in queue.iter() {
        message.unwrap();
        queue.task_done().unwrap();
    }
}

fn get_and_die(queue: JoinableQueue<u32>) {
    queue.get().unwrap();
    std::process::abort();
}

#[test]
fn joining_says_that_a_message_died_with_its_reader() {
    let queue = JoinableQueue::new().unwrap();
    queue.put(1).unwrap();
    let reader = Process::spawn(get_and_die, queue.clone()).unwrap();
    assert!(matches!(
        queue.join(),
        Err(procession::Error::Unfinished { messages: 1 })
    ));
    assert!(reader.join().is_err());
    queue.task_done().expect("whoever knows better may say so");
    queue.join().unwrap();
}

#[test]
fn a_joinable_queue_waits_until_all_is_done() {
    let queue = JoinableQueue::new().unwrap();
    for n in 0..100 {
        queue.put(n).unwrap();
    }
    assert_eq!(queue.unfinished(), 100);
    assert!(!queue.join_timeout(Duration::from_millis(1)).unwrap());
    let consumer = Process::spawn(finish, queue.clone()).unwrap();
    queue.join().unwrap();
    assert_eq!(queue.unfinished(), 0);
    assert!(queue.task_done().is_err());
    queue.close();
    consumer.join().unwrap();
}

/// A request, and where to send the result.
#[derive(Serialize, Deserialize)]
struct Request {
    number: u64,
    answer: Queue<u64>,
    answered: Event,
}

fn serve(requests: Queue<Request>) {
    for request in requests.iter() {
        let request = request.unwrap();
        request.answer.put(request.number * 2).unwrap();
        request.answered.set();
    }
}

#[test]
fn a_message_may_refer_to_other_objects() {
    let requests = Queue::new().unwrap();
    let server = Process::spawn(serve, requests.clone()).unwrap();
    for number in 0..50 {
        let (answer, answered) = (Queue::new().unwrap(), Event::new().unwrap());
        let request = Request {
            number,
            answer: answer.clone(),
            answered: answered.clone(),
        };
        requests.put(request).unwrap();
        answered.wait();
        assert_eq!(answer.get().unwrap(), number * 2);
    }
    requests.close();
    server.join().unwrap();
}

#[test]
fn what_a_waiting_message_refers_to_lives_on() {
    let queues = Queue::new().unwrap();
    let inner = Queue::new().unwrap();
    inner.put("still here".to_owned()).unwrap();
    queues.put(inner).unwrap();
    let inner: Queue<String> = queues.get().unwrap();
    assert_eq!(inner.get().unwrap(), "still here");
}

/// Starts a process while it is being serialised.
struct Starter<'a>(&'a RefCell<Option<Process<u64>>>);

impl Serialize for Starter<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers = Queue::new().unwrap();
        numbers.put(5).unwrap();
        self.0
            .replace(Some(Process::spawn(take_one, numbers).unwrap()));
        serializer.serialize_unit()
    }
}

fn take_one(numbers: Queue<u64>) -> u64 {
    numbers.try_get().unwrap()
}

#[test]
fn sending_may_start_a_process_on_the_way() {
    let (queue, started) = (Queue::new().unwrap(), RefCell::new(None));
    queue.put(Starter(&started)).unwrap();
    let process = started.take().unwrap();
    assert_eq!(process.join().unwrap(), 5);
}
