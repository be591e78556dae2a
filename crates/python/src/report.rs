//! What `debug_dump` shows: who is in the process tree, what each holds and waits for, what cannot end well.

use procession_engine::report::{What, findings, members};
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn purpose(what: What) -> &'static str {
    match what {
        What::Lock => "acquire",
        What::Units => "acquire a unit of",
        What::Event => "see set",
        What::Notification => "be notified by",
        What::Parties => "meet the others at",
        What::Message => "receive from",
        What::Room => "put into",
        What::Finished => "see finished",
        What::Task => "get a task from",
    }
}

/// The processes of the tree, and sentences about what will not end by itself.
#[pyfunction]
pub fn report(py: Python<'_>) -> PyResult<(Vec<Bound<'_, PyDict>>, Vec<String>)> {
    let members = members();
    let findings = findings(&members, std::process::id());
    let shown = members.iter().map(|member| {
        let table = PyDict::new(py);
        table.set_item("pid", member.pid)?;
        let holds = member.holds.iter().map(ToString::to_string);
        table.set_item("holds", holds.collect::<Vec<_>>())?;
        let waits = member.waits.iter().map(|wait| {
            let at = match wait.what {
                // A board of a pool is an object that only the engine sees.
                What::Task => "its pool".to_owned(),
                _ => wait.at.to_string(),
            };
            (purpose(wait.what), at, wait.since.as_secs_f64())
        });
        table.set_item("waits", waits.collect::<Vec<_>>())?;
        Ok(table)
    });
    let shown = shown.collect::<PyResult<Vec<_>>>()?;
    Ok((shown, findings.iter().map(ToString::to_string).collect()))
}
