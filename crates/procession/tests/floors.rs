//! Each module of the crate, and of the engine, uses only modules below it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of a crate, from the bottom up.
struct House {
    /// Where its modules are, from this crate.
    sources: &'static str,
    floors: &'static [&'static [&'static str]],
    /// Files of the root, and files and folders that only tests are made of.
    outside: &'static [&'static str],
    /// What modules may use of the root: the file or folder, and the name.
    from_root: &'static [(&'static str, &'static str)],
    /// Uses that point up or across for a reason: the file or folder, and what it uses.
    exceptions: &'static [(&'static str, &'static str)],
    /// A type whose methods are defined all over the house: calling one is using the module that defines it.
    common_type: Option<&'static str>,
}

/// An error returns the message it is about, so it has to name the message's type.
const CRATE: House = House {
    sources: "src",
    outside: &["lib.rs"],
    from_root: &[("python/", "__export_to_python")],
    exceptions: &[("error/", "Received")],
    common_type: None,
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

/// What lower modules ask of upper ones is in a table of functions, which the root fills.
const ENGINE: House = House {
    sources: "../engine/src",
    outside: &["lib.rs", "models/"],
    from_root: &[("arena/upcalls.rs", "UPCALLS")],
    exceptions: &[],
    common_type: Some("Arena"),
    floors: &[
        &[
            "error",
            "failpoint",
            "id_map",
            "deadline",
            "in_place",
            "numbered",
        ],
        &["retries", "sys"],
        &["eventcount"],
        &["arena"],
        &["process_table"],
        &["memory"],
        &["objects"],
        &["sync", "value"],
        &["channel", "store", "process"],
        &["select", "pool", "diagnostics"],
    ],
};

/// The module that defines each method of a house's common type.
type Methods = HashMap<String, String>;

impl House {
    fn floor(&self, module: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.contains(&module))
    }

    fn is_outside(&self, file: &str) -> bool {
        self.outside.iter().any(|place| file.starts_with(place))
    }

    fn may_use(&self, file: &str, name: &str) -> bool {
        let mut allowed = self.exceptions.iter().chain(self.from_root);
        allowed.any(|(place, used)| file.starts_with(place) && name == *used)
    }

    /// Every file of the house: its path below the root, and its code.
    fn files(&self) -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.sources);
        let mut files = Vec::new();
        sources(&root, &mut files);
        let relative = |file: &PathBuf| {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
            (path.to_owned(), code_of(&fs::read_to_string(file).unwrap()))
        };
        let files = files.iter().map(relative);
        files.filter(|(file, _)| !self.is_outside(file)).collect()
    }

    /// The blocks of methods of the common type in a file.
    fn blocks<'a>(&self, code: &'a str) -> impl Iterator<Item = &'a str> {
        let head = self.common_type.map(|name| format!("\nimpl {name} {{\n"));
        let mut rest = code;
        std::iter::from_fn(move || {
            let head = head.as_ref()?;
            let from = rest.find(head.as_str())? + head.len();
            let length = rest[from..].find("\n}\n")?;
            let block = &rest[from..from + length];
            rest = &rest[from + length..];
            Some(block)
        })
    }

    fn methods(&self, files: &[(String, String)]) -> Methods {
        let mut methods = Methods::new();
        for (file, code) in files {
            for line in self.blocks(code).flat_map(str::lines) {
                let is_method = line.starts_with("    ") && !line.starts_with("     ");
                if let Some((_, name)) = line.split_once("fn ").filter(|_| is_method) {
                    methods.insert(first_name(name), module_of(file));
                }
            }
        }
        methods
    }

    /// The modules whose methods of the common type a file calls.
    fn called(&self, code: &str, methods: &Methods) -> Vec<String> {
        let of = |code: &str, before: &str| -> Vec<String> {
            // Not in the middle of a name, nor at the start of a text.
            let calls = code
                .match_indices(before)
                .filter(|(at, _)| !code[..*at].ends_with(|c| is_name(c) || c == '"'));
            calls
                .map(|(at, _)| first_name(&code[at + before.len()..]))
                .collect()
        };
        let mut names = Vec::new();
        if let Some(name) = self.common_type {
            names.extend(of(code, &format!("{name}::")));
            // Values of the type are called so.
            let value = name.to_lowercase();
            names.extend(of(code, &format!("{value}.")));
            names.extend(of(code, &format!("{value}().")));
            names.extend(self.blocks(code).flat_map(|block| of(block, "self.")));
        }
        names
            .iter()
            .filter_map(|name| methods.get(name).cloned())
            .collect()
    }

    /// What is wrong with the uses in a file.
    fn wrong_uses(&self, file: &str, code: &str, methods: &Methods) -> Vec<String> {
        let module = module_of(file);
        let here = self
            .floor(&module)
            .unwrap_or_else(|| panic!("the module {module} has no floor"));
        let used = code.lines().flat_map(used);
        used.chain(self.called(code, methods))
            .filter(|name| *name != module && !self.may_use(file, name))
            .filter(|name| self.floor(name).is_none_or(|floor| floor >= here))
            .collect()
    }
}

fn module_of(file: &str) -> String {
    first_name(file)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name that a text begins with.
fn first_name(text: &str) -> String {
    text.split(|c| !is_name(c)).next().unwrap().to_owned()
}

/// The source without comments and tests, which may use anything, and with each chain of calls on one line.
fn code_of(source: &str) -> String {
    let mut code = String::new();
    let lines = source.lines().take_while(|line| *line != "mod tests {");
    for line in lines.filter(|line| !line.trim_start().starts_with("//")) {
        match line.trim_start().starts_with('.') {
            true => code.push_str(line.trim_start()),
            false => code.extend(["\n", line]),
        }
    }
    code.push('\n');
    code
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
    let uses = line
        .match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with(|c| is_name(c) || c == '$'));
    uses.map(|(at, path)| first_name(&line[at + path.len()..]))
        .collect()
}

#[test]
fn modules_use_only_what_is_below_them() {
    for house in [CRATE, ENGINE] {
        let files = house.files();
        let methods = house.methods(&files);
        for (file, code) in &files {
            let wrong = house.wrong_uses(file, code, &methods);
            assert!(wrong.is_empty(), "{}/{file} uses {wrong:?}", house.sources);
        }
    }
}

#[test]
fn a_use_that_points_up_is_found() {
    let in_crate = |file, code| CRATE.wrong_uses(file, &code_of(code), &Methods::new());
    assert_eq!(in_crate("sync/mod.rs", "use crate::pool::Pool;"), ["pool"]);
    assert_eq!(
        in_crate("error/mod.rs", "fn f(_: crate::data::Value) {}"),
        ["data"]
    );
    assert_eq!(
        in_crate("channel/mod.rs", "use crate::process::Process;"),
        ["process"]
    );
    assert_eq!(in_crate("sync/mod.rs", "use crate::{Queue, Pool};"), [""]);
    assert_eq!(
        in_crate("pool/mod.rs", "use crate::error::Error; // below"),
        [""; 0]
    );
    let in_engine = |file, code| ENGINE.wrong_uses(file, &code_of(code), &Methods::new());
    for (file, code) in [
        ("memory/mod.rs", "use crate::channel::Queue;"),
        ("process_table/mod.rs", "use crate::memory::block;"),
        ("memory/trim.rs", "crate::UPCALLS;"),
        ("process/recovery.rs", "use crate::channel::chunk_list;"),
    ] {
        assert_eq!(in_engine(file, code).len(), 1, "{file}: {code}");
    }
}

#[test]
fn a_method_that_an_upper_module_gives_the_arena_is_found() {
    let files = ["memory/block.rs", "objects/object.rs"].map(|file| {
        let name = first_name(file);
        let code = format!("\nimpl Arena {{\n    pub(crate) fn of_{name}(&self) {{}}\n}}");
        (file.to_owned(), code_of(&code))
    });
    let methods = ENGINE.methods(&files);
    for code in [
        "fn f(arena: &Arena) {\n    arena\n        .of_objects();\n}",
        "fn f(held: &Held) {\n    held.arena().of_objects();\n}",
        "const F: fn(&Arena) = Arena::of_objects;",
        "impl Arena {\n    fn f(&self) {\n        self.of_objects();\n    }\n}",
    ] {
        let wrong = |file| ENGINE.wrong_uses(file, &code_of(code), &methods);
        assert_eq!(wrong("memory/trim.rs"), ["objects"], "{code}");
        assert_eq!(wrong("sync/lock.rs"), [""; 0], "{code}");
    }
}
