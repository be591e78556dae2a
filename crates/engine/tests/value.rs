//! Shared bytes, which Value and Array are made of, as their users see them.

mod common;

use common::{Child, Footprint, isolated};
use procession_engine::value::SharedBytes;
use procession_engine::{Error, process};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI16, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

#[test]
fn a_child_changes_what_its_parent_reads() {
    isolated(|| {
        let bytes = SharedBytes::new(12).unwrap();
        bytes.write_at(0, &[1, 2, 3]);
        Child::fork(|| {
            let mut seen = [0; 3];
            bytes.read_at(0, &mut seen);
            bytes.write_at(0, &seen.map(|byte| byte + 10));
        })
        .succeed();
        let mut seen = [0; 12];
        bytes.read_at(0, &mut seen);
        assert_eq!(seen, [11, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    });
}

#[test]
fn atomics_count_across_processes() {
    isolated(|| {
        let bytes = SharedBytes::new(16).unwrap();
        let count = || {
            for _ in 0..10_000 {
                bytes.atomic_u64(8).fetch_add(1, SeqCst);
            }
        };
        let others = [Child::fork(count), Child::fork(count)];
        count();
        others.iter().for_each(Child::succeed);
        assert_eq!(bytes.atomic_u64(8).load(SeqCst), 30_000);
    });
}

#[test]
fn atomics_of_every_size_count_across_processes_beside_each_other() {
    isolated(|| {
        let bytes = SharedBytes::new(16).unwrap();
        let count = || {
            for _ in 0..10_000 {
                bytes.atomic::<AtomicU8>(1).fetch_add(1, SeqCst);
                bytes.atomic::<AtomicI16>(2).fetch_sub(1, SeqCst);
                bytes.atomic::<AtomicU32>(4).fetch_add(1, SeqCst);
                bytes.atomic::<AtomicIsize>(8).fetch_sub(1, SeqCst);
            }
        };
        let other = Child::fork(count);
        count();
        other.succeed();
        let mut seen = [0; 2];
        bytes.read_at(0, &mut seen);
        assert_eq!(seen, [0, (20_000 % 256) as u8]);
        assert_eq!(bytes.atomic::<AtomicI16>(2).load(SeqCst), -20_000);
        assert_eq!(bytes.atomic::<AtomicU32>(4).load(SeqCst), 20_000);
        assert_eq!(bytes.atomic::<AtomicIsize>(8).load(SeqCst), -20_000);
    });
}

#[test]
fn bytes_are_copied_beside_those_who_count_in_them() {
    isolated(|| {
        let bytes = SharedBytes::new(9000).unwrap();
        let pattern: Vec<u8> = (0..8990).map(|n| n as u8).collect();
        let count = || {
            for _ in 0..50_000 {
                bytes.atomic::<AtomicU8>(4).fetch_add(1, SeqCst);
            }
        };
        let other = Child::fork(count);
        let mut seen = vec![0; 8990];
        for _ in 0..20 {
            bytes.write_bytes(7, &pattern);
            bytes.read_bytes(7, &mut seen);
            assert!(seen == pattern);
        }
        other.succeed();
        assert_eq!(
            bytes.atomic::<AtomicU8>(4).load(SeqCst),
            (50_000 % 256) as u8
        );
        assert!(catch_unwind(AssertUnwindSafe(|| bytes.write_bytes(11, &pattern))).is_err());
    });
}

#[test]
fn an_atomic_that_is_not_aligned_or_not_within_the_bytes_is_refused() {
    isolated(|| {
        let bytes = SharedBytes::new(10).unwrap();
        for offset in [2, 4, 8, usize::MAX - 7] {
            let refused = catch_unwind(AssertUnwindSafe(|| {
                bytes.atomic::<AtomicU64>(offset).load(SeqCst)
            }));
            assert!(refused.is_err(), "at {offset}");
        }
        assert_eq!(bytes.atomic::<AtomicU64>(0).load(SeqCst), 0);
        assert_eq!(bytes.atomic::<AtomicU16>(8).load(SeqCst), 0);
    });
}

#[test]
fn memory_is_zeroed_even_when_it_was_used_before() {
    isolated(|| {
        for size in [64, 5_000, 2 << 20] {
            for _ in 0..3 {
                let bytes = SharedBytes::new(size).unwrap();
                let mut seen = vec![1; size];
                bytes.read_at(0, &mut seen);
                assert!(seen.iter().all(|&byte| byte == 0));
                bytes.write_at(0, &vec![0xff; size]);
            }
        }
    });
}

#[test]
fn it_is_aligned_and_opened_by_its_handle() {
    isolated(|| {
        let bytes = SharedBytes::new(100).unwrap();
        assert_eq!(bytes.as_ptr().addr() % 64, 0);
        let again = SharedBytes::open(&bytes.handle()).unwrap();
        assert_eq!(again.len(), 100);
        again.write_at(99, &[5]);
        let mut seen = [0];
        bytes.read_at(99, &mut seen);
        assert_eq!(seen, [5]);
    });
}

#[test]
fn nothing_is_left_when_all_have_let_go_in_whatever_order() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let bytes = SharedBytes::new(100).unwrap();
        let handle = bytes.handle();
        let child = Child::fork(|| {
            let mine = SharedBytes::open(&handle).unwrap();
            mine.write_at(0, &[1]);
        });
        drop(bytes);
        child.succeed();
        before.assert_unchanged();
    });
}

#[test]
fn more_than_there_is_is_refused_before_anything_is_taken() {
    isolated(|| {
        process::ensure().unwrap();
        let before = Footprint::take();
        let refused = SharedBytes::new(1 << 45);
        assert!(
            matches!(refused, Err(Error::OutOfMemory { .. })),
            "{refused:?}"
        );
        before.assert_unchanged();
    });
}

#[test]
fn no_bytes_at_all_are_a_value_too() {
    isolated(|| {
        let bytes = SharedBytes::new(0).unwrap();
        assert_eq!(bytes.len(), 0);
        bytes.write_at(0, &[]);
    });
}
