//! Values of any type under a lock.

use std::collections::BTreeMap;
use std::time::Duration;

use procession::{Condvar, Event, GuardError, Mutex, OnceLock, Process, Value};
use serde::{Deserialize, Serialize};

procession::test_support!();

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    owner: String,
    entries: Vec<i64>,
    notes: BTreeMap<String, String>,
}

fn pay(account: Mutex<Account>, amount: i64) {
    for _ in 0..200 {
        account.lock().unwrap().entries.push(amount);
    }
}

#[test]
fn changes_of_several_processes_are_all_there() {
    let account = Mutex::new(Account::default()).unwrap();
    let start = |amount| Process::spawn(pay, (account.clone(), amount)).unwrap();
    for process in [start(1), start(100), start(10_000)] {
        process.join().unwrap();
    }
    let guard = account.lock().unwrap();
    assert_eq!(guard.entries.len(), 600);
    assert_eq!(guard.entries.iter().sum::<i64>(), 200 * 10_101);
}

#[test]
fn a_value_may_grow_and_shrink() {
    let text = Mutex::new(String::new()).unwrap();
    for size in [10, 1_000, 3_000_000, 0, 100_000, 40] {
        *text.lock().unwrap() = "x".repeat(size);
        assert_eq!(text.lock().unwrap().len(), size);
    }
}

fn die_in_the_middle(account: Mutex<Account>) {
    let mut guard = account.lock().unwrap();
    guard.entries.clear();
    guard.owner = "nobody".to_owned();
    std::process::abort();
}

#[test]
fn a_dead_holder_leaves_the_value_as_it_was() {
    let before = Account {
        owner: "Ada".to_owned(),
        entries: vec![3, 4],
        ..Account::default()
    };
    let account = Mutex::new(before.clone()).unwrap();
    let process = Process::spawn(die_in_the_middle, account.clone()).unwrap();
    process.join().unwrap_err();
    // Reported until the state is marked consistent.
    for _ in 0..2 {
        match account.lock() {
            Err(GuardError::OwnerDied(guard)) => assert_eq!(*guard, before),
            other => panic!("{other:?}"),
        }
    }
    let mut guard = account.lock().unwrap_err().into_guard().unwrap();
    guard.entries.push(5);
    guard.mark_consistent();
    drop(guard);
    assert_eq!(account.lock().unwrap().entries, [3, 4, 5]);
}

#[test]
fn a_panic_leaves_the_value_as_it_was() {
    let number = Mutex::new(1).unwrap();
    let changing = number.clone();
    let outcome = std::thread::spawn(move || {
        let mut guard = changing.lock().unwrap();
        *guard = 2;
        panic!("before it was done");
    });
    outcome.join().unwrap_err();
    assert_eq!(*number.lock().unwrap(), 1);
}

fn hold(number: Mutex<u32>, held: Event, leave: Event) {
    let _guard = number.lock().unwrap();
    held.set();
    leave.wait();
}

#[test]
fn a_held_mutex_is_waited_for_no_longer_than_asked() {
    let number = Mutex::new(1).unwrap();
    let (held, leave) = (Event::new().unwrap(), Event::new().unwrap());
    let process = Process::spawn(hold, (number.clone(), held.clone(), leave.clone())).unwrap();
    held.wait();
    assert!(number.is_held());
    assert!(matches!(number.try_lock(), Err(GuardError::TimedOut)));
    let late = number.lock_timeout(Duration::from_millis(1));
    assert!(matches!(late, Err(GuardError::TimedOut)));
    leave.set();
    assert_eq!(*number.lock().unwrap(), 1);
    process.join().unwrap();
}

#[test]
fn a_discarded_change_is_none() {
    let number = Mutex::new(1).unwrap();
    let mut guard = number.lock().unwrap();
    *guard = 2;
    guard.discard();
    let mut guard = number.lock().unwrap();
    assert_eq!(*guard, 1);
    *guard = 3;
    guard.commit().unwrap();
    assert_eq!(*number.lock().unwrap(), 3);
}

/// A type that does not decode from every byte sequence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = String;

    fn try_from(number: u8) -> Result<Even, String> {
        match number.is_multiple_of(2) {
            true => Ok(Even(number)),
            false => Err(format!("{number} is odd")),
        }
    }
}

impl From<Even> for u8 {
    fn from(even: Even) -> u8 {
        even.0
    }
}

#[test]
fn what_the_type_does_not_allow_is_not_handed_out() {
    let number = Mutex::new(Even(2)).unwrap();
    *number.lock().unwrap() = Even(3);
    assert!(matches!(number.lock(), Err(GuardError::Failed(_))));
    assert!(!number.is_held(), "an error holds nothing");
}

fn make(once: OnceLock<Vec<u32>>, made: Value<u32>) {
    let value = once.get_or_init(|| {
        made.update(|n| n + 1).unwrap();
        vec![7; 3]
    });
    assert_eq!(*value.unwrap(), [7; 3]);
}

#[test]
fn a_value_is_made_once_for_all_processes() {
    let (once, made) = (OnceLock::new().unwrap(), Value::new(0).unwrap());
    assert_eq!(once.get().unwrap(), None);
    let start = || Process::spawn(make, (once.clone(), made.clone())).unwrap();
    for process in [start(), start(), start()] {
        process.join().unwrap();
    }
    assert_eq!(once.get().unwrap(), Some(&vec![7; 3]));
    assert_eq!(made.get().unwrap(), 1);
}

fn die_making(once: OnceLock<u32>) {
    let _ = once.get_or_init(|| std::process::abort());
}

#[test]
fn the_next_one_makes_what_a_dead_process_did_not() {
    let once = OnceLock::new().unwrap();
    Process::spawn(die_making, once.clone())
        .unwrap()
        .join()
        .unwrap_err();
    let failed = once.get_or_try_init(|| Err(procession::Error::Closed));
    assert!(failed.is_err());
    assert_eq!(*once.get_or_init(|| 5).unwrap(), 5);
}

fn fill(jar: Mutex<Vec<u32>>, filled: Condvar) {
    for drop in 0..10 {
        jar.lock().unwrap().push(drop);
        filled.notify_all();
    }
}

#[test]
fn a_value_is_waited_for() {
    let (jar, filled) = (Mutex::new(Vec::new()).unwrap(), Condvar::new().unwrap());
    let process = Process::spawn(fill, (jar.clone(), filled.clone())).unwrap();
    let full = filled
        .wait_while(jar.lock().unwrap(), |jar| jar.len() < 10)
        .unwrap();
    assert_eq!(full[9], 9);
    drop(full);
    process.join().unwrap();
}

#[test]
fn what_was_changed_before_a_wait_is_seen_by_others() {
    let (steps, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let mut guard = steps.lock().unwrap();
    *guard = 1;
    let process = Process::spawn(answer_one, (steps.clone(), changed.clone())).unwrap();
    let guard = changed.wait_while(guard, |steps| *steps != 2).unwrap();
    drop(guard);
    process.join().unwrap();
    let (guard, changed) = changed
        .wait_while_timeout(steps.lock().unwrap(), Duration::from_millis(5), |_| true)
        .unwrap();
    assert_eq!((*guard, changed), (2, false));
}

fn answer_one(steps: Mutex<u32>, changed: Condvar) {
    let mut guard = steps.lock().unwrap();
    assert_eq!(*guard, 1);
    *guard = 2;
    changed.notify_one();
}
