//! Closures that run in a copy of this process.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procession::{
    Array, Condvar, Error, Event, ForkSafe, JoinError, Lock, Mutex, Process, Queue, RLock, RwLock,
    Semaphore, Stdio, Value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

procession::test_support!();

fn fork<R: Serialize + DeserializeOwned>(closure: impl FnOnce() -> R) -> Process<R> {
    // SAFETY: the closures of these tests allocate, use objects of this crate, and print; libtest's threads
    // hold no lock of these.
    Process::fork(unsafe { ForkSafe::new(closure) }).unwrap()
}

#[test]
fn a_closure_may_capture_what_no_serialiser_knows() {
    let shared = Rc::new(Cell::new(5));
    let words = HashMap::from([("one", 1), ("two", 2)]);
    let call: Box<dyn Fn(i32) -> i32> = Box::new(|n| n * 10);
    let copy = Rc::clone(&shared);
    let process = fork(move || {
        copy.set(copy.get() + words["two"]);
        (call(copy.get()), std::process::id())
    });
    let id = process.id();
    assert_eq!(process.join().unwrap(), (70, id));
    assert_eq!(shared.get(), 5, "the child had a copy");
}

#[test]
fn a_closure_may_borrow() {
    let text = String::from("borrowed");
    let process = fork(|| text.len());
    assert_eq!(process.join().unwrap(), text.len());
}

#[test]
fn a_panic_comes_back_with_its_message_and_place() {
    let process = Process::builder().stderr(Stdio::Null);
    let closure = || -> u8 { panic!("out of cheese") };
    // SAFETY: it only panics.
    let process = process.fork(unsafe { ForkSafe::new(closure) }).unwrap();
    let Err(JoinError::Panicked(panic)) = process.join() else {
        panic!("the panic was lost");
    };
    assert_eq!(panic.message, "out of cheese");
    assert!(panic.location.unwrap().contains("fork.rs"));
}

#[test]
fn a_signal_an_exit_and_an_end_are_told_apart() {
    let error = fork(|| std::process::abort()).join_unit();
    assert_eq!((error.signal(), error.code()), (Some(6), None));
    assert!(error.to_string().contains("stack overflow"), "{error}");
    let error = fork(|| std::process::exit(3)).join_unit();
    assert_eq!((error.signal(), error.code()), (None, Some(3)));
    assert!(!error.core_dumped());
    let mut process = fork(|| ());
    assert!(process.wait().unwrap().success());
    assert!(process.try_wait().unwrap().unwrap().success());
    process.join().unwrap();
}

#[test]
fn a_stack_overflow_comes_back_as_a_signal() {
    #[expect(unconditional_recursion, reason = "it is to overflow")]
    fn dig(depth: u64) -> u64 {
        std::hint::black_box([depth; 1000]);
        dig(depth + 1) + 1
    }
    let process = Process::builder().stderr(Stdio::Null);
    // SAFETY: it uses only its stack.
    let process = process.fork(unsafe { ForkSafe::new(|| dig(0)) }).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error.signal(), Some(6 | 11)), "{error}");
}

/// A process that never ends by itself.
trait JoinUnit {
    fn join_unit(self) -> JoinError;
}

impl JoinUnit for Process<()> {
    fn join_unit(self) -> JoinError {
        self.join().unwrap_err()
    }
}

#[test]
fn a_result_that_cannot_be_sent_is_an_error() {
    match fork(|| Event::new().unwrap()).join() {
        Err(JoinError::Undelivered { reason, .. }) => assert!(reason.contains("Event"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

struct CountsDrops(Value<u32>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.update(|n| n + 1).unwrap();
    }
}

#[test]
fn the_child_drops_only_what_the_closure_captured() {
    let (kept, captured) = (Value::new(0).unwrap(), Value::new(0).unwrap());
    let here = CountsDrops(kept.clone());
    let there = CountsDrops(captured.clone());
    fork(move || drop(there)).join().unwrap();
    assert_eq!(captured.get().unwrap(), 2, "once in each process");
    assert_eq!(kept.get().unwrap(), 0);
    let panicking = CountsDrops(captured.clone());
    let process = Process::builder().stderr(Stdio::Null);
    let closure = move || -> () {
        let _there = panicking;
        panic!("on the way out");
    };
    // SAFETY: as in `fork`.
    let process = process.fork(unsafe { ForkSafe::new(closure) }).unwrap();
    process.join().unwrap_err();
    assert_eq!(captured.get().unwrap(), 4);
    drop(here);
    assert_eq!(kept.get().unwrap(), 1);
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Returns whether it was reaped when another process was started.
fn fork_and_panic() -> bool {
    let ids = Queue::new().unwrap();
    let captured = PanicsOnDrop;
    let closure = || {
        std::mem::forget(captured);
        ids.put(std::process::id()).unwrap();
    };
    assert!(panics(|| drop(fork(closure))));
    let process = format!("/proc/{}", ids.get().unwrap());
    let stat = format!("{process}/stat");
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
    fork(|| ()).join().unwrap();
    !std::path::Path::new(&process).exists()
}

#[test]
fn a_process_is_reaped_though_its_closure_panics_in_the_parent() {
    // Other tests fork, and their children must not find this thread in the middle of a panic.
    let builder = Process::builder().stderr(Stdio::Null);
    assert!(builder.spawn(fork_and_panic, ()).unwrap().join().unwrap());
}

static EXITED: OnceLock<Event> = OnceLock::new();

extern "C" fn note_exit() {
    EXITED.get().unwrap().set();
}

#[test]
fn exit_handlers_of_the_parent_are_not_run_in_the_child() {
    unsafe extern "C" {
        fn atexit(handler: extern "C" fn()) -> i32;
    }
    let exited = EXITED.get_or_init(|| Event::new().unwrap());
    // SAFETY: the handler stays, and does not unwind.
    assert_eq!(unsafe { atexit(note_exit) }, 0);
    fork(|| ()).join().unwrap();
    assert!(!exited.is_set());
    // The parent would have noticed.
    assert_eq!(fork(|| std::process::exit(0)).join_unit().code(), Some(0));
    assert!(exited.is_set());
}

#[test]
fn guards_of_the_parent_do_nothing_in_the_child() {
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    let semaphore = Semaphore::new(1).unwrap();
    let (value, array) = (Value::new(1).unwrap(), Array::new([1, 2]).unwrap());
    let (mutex, read, written) = (
        Mutex::new(1).unwrap(),
        RwLock::new(1).unwrap(),
        RwLock::new(1).unwrap(),
    );
    let mut locks = Some((lock.lock().unwrap(), rlock.lock().unwrap()));
    let mut permit = Some(semaphore.acquire());
    let mut plain = Some((value.lock().unwrap(), array.lock().unwrap()));
    let mut values = Some((
        mutex.lock().unwrap(),
        read.read().unwrap(),
        written.write().unwrap(),
    ));

    let process = fork(|| {
        let (mut of_mutex, reader, mut writer) = values.take().unwrap();
        (*of_mutex, *writer) = (2, 2);
        drop((of_mutex, reader, writer));
        drop((locks.take(), permit.take(), plain.take()));
        let free = [
            lock.try_lock().is_ok(),
            rlock.try_lock().is_ok(),
            semaphore.try_acquire().is_some(),
            value.lock_timeout(Duration::ZERO).is_ok(),
            array.lock_timeout(Duration::ZERO).is_ok(),
            mutex.try_lock().is_ok(),
            read.try_write().is_ok(),
            written.try_read().is_ok(),
        ];
        free.to_vec()
    });
    assert_eq!(process.join().unwrap(), [false; 8]);
    assert!(lock.is_held() && mutex.is_held());
    assert_eq!((rlock.count(), semaphore.available()), (1, 0));

    drop((values, locks, permit, plain));
    assert_eq!((*mutex.lock().unwrap(), *written.read().unwrap()), (1, 1));
    assert!(lock.try_lock().is_ok() && read.try_write().is_ok());
    assert_eq!((rlock.count(), semaphore.available()), (0, 1));
    let process = fork(|| {
        let _turns = (lock.try_lock().unwrap(), rlock.try_lock().unwrap());
        value.set(7).unwrap();
        array.set(0, 7).unwrap();
        *mutex.lock().unwrap() = 7;
    });
    process.join().unwrap();
    assert_eq!((value.get().unwrap(), *mutex.lock().unwrap()), (7, 7));
}

#[test]
fn a_guard_of_the_parent_does_not_give_back_what_the_child_locked() {
    let (lock, rlock, mutex) = (
        Lock::new().unwrap(),
        RLock::new().unwrap(),
        Mutex::new(1).unwrap(),
    );
    let (read, written) = (RwLock::new(1).unwrap(), RwLock::new(1).unwrap());
    let given_back = Event::new().unwrap();
    let mut guards = Some((
        (lock.lock().unwrap(), rlock.lock().unwrap()),
        mutex.lock().unwrap(),
        (read.read().unwrap(), written.write().unwrap()),
    ));
    let process = fork(|| {
        let parents = guards.take();
        given_back.wait();
        let _locked = (lock.lock().unwrap(), rlock.lock().unwrap());
        let (_mutex, _written) = (mutex.lock().unwrap(), written.write().unwrap());
        // As many as possible, so that one reuses the parent's entry.
        let _read: Vec<_> = (0..16).map(|_| read.read().unwrap()).collect();
        drop(parents);
        let held = [
            lock.is_held(),
            rlock.count() == 1,
            mutex.is_held(),
            read.try_read().is_err(),
            written.try_read().is_err(),
        ];
        held.to_vec()
    });
    drop(guards);
    given_back.set();
    assert_eq!(process.join().unwrap(), [true; 5]);
}

#[test]
fn a_guard_of_the_parent_does_not_write_over_what_the_child_wrote() {
    let (mutex, rwlock) = (Mutex::new(0).unwrap(), RwLock::new(0).unwrap());
    let mut guards = Some((mutex.lock().unwrap(), rwlock.write().unwrap()));
    if let Some((of_mutex, writer)) = &mut guards {
        (**of_mutex, **writer) = (1, 1);
    }
    let process = fork(|| {
        let (of_mutex, writer) = guards.take().unwrap();
        // Both wait for the parent.
        (*mutex.lock().unwrap(), *rwlock.write().unwrap()) = (2, 2);
        let _held = (mutex.lock().unwrap(), rwlock.write().unwrap());
        drop(writer);
        of_mutex.commit().unwrap_err().to_string()
    });
    drop(guards);
    let error = process.join().unwrap();
    assert!(error.contains("parent's"), "{error}");
    assert_eq!((*mutex.lock().unwrap(), *rwlock.read().unwrap()), (2, 2));
}

#[test]
fn a_guard_of_the_parent_is_of_no_use_in_the_child() {
    let (value, array) = (Value::new(1).unwrap(), Array::new([1, 2]).unwrap());
    let (lock, changed) = (Lock::new().unwrap(), Condvar::new().unwrap());
    let (mut of_value, mut of_array) = (value.lock().unwrap(), array.lock().unwrap());
    let mut of_lock = Some(lock.lock().unwrap());
    let closure = || {
        let refused = [
            panics(|| of_value.set(9)),
            panics(|| assert_eq!(of_value.get(), 1)),
            panics(|| of_array.fill(9)),
            panics(|| of_array.set(0, 9)),
            panics(|| assert_eq!(of_array.to_vec(), [1, 2])),
            changed.wait(of_lock.take().unwrap()).is_err(),
        ];
        refused.to_vec()
    };
    let builder = Process::builder().stderr(Stdio::Null);
    // SAFETY: as in `fork`.
    let process = builder.fork(unsafe { ForkSafe::new(closure) }).unwrap();
    assert_eq!(process.join().unwrap(), [true; 6]);
    assert_eq!((of_value.get(), of_array.to_vec()), (1, vec![1, 2]));
    drop((of_value, of_array, of_lock));
    let process = fork(|| {
        value.lock().unwrap().set(9);
        array.lock().unwrap().fill(9);
    });
    process.join().unwrap();
    assert_eq!(
        (value.get().unwrap(), array.to_vec().unwrap()),
        (9, vec![9, 9])
    );
}

fn panics(work: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
}

#[test]
fn a_lock_that_the_child_dies_with_is_reported() {
    let lock = Lock::new().unwrap();
    fork(|| {
        let _turn = lock.lock().unwrap();
        std::process::abort();
    })
    .join_unit();
    assert_eq!(lock.lock().unwrap_err(), procession::LockError::OwnerDied);
}

#[test]
fn threads_of_the_parent_are_no_danger() {
    let stop = AtomicBool::new(false);
    let (queue, lock) = (Queue::new().unwrap(), Lock::new().unwrap());
    let talker = Process::builder().stderr(Stdio::Null);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for number in 0..3_usize {
            let (stop, queue, lock) = (&stop, &queue, &lock);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let text = format!("{number}").repeat(1_000);
                    let _turn = lock.lock().unwrap();
                    queue.put(text).unwrap();
                    queue.get().unwrap();
                    eprint!("");
                    drop(Process::spawn(nothing, ()).map(Process::join));
                }
            });
        }
        for number in 0..40_u64 {
            let process = fork(|| {
                eprint!("");
                let sum = (0..number)
                    .map(|n| format!("{n}").len() as u64)
                    .sum::<u64>();
                let _turn = lock.lock().unwrap();
                queue.put("from the child".to_owned()).unwrap();
                queue.get().unwrap();
                sum
            });
            process.join().unwrap();
        }
        // A panic takes locks of std.
        let closure = || -> () { panic!("among threads") };
        // SAFETY: as in `fork`; no thread of this program takes a backtrace meanwhile.
        let process = talker.fork(unsafe { ForkSafe::new(closure) }).unwrap();
        assert!(matches!(process.join(), Err(JoinError::Panicked(_))));
    });
}

fn nothing() {}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_forked_process_may_fork_and_spawn() {
    let process = fork(|| {
        let spawned = Process::spawn(std::process::id, ()).unwrap();
        let ids = (spawned.id(), spawned.join().unwrap());
        let inner = fork(|| fork(|| 4).join().unwrap() + 1).join().unwrap();
        (ids.0 == ids.1, inner)
    });
    assert_eq!(process.join().unwrap(), (true, 5));
}

#[test]
fn the_builder_sets_streams_directory_and_name() {
    let closure = || {
        let mut line = String::new();
        std::io::stdin().read_to_string(&mut line).unwrap();
        // Not `print!`, whose output libtest would capture.
        write!(std::io::stdout(), "{}", line.to_uppercase()).unwrap();
        let directory = std::env::current_dir().unwrap().display().to_string();
        (directory, procession::process_name().to_owned())
    };
    // SAFETY: as in `fork`; no thread reads standard input.
    let closure = unsafe { ForkSafe::new(closure) };
    let mut process = Process::builder()
        .name("copy")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .fork(closure)
        .unwrap();
    assert_eq!(process.name(), "copy");
    process.stdin.as_mut().unwrap().write_all(b"loud").unwrap();
    // The child has no copy of this end, so it sees the end of the stream.
    process.stdin = None;
    let mut said = String::new();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    assert_eq!(said, "LOUD");
    assert_eq!(process.join().unwrap(), ("/".to_owned(), "copy".to_owned()));
    assert_eq!(procession::process_name(), "MainProcess");
}

fn print_around_a_fork() {
    print!("one ");
    fork(|| print!("two ")).join().unwrap();
    print!("three");
}

#[test]
fn what_was_printed_before_comes_once() {
    let builder = Process::builder().stdout(Stdio::piped());
    let mut process = builder.spawn(print_around_a_fork, ()).unwrap();
    let mut said = String::new();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    process.join().unwrap();
    assert_eq!(said, "one two three");
}

#[test]
fn what_a_forked_process_cannot_have_is_refused() {
    for builder in [
        Process::builder().env("KEY", "value"),
        Process::builder().env_clear(),
        Process::builder().args(["one"]),
    ] {
        // SAFETY: it does nothing.
        let error = builder.fork(unsafe { ForkSafe::new(|| ()) }).unwrap_err();
        assert!(error.to_string().contains("environment"), "{error}");
    }
    let builder = Process::builder().current_dir("/proc/self/no such place");
    // SAFETY: it does nothing.
    match builder.fork(unsafe { ForkSafe::new(|| ()) }) {
        Err(Error::Engine(error)) => assert!(error.to_string().contains("directory"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_child_of_the_parent_is_no_child_of_the_child() {
    let leave = Event::new().unwrap();
    let waits = fork(|| leave.wait());
    let mut killed_on_drop = Some({
        let builder = Process::builder().kill_on_drop(true);
        // SAFETY: as in `fork`.
        builder
            .fork(unsafe { ForkSafe::new(|| leave.wait()) })
            .unwrap()
    });
    let mut waits = Some(waits);
    let process = fork(|| {
        drop(killed_on_drop.take());
        matches!(waits.take().unwrap().join(), Err(JoinError::NotOurs { .. }))
    });
    assert!(process.join().unwrap());
    assert!(killed_on_drop.as_ref().unwrap().is_alive());
    leave.set();
    killed_on_drop.unwrap().join().unwrap();
    waits.unwrap().join().unwrap();
}

#[test]
fn a_killed_process_on_drop_is_gone_at_once() {
    let forever = Event::new().unwrap();
    let builder = Process::builder().kill_on_drop(true);
    // SAFETY: as in `fork`.
    let process = builder
        .fork(unsafe { ForkSafe::new(|| forever.wait()) })
        .unwrap();
    let id = process.id();
    assert!(process.is_alive());
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_daemon_dies_with_the_process_that_forked_it() {
    let (ids, forever) = (Queue::new().unwrap(), Event::new().unwrap());
    let parent = fork(|| {
        let builder = Process::builder().daemon(true);
        // SAFETY: as in `fork`.
        let daemon = builder
            .fork(unsafe { ForkSafe::new(|| forever.wait()) })
            .unwrap();
        ids.put(daemon.id()).unwrap();
        std::process::abort();
    });
    parent.join_unit();
    let id = ids.get().unwrap();
    // Init adopts it, and it stays a zombie until init reaps it.
    let stat = format!("/proc/{id}/stat");
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}
