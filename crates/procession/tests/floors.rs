//! Each module of the crate uses only modules below it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. Modules on one floor do not use each other.
const FLOORS: &[&[&str]] = &[
    &["error"],
    &["transfer", "memory"],
    &["sync"],
    &["data", "reactor"],
    &["channel", "process"],
    &["select", "pool", "python"],
    &["init"],
];

/// An error returns the message it is about, so it has to name the message's type. A macro stands at the root.
const EXCEPTIONS: &[(&str, &str)] = &[("error", "Received"), ("python", "__export_to_python")];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
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

/// What is wrong with the uses in a file of `module`.
fn wrong_uses(module: &str, source: &str) -> Vec<String> {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let here = floor(module).unwrap_or_else(|| panic!("the module {module} has no floor"));
    code.flat_map(used)
        .filter(|name| name != module && !EXCEPTIONS.contains(&(module, name)))
        .filter(|name| floor(name).is_none_or(|floor| floor >= here))
        .collect()
}

#[test]
fn modules_use_only_what_is_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let wrong = wrong_uses(module, &fs::read_to_string(&file).unwrap());
        assert!(wrong.is_empty(), "{} uses {wrong:?}", relative.display());
    }
}

#[test]
fn a_use_that_points_up_is_found() {
    assert_eq!(wrong_uses("sync", "use crate::pool::Pool;"), ["pool"]);
    assert_eq!(
        wrong_uses("error", "fn f(_: crate::data::Value) {}"),
        ["data"]
    );
    assert_eq!(
        wrong_uses("channel", "use crate::process::Process;"),
        ["process"]
    );
    assert_eq!(wrong_uses("sync", "use crate::{Queue, Pool};"), [""]);
    assert_eq!(
        wrong_uses("pool", "use crate::error::Error; // below"),
        [""; 0]
    );
}
