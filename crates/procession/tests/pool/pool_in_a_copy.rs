//! A pool in a forked copy of the process that created it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use procession::{Error, ForkSafe, Pool, Process, PutError, Stdio, TaskError};
use serde::Serialize;
use serde::de::DeserializeOwned;

procession::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

/// Returns the result of the closure in a copy of this process.
fn in_a_copy<R: Serialize + DeserializeOwned>(closure: impl FnOnce() -> R) -> R {
    let builder = Process::builder().stderr(Stdio::Null);
    // SAFETY: the closures of these tests allocate and make calls that fail in a copy. Other threads hold
    // no lock of these, except the pool's, and the calls must be safe from that.
    let process = builder.fork(unsafe { ForkSafe::new(closure) }).unwrap();
    process.join().unwrap()
}

fn is_refused<T>(result: Result<T, Error>) -> bool {
    match result {
        Err(Error::Task(error)) => is_not_ours(&error),
        _ => false,
    }
}

fn is_not_ours(error: &TaskError) -> bool {
    let says_what_to_do = error.to_string().contains("make a pool in each process");
    says_what_to_do && matches!(error, TaskError::NotOurs { pid } if *pid != std::process::id())
}

fn gives_back<T>(result: Result<T, PutError<u64>>) -> bool {
    match result {
        Err(PutError::Failed(3, error)) => is_refused::<()>(Err(*error)),
        _ => false,
    }
}

/// Whether it panicked with the expected text.
fn panics<T>(work: impl FnOnce() -> T) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else {
        return false;
    };
    let said = panic.downcast_ref::<String>();
    said.is_some_and(|said| said.contains("make a pool in each process"))
}

fn works(pool: &Pool) -> bool {
    (0..50).all(|n| pool.map(square, n..n + 4).unwrap() == [n, n + 1, n + 2, n + 3].map(square))
}

#[test]
fn what_is_asked_of_it_is_refused() {
    let pool = Pool::new(2).unwrap();
    let limited = pool.with_timeout(Duration::from_secs(60)).with_retries(1);
    let refused = in_a_copy(|| {
        let scoped = pool.scope(|scope| scope.submit(square, 3).map(|task| task.join()).err());
        vec![
            is_refused(pool.map(square, 0..)),
            is_refused(pool.map_chunked(square, 0.., 2)),
            is_refused(pool.map_unordered(square, 0..)),
            is_refused(pool.imap(square, 0..)),
            is_refused(pool.imap_unordered(square, 0..)),
            is_refused(pool.apply(square, 3)),
            is_refused(pool.submit(square, 3)),
            gives_back(pool.try_submit(square, 3)),
            gives_back(pool.submit_timeout(square, 3, Duration::from_secs(60))),
            is_refused(scoped.map_or(Ok(()), Err)),
            is_refused(limited.map(square, 0..)),
            is_refused(pool.clone().map(square, 0..)),
            is_refused(pool.with_timeout(Duration::from_secs(60)).apply(square, 3)),
            is_refused(pool.resize(3)),
            panics(|| pool.workers()),
            panics(|| pool.worker_ids()),
            panics(|| pool.close()),
            format!("{pool:?}").contains("Pool"),
        ]
    });
    assert_eq!(refused, [true; 18]);
    assert!(works(&pool));
    assert_eq!(pool.workers(), 2);
}

#[test]
fn what_it_gave_out_before_is_refused_too() {
    let pool = Pool::new(2).unwrap();
    let mut tasks: Vec<_> = (0..5).map(|n| pool.submit(square, n).unwrap()).collect();
    let ordered = pool.imap(square, 0..).unwrap();
    let unordered = pool.imap_unordered(square, 0..).unwrap();
    let all = pool.map_unordered(square, 0..40).unwrap();
    let mut iterators = Some((ordered, unordered, all));
    let refused = in_a_copy(|| {
        let mut polled = pin!(tasks.pop().unwrap());
        let mut context = Context::from_waker(Waker::noop());
        let polled = polled.as_mut().poll(&mut context);
        let (mut ordered, mut unordered, all) = iterators.take().unwrap();
        let refused = [
            matches!(polled, Poll::Ready(Err(error)) if is_not_ours(&error)),
            panics(|| tasks[0].cancel()),
            tasks[0].is_ready(),
            tasks[0].try_join().is_err_and(|error| is_not_ours(&error)),
            tasks[1]
                .join_timeout(Duration::from_secs(60))
                .is_err_and(|error| is_not_ours(&error)),
            tasks.pop().unwrap().join().is_err_and(|e| is_not_ours(&e)),
            ordered.all(|result| result.is_err_and(|error| is_not_ours(&error))),
            unordered.all(|(_, result)| result.is_err_and(|error| is_not_ours(&error))),
            panics(|| ordered.cancel()),
            all.len() == 40,
            all.into_iter().filter(|(_, r)| r.is_err()).count() == 40,
        ];
        tasks.clear();
        refused.to_vec()
    });
    assert_eq!(refused, [true; 11]);
    let (ordered, unordered, all) = iterators.unwrap();
    assert!(ordered.take(200).all(|result| result.is_ok()));
    assert!(unordered.take(200).all(|(_, result)| result.is_ok()));
    assert_eq!(all.filter(|(_, result)| result.is_ok()).count(), 40);
    let squares = tasks.into_iter().map(|task| task.join().unwrap());
    assert!(squares.eq([0, 1, 4, 9, 16]));
}

#[test]
fn an_iterator_that_has_given_all_that_it_submitted_does_not_just_end() {
    let pool = Pool::new(1).unwrap();
    let mut ordered = pool.imap(square, 0..).unwrap();
    let first: Vec<u64> = ordered.by_ref().take(5).map(Result::unwrap).collect();
    assert_eq!(first, [0, 1, 4, 9, 16]);
    assert!(in_a_copy(
        || ordered.any(|result| result.is_err_and(|error| is_not_ours(&error)))
    ));
    assert_eq!(ordered.next().unwrap().unwrap(), 25);
}

#[test]
fn a_scope_that_a_copy_leaves_ends() {
    let pool = Pool::new(1).unwrap();
    let heard = in_a_copy_of_a_scope(&pool);
    assert!(heard);
    assert!(works(&pool));
}

/// Whether a task of a scope that was already open fails in the copy.
fn in_a_copy_of_a_scope(pool: &Pool) -> bool {
    pool.scope(|scope| {
        let mut task = Some(scope.submit(square, 3).unwrap());
        let heard = in_a_copy(|| {
            let task = task.take().unwrap();
            task.is_ready() && task.join().is_err_and(|error| is_not_ours(&error))
        });
        assert_eq!(task.unwrap().join().unwrap(), 9);
        heard
    })
}

#[test]
fn its_end_in_a_copy_leaves_the_pool_alone() {
    let mut pool = Some(Pool::new(2).unwrap());
    in_a_copy(|| drop(pool.take()));
    in_a_copy(|| std::mem::forget(pool.take()));
    assert!(in_a_copy(|| panics(|| pool.take().unwrap().terminate())));
    assert!(in_a_copy(|| panics(|| pool.take().unwrap().join())));
    // A panic that drops it in its own process terminates it.
    in_a_copy(|| {
        let dropped = pool.take();
        catch_unwind(AssertUnwindSafe(move || {
            let _dropped = dropped;
            panic!("on the way out");
        }))
        .is_err()
    });
    let pool = pool.unwrap();
    assert!(works(&pool));
    pool.join();
}

#[test]
fn the_parent_maps_right_while_copies_ask() {
    let pool = Pool::new(2).unwrap();
    let builder = Process::builder().stderr(Stdio::Null);
    let closure = || (0..1_000).all(|n| is_refused(pool.map(square, n..n + 4)));
    // SAFETY: as in `in_a_copy`.
    let copy = builder.fork(unsafe { ForkSafe::new(closure) }).unwrap();
    assert!(works(&pool));
    assert!(copy.join().unwrap());
}

#[test]
fn a_copy_may_make_a_pool_of_its_own() {
    let pool = Pool::new(1).unwrap();
    assert!(in_a_copy(|| works(&Pool::new(1).unwrap())));
    assert!(works(&pool));
}
