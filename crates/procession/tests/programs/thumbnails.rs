//! The thumbnailer prints one line per image, whatever happens to it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{DynamicImage, RgbImage};

/// A folder for this test, with three images, a broken one and a text file in `source`.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    let source = folder.join("source");
    fs::create_dir_all(&source).unwrap();
    for (name, width, height) in [
        ("wide.png", 400, 100),
        ("tall.jpg", 150, 300),
        ("small.png", 20, 10),
    ] {
        DynamicImage::from(RgbImage::new(width, height))
            .save(source.join(name))
            .unwrap();
    }
    let whole = fs::read(source.join("wide.png")).unwrap();
    fs::write(source.join("broken.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(source.join("notes.txt"), "no image").unwrap();
    folder
}

fn start(folder: &Path) -> Child {
    let test = env::current_exe().expect("this test has a path");
    let built = test
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    let program = built.join("examples/thumbnails");
    assert!(program.exists(), "build it first: cargo build --examples");
    let mut program = Command::new(program);
    program
        .current_dir(folder)
        .args(["source", "target", "--size", "64", "--workers", "2"]);
    program
        .env("FOLDER_OF_TEST", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns `program`'s process and its children.
fn processes(folder: &Path) -> Vec<String> {
    let mark = format!("FOLDER_OF_TEST={}\0", folder.display()).into_bytes();
    let is_ours = |process: &PathBuf| {
        fs::read(process.join("environ"))
            .is_ok_and(|environ| environ.windows(mark.len()).any(|part| part == mark))
    };
    let all = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.filter(is_ours)
        .map(|process| process.file_name().unwrap().display().to_string())
        .collect()
}

fn signal(name: &str, processes: &[String]) {
    Command::new("kill")
        .args(["-s", name])
        .args(processes)
        .status()
        .unwrap();
}

/// Adds a file that cannot be read to its end, and starts the program until only that file is left.
fn start_and_get_stuck(folder: &Path) -> (Child, impl Iterator<Item = String>) {
    assert!(
        Command::new("mkfifo")
            .arg(folder.join("source/stuck.png"))
            .status()
            .unwrap()
            .success()
    );
    let mut program = start(folder);
    let mut lines = BufReader::new(program.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    lines.by_ref().take(4).for_each(drop);
    (program, lines)
}

#[test]
fn makes_thumbnails_and_reports_the_broken_file() {
    let folder = folder("makes");
    let output = start(&folder).wait_with_output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();

    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        report.contains("wide.png: 400 x 100 -> 64 x 16\n"),
        "{report}"
    );
    assert!(
        report.contains("tall.jpg: 150 x 300 -> 32 x 64\n"),
        "{report}"
    );
    assert!(
        report.contains("small.png: 20 x 10 -> 20 x 10\n"),
        "{report}"
    );
    assert!(report.contains("broken.png: failed: "), "{report}");
    assert!(
        report.contains("\n3 of 4 thumbnails made, 1 failed, in "),
        "{report}"
    );

    let target = folder.join("target");
    assert_eq!(
        image::image_dimensions(target.join("wide.png")).unwrap(),
        (64, 16)
    );
    assert_eq!(
        image::image_dimensions(target.join("tall.jpg")).unwrap(),
        (32, 64)
    );
    assert_eq!(fs::read_dir(target).unwrap().count(), 3);
}

#[test]
fn succeeds_without_a_broken_file() {
    let folder = folder("succeeds");
    fs::remove_file(folder.join("source/broken.png")).unwrap();
    assert!(start(&folder).wait_with_output().unwrap().status.success());
}

#[test]
fn a_crash_costs_one_file() {
    let folder = folder("crash");
    let (mut program, lines) = start_and_get_stuck(&folder);
    let mut workers = processes(&folder);
    workers.retain(|process| *process != program.id().to_string());
    signal("ABRT", &workers);

    let report: Vec<_> = lines.collect();
    assert_eq!(program.wait().unwrap().code(), Some(1));
    assert!(
        report[0].starts_with("stuck.png: failed: ") && report[0].contains("SIGABRT"),
        "{report:?}"
    );
    assert!(
        report[1].starts_with("3 of 5 thumbnails made, 2 failed"),
        "{report:?}"
    );
}

#[test]
fn ctrl_c_leaves_no_process() {
    let folder = folder("ctrl_c");
    let (mut program, _lines) = start_and_get_stuck(&folder);
    assert!(processes(&folder).len() > 1);
    signal("INT", &[program.id().to_string()]); // the worst case: of a terminal, the workers get it as well
    assert!(!program.wait().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !processes(&folder).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", processes(&folder));
        std::thread::yield_now();
    }
}
