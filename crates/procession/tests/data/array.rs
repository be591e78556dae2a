//! Arrays shared by several processes.

use procession::{Array, ArraySlice, Event, LockError, Process};

procession::test_support!();

fn increment_first(array: Array<i32>) {
    array.update(0, |n| n + 1).unwrap();
}

#[test]
fn a_change_in_a_child_is_seen_by_the_parent() {
    let array = Array::new([1, 2, 3]).unwrap();
    Process::spawn(increment_first, array.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(array.to_vec().unwrap(), [2, 2, 3]);
}

#[test]
fn items_are_read_and_written_one_by_one_or_all_together() {
    let array = Array::<f32>::zeroed(4).unwrap();
    assert_eq!(array.len(), 4);
    array.set(3, 2.5).unwrap();
    assert_eq!(array.get(3).unwrap(), 2.5);
    let mut items = array.lock().unwrap();
    items.update(0, |n| n - 1.0);
    assert_eq!(items.to_vec(), [-1.0, 0.0, 0.0, 2.5]);
    items.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(items.get(2), 3.0);
    items.fill(7.0);
    drop(items);
    assert_eq!(array.to_vec().unwrap(), [7.0; 4]);
}

#[test]
fn an_array_may_be_empty() {
    let array = Array::<u8>::new([]).unwrap();
    assert!(array.is_empty());
    assert_eq!(array.to_vec().unwrap(), Vec::<u8>::new());
}

#[test]
#[should_panic(expected = "index 3 in an array of 3")]
fn an_index_beyond_the_end_panics() {
    let array = Array::new([1u8, 2, 3]).unwrap();
    let _ = array.get(3);
}

fn fill(array: Array<u32>, from: usize) {
    for index in (from..array.len()).step_by(2) {
        array.set(index, index as u32).unwrap();
    }
}

#[test]
fn several_processes_fill_their_parts() {
    let array = Array::zeroed(200).unwrap();
    let halves = [0, 1].map(|from| Process::spawn(fill, (array.clone(), from)).unwrap());
    for half in halves {
        half.join().unwrap();
    }
    assert!(array.to_vec().unwrap().into_iter().eq(0..200));
}

fn die_holding(array: Array<u8>) {
    let _items = array.lock().unwrap();
    std::process::abort();
}

#[test]
fn the_death_of_the_holder_is_reported_once() {
    let array = Array::new([5u8]).unwrap();
    Process::spawn(die_holding, array.clone())
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(array.get(0), Err(LockError::OwnerDied));
    assert_eq!(array.get(0), Ok(5));
}

fn square(part: ArraySlice<u64>) {
    let squares: Vec<_> = part.to_vec().unwrap().iter().map(|n| n * n).collect();
    part.write(0, &squares).unwrap();
}

#[test]
fn each_worker_gets_a_part_of_the_array() {
    let array = Array::new((0..10_001).collect::<Vec<u64>>()).unwrap();
    let parts = array.chunks(array.len().div_ceil(3));
    assert_eq!(parts.len(), 3);
    let workers: Vec<_> = parts
        .map(|part| Process::spawn(square, part).unwrap())
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let squares: Vec<u64> = (0..10_001).map(|n| n * n).collect();
    assert!(array.to_vec().unwrap() == squares);
}

#[test]
fn a_part_is_what_a_slice_of_a_vector_is() {
    let array = Array::new([10i64, 11, 12, 13, 14, 15]).unwrap();
    let part = array.slice(1..=4);
    assert_eq!((part.len(), part.get(0)), (4, Ok(11)));
    let (left, right) = part.split_at(1);
    assert_eq!(left.to_vec().unwrap(), [11]);
    assert_eq!(right.slice(1..).to_vec().unwrap(), [13, 14]);
    assert!(right.slice(3..).is_empty());
    right.swap(0, 2).unwrap();
    left.fill(-1).unwrap();
    assert_eq!(array.to_vec().unwrap(), [10, -1, 14, 13, 12, 15]);
    let sizes: Vec<_> = array.chunks(4).map(|part| part.len()).collect();
    assert_eq!(sizes, [4, 2]);
    assert_eq!(array.slice(..0).chunks(4).len(), 0);
}

#[test]
#[should_panic(expected = "items 2..5 of an array of 4")]
fn a_part_beyond_the_end_panics() {
    let array = Array::<u8>::zeroed(6).unwrap();
    array.slice(..4).slice(2..5);
}

#[test]
#[should_panic(expected = "items 3..5 of an array of 4")]
fn writing_beyond_the_end_of_a_part_panics() {
    let array = Array::<u8>::zeroed(6).unwrap();
    let _ = array.slice(..4).write(3, &[1, 2]);
}

fn read_and_write<T: procession::Plain + PartialEq + std::fmt::Debug>(number: fn(usize) -> T) {
    let items: Vec<T> = (0..5000).map(number).collect();
    let array = Array::new(&items).unwrap();
    assert_eq!(array.to_vec().unwrap(), items);
    assert_eq!(array.read(4000..4100).unwrap(), items[4000..4100]);
    let mut some = vec![number(0); 1000];
    array.read_into(1500, &mut some).unwrap();
    assert_eq!(some, items[1500..2500]);
    array.write(10, &some).unwrap();
    array.slice(..5).fill(number(7)).unwrap();
    let guard = array.lock().unwrap();
    let mut now = items.clone();
    now[10..1010].copy_from_slice(&some);
    now[..5].fill(number(7));
    assert!(guard.iter().eq(now.iter().copied()));
    assert!(guard.iter().rev().eq(now.iter().rev().copied()));
    assert!(guard.chunks(999).flatten().eq(now.iter().copied()));
    drop(guard);
    array.fill(number(1)).unwrap();
    assert_eq!(array.to_vec().unwrap(), vec![number(1); 5000]);
}

#[test]
fn much_is_read_and_written_at_once() {
    read_and_write(|n| n as u8);
    read_and_write(|n| n as f64 / 3.0);
    read_and_write(|n| n % 3 == 0);
    read_and_write(|n| [n as u128; 5]);
    read_and_write(|n| [n as f32; 2000]);
}

fn hold(array: ArraySlice<u8>, held: Event, done: Event) {
    let _items = array.lock().unwrap();
    held.set();
    done.wait();
}

#[test]
fn who_holds_the_lock_of_a_part_holds_that_of_the_array() {
    let array = Array::<u8>::zeroed(2).unwrap();
    let (held, done) = (Event::new().unwrap(), Event::new().unwrap());
    let args = (array.slice(..1), held.clone(), done.clone());
    let holder = Process::spawn(hold, args).unwrap();
    held.wait();
    let refused = array.slice(1..).try_lock().map(drop);
    assert_eq!(refused, Err(LockError::TimedOut));
    done.set();
    holder.join().unwrap();
    assert!(array.try_lock().is_ok());
}
