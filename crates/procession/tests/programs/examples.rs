//! Each example prints what its documentation says.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs};

/// An example, built beside this test.
fn example(name: &str) -> Command {
    let test = env::current_exe().expect("this test has a path");
    let folder = test.parent().and_then(|deps| deps.parent());
    let program = folder.expect("a target folder").join("examples").join(name);
    assert!(program.exists(), "build it first: cargo build --examples");
    Command::new(program)
}

fn text_of(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("procession-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_crash_in_c_is_one_inputs_error() {
    let text = text_of(&example("crash_isolation").output().unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "\"one\": 3 bytes");
    assert_eq!(lines[3], "\"seventeen\": 9 bytes");
    for crashed in [lines[2], lines[4]] {
        assert!(crashed.contains("SIGSEGV"), "{crashed}");
    }
}

#[test]
fn the_checksum_of_the_parts_is_that_of_the_file() {
    let folder = Folder::new("checksums");
    let file = folder.0.join("data");
    let bytes: Vec<u8> = (0..40_000_000u32).map(|n| (n / 3) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let text = text_of(&example("checksums").arg(&file).output().unwrap());
    assert!(text.starts_with(&format!("{:08x}  ", crc32fast::hash(&bytes))));

    let output = example("checksums").arg(folder.0.join("none")).output();
    let output = output.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("No such file"));
}

#[test]
fn words_of_all_files_are_counted() {
    let folder = Folder::new("words");
    for number in 0..20 {
        let file = folder.0.join(format!("{number}.txt"));
        fs::write(file, "The cat and the hat.\nAnd THE end").unwrap();
    }
    let text = text_of(&example("word_count").arg(&folder.0).output().unwrap());
    let words: Vec<(&str, &str)> = text
        .lines()
        .map(|line| line.trim().split_once("  ").unwrap())
        .collect();
    assert_eq!(words[..2], [("60", "the"), ("40", "and")]);
}

#[test]
fn darts_give_the_area_of_a_circle() {
    let text = text_of(&example("monte_carlo").arg("3000000").output().unwrap());
    let area: f64 = text.trim().parse().unwrap();
    assert!((area - std::f64::consts::PI).abs() < 0.02, "{area}");
}

#[test]
fn the_tour_ends_well() {
    let text = text_of(&example("tour").output().unwrap());
    assert!(text.contains("[1, 4, 9, 16, 25]"));
}

#[test]
fn the_program_of_the_readme_goes_on_after_a_crash() {
    let text = text_of(&example("readme").output().unwrap());
    assert!(text.contains("SIGABRT"), "{text}");
    assert!(text.ends_with("[1.0, 0.5, 0.25]\n"), "{text}");
}
