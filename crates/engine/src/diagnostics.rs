//! Reports on the process tree: which processes are in it, what each holds and waits for, and which waits will not end.
//!
//! All of it is read from the shared memory while the processes go on, so a report may be inconsistent. It is meant for
//! a person, who can ask for another.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::arena::cell::BlockId;
use crate::arena::kind::Kind;
use crate::arena::{Arena, home_if_any};
use crate::error::{Error, Result};
use crate::objects::handle::Handle;
use crate::process::ProcId;
use crate::process_table::home;
use crate::process_table::wait_registry;
use crate::sync;

pub use crate::process_table::wait_registry::{Call, WaitReason};

/// A lock, queue or other shared object. Its number is the same in every process of the tree, as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its number.
    pub number: u32,
    /// What it is: `"lock"`, `"queue"`.
    pub kind: &'static str,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.number)
    }
}

/// One thread's wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The object it waits at.
    pub at: Object,
    /// What it waits for.
    pub what: WaitReason,
    /// How long it has waited, to a tenth of a second.
    pub since: Duration,
}

/// One process of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessReport {
    /// Its slot in the process table, and the slot's epoch.
    pub proc_id: ProcId,
    /// Its process number, in its own PID namespace.
    pub pid: u32,
    /// The name it [gave itself](name_process).
    pub name: Option<String>,
    /// The locks it holds.
    pub holds: Vec<Object>,
    /// What its threads wait for.
    pub waits: Vec<Waiting>,
    /// How many threads it has.
    pub threads: usize,
}

/// A wait that will not end by itself, or only by what the asking process will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Each process waits for a lock that the next one holds, and the last for one that the first holds.
    Circle(Vec<(u32, Object)>),
    /// All other processes wait, and one of them for room that only a receiver could make.
    NobodyReceives(Object),
    /// All other processes wait, and one of them for a message that only another process could send.
    NobodySends(Object),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Circle(links) => {
                f.write_str("a circle of locks: ")?;
                for (place, (pid, lock)) in links.iter().enumerate() {
                    let holder = links[(place + 1) % links.len()].0;
                    let comma = if place > 0 { ", " } else { "" };
                    write!(
                        f,
                        "{comma}process {pid} waits for {lock}, which process {holder} holds"
                    )?;
                }
                Ok(())
            }
            Finding::NobodyReceives(queue) => write!(
                f,
                "{queue} is full and nobody receives from it: all processes but this one wait"
            ),
            Finding::NobodySends(queue) => write!(
                f,
                "{queue} is empty and nobody sends to it: all processes but this one wait"
            ),
        }
    }
}

/// The living processes of this process's tree.
pub fn process_reports() -> Vec<ProcessReport> {
    let Some(arena) = home_if_any() else {
        return Vec::new();
    };
    let mut held: BTreeMap<u32, Vec<Object>> = BTreeMap::new();
    for kind in [Kind::Lock, Kind::RLock] {
        for block in arena.objects_of(kind) {
            if let Some(holder) = sync::holder_of(arena, block) {
                held.entry(holder.as_u32()).or_default().push(Object {
                    number: block.0,
                    kind: kind.name(),
                });
            }
        }
    }
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for (writer, about, text) in arena.labels() {
        if about == (0, 0) {
            names.insert(writer.as_u32(), text);
        }
    }
    let alive = arena.occupied().filter(|owner| !arena.is_dead(*owner));
    alive
        .filter_map(|proc_id| {
            let number = arena.number_of(proc_id)?;
            Some(ProcessReport {
                proc_id,
                pid: number.pid(),
                name: names.remove(&proc_id.as_u32()),
                threads: number.here().map_or(1, threads_of),
                holds: held.remove(&proc_id.as_u32()).unwrap_or_default(),
                waits: waits_of(arena, proc_id),
            })
        })
        .collect()
}

/// Whether this process has shared memory, and so appears in reports.
pub fn is_member() -> bool {
    home_if_any().is_some()
}

/// Names this process in the reports of every process of the tree.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn name_process(name: &str) -> Result<()> {
    home()?.label((0, 0), name)
}

/// Records where an object was made, for the reports of every process of the tree, for as long as both this process and
/// the object live.
///
/// # Errors
/// [`Error::ForeignHandle`], [`Error::OutOfMemory`].
pub fn note_origin(handle: &Handle, place: &str) -> Result<()> {
    let arena = home()?;
    if handle.arena() != arena.id() {
        return Err(Error::ForeignHandle);
    }
    arena.label((handle.block(), handle.generation()), place)
}

/// Where objects were made, by their numbers, as far as it was [recorded](note_origin).
pub fn origins() -> BTreeMap<u32, String> {
    let Some(arena) = home_if_any() else {
        return BTreeMap::new();
    };
    let labels = arena.labels().into_iter();
    labels
        .filter(|(_, (block, generation), _)| arena.is_about(*block, *generation))
        .map(|(_, (block, _), text)| (block, text))
        .collect()
}

fn threads_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(1, Iterator::count)
}

fn waits_of(arena: &Arena, proc_id: ProcId) -> Vec<Waiting> {
    let seen = arena.waits_of(proc_id).into_iter();
    seen.map(|wait_registry::WaitRecord { what, block, since }| Waiting {
        at: Object {
            number: block.0,
            kind: kind_of(arena, block),
        },
        what,
        since,
    })
    .collect()
}

fn kind_of(arena: &Arena, block: BlockId) -> &'static str {
    let kind = arena
        .cell(block)
        .map(|cell| cell.kind.load(std::sync::atomic::Ordering::Acquire));
    kind.map_or("object", |kind| Kind::from_u32(kind).name())
}

/// The waits among these processes that will not end by themselves, seen from the process `asker`.
///
/// The result is a guess where a process has several threads, as one thread may free what another waits for.
pub fn findings(process_reports: &[ProcessReport], asker: ProcId) -> Vec<Finding> {
    let mut found = circles(process_reports);
    let others = || {
        process_reports
            .iter()
            .filter(|member| member.proc_id != asker)
    };
    if others().all(|member| !member.waits.is_empty()) {
        let waits: Vec<&Waiting> = others().flat_map(|member| &member.waits).collect();
        for wait in &waits {
            let finding = match wait.what {
                WaitReason::Room => Finding::NobodyReceives(wait.at),
                WaitReason::Message => Finding::NobodySends(wait.at),
                _ => continue,
            };
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
    }
    found
}

/// The circles in which each process waits for a lock of the next one.
fn circles(process_reports: &[ProcessReport]) -> Vec<Finding> {
    let next = |member: &ProcessReport| {
        let waits = member
            .waits
            .iter()
            .filter(|wait| wait.what == WaitReason::Lock);
        waits
            .filter_map(|wait| {
                let holder = process_reports
                    .iter()
                    .position(|m| m.holds.contains(&wait.at))?;
                Some((wait.at, holder))
            })
            .next()
    };
    let mut found = Vec::new();
    let mut seen = vec![false; process_reports.len()];
    for start in 0..process_reports.len() {
        let mut path: Vec<(usize, Object)> = Vec::new();
        let mut here = start;
        while !std::mem::replace(&mut seen[here], true) {
            let Some((lock, holder)) = next(&process_reports[here]) else {
                break;
            };
            path.push((here, lock));
            if let Some(first) = path.iter().position(|(member, _)| *member == holder) {
                // One thread may wait for what another thread of its process holds.
                if holder == here && process_reports[here].threads > 1 {
                    break;
                }
                let links = path[first..].iter();
                found.push(Finding::Circle(
                    links
                        .map(|(member, lock)| (process_reports[*member].pid, *lock))
                        .collect(),
                ));
                break;
            }
            here = holder;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: ProcId = ProcId::ABANDONED;

    fn lock(number: u32) -> Object {
        Object {
            number,
            kind: "lock",
        }
    }

    fn member(pid: u32, holds: &[u32], waits: &[(u32, WaitReason)]) -> ProcessReport {
        ProcessReport {
            proc_id: ProcId::new(pid, 1),
            pid,
            name: None,
            threads: 1,
            holds: holds.iter().copied().map(lock).collect(),
            waits: waits
                .iter()
                .map(|(number, what)| Waiting {
                    at: lock(*number),
                    what: *what,
                    since: Duration::ZERO,
                })
                .collect(),
        }
    }

    #[test]
    fn a_circle_of_locks_is_found_once() {
        let process_reports = [
            member(1, &[10], &[(20, WaitReason::Lock)]),
            member(2, &[20], &[(30, WaitReason::Lock)]),
            member(3, &[30], &[(20, WaitReason::Lock)]),
            member(4, &[], &[]),
        ];
        let circle = Finding::Circle(vec![(2, lock(30)), (3, lock(20))]);
        assert_eq!(
            findings(&process_reports, ASKER),
            std::slice::from_ref(&circle)
        );
        assert_eq!(
            circle.to_string(),
            "a circle of locks: process 2 waits for lock 30, which process 3 holds, \
             process 3 waits for lock 20, which process 2 holds"
        );
    }

    #[test]
    fn who_waits_for_its_own_lock_is_a_circle_of_one() {
        let process_reports = [member(1, &[10], &[(10, WaitReason::Lock)])];
        assert_eq!(
            findings(&process_reports, ASKER),
            [Finding::Circle(vec![(1, lock(10))])]
        );
    }

    #[test]
    fn who_waits_for_another_of_its_threads_is_none() {
        let mut one = member(1, &[10], &[(10, WaitReason::Lock)]);
        one.threads = 2;
        assert_eq!(findings(&[one], ASKER), []);
    }

    #[test]
    fn a_chain_that_ends_with_somebody_at_work_is_none() {
        let process_reports = [
            member(1, &[], &[(10, WaitReason::Lock)]),
            member(2, &[10], &[(20, WaitReason::Lock)]),
            member(3, &[20], &[]),
        ];
        assert_eq!(findings(&process_reports, ASKER), []);
    }

    #[test]
    fn that_nobody_receives_is_said_only_when_all_wait() {
        let full = member(1, &[], &[(10, WaitReason::Room)]);
        let asleep = member(2, &[], &[(11, WaitReason::Event)]);
        let busy = member(3, &[], &[]);
        assert_eq!(
            findings(&[full.clone(), asleep.clone()], ASKER),
            [Finding::NobodyReceives(lock(10))]
        );
        let process_reports = [full, asleep, busy];
        assert_eq!(findings(&process_reports, ASKER), []);
        assert_eq!(
            findings(&process_reports, ProcId::new(3, 1)),
            [Finding::NobodyReceives(lock(10))]
        );
    }
}
