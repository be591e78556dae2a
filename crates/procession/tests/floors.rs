//! Each module of the crate, and of the engine, uses only modules below it.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors of a crate, from the bottom up.
struct House {
    /// Where its modules are, from this crate.
    sources: &'static str,
    floors: &'static [&'static [&'static str]],
    /// Uses that point up or across for a reason: the file or folder, and what it uses.
    exceptions: &'static [(&'static str, &'static str)],
}

/// An error returns the message it is about, so it has to name the message's type. A macro stands at the root.
const CRATE: House = House {
    sources: "src",
    exceptions: &[("error/", "Received"), ("python/", "__export_to_python")],
    floors: &[
        &["error"],
        &["transfer", "memory"],
        &["sync"],
        &["data", "reactor"],
        &["channel", "process"],
        &["select", "pool", "python", "codec"],
        &["init"],
    ],
};

/// Memory, processes and objects use each other: a process is known by its memory, which is given back when the process
/// is dead. What the dead left half done is finished by the layer that it belongs to.
const ENGINE: House = House {
    sources: "../engine/src",
    exceptions: &[
        ("memory/", "process"),
        ("memory/", "objects"),
        ("process/", "memory"),
        ("process/", "objects"),
        ("objects/", "memory"),
        ("objects/", "process"),
        ("process/reclaim.rs", "channel"),
        ("process/mod.rs", "sync"),
        ("process/death_watch.rs", "sync"),
    ],
    floors: &[
        &["error", "failpoint", "id_map", "deadline", "in_place"],
        &["retries", "sys"],
        &["memory", "process", "objects"],
        &["sync", "value"],
        &["channel", "store"],
        &["select", "pool", "diagnostics"],
    ],
};

impl House {
    fn floor(&self, module: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.contains(&module))
    }

    /// The root, and what only tests are made of.
    fn is_outside(&self, file: &str) -> bool {
        matches!(file, "lib.rs" | "single.rs") || file.starts_with("models/")
    }

    fn is_exception(&self, file: &str, name: &str) -> bool {
        let mut exceptions = self.exceptions.iter();
        exceptions.any(|(place, used)| file.starts_with(place) && name == *used)
    }

    /// What is wrong with the uses in a file. Its tests may use anything.
    fn wrong_uses(&self, file: &str, source: &str) -> Vec<String> {
        let module = file.split(['/', '.']).next().unwrap();
        let code = source
            .lines()
            .take_while(|line| *line != "mod tests {")
            .filter(|line| !line.trim_start().starts_with("//"));
        let here = self
            .floor(module)
            .unwrap_or_else(|| panic!("the module {module} has no floor"));
        code.flat_map(used)
            .filter(|name| name != module && !self.is_exception(file, name))
            .filter(|name| self.floor(name).is_none_or(|floor| floor >= here))
            .collect()
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The modules at the root of the crate that a line of code names.
fn used(line: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let uses = line
        .match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with(|c| is_name(c) || c == '$'));
    uses.map(|(at, path)| {
        let rest = &line[at + path.len()..];
        rest.split(|c| !is_name(c)).next().unwrap().to_owned()
    })
    .collect()
}

#[test]
fn modules_use_only_what_is_below_them() {
    for house in [CRATE, ENGINE] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(house.sources);
        let mut files = Vec::new();
        sources(&root, &mut files);
        for file in files {
            let relative = file.strip_prefix(&root).unwrap().to_str().unwrap();
            if house.is_outside(relative) {
                continue;
            }
            let wrong = house.wrong_uses(relative, &fs::read_to_string(&file).unwrap());
            assert!(wrong.is_empty(), "{} uses {wrong:?}", file.display());
        }
    }
}

#[test]
fn a_use_that_points_up_is_found() {
    assert_eq!(
        CRATE.wrong_uses("sync/mod.rs", "use crate::pool::Pool;"),
        ["pool"]
    );
    assert_eq!(
        CRATE.wrong_uses("error/mod.rs", "fn f(_: crate::data::Value) {}"),
        ["data"]
    );
    assert_eq!(
        CRATE.wrong_uses("channel/mod.rs", "use crate::process::Process;"),
        ["process"]
    );
    assert_eq!(
        CRATE.wrong_uses("sync/mod.rs", "use crate::{Queue, Pool};"),
        [""]
    );
    assert_eq!(
        CRATE.wrong_uses("pool/mod.rs", "use crate::error::Error; // below"),
        [""; 0]
    );
    assert_eq!(
        ENGINE.wrong_uses("memory/mod.rs", "use crate::channel::Queue;"),
        ["channel"]
    );
    assert_eq!(
        ENGINE.wrong_uses("process/table.rs", "use crate::channel::Queue;"),
        ["channel"]
    );
}
