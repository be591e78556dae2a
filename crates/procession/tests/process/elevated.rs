//! Programs with privileges that their starter may lack: no other user can make them run a function. Only root
//! can create such files.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use procession::Process;
use procession_engine::Deadline;
use procession_engine::channel;
use procession_engine::process::Reservation;
use procession_engine::process::child::{Executable, Exit, Launch, Offer, Program, Setup};
use rustix::fs::{XattrFlags, setxattr};

procession::test_support!();

const NOBODY: u32 = 65_534;
const REFUSED: &str = "this program has rights that its starter may lack";

/// `CAP_NET_BIND_SERVICE`, permitted and effective: `struct vfs_cap_data` of version 2.
const CAPABILITY: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];

/// A folder that every user can search, unlike root's own folders.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("procession-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Folder(path)
    }

    /// A copy of this program with privileges that other users lack.
    fn program(&self, kind: &str) -> PathBuf {
        let copy = self.0.join(kind);
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mode = |mode| fs::set_permissions(&copy, Permissions::from_mode(mode)).unwrap();
        match kind {
            "setuid" => mode(0o4755),
            "setgid" => mode(0o2755),
            "capable" => {
                mode(0o755);
                let bytes: Vec<u8> = CAPABILITY.iter().flat_map(|w| w.to_le_bytes()).collect();
                setxattr(&copy, "security.capability", &bytes, XattrFlags::empty()).unwrap();
            }
            _ => mode(0o755),
        }
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts the program as an unprivileged user. Returns how it ends, what it prints, and whether it received its
/// request.
fn started(program: &Path) -> (Exit, String, bool) {
    procession_engine::process::ensure().unwrap();
    let control = channel::Queue::new(0).unwrap();
    let reserved = Reservation::reserve().unwrap();
    reserved.hold(&control.handle()).unwrap();
    control.put(&[b"a request"], Deadline::NEVER).unwrap();
    let (mut said, errors) = std::io::pipe().unwrap();
    let flags = [
        "elevated",
        "procession_child_entry",
        "--exact",
        "--nocapture",
    ];
    // Discard the output of its test harness.
    let unread = fs::OpenOptions::new().write(true).open("/dev/null");
    let tag = control.handle().to_bytes();
    let tag = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let offer = Offer::new(reserved.id(), tag).unwrap();
    let program = Program {
        executable: Executable::Other(program.to_owned()),
        args: flags.map(OsString::from).into(),
        env: std::env::vars_os().collect(),
    };
    let launch = Launch {
        setup: Setup {
            uid: Some(NOBODY),
            gid: Some(NOBODY),
            groups: Some(Vec::new()),
            ..Setup::default()
        },
        stdio: [None, Some(unread.unwrap().into()), Some(errors.into())],
        cwd: None,
    };
    let mut child = launch.start(program, &offer, reserved).unwrap();
    let exit = child.wait(Deadline::NEVER).unwrap().unwrap();
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    // A program that receives the request leaves a response there.
    let left = control.get(Deadline::NOW).unwrap();
    (exit, text, left.bytes() != b"a request")
}

#[test]
fn a_program_with_rights_beyond_its_starters_answers_no_handshake() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("started");
    for kind in ["setuid", "setgid", "capable"] {
        let (exit, said, took_request) = started(&folder.program(kind));
        assert!(said.contains(REFUSED), "{kind}: {said}");
        assert_eq!((exit, took_request), (Exit::Code(101), false), "{kind}");
    }
    let (_, said, took_request) = started(&folder.program("plain"));
    assert!(!said.contains(REFUSED) && took_request, "{said}");
}

/// Runs in the programs that the next test starts.
#[test]
fn starts_a_process_and_tells() {
    if std::env::var_os("ELEVATED").is_none() {
        return;
    }
    println!("limit: {:?}", procession::memory_usage().unwrap().limit);
    let spawned = Process::spawn(work, ());
    println!(
        "{:?}",
        spawned
            .map(|process| process.join().unwrap())
            .map_err(|e| e.to_string())
    );
    // SAFETY: the closure uses no state of other threads.
    let forked = unsafe { procession::ForkSafe::new(|| "forked".to_owned()) };
    println!("{}", Process::fork(forked).unwrap().join().unwrap());
}

fn work() -> String {
    "spawned".to_owned()
}

#[test]
fn a_program_with_rights_beyond_its_starters_says_that_it_can_only_fork() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("starter");
    for kind in ["setuid", "setgid", "capable", "plain"] {
        let told = Command::new(folder.program(kind))
            .args(["starts_a_process_and_tells", "--exact", "--nocapture"])
            .env("ELEVATED", "1")
            .env("PROCESSION_MEMORY", "64M")
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert_eq!(told.contains(REFUSED), kind != "plain", "{kind}: {told}");
        assert_eq!(told.contains("spawned"), kind == "plain", "{kind}: {told}");
        assert!(told.contains("forked"), "{kind}: {told}");
        // Environment variables are ignored as well.
        let limit = "limit: Some(67108864)";
        assert_eq!(told.contains(limit), kind == "plain", "{kind}: {told}");
    }
}
