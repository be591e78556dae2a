//! Closures that name their captures.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use procession::{
    Event, JoinError, Lock, Pool, Process, Queue, Stdio, TaskError, Value, closure, spawn,
};
use serde::{Deserialize, Serialize, Serializer};

procession::test_support!();

#[test]
fn a_process_runs_a_block_with_the_variables_it_names() {
    let offset = 2;
    let names = vec!["Ada".to_owned(), "Grace".to_owned()];
    let process = spawn!(|offset: u64, names: Vec<String>| -> Vec<u64> {
        names
            .iter()
            .map(|name| name.len() as u64 + offset)
            .collect()
    })
    .unwrap();
    assert_eq!(process.join().unwrap(), [5, 7]);
}

#[test]
fn a_process_runs_a_block_with_values() {
    let ages = HashMap::from([("Ada".to_owned(), 36_u32)]);
    let process = spawn!([
        ages: HashMap<String, u32> = ages.clone(),
        mut sum: u32 = ages.len() as u32 | 4,
    ] || -> u32 {
        sum += ages.values().sum::<u32>();
        sum
    });
    assert_eq!(process.unwrap().join().unwrap(), 41);
    assert_eq!(ages.len(), 1, "a copy was captured");
}

#[test]
fn a_block_may_capture_nothing_and_return_nothing() {
    spawn!(|| {}).unwrap().join().unwrap();
    let id = spawn!(|| -> u32 { std::process::id() }).unwrap();
    assert_eq!(id.id(), id.join().unwrap());
    spawn!([] || {}).unwrap().join().unwrap();
}

#[test]
fn a_closure_may_take_any_number_of_arguments() {
    let base = 100;
    let none = closure!([base: u32] || -> u32 { base });
    let one = closure!([base: u32] |n: u32| -> u32 { base + n });
    let two =
        closure!([base: u32] |n: u32, text: String| -> String { format!("{base} {n} {text}") });
    let three = closure!([] |mut a: u32, b: u32, c: u32,| -> u32 { a += 1; a * b * c });
    assert_eq!(Process::spawn(none, ()).unwrap().join().unwrap(), 100);
    assert_eq!(Process::spawn(one, 5).unwrap().join().unwrap(), 105);
    let process = Process::builder()
        .name("closure")
        .spawn(two, (1, "a".to_owned()));
    assert_eq!(process.unwrap().join().unwrap(), "100 1 a");
    assert_eq!(
        Process::spawn(three, (1, 2, 3)).unwrap().join().unwrap(),
        12
    );
}

#[test]
fn shared_objects_may_be_captured_by_a_process() {
    let (queue, lock, total) = (
        Queue::new().unwrap(),
        Lock::new().unwrap(),
        Value::new(0_u32).unwrap(),
    );
    let (sender, receiver) = procession::channel::<String>().unwrap();
    let process = spawn!([
        queue: Queue<u32> = queue.clone(),
        lock: Lock = lock.clone(),
        total: Value<u32> = total.clone(),
        sender: procession::Sender<String>,
    ] || {
        let _turn = lock.lock().unwrap();
        queue.put(1).unwrap();
        total.update(|n| n + 1).unwrap();
        sender.send("hello".to_owned()).unwrap();
    })
    .unwrap();
    assert_eq!(receiver.recv().unwrap(), "hello");
    process.join().unwrap();
    assert_eq!((queue.get().unwrap(), total.get().unwrap()), (1, 1));
}

#[test]
fn a_pool_takes_closures_wherever_it_takes_functions() {
    let pool = Pool::new(2).unwrap();
    let offset = 10_u64;
    let add = closure!([offset: u64] |n: u64| -> u64 { n + offset });
    assert_eq!(pool.map(add.clone(), 0..3).unwrap(), [10, 11, 12]);
    assert_eq!(
        pool.map_chunked(add.clone(), 0..3, 2).unwrap(),
        [10, 11, 12]
    );
    assert_eq!(pool.apply(add.clone(), 4).unwrap(), 14);
    let task = pool.submit(add.clone(), 5).unwrap();
    assert_eq!(task.join().unwrap(), 15);
    let lazily: Result<Vec<u64>, _> = pool.imap(add.clone(), 1..).unwrap().take(2).collect();
    assert_eq!(lazily.unwrap(), [11, 12]);
    assert_eq!(pool.imap_unordered(add, 1..4).unwrap().count(), 3);
    let sums = closure!([offset: u64] |a: u64, b: u64| -> u64 { a + b + offset });
    assert_eq!(pool.map(sums, [(1, 2), (3, 4)]).unwrap(), [13, 17]);
}

static READY: OnceLock<Event> = OnceLock::new();

#[test]
fn an_initializer_may_capture_shared_objects() {
    let ready = Event::new().unwrap();
    let prepare = closure!([ready: Event = ready.clone()] |number: u32| {
        assert_eq!(number, 7);
        READY.set(ready).unwrap();
    });
    let pool = Pool::builder()
        .workers(1)
        .initializer(prepare, 7)
        .build()
        .unwrap();
    let is_ready = closure!([] || -> bool { READY.get().unwrap().is_set() });
    assert!(!pool.apply(is_ready.clone(), ()).unwrap());
    ready.set();
    assert!(pool.apply(is_ready, ()).unwrap());
}

#[derive(Deserialize)]
struct Counted(String);

static SERIALISED: AtomicU32 = AtomicU32::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SERIALISED.fetch_add(1, Ordering::Relaxed);
        self.0.serialize(serializer)
    }
}

#[test]
fn what_is_captured_is_carried_once_for_each_chunk() {
    let pool = Pool::new(2).unwrap();
    let prefix = Counted("number ".to_owned());
    let name = closure!([mut prefix: Counted] |n: u32| -> String {
        prefix.0.push_str(&n.to_string());
        prefix.0
    });
    let names = pool.map_chunked(name, 0..100, 50).unwrap();
    assert_eq!(names[99], "number 99", "each call has a value of its own");
    assert_eq!(SERIALISED.load(Ordering::Relaxed), 2);
}

/// A type that cannot be decoded by its receiver.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Unreadable;

impl TryFrom<u8> for Unreadable {
    type Error = String;

    fn try_from(_: u8) -> Result<Unreadable, String> {
        Err("it is unreadable".to_owned())
    }
}

impl From<Unreadable> for u8 {
    fn from(_: Unreadable) -> u8 {
        1
    }
}

#[test]
fn what_cannot_be_read_is_an_error_of_each_call() {
    let thing = Unreadable;
    let closure = closure!([thing: Unreadable] |n: u32| -> u32 { let Unreadable = thing; n });
    match Process::spawn(closure.clone(), 1).unwrap().join() {
        Err(JoinError::Undelivered { reason, .. }) => assert!(reason.contains("Unreadable")),
        other => panic!("{other:?}"),
    }
    let pool = Pool::new(1).unwrap();
    let results: Vec<_> = pool.imap(closure, 0..3).unwrap().collect();
    assert_eq!(results.len(), 3);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(TaskError::Undelivered(_))))
    );
}

#[test]
fn a_shared_object_cannot_be_captured_by_a_task() {
    let pool = Pool::new(1).unwrap();
    let event = Event::new().unwrap();
    let error = pool.apply(closure!([event: Event] || -> bool { event.is_set() }), ());
    assert!(matches!(
        error,
        Err(procession::Error::NotSpawning("Event"))
    ));
}

#[test]
fn a_panic_in_a_block_comes_back_with_its_place() {
    let start = |word: &str| {
        let panicking = closure!([word: String = word.to_owned()] || { panic!("out of {word}") });
        Process::builder().stderr(Stdio::Null).spawn(panicking, ())
    };
    match start("cheese").unwrap().join() {
        Err(JoinError::Panicked(panic)) => {
            assert_eq!(panic.message, "out of cheese");
            assert!(panic.location.unwrap().contains("closure.rs"));
        }
        other => panic!("{other:?}"),
    }
}
