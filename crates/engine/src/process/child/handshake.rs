//! How a new program learns that it is a child, and of which process.
//!
//! A handshake is one line of text. It names the descriptors that the child finds open, and its entry:
//!
//! ```text
//! form : version of the engine : arena : device : inode : entry : lifeline : stdout : error pipe : kept : tag
//! ```
//!
//! The text stands where the program that starts has nothing of its own ([`Executable`]): a Rust program finds it in
//! one environment variable, since its arguments are the user's; an interpreter finds it in the program text among
//! its arguments, since its environment is the user's. A parent writes it as an [`Offer`]. The child answers it by
//! [`answer`], or by [`answer_variable`].
//!
//! It is valid only while the arena's descriptor is open, is *not* close-on-exec, and refers to the file with this
//! device and inode. Answering makes all the descriptors close-on-exec. So a program that this process starts in turn
//! inherits the variable without its descriptors, and a second answer finds nothing to answer. Nothing has to be
//! removed from the environment, which would not be sound once there are other threads.
//!
//! The child may be another program, built with another version of the engine. Then it does not join the tree, and
//! reports that through the error pipe.
//!
//! A program with more rights than the process that started it believes no variable: anybody may have started it. It
//! ends. If it ran as it does without a handshake, it might start itself again.
//!
//! [`Executable`]: crate::process::child::Executable

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};

use crate::error::{Error, Result};
use crate::process;
use crate::process::ProcId;
use crate::process::child::launch::duplicate;
use crate::process::parent_death;
use crate::sys::elevated::is_elevated;
use crate::sys::known_fd::FileId;

pub(crate) const VARIABLE: &str = "PROCESSION_CHILD";

const FORM: &str = "3";
const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// The parent's side of a handshake: the text, and the descriptors that the child must find under the same numbers.
#[derive(Debug)]
pub struct Offer {
    record: Record,
    descriptors: Vec<OwnedFd>,
}

impl Offer {
    /// An offer to the child that is to have this entry.
    ///
    /// The `tag` is for the layer above in the child. It contains no colon and no NUL.
    ///
    /// # Errors
    /// When there are no descriptors left, [`Error::Invalid`] for another tag.
    pub fn new(proc_id: ProcId, tag: String) -> Result<Offer> {
        if tag.contains([':', '\0']) {
            return Err(Error::Invalid(
                "the tag of a child has a colon or a NUL in it".into(),
            ));
        }
        let arena = duplicate(process::arena_fd()?)?;
        let file = FileId::of(arena.as_raw_fd());
        let record = Record {
            engine: ENGINE.to_owned(),
            arena: arena.as_raw_fd(),
            file: file.ok_or(Error::os("look at a descriptor", Errno::BADF))?,
            proc_id,
            lifeline: None,
            stdout: None,
            error_pipe: None,
            keep: Vec::new(),
            tag,
        };
        Ok(Offer {
            record,
            descriptors: vec![arena],
        })
    }

    /// Makes the child die when this process does.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn die_with_parent(&mut self) -> Result<()> {
        let lifeline = parent_death::reading_end()?;
        self.record.lifeline = Some(self.pass(lifeline));
        Ok(())
    }

    /// Sets where the child writes why its handshake failed.
    pub fn error_pipe(&mut self, error_pipe: OwnedFd) {
        self.record.error_pipe = Some(self.pass(error_pipe));
    }

    /// Adds a descriptor that the child takes by [`inherited`].
    pub fn keep(&mut self, fd: OwnedFd) {
        let number = self.pass(fd);
        self.record.keep.push(number);
    }

    /// Discards the child's standard output until it has answered. Then it goes where `stdio` says.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn silence(&mut self, stdio: &mut [Option<OwnedFd>; 3]) -> Result<()> {
        let stdout = duplicate(stdio[1].as_ref().map_or(1, OwnedFd::as_raw_fd))?;
        let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::os("open /dev/null", errno))?;
        stdio[1] = Some(null);
        self.record.stdout = Some(self.pass(stdout));
        Ok(())
    }

    fn pass(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.descriptors.push(fd);
        number
    }

    /// The descriptors that the child gets under the same numbers.
    pub fn descriptors(&self) -> &[OwnedFd] {
        &self.descriptors
    }

    /// As [`descriptors`](Offer::descriptors), for a caller that passes them on itself.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        self.descriptors
    }
}

impl fmt::Display for Offer {
    /// The text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

/// What the parent sent.
#[derive(Debug)]
pub struct Handshake {
    /// The entry that this process now has.
    pub proc_id: ProcId,
    /// The parent's tag.
    pub tag: String,
}

/// Descriptors that came with the handshake and are not taken yet.
static INHERITED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Whether the variable has a handshake for this process, which it has not answered yet. Cheap.
pub fn is_child() -> bool {
    Record::of_variable().is_some_and(|record| record.is_for_us())
}

/// Answers the handshake in the variable; `None` in a process that was started otherwise.
///
/// # Errors
/// As [`answer`], and [`Error::Elevated`] in a program that has more rights than its parent.
pub fn answer_variable() -> Result<Option<Handshake>> {
    if is_elevated() && is_child() {
        return Err(Error::Elevated);
    }
    let handshake = answer_record(Record::of_variable())?;
    if handshake.is_some() {
        set_process_name();
    }
    Ok(handshake)
}

/// Answers the handshake in a text: claims the entry that the parent reserved. `None` for a text in another form, and
/// for one whose descriptors this process does not have.
///
/// # Errors
/// [`Error::Release`] and [`Error::Version`] when the parent has another version of the engine, [`Error::SeatGone`].
/// The parent is told.
pub fn answer(text: &str) -> Result<Option<Handshake>> {
    answer_record(Record::parse(text))
}

fn answer_record(record: Option<Record>) -> Result<Option<Handshake>> {
    // One answer at a time: this lock protects the claiming of the descriptors.
    let _no_fork = crate::process_table::identity::fork_guard();
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(record) = record.filter(Record::is_for_us) else {
        return Ok(None);
    };
    let mut claimed = claim_all(&record)?;
    // A number that is something else as well is not written to.
    let error_pipe = record.error_pipe.filter(|&number| record.is_single(number));
    let error_pipe = error_pipe.and_then(|number| claimed.remove(&number));
    let accepted = accept(record, claimed, &mut inherited);
    if let (Some(error_pipe), Err(error)) = (error_pipe, &accepted) {
        // If the parent cannot be told, it still sees how this process ends.
        let _ = rustix::io::write(error_pipe, error.to_string().as_bytes());
    }
    accepted.map(Some)
}

fn accept(
    record: Record,
    mut claimed: BTreeMap<RawFd, OwnedFd>,
    inherited: &mut Vec<OwnedFd>,
) -> Result<Handshake> {
    if record.engine != ENGINE {
        return Err(Error::Release {
            found: record.engine,
            ours: ENGINE,
        });
    }
    if let Some(number) = record.numbers().find(|&number| number < FIRST_FREE) {
        return Err(Error::Invalid(format!(
            "the handshake names the standard descriptor {number}"
        )));
    }
    if !record.numbers().all(|number| record.is_single(number)) {
        return Err(Error::Invalid(
            "the handshake names a descriptor twice".into(),
        ));
    }
    let mut take = |number| {
        claimed.remove(&number).ok_or_else(|| {
            Error::Invalid(format!("descriptor {number} did not reach this process"))
        })
    };
    let arena = take(record.arena)?;
    let lifeline = record.lifeline.map(&mut take).transpose()?;
    let stdout = record.stdout.map(&mut take).transpose()?;
    for number in record.keep {
        inherited.push(take(number)?);
    }
    if let Some(stdout) = stdout {
        rustix::stdio::dup2_stdout(&stdout)
            .map_err(|errno| Error::os("restore standard output", errno))?;
    }
    process::enter(arena, record.proc_id)?;
    if let Some(lifeline) = lifeline {
        parent_death::die_with_guarded(lifeline.as_raw_fd())?;
    }
    Ok(Handshake {
        proc_id: record.proc_id,
        tag: record.tag,
    })
}

/// Sets the name shown in process lists, which is "exe" for a process started through `/proc/self/exe`.
fn set_process_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    // The kernel truncates it; a failure here is not worth an error.
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Takes a descriptor that the parent passed on under this number. It can be taken once.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    let _no_fork = crate::process_table::identity::fork_guard();
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let at = inherited.iter().position(|fd| fd.as_raw_fd() == number)?;
    Some(inherited.swap_remove(at))
}

/// Closes the descriptors that were passed on and never taken.
pub fn close_inherited() {
    let _no_fork = crate::process_table::identity::fork_guard();
    INHERITED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

/// The content of a handshake's text.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    engine: String,
    arena: RawFd,
    file: FileId,
    proc_id: ProcId,
    lifeline: Option<RawFd>,
    /// Where standard output leads, once the handshake is answered.
    stdout: Option<RawFd>,
    error_pipe: Option<RawFd>,
    keep: Vec<RawFd>,
    tag: String,
}

impl Record {
    fn of_variable() -> Option<Record> {
        Record::parse(&std::env::var(VARIABLE).ok()?)
    }

    /// `None` for a text in another form: this version of the engine ignores it.
    fn parse(text: &str) -> Option<Record> {
        let mut parts = text.split(':');
        let mut part = || parts.next();
        if part()? != FORM {
            return None;
        }
        Some(Record {
            engine: part()?.to_owned(),
            arena: part()?.parse().ok()?,
            file: FileId::new(part()?.parse().ok()?, part()?.parse().ok()?),
            proc_id: ProcId::from_u32(part()?.parse().ok()?)?,
            lifeline: optional(part()?)?,
            stdout: optional(part()?)?,
            error_pipe: optional(part()?)?,
            keep: numbers(part()?)?,
            tag: part()?.to_owned(),
        })
    }

    fn is_for_us(&self) -> bool {
        is_passed_on(self.arena) && FileId::of(self.arena) == Some(self.file)
    }

    /// Whether it is one descriptor's.
    fn is_single(&self, number: RawFd) -> bool {
        self.numbers().filter(|&other| other == number).count() == 1
    }

    fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let single = [
            Some(self.arena),
            self.lifeline,
            self.stdout,
            self.error_pipe,
        ];
        single
            .into_iter()
            .flatten()
            .chain(self.keep.iter().copied())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |fd: Option<RawFd>| fd.map(|fd| fd.to_string()).unwrap_or_default();
        let keep: Vec<String> = self.keep.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{FORM}:{}:{}:{}:{}:{}:{}:{}:{}:{}:{}",
            self.engine,
            self.arena,
            self.file.device(),
            self.file.inode(),
            self.proc_id.as_u32(),
            number(self.lifeline),
            number(self.stdout),
            number(self.error_pipe),
            keep.join(","),
            self.tag,
        )
    }
}

fn optional(number: &str) -> Option<Option<RawFd>> {
    match number {
        "" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

fn numbers(list: &str) -> Option<Vec<RawFd>> {
    let numbers = list.split(',').filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().ok()).collect()
}

/// Claims the descriptors that a handshake names and that reached this process, each once. So a handshake that is
/// refused has made all of them close-on-exec, too. The standard ones stay the program's.
fn claim_all(record: &Record) -> Result<BTreeMap<RawFd, OwnedFd>> {
    let mut claimed = BTreeMap::new();
    for number in record.numbers() {
        if number >= FIRST_FREE && !claimed.contains_key(&number) && is_passed_on(number) {
            claimed.insert(number, own(number)?);
        }
    }
    Ok(claimed)
}

/// The first number that is not standard input's, output's or error's.
const FIRST_FREE: RawFd = 3;

/// Creates the only owner, in this process, of a descriptor that exec left open for it. The caller has checked
/// that, [by its flag](is_passed_on).
fn own(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: the descriptor is open and has no owner yet. It came through exec (whatever this image opened itself is
    // close-on-exec), it is claimed once of those that the handshake lists, and it is close-on-exec from the next line on, so no second answer
    // can claim it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)
        .map_err(|errno| Error::os("keep a descriptor to this process", errno))?;
    Ok(fd)
}

fn is_passed_on(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument, touches no memory and fails on a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            engine: "1.2.3".to_owned(),
            arena: 7,
            file: FileId::new(1, 2),
            proc_id: ProcId::new(1, 5),
            lifeline: Some(8),
            stdout: None,
            error_pipe: Some(9),
            keep: vec![10, 11],
            tag: "00ff".to_owned(),
        }
    }

    #[test]
    fn what_a_parent_writes_its_child_reads() {
        for keep in [vec![], vec![10], vec![10, 11]] {
            let record = Record { keep, ..record() };
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
    }

    #[test]
    fn a_text_that_is_cut_short_or_in_another_form_is_no_handshake() {
        let text = record().to_string();
        let (start, _tag) = text.rsplit_once(':').unwrap();
        for wrong in ["", "3", start, &text.replacen(FORM, "2", 1)] {
            assert_eq!(Record::parse(wrong), None, "{wrong}");
            assert!(answer(wrong).unwrap().is_none(), "{wrong}");
        }
    }

    #[test]
    fn descriptors_that_did_not_come_through_exec_are_not_taken() {
        crate::process::ensure().unwrap();
        let offer = Offer::new(crate::process::me(), String::new()).unwrap();
        assert!(answer(&offer.to_string()).unwrap().is_none());
        assert_eq!(offer.descriptors().len(), 1);
    }

    #[test]
    fn a_tag_with_a_separator_is_refused() {
        crate::process::ensure().unwrap();
        let refused = Offer::new(crate::process::me(), "a:b".to_owned());
        assert!(matches!(refused, Err(Error::Invalid(_))));
    }
}
