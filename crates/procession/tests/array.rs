//! An array that several processes see.

use procession::{Array, LockError, Process};

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
