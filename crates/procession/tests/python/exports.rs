//! The functions that Python may start.

use std::collections::{BTreeMap, HashMap};

use procession::python::{self, Bytes, Queue};
use procession::{Event, GetError, Lock, Value};
use serde::{Deserialize, Serialize};

use crate::any::Any;

pub fn export() {
    python::export!(
        square,
        add,
        nothing,
        echo,
        shapes,
        echo_messages,
        numbers,
        wait_for,
        inside,
        fail,
        end_with,
        wait_for_ever,
        not_for_python,
        whole_value,
        own_queue,
        process_name,
        argv,
        variable,
        directory,
        pid,
        sum,
        names::of_a_module,
    );
    python::export("renamed", square);
}

fn square(n: i64) -> i64 {
    n * n
}

fn add(a: f64, b: f64) -> f64 {
    a + b
}

fn nothing() {}

fn echo(value: Any) -> Any {
    value
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Segment(i8, i8),
    Rectangle { width: u8, height: u8 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Metres(f32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    unit: (),
    flags: (bool, bool),
    smallest: i128,
    largest: u128,
    letter: char,
    bytes: Bytes,
    numbers: Vec<u8>,
    array: [u16; 2],
    maybe: Option<String>,
    names: BTreeMap<(i32, char), Metres>,
    shapes: Vec<Shape>,
    result: Result<u8, String>,
}

/// Returns its argument, starting with `None`.
fn shapes(given: Option<Everything>) -> Everything {
    let all = Everything {
        unit: (),
        flags: (true, false),
        smallest: i128::MIN,
        largest: u128::MAX,
        letter: 'é',
        bytes: Bytes(vec![0, 255]),
        numbers: vec![0, 255],
        array: [1, 65535],
        maybe: Some("text".to_owned()),
        names: BTreeMap::from([((-1, 'a'), Metres(1.5))]),
        shapes: vec![
            Shape::Empty,
            Shape::Circle(0.5),
            Shape::Segment(-1, 1),
            Shape::Rectangle {
                width: 2,
                height: 3,
            },
        ],
        result: Err("no".to_owned()),
    };
    if let Some(given) = given {
        assert_eq!(given, all);
    }
    all
}

/// Sends each message back until the queue is closed.
fn echo_messages(from: Queue<Any>, to: Queue<Any>) {
    for message in from.iter() {
        to.put(message.expect("any message can be read"))
            .expect("what was read can be written");
    }
}

/// Returns the number of messages, and the errors of those that are not numbers.
fn numbers(queue: Queue<i64>, count: usize) -> Vec<Result<i64, String>> {
    let get = || queue.get().map_err(|error: GetError| error.to_string());
    (0..count).map(|_| get()).collect()
}

fn wait_for(event: Event, back: HashMap<String, Event>) {
    event.wait();
    back["back"].set();
}

fn inside(lock: Lock, entered: Event, leave: Event) {
    let _held = lock.lock().expect("nobody died holding it");
    entered.set();
    leave.wait();
}

fn fail(message: String) -> i64 {
    panic!("{message}");
}

fn end_with(code: i32) {
    match code {
        ..0 => {
            let me = nix::unistd::Pid::this();
            let signal = nix::sys::signal::Signal::try_from(-code).expect("a signal");
            nix::sys::signal::kill(me, signal).expect("it reaches this process");
        }
        code => std::process::exit(code),
    }
}

fn wait_for_ever(started: Event) {
    started.set();
    loop {
        std::thread::park();
    }
}

fn not_for_python() -> HashMap<Vec<u8>, u8> {
    HashMap::from([(vec![1], 1)])
}

fn whole_value(_value: Value<i64>) {}

fn own_queue(_queue: procession::Queue<i64>) {}

fn process_name() -> String {
    procession::process_name().to_owned()
}

fn argv() -> Vec<String> {
    std::env::args().skip(1).collect()
}

fn variable(name: String) -> Option<String> {
    std::env::var(name).ok()
}

fn directory() -> String {
    let directory = std::env::current_dir().expect("there is one");
    directory.display().to_string()
}

fn pid() -> u32 {
    std::process::id()
}

fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

mod names {
    pub fn of_a_module() -> String {
        "found".to_owned()
    }
}
