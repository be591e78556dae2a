//! Values with many readers or one writer.

use std::time::Duration;

use procession::{Event, GuardError, Process, RwLock};

procession::test_support!();

fn add(number: RwLock<Vec<u32>>, times: u32) {
    for n in 0..times {
        number.write().unwrap().push(n);
        assert!(!number.read().unwrap().is_empty());
    }
}

#[test]
fn changes_of_several_processes_are_all_there() {
    let numbers = RwLock::new(Vec::new()).unwrap();
    let start = || Process::spawn(add, (numbers.clone(), 100)).unwrap();
    for process in [start(), start(), start()] {
        process.join().unwrap();
    }
    assert_eq!(numbers.read().unwrap().len(), 300);
}

fn read(text: RwLock<String>, reading: Event, leave: Event) {
    let guard = text.read().unwrap();
    assert_eq!(*guard, "text");
    reading.set();
    leave.wait();
}

#[test]
fn readers_do_not_wait_for_each_other_but_writers_do() {
    let text = RwLock::new("text".to_owned()).unwrap();
    let (reading, leave) = (Event::new().unwrap(), Event::new().unwrap());
    let process = Process::spawn(read, (text.clone(), reading.clone(), leave.clone())).unwrap();
    reading.wait();
    assert_eq!(*text.try_read().unwrap(), "text");
    assert!(matches!(text.try_write(), Err(GuardError::TimedOut)));
    let late = text.write_timeout(Duration::from_millis(1));
    assert!(matches!(late, Err(GuardError::TimedOut)));
    leave.set();
    *text.write().unwrap() = "other".to_owned();
    process.join().unwrap();
    assert_eq!(
        *text.read_timeout(Duration::from_secs(20)).unwrap(),
        "other"
    );
}

fn die_writing(text: RwLock<String>) {
    let mut guard = text.write().unwrap();
    "half".clone_into(&mut guard);
    std::process::abort();
}

fn die_reading(text: RwLock<String>) {
    let _guard = text.read().unwrap();
    std::process::abort();
}

#[test]
fn a_dead_writer_leaves_the_value_as_it_was() {
    let text = RwLock::new("text".to_owned()).unwrap();
    let reader = Process::spawn(die_reading, text.clone()).unwrap();
    reader.join().unwrap_err();
    assert_eq!(*text.write().unwrap(), "text");
    let writer = Process::spawn(die_writing, text.clone()).unwrap();
    writer.join().unwrap_err();
    match text.read() {
        Err(GuardError::OwnerDied(guard)) => assert_eq!(*guard, "text"),
        other => panic!("{other:?}"),
    }
    let mut guard = text.write().unwrap_err().into_guard().unwrap();
    guard.push('!');
    guard.mark_consistent();
    drop(guard);
    assert_eq!(*text.read().unwrap(), "text!");
}

#[test]
fn a_panic_or_a_discarded_change_leaves_the_value_as_it_was() {
    let number = RwLock::new(1).unwrap();
    let changing = number.clone();
    let outcome = std::thread::spawn(move || {
        let mut guard = changing.write().unwrap();
        *guard = 2;
        panic!("before it was done");
    });
    outcome.join().unwrap_err();
    let mut guard = number.write().unwrap();
    assert_eq!(*guard, 1);
    *guard = 3;
    guard.discard();
    let mut guard = number.write().unwrap();
    assert_eq!(*guard, 1);
    *guard = 4;
    guard.commit().unwrap();
    assert_eq!(*number.read().unwrap(), 4);
}
