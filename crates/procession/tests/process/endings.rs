//! Processes that are never joined, that cannot start, and that end their whole program.

use std::path::Path;
use std::process::Command;

use procession::{Event, JoinError, Process, Queue, Stdio};
use procession_engine::Deadline;
use procession_engine::channel;
use procession_engine::process::Reservation;
use procession_engine::process::child::{Executable, Exit, Launch, Offer, Program, fingerprint};

procession::test_support!();

fn nothing() {}

fn put_when_told(told: Event, queue: Queue<u32>) {
    told.wait();
    queue.put(1).unwrap();
}

/// Returns `Z` for a zombie and `None` for a process that is gone.
fn state_of(id: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

fn wait_for_end(id: u32) {
    while !matches!(state_of(id), None | Some('Z')) {
        std::thread::yield_now();
    }
}

#[test]
fn a_dropped_process_goes_on_and_is_reaped_when_the_next_one_is_started() {
    let (told, queue) = (Event::new().unwrap(), Queue::new().unwrap());
    let process = Process::spawn(put_when_told, (told.clone(), queue.clone())).unwrap();
    let id = process.id();
    drop(process);
    told.set();
    assert_eq!(queue.get().unwrap(), 1);
    wait_for_end(id);
    // The first thread may be a zombie before the last one has ended. Then a later start reaps it.
    for _ in 0..100 {
        Process::spawn(nothing, ()).unwrap().join().unwrap();
        if state_of(id).is_none() {
            return;
        }
    }
    panic!("the process was never reaped");
}

#[test]
fn a_forgotten_process_goes_on_and_is_never_reaped_nor_killed() {
    let (told, queue) = (Event::new().unwrap(), Queue::new().unwrap());
    let builder = Process::builder().kill_on_drop(true);
    let process = builder
        .spawn(put_when_told, (told.clone(), queue.clone()))
        .unwrap();
    let id = process.id();
    std::mem::forget(process);
    told.set();
    assert_eq!(queue.get().unwrap(), 1);
    wait_for_end(id);
    Process::spawn(nothing, ()).unwrap().join().unwrap();
    assert_eq!(state_of(id), Some('Z'));
}

#[test]
fn a_stack_overflow_is_named_as_what_may_have_happened() {
    #[expect(unconditional_recursion, reason = "it is to overflow")]
    fn dig(depth: u64) -> u64 {
        std::hint::black_box([depth; 1000]);
        dig(depth + 1) + 1
    }
    let builder = Process::builder().stderr(Stdio::Null);
    let error = builder.spawn(dig, 0).unwrap().join().unwrap_err();
    assert!(matches!(error.signal(), Some(6 | 11)), "{error}");
    assert!(error.to_string().contains("stack overflow"), "{error}");
}

/// Starts a child with this message as its request. Returns its response and how it ends.
fn response_to(request: &[u8]) -> (Vec<u8>, Exit) {
    procession_engine::process::ensure().unwrap();
    let control = channel::Queue::new(0).unwrap();
    let reserved = Reservation::reserve().unwrap();
    reserved.hold(&control.handle()).unwrap();
    control.put(&[request], Deadline::NEVER).unwrap();
    let flags = ["procession_child_entry", "--exact", "--nocapture"];
    let tag = control.handle().to_bytes();
    let tag = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let program = Program {
        executable: Executable::Own,
        args: ["endings"].iter().chain(&flags).map(Into::into).collect(),
        env: std::env::vars_os().collect(),
    };
    let mut offer = Offer::new(reserved.id(), tag).unwrap();
    let mut launch = Launch::default();
    offer.silence(&mut launch.stdio).unwrap();
    let mut child = launch.start(program, &offer, reserved).unwrap();
    let exit = child.wait(Deadline::NEVER).unwrap().unwrap();
    let response = control.get(Deadline::NOW).unwrap();
    (response.bytes().to_vec(), exit)
}

/// A request of another build of the program, or for another function table.
fn request_of(fingerprint: u64, entry: u32) -> Vec<u8> {
    const REQUEST: u8 = 0;
    let mut request = vec![REQUEST];
    request.extend(fingerprint.to_le_bytes());
    request.extend(0_u32.to_le_bytes());
    request.extend(entry.to_le_bytes());
    request.extend(1_u32.to_le_bytes());
    request
}

#[test]
fn an_order_of_another_build_is_refused_and_runs_nothing() {
    const REFUSED: u8 = 3;
    let cut_short = &request_of(fingerprint(), 0)[..7];
    for (request, reason) in [
        (&request_of(!fingerprint(), 0)[..], "not the same build"),
        (&request_of(fingerprint(), u32::MAX), "no such function"),
        (cut_short, "cut short"),
    ] {
        let (response, exit) = response_to(request);
        let text = String::from_utf8_lossy(&response[1..]).into_owned();
        assert_eq!((response[0], exit), (REFUSED, Exit::Code(1)));
        assert!(text.contains(reason), "{text}");
    }
}

const ABORTING: &str = r#"
use procession::{ForkSafe, JoinError, Pool, Process, Stdio};

fn fail(word: String) -> u32 {
    panic!("out of {word}")
}

fn told(outcome: Result<u32, JoinError>) -> String {
    match outcome {
        Err(JoinError::Panicked(panic)) => format!("{} at {}", panic.message, panic.location.unwrap()),
        other => format!("{other:?}"),
    }
}

fn fork_and_fail() -> u32 {
    let closure = || -> u32 { panic!("out of forks") };
    // SAFETY: this program has no other threads.
    let forked = Process::builder().stderr(Stdio::Null).fork(unsafe { ForkSafe::new(closure) });
    println!("{}", told(forked.unwrap().join()));
    7
}

fn main() -> procession::Result<()> {
    procession::init();
    let quiet = || Process::builder().stderr(Stdio::Null);
    println!("{}", told(quiet().spawn(fail, "cheese".to_owned())?.join()));
    println!("{}", told(quiet().spawn(fork_and_fail, ())?.join()));
    let pool = Pool::new(1)?;
    println!("{}", pool.apply(fail, "work".to_owned()).unwrap_err());
    Ok(())
}
"#;

#[test]
#[ignore = "builds the crates anew, with panics that abort"]
fn a_panic_that_aborts_comes_back_with_its_message() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aborting");
    std::fs::create_dir_all(place.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"aborting\"\nedition = \"2024\"\n\
         [dependencies]\nprocession.path = {own:?}\n\
         [profile.dev]\npanic = \"abort\"\n[workspace]\n"
    );
    std::fs::write(place.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(place.join("src/main.rs"), ABORTING).unwrap();
    std::fs::copy(own.join("../../Cargo.lock"), place.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--target-dir", "target"])
        .current_dir(&place)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}{complained}");
    assert!(
        lines[0].starts_with("out of cheese at src/main.rs"),
        "{said}"
    );
    assert!(
        lines[1].starts_with("out of forks at src/main.rs"),
        "{said}"
    );
    assert_eq!(lines[2], "Ok(7)");
    assert!(lines[3].contains("out of work"), "{said}");
}

#[test]
fn an_error_without_an_exit_has_no_code() {
    let error = JoinError::Vanished { pid: 1 };
    assert_eq!((error.code(), error.signal()), (None, None));
    assert!(!error.core_dumped());
}
