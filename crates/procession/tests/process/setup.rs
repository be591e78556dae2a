//! Settings of a process that apply before it starts.

use std::io::{self, Read, Write};

use procession::{Error, Event, ForkSafe, JoinError, PreExec, Process, Queue, Stdio};
use procession_engine::process::memory_stats;
use rustix::process::{
    Resource, Rlimit, getegid, geteuid, getgroups, getrlimit, getsid, setrlimit, setsid,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

procession::test_support!();

/// A user and group other than this process's.
fn somebody_else() -> u32 {
    let taken = [geteuid().as_raw(), getegid().as_raw()];
    let mut others = (65_000..=65_534).rev();
    others.find(|id| !taken.contains(id)).unwrap()
}

fn hook(hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> PreExec {
    // SAFETY: the hooks of these tests only make system calls, or fail.
    unsafe { PreExec::new(hook) }
}

fn is_root() -> bool {
    geteuid().is_root()
}

/// Returns user, group and supplementary groups, after using the shared memory.
fn who_am_i(told: Queue<u32>) -> (u32, u32, Vec<u32>) {
    told.put(geteuid().as_raw()).unwrap();
    let groups = getgroups().unwrap().into_iter().map(|group| group.as_raw());
    (geteuid().as_raw(), getegid().as_raw(), groups.collect())
}

#[test]
fn a_process_may_be_another_user_if_this_one_is_root() {
    let (told, other) = (Queue::new().unwrap(), somebody_else());
    let builder = Process::builder().uid(other).gid(other).daemon(true);
    let started = builder.spawn(who_am_i, told.clone());
    if is_root() {
        let who = started.unwrap().join().unwrap();
        assert_eq!(who, (other, other, vec![]), "root's groups are given up");
        assert_eq!(told.get().unwrap(), other);
    } else {
        assert_refused(started.unwrap_err(), "group");
    }
}

#[test]
fn supplementary_groups_are_those_that_were_named_if_this_is_root() {
    let (told, other) = (Queue::new().unwrap(), somebody_else());
    let builder = Process::builder().uid(other).groups([12, 34]);
    let started = builder.spawn(who_am_i, told);
    if is_root() {
        let (user, group, mut groups) = started.unwrap().join().unwrap();
        groups.sort_unstable();
        assert_eq!((user, group), (other, getegid().as_raw()));
        assert_eq!(groups, [12, 34]);
    } else {
        assert_refused(started.unwrap_err(), "supplementary groups");
    }
}

#[test]
fn a_process_may_be_the_same_user_whoever_that_is() {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let builder = Process::builder().uid(user).gid(group);
    let process = builder.spawn(who_am_i, Queue::new().unwrap()).unwrap();
    let who = process.join().unwrap();
    assert_eq!((who.0, who.1), (user, group));
}

#[test]
fn a_forked_process_may_be_another_user_if_this_one_is_root() {
    let (told, other) = (Queue::new().unwrap(), somebody_else());
    let builder = Process::builder().uid(other).gid(other).daemon(true);
    // SAFETY: it reads ids and uses a queue.
    let started = builder.fork(unsafe { ForkSafe::new(|| who_am_i(told.clone())) });
    if is_root() {
        let who = started.unwrap().join().unwrap();
        assert_eq!(who, (other, other, vec![]));
        assert_eq!(told.get().unwrap(), other);
    } else {
        assert_refused(started.unwrap_err(), "group");
    }
}

/// Returns the error of starting a process as another user that this process may not kill, and how many process
/// entries that leaves in use.
fn start_in_vain(other: u32) -> (String, usize) {
    let all = capabilities(None).unwrap();
    let none_to_kill = CapabilitySets {
        effective: all.effective - CapabilitySet::KILL,
        permitted: all.permitted - CapabilitySet::KILL,
        ..all
    };
    set_capabilities(None, none_to_kill).unwrap();
    let before = memory_stats().processes;
    let builder = Process::builder()
        .uid(other)
        .current_dir("/proc/no such place");
    let error = builder.spawn(nothing, ()).unwrap_err();
    (error.to_string(), memory_stats().processes - before)
}

#[test]
fn a_process_that_cannot_be_killed_and_does_not_begin_is_reaped_all_the_same() {
    // Other users cannot start a process as another user.
    if is_root() {
        let process = Process::spawn(start_in_vain, somebody_else()).unwrap();
        let (error, processes) = process.join().unwrap();
        assert!(error.contains("directory"), "{error}");
        assert_eq!(processes, 0);
    }
}

/// More than the other tests of this file create in the meantime.
const IN_VAIN: usize = 50;

/// Fails to start processes, because this process may have no children. Returns the errors, and how many
/// entries and objects that leaves in use.
fn fork_in_vain() -> (Vec<String>, usize, usize) {
    let _held_by_the_child = Event::new().unwrap();
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Nproc, none).unwrap();
    let before = memory_stats();
    let errors = (0..IN_VAIN).map(|_| {
        // SAFETY: it does nothing.
        let forked = Process::fork(unsafe { ForkSafe::new(|| ()) });
        forked.unwrap_err().to_string()
    });
    let errors = errors.collect();
    let after = memory_stats();
    (
        errors,
        after.processes.saturating_sub(before.processes),
        after.objects.saturating_sub(before.objects),
    )
}

#[test]
fn a_fork_that_fails_is_an_error_and_leaves_nothing() {
    // Root has no limit on the number of processes.
    let other = somebody_else();
    let builder = match is_root() {
        true => Process::builder().uid(other).gid(other),
        false => Process::builder(),
    };
    let (errors, processes, objects) = builder.spawn(fork_in_vain, ()).unwrap().join().unwrap();
    for error in errors {
        assert!(error.contains("fork a process"), "{error}");
        assert!(error.contains("unavailable"), "{error}");
    }
    assert!(
        processes < IN_VAIN && objects < IN_VAIN,
        "{processes}, {objects}"
    );
}

#[track_caller]
fn assert_refused(error: Error, what: &str) {
    match error {
        Error::Engine(procession_engine::Error::Os { what: step, source }) => {
            assert!(step.contains(what), "{step}");
            assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
        }
        other => panic!("{other}"),
    }
}

fn limit_and_session() -> (Option<u64>, bool) {
    let own = rustix::process::getpid();
    (
        getrlimit(Resource::Core).current,
        getsid(None).unwrap() == own,
    )
}

#[test]
fn what_a_hook_sets_is_seen_by_the_process() {
    let limit = hook(|| {
        let limit = Rlimit {
            current: Some(0),
            maximum: getrlimit(Resource::Core).maximum,
        };
        Ok(setrlimit(Resource::Core, limit)?)
    });
    let session = hook(|| {
        setsid()?;
        Ok(())
    });
    let builder = Process::builder().pre_exec(limit).pre_exec(session);
    let process = builder.spawn(limit_and_session, ()).unwrap();
    assert_eq!(process.join().unwrap(), (Some(0), true));
}

#[test]
fn hooks_come_after_the_directory_and_the_streams() {
    let mut process = Process::builder()
        .current_dir("/")
        .stderr(Stdio::piped())
        .pre_exec(hook(|| {
            let (here, root) = (rustix::fs::stat(".")?, rustix::fs::stat("/")?);
            if here.st_ino == root.st_ino {
                rustix::io::write(rustix::stdio::stderr(), b"at the root")?;
            }
            Ok(())
        }))
        .spawn(nothing, ())
        .unwrap();
    let mut said = String::new();
    let mut stderr = process.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    process.join().unwrap();
    assert_eq!(said, "at the root");
}

fn nothing() {}

/// Returns the text of the error of starting a process with this hook.
fn failure_of(pre_exec: PreExec) -> String {
    let builder = Process::builder().pre_exec(pre_exec).stderr(Stdio::Null);
    builder.spawn(nothing, ()).unwrap_err().to_string()
}

#[test]
fn the_error_of_a_hook_is_that_of_the_start() {
    let error = failure_of(hook(|| Err(io::Error::from_raw_os_error(28))));
    assert!(error.contains("pre-exec hook"), "{error}");
    assert!(error.contains("No space left"), "{error}");
    let error = failure_of(hook(|| Err(io::Error::other("not today"))));
    assert!(error.contains("not today"), "{error}");
    let error = failure_of(hook(|| panic!("not ever")));
    assert!(error.contains("panicked"), "{error}");
}

#[test]
fn a_hook_that_panics_in_a_forked_process_is_the_error_of_the_start() {
    let builder = Process::builder().stderr(Stdio::Null);
    let builder = builder.pre_exec(hook(|| panic!("not ever")));
    // SAFETY: it does nothing.
    let error = builder.fork(unsafe { ForkSafe::new(|| ()) }).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_named_as_the_trouble() {
    let builder = Process::builder()
        .pre_exec(hook(|| Ok(())))
        .current_dir("/proc/self/no such place");
    let error = builder.spawn(nothing, ()).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
}

fn echo(event: Event) {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).unwrap();
    print!("{text}");
    eprint!("{}", event.is_set());
}

#[test]
fn streams_of_this_process_lead_to_piped_ones() {
    let mut process = Process::builder()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn(echo, Event::new().unwrap())
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"there and back").unwrap();
    drop(stdin);
    let (mut said, mut complained) = (String::new(), String::new());
    process
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .unwrap();
    assert_eq!((&*said, &*complained), ("there and back", "false"));
    process.join().unwrap();
}

#[test]
fn joining_ends_a_process_that_reads_to_the_end() {
    for waited in [false, true] {
        let mut process = Process::builder()
            .stdin(Stdio::piped())
            .stdout(Stdio::Null)
            .stderr(Stdio::Null)
            .spawn(echo, Event::new().unwrap())
            .unwrap();
        assert!(process.try_wait().unwrap().is_none());
        if waited {
            assert!(process.wait().unwrap().success());
        }
        process.join().unwrap();
    }
}

fn abort() {
    std::process::abort();
}

fn panic_quietly() {
    panic!("quietly");
}

#[test]
fn how_a_process_ended_is_known_without_its_result() {
    use std::os::unix::process::ExitStatusExt;

    let builder = || Process::builder().stderr(Stdio::Null);
    let mut process = builder().spawn(abort, ()).unwrap();
    assert_eq!(process.wait().unwrap().signal(), Some(6));
    assert_eq!(process.join().unwrap_err().signal(), Some(6));
    let mut process = builder().spawn(panic_quietly, ()).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(101));
    assert!(matches!(process.join(), Err(JoinError::Panicked(_))));
}
