//! Functions that run in processes of their own.

use std::io::{Read, Write};
use std::time::Duration;

use procession::{Error, Event, JoinError, Process, PutError, Queue};

procession::test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn nothing() {}

fn join_words(first: String, second: String, third: Option<String>) -> String {
    [Some(first), Some(second), third]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_function_returns_its_result_to_the_parent() {
    assert_eq!(Process::spawn(square, 12).unwrap().join().unwrap(), 144);
}

#[test]
fn a_function_may_take_no_arguments() {
    Process::spawn(nothing, ()).unwrap().join().unwrap();
}

#[test]
fn a_function_may_take_several_arguments() {
    let args = ("one".to_owned(), "two".to_owned(), Some("three".to_owned()));
    let process = Process::spawn(join_words, args).unwrap();
    assert_eq!(process.join().unwrap(), "one two three");
}

fn own_id() -> u32 {
    std::process::id()
}

#[test]
fn it_runs_in_another_process() {
    let process = Process::spawn(own_id, ()).unwrap();
    let id = process.id();
    assert_ne!(id, std::process::id());
    assert_eq!(process.join().unwrap(), id);
}

fn half(n: u32) -> Result<u32, String> {
    if n.is_multiple_of(2) {
        Ok(n / 2)
    } else {
        Err(format!("{n} is odd"))
    }
}

#[test]
fn a_function_may_return_an_error_of_its_own() {
    assert_eq!(Process::spawn(half, 8).unwrap().join().unwrap(), Ok(4));
    assert_eq!(
        Process::spawn(half, 7).unwrap().join().unwrap(),
        Err("7 is odd".to_owned())
    );
}

fn panic_with(message: String) {
    panic!("{message}");
}

#[test]
fn a_panic_comes_back_with_message_place_and_backtrace() {
    let process = Process::builder()
        .env("RUST_BACKTRACE", "1")
        .stderr(procession::Stdio::Null)
        .spawn(panic_with, "out of cheese".to_owned())
        .unwrap();
    let Err(JoinError::Panicked(panic)) = process.join() else {
        panic!("the panic was lost");
    };
    assert_eq!(panic.message, "out of cheese");
    assert!(panic.location.as_ref().unwrap().contains("process.rs"));
    assert!(panic.backtrace.as_ref().unwrap().contains("panic_with"));
    assert!(format!("{panic:#}").contains("panic_with"));
}

fn abort() {
    std::process::abort();
}

#[test]
fn a_signal_comes_back_as_that_signal() {
    match Process::spawn(abort, ()).unwrap().join() {
        Err(JoinError::Killed { signal: 6, .. }) => {}
        other => panic!("{other:?}"),
    }
}

fn exit_with(code: i32) -> u8 {
    std::process::exit(code)
}

#[test]
fn an_exit_comes_back_as_its_code() {
    for code in [0, 3] {
        match Process::spawn(exit_with, code).unwrap().join() {
            Err(JoinError::Exited { code: found, .. }) => assert_eq!(found, code),
            other => panic!("{other:?}"),
        }
    }
}

fn wait_for(event: Event) {
    event.wait();
}

#[test]
fn a_running_process_can_be_polled_and_killed() {
    let event = Event::new().unwrap();
    let mut process = Process::spawn(wait_for, event).unwrap();
    assert!(process.is_alive());
    assert!(process.try_join().unwrap().is_none());
    assert!(
        process
            .join_timeout(Duration::from_millis(1))
            .unwrap()
            .is_none()
    );
    assert!(process.kill().unwrap());
    match process.join_timeout(Duration::from_secs(60)) {
        Err(JoinError::Killed { signal: 9, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!process.is_alive());
    assert!(!process.kill().unwrap());
}

#[test]
fn a_process_can_be_terminated() {
    let process = Process::spawn(wait_for, Event::new().unwrap()).unwrap();
    process.terminate().unwrap();
    match process.join() {
        Err(JoinError::Killed { signal: 15, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_is_handed_out_once() {
    let mut process = Process::spawn(square, 3).unwrap();
    assert_eq!(
        process.join_timeout(Duration::from_secs(60)).unwrap(),
        Some(9)
    );
    assert!(matches!(process.try_join(), Err(JoinError::Taken)));
}

#[test]
fn the_sentinel_becomes_readable_when_the_process_ends() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let event = Event::new().unwrap();
    let process = Process::spawn(wait_for, event.clone()).unwrap();
    let mut watched = [PollFd::new(&process, PollFlags::IN)];
    let at_once = Timespec::default();
    assert_eq!(poll(&mut watched, Some(&at_once)).unwrap(), 0);
    event.set();
    assert_eq!(poll(&mut watched, None).unwrap(), 1);
    process.join().unwrap();
}

#[test]
fn a_stack_overflow_comes_back_as_a_signal() {
    #[expect(unconditional_recursion, reason = "it is to overflow")]
    fn dig(depth: u64) -> u64 {
        std::hint::black_box([depth; 1000]);
        dig(depth + 1) + 1
    }
    let process = Process::builder()
        .stderr(procession::Stdio::Null)
        .spawn(dig, 0)
        .unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Killed { .. }), "{error}");
}

#[test]
fn a_closure_is_refused_with_an_explanation() {
    let error = Process::spawn(|n: u64| n, 1).unwrap_err();
    assert!(matches!(error, Error::NotPlain(_)));
    assert!(error.to_string().contains("closure"));
}

fn describe_surroundings() -> (String, String, Option<String>) {
    let directory = std::env::current_dir().unwrap().display().to_string();
    let secret = std::env::var("PROCESSION_TEST_SECRET").ok();
    (
        directory,
        std::env::var("PROCESSION_TEST_GREETING").unwrap(),
        secret,
    )
}

#[test]
fn the_builder_sets_directory_and_environment() {
    let process = Process::builder()
        .current_dir("/")
        .env("PROCESSION_TEST_GREETING", "hello")
        .env("PROCESSION_TEST_SECRET", "x")
        .env_remove("PROCESSION_TEST_SECRET")
        .spawn(describe_surroundings, ())
        .unwrap();
    assert_eq!(
        process.join().unwrap(),
        ("/".to_owned(), "hello".to_owned(), None)
    );
}

fn shout() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("{}", line.to_uppercase().trim_end());
    eprintln!("done");
}

#[test]
fn the_builder_redirects_the_standard_streams() {
    let (stdin, mut to_child) = std::io::pipe().unwrap();
    let (mut from_child, stdout) = std::io::pipe().unwrap();
    let (mut errors, stderr) = std::io::pipe().unwrap();
    let process = Process::builder()
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn(shout, ())
        .unwrap();
    to_child.write_all(b"hello\n").unwrap();
    drop(to_child);
    process.join().unwrap();
    let (mut said, mut complained) = (String::new(), String::new());
    from_child.read_to_string(&mut said).unwrap();
    errors.read_to_string(&mut complained).unwrap();
    assert_eq!(said, "HELLO\n");
    assert_eq!(complained, "done\n");
}

fn own_name() -> String {
    procession::process_name().to_owned()
}

#[test]
fn a_process_knows_its_name() {
    let process = Process::builder()
        .name("scout")
        .spawn(own_name, ())
        .unwrap();
    assert_eq!(process.name(), "scout");
    assert_eq!(process.join().unwrap(), "scout");
    assert_eq!(procession::process_name(), "MainProcess");
}

fn nested(depth: u32) -> u32 {
    match depth {
        0 => 0,
        depth => 1 + Process::spawn(nested, depth - 1).unwrap().join().unwrap(),
    }
}

#[test]
fn a_process_may_start_processes() {
    assert_eq!(Process::spawn(nested, 3).unwrap().join().unwrap(), 3);
}

#[test]
fn a_large_result_does_not_block_the_process() {
    fn zeroes(count: usize) -> Vec<u64> {
        vec![0; count]
    }
    let process = Process::spawn(zeroes, 1_000_000).unwrap();
    assert_eq!(process.join().unwrap().len(), 1_000_000);
}

#[test]
fn a_killed_process_on_drop_is_gone_at_once() {
    let process = Process::builder()
        .kill_on_drop(true)
        .spawn(wait_for, Event::new().unwrap())
        .unwrap();
    let id = process.id();
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

fn start_daemon(ids: Queue<u32>, forever: Event) {
    let daemon = Process::builder()
        .daemon(true)
        .spawn(wait_for, forever)
        .unwrap();
    ids.put(daemon.id()).unwrap();
    std::process::abort();
}

#[test]
fn a_daemon_dies_with_the_process_that_started_it() {
    let (ids, forever) = (Queue::new().unwrap(), Event::new().unwrap());
    let parent = Process::spawn(start_daemon, (ids.clone(), forever)).unwrap();
    parent.join().unwrap_err();
    let id = ids.get().unwrap();
    // Init adopts it, and it stays a zombie until init reaps it.
    let stat = format!("/proc/{id}/stat");
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}

fn give_back(event: Event) -> Event {
    event
}

#[test]
fn a_shared_object_is_no_result() {
    match Process::spawn(give_back, Event::new().unwrap())
        .unwrap()
        .join()
    {
        Err(JoinError::Undelivered { reason, .. }) => assert!(reason.contains("Event")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_of_a_pipe_is_no_message() {
    let queue = Queue::new().unwrap();
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let error = queue.put(sender).unwrap_err();
    let sender = match error {
        PutError::Failed(sender, error) => {
            assert!(matches!(*error, Error::NotSpawning("Connection")));
            sender
        }
        other => panic!("{other:?}"),
    };
    sender.send(1).unwrap();
    assert_eq!(receiver.recv().unwrap(), 1);
}
