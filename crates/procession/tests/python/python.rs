//! Rust's part of working with Python; `tests/test_rust*.py` test both.

#![cfg(feature = "python")]

use std::collections::HashMap;
use std::time::Duration;

use procession::codec::Codec;
use procession::python::{self, Bytes, Queue};
use procession::{Array, Barrier, Error, GetError, JoinableQueue, Mutex, Process, PutError, Value};
use serde::Serialize;

procession::test_support!();

fn double(from: Queue<u32>, to: Queue<u32>) {
    for n in from.iter() {
        to.put(2 * n.unwrap()).unwrap();
    }
}

#[test]
fn a_queue_for_python_is_one_for_rust_too() {
    let (there, back) = (Queue::new().unwrap(), Queue::new().unwrap());
    let process = Process::spawn(double, (there.clone(), back.clone())).unwrap();
    for n in [1, 2, 3] {
        there.put(n).unwrap();
        assert_eq!(back.get().unwrap(), 2 * n);
    }
    there.close();
    process.join().unwrap();
}

#[test]
fn a_queue_has_a_bound_and_an_end() {
    let queue = Queue::bounded(1).unwrap();
    assert_eq!(queue.capacity(), Some(1));
    queue.put(1).unwrap();
    assert!(queue.is_full());
    assert!(matches!(queue.try_put(2), Err(PutError::Full(2))));
    let late = queue.put_timeout(2, Duration::from_millis(1));
    assert!(matches!(late, Err(PutError::Full(2))));
    queue.close();
    assert!(matches!(queue.put(2), Err(PutError::Closed(2))));
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.get().unwrap(), 1);
    assert!(queue.is_empty());
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(queue.iter().next().is_none());
}

#[test]
fn a_queue_for_python_is_waited_for_beside_others() {
    let (there, back) = (Queue::new().unwrap(), Queue::new().unwrap());
    let own = procession::Queue::<u32>::new().unwrap();
    let process = Process::spawn(double, (there.clone(), back.clone())).unwrap();
    there.put(4).unwrap();
    let doubled = procession::select! {
        recv(own) -> _ => panic!("nothing was put there"),
        recv(back) -> got => got.unwrap(),
    };
    assert_eq!(doubled, 8);
    there.close();
    process.join().unwrap();
}

/// Puts into queues of either codec.
fn put_both<C: Codec>(queue: &procession::codec::Queue<u32, C>) {
    queue.put(1).unwrap();
    queue.put(2).unwrap();
}

#[test]
fn a_function_can_take_queues_of_either_codec() {
    let (own, pythons) = (procession::Queue::new().unwrap(), Queue::new().unwrap());
    put_both(&own);
    put_both(&pythons);
    assert_eq!([own.get().unwrap(), own.get().unwrap()], [1, 2]);
    assert_eq!([pythons.get().unwrap(), pythons.get().unwrap()], [1, 2]);
}

#[test]
fn a_queue_with_nothing_in_it_is_empty() {
    let queue: Queue<u8> = Queue::new().unwrap();
    assert_eq!(queue.capacity(), None);
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    let late = queue.get_timeout(Duration::from_millis(1));
    assert!(matches!(late, Err(GetError::Empty)));
}

/// A number, or a value that serialises like another type.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Named { two: i64 },
}

impl<'de> serde::Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        i64::deserialize(deserializer).map(Number::Number)
    }
}

#[test]
fn a_message_that_is_not_what_is_wanted_is_an_error_and_the_next_one_is_not() {
    let queue = Queue::new().unwrap();
    for message in [
        Number::Number(1),
        Number::Named { two: 2 },
        Number::Number(3),
    ] {
        queue.put(message).unwrap();
    }
    assert_eq!(queue.get().unwrap(), Number::Number(1));
    let error = queue.get().unwrap_err().to_string();
    assert!(error.contains("invalid type: map, expected i64"), "{error}");
    assert_eq!(queue.get().unwrap(), Number::Number(3));
}

#[test]
fn a_message_that_python_does_not_have_is_given_back() {
    let queue = Queue::new().unwrap();
    let keyed = HashMap::from([(vec![1], 2)]);
    let error = queue.put(keyed.clone()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a list cannot be in the key of a dict")
    );
    assert_eq!(error.into_inner(), keyed);
    assert!(queue.is_empty());
}

fn refused(args: impl Serialize) -> String {
    let started = python::Process::<()>::spawn("math", "sqrt", args);
    started.unwrap_err().to_string()
}

#[test]
fn objects_that_python_has_no_use_for_are_refused() {
    let (sender, receiver) = procession::channel::<u8>().unwrap();
    for refusal in [
        refused((procession::Queue::<u8>::new().unwrap(),)),
        refused((JoinableQueue::<u8>::new().unwrap(),)),
        refused((Mutex::new(1).unwrap(),)),
        refused((Value::new(1).unwrap(),)),
        refused((Array::new([1]).unwrap(),)),
        refused((Barrier::new(2).unwrap(),)),
        refused((sender,)),
        refused([Some((receiver, 1))]),
    ] {
        assert!(
            refusal.contains("procession::python::Queue, an Event, a Lock or an RLock"),
            "{refusal}"
        );
    }
}

#[test]
fn an_object_is_the_key_of_no_dict() {
    let queue = HashMap::from([(Hashed, 1)]);
    assert!(refused((queue,)).contains("cannot be the key of a dict"));
}

/// Serialises as a queue.
#[derive(PartialEq, Eq, Hash)]
struct Hashed;

impl Serialize for Hashed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Queue::<u8>::new().unwrap().serialize(serializer)
    }
}

#[test]
fn a_queue_travels_as_an_argument_only() {
    let queues = Queue::new().unwrap();
    let error = queues.put(Queue::<u8>::new().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot send a Queue: between Rust and Python an object is an argument of a process, and in no message"
    );
    assert!(queues.is_empty());
}

#[test]
fn a_python_that_is_not_there_is_named() {
    for interpreter in ["nowhere/python", "no-such-python", "/etc/passwd"] {
        let started: Result<python::Process<()>, Error> = python::Process::builder()
            .interpreter(interpreter)
            .spawn("math", "sqrt", (4,));
        let error = started.unwrap_err();
        assert!(matches!(error, Error::NoInterpreter { .. }), "{error:?}");
        assert!(error.to_string().contains(interpreter));
        assert!(error.to_string().contains("python::Builder::interpreter"));
    }
}

#[test]
#[should_panic(expected = "two functions are exported to Python as twice")]
fn a_name_is_exported_once() {
    fn once() {}
    fn again() {}
    python::export("twice", once);
    python::export("twice", again);
}

#[test]
fn bytes_are_those_of_a_vector() {
    let bytes = Bytes::from(&b"PNG\x89"[..]);
    assert_eq!(format!("{bytes:?}"), r#"b"PNG\x89""#);
    assert_eq!(Vec::from(bytes.clone()), bytes.to_vec());
    let through_json: Bytes = serde_json::from_str("[80, 78]").unwrap();
    assert_eq!(&*through_json, b"PN");
}

/// Text, bytes or a number, depending on the type it is read as.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Loose<T> {
    #[serde(skip_serializing)]
    Read(T),
    Bytes(Bytes),
    Number(i128),
}

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Loose<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Loose<T>, D::Error> {
        T::deserialize(deserializer).map(Loose::Read)
    }
}

fn read_as<T: serde::de::DeserializeOwned>(message: Loose<T>) -> Result<T, String> {
    let queue = Queue::new().unwrap();
    queue.put(message).unwrap();
    match queue.get() {
        Ok(Loose::Read(value)) => Ok(value),
        Ok(_) => unreachable!("it reads as a T only"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn bytes_are_no_text_even_if_they_could_be() {
    let error = read_as::<String>(Loose::Bytes(Bytes(b"abc".to_vec()))).unwrap_err();
    assert!(error.contains("expected a str"), "{error}");
}

#[test]
fn any_int_is_taken_for_a_float() {
    assert_eq!(read_as::<f64>(Loose::Number(7)), Ok(7.0));
    assert_eq!(read_as::<f64>(Loose::Number(1 << 100)), Ok(2f64.powi(100)));
}
