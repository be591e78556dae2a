//! The data of `debug_dump`: the processes of the tree, what each holds and waits for, and what will never end.

use std::collections::BTreeMap;

use procession_engine::Handle;
use procession_engine::diagnostics::{self, Object, ProcessReport, WaitReason};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::support::errors::raise;

fn purpose(what: WaitReason) -> &'static str {
    match what {
        WaitReason::Lock => "acquire",
        WaitReason::Units => "acquire a unit of",
        WaitReason::Event => "see set",
        WaitReason::Notification => "be notified by",
        WaitReason::Parties => "meet the others at",
        WaitReason::Message => "receive from",
        WaitReason::Room => "put into",
        WaitReason::Finished => "see finished",
        WaitReason::Task => "get a task from",
    }
}

/// Describes an object, with the place where it was made if that is known.
fn described(object: Object, origins: &BTreeMap<u32, String>) -> String {
    match origins.get(&object.number) {
        Some(place) => format!("{object} (made at {place})"),
        None => object.to_string(),
    }
}

fn holder_of(object: Object, members: &[ProcessReport]) -> Option<String> {
    let holder = members
        .iter()
        .find(|member| member.holds.contains(&object))?;
    Some(match &holder.name {
        Some(name) => format!("process {} ({name})", holder.pid),
        None => format!("process {}", holder.pid),
    })
}

/// Returns the processes of the tree, and sentences about waits that will not end by themselves.
#[pyfunction(name = "report")]
pub fn report_tree(py: Python<'_>) -> PyResult<(Vec<Bound<'_, PyDict>>, Vec<String>)> {
    let (members, origins) = (diagnostics::process_reports(), diagnostics::origins());
    // Without shared memory there are no other processes.
    let findings = match diagnostics::is_member() {
        true => diagnostics::findings(&members, procession_engine::process::me()),
        false => Vec::new(),
    };
    let shown = members.iter().map(|member| {
        let table = PyDict::new(py);
        table.set_item("pid", member.pid)?;
        table.set_item("name", &member.name)?;
        let holds = member.holds.iter().map(|held| described(*held, &origins));
        table.set_item("holds", holds.collect::<Vec<_>>())?;
        let waits = member.waits.iter().map(|wait| {
            let at = match wait.what {
                // Only the engine knows the queue of a pool as an object.
                WaitReason::Task => "its pool".to_owned(),
                _ => described(wait.at, &origins),
            };
            let holder = holder_of(wait.at, &members);
            (purpose(wait.what), at, wait.since.as_secs_f64(), holder)
        });
        table.set_item("waits", waits.collect::<Vec<_>>())?;
        Ok(table)
    });
    let shown = shown.collect::<PyResult<Vec<_>>>()?;
    Ok((shown, findings.iter().map(ToString::to_string).collect()))
}

/// Returns whether this process has shared memory. It may be its parent's.
#[pyfunction]
pub fn has_arena() -> bool {
    diagnostics::is_member()
}

/// Sets the name that reports show for this process.
#[pyfunction]
pub fn set_process_name(name: &str) -> PyResult<()> {
    diagnostics::name_process(name).map_err(raise)
}

/// Sets the place that reports show for where an object was made.
#[pyfunction]
pub fn set_origin(handle: &[u8], place: &str) -> PyResult<()> {
    let handle = Handle::from_bytes(handle).map_err(raise)?;
    diagnostics::note_origin(&handle, place).map_err(raise)
}
