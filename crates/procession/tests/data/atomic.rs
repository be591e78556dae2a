//! Shared numbers that change without a lock.

use std::sync::atomic::Ordering::SeqCst;

use procession::{Array, ArraySlice, AtomicPrimitive, Process, Value};

procession::test_support!();

const EACH: usize = 20_000;

fn count(total: Value<u64>, left: Value<i16>, by_kind: ArraySlice<u8>) {
    for n in 0..EACH {
        total.atomic().fetch_add(1, SeqCst);
        left.atomic().fetch_sub(1, SeqCst);
        by_kind.atomic(n % 3).fetch_add(1, SeqCst);
    }
}

#[test]
fn several_processes_lose_no_count() {
    let (total, left) = (Value::new(0).unwrap(), Value::new(30_000).unwrap());
    let kinds = Array::zeroed(5).unwrap();
    let args = || (total.clone(), left.clone(), kinds.slice(1..4));
    let processes = [0; 3].map(|_| Process::spawn(count, args()).unwrap());
    for process in processes {
        process.join().unwrap();
    }
    assert_eq!(total.get().unwrap(), 3 * EACH as u64);
    assert_eq!(
        left.get().unwrap(),
        30_000i16.wrapping_sub((3 * EACH) as i16)
    );
    let each = (0..3).map(|kind| (kind..EACH).step_by(3).count() * 3);
    let each: Vec<u8> = each.map(|n| n as u8).collect();
    assert_eq!(kinds.read(1..4).unwrap(), each);
    assert_eq!((kinds.get(0), kinds.get(4)), (Ok(0), Ok(0)));
}

fn as_the_number_it_is<T: AtomicPrimitive>(value: T) -> Value<T> {
    Value::new(value).unwrap()
}

#[test]
fn every_integer_has_its_atomic() {
    macro_rules! every {
        ($($number:ty)+) => {$({
            let value = as_the_number_it_is(<$number>::MAX);
            assert_eq!(value.atomic().fetch_add(1, SeqCst), <$number>::MAX);
            assert_eq!(value.get(), Ok(<$number>::MIN));
            value.set(5).unwrap();
            assert_eq!(value.atomic().fetch_max(9, SeqCst), 5);
            assert_eq!(value.atomic().compare_exchange(5, 1, SeqCst, SeqCst), Err(9));
            assert_eq!(value.atomic().compare_exchange(9, 1, SeqCst, SeqCst), Ok(9));
            assert_eq!(value.get(), Ok(1));
        })+};
    }
    every!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
}

fn claim(taken: Value<bool>, wins: Value<u32>) {
    if !taken.atomic().swap(true, SeqCst) {
        wins.atomic().fetch_add(1, SeqCst);
    }
}

#[test]
fn of_several_processes_one_raises_a_flag() {
    let (taken, wins) = (Value::new(false).unwrap(), Value::new(0).unwrap());
    let processes = [0; 3].map(|_| Process::spawn(claim, (taken.clone(), wins.clone())).unwrap());
    for process in processes {
        process.join().unwrap();
    }
    assert_eq!((taken.get(), wins.get()), (Ok(true), Ok(1)));
}

#[test]
fn a_flag_does_what_an_atomic_bool_does() {
    let flags = Array::<bool>::zeroed(2).unwrap();
    let flag = flags.atomic(1);
    for was in [false, true] {
        for value in [false, true] {
            flag.store(was, SeqCst);
            assert_eq!(flag.fetch_and(value, SeqCst), was);
            assert_eq!(flag.load(SeqCst), was & value);
            flag.store(was, SeqCst);
            assert_eq!(flag.fetch_or(value, SeqCst), was);
            assert_eq!(flag.load(SeqCst), was | value);
            flag.store(was, SeqCst);
            assert_eq!(flag.fetch_xor(value, SeqCst), was);
            assert_eq!(flag.load(SeqCst), was ^ value);
            flag.store(was, SeqCst);
            let exchanged = flag.compare_exchange(value, !value, SeqCst, SeqCst);
            assert_eq!(exchanged, if was == value { Ok(was) } else { Err(was) });
        }
    }
    assert!(!flags.get(0).unwrap());
}

#[test]
#[should_panic(expected = "index 2 in an array of 2")]
fn an_index_beyond_the_end_of_a_part_panics() {
    let array = Array::<u32>::zeroed(4).unwrap();
    array.slice(..2).atomic(2).load(SeqCst);
}
