//! Takes the readings of the table. Each runs in its own process, and the sides alternate.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// A row of the table: the same work done by each side.
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    /// Procession first, then the sides it is compared with.
    pub sides: &'static [Side],
}

/// The name of a side, and a function that returns its rate.
pub struct Side {
    pub name: &'static str,
    pub rate: fn() -> f64,
}

/// The option that makes this program take one reading: `--one ROW SIDE`.
pub const ONE: &str = "--one";

const LONG_ENOUGH: Duration = Duration::from_millis(400);

/// Returns the rate of `work(n)`, which performs n operations and returns their duration. Increases n until the
/// duration is long enough to be reliable.
pub fn steady(mut work: impl FnMut(u64) -> Duration) -> f64 {
    let mut n = 100;
    loop {
        let took = work(n);
        if took >= LONG_ENOUGH {
            return n as f64 / took.as_secs_f64();
        }
        let wanted = 1.2 * LONG_ENOUGH.as_secs_f64() / took.as_secs_f64().max(1e-6);
        n = (n as f64 * wanted.clamp(1.3, 50.0)) as u64 + 1;
    }
}

/// Returns how long `work` took.
pub fn clocked(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// Takes one reading of a row and side in this process, and prints it.
pub fn print_one(rows: &[Row], row: &str, side: &str) {
    let row = rows
        .iter()
        .find(|r| r.name == row)
        .expect("a row of the table");
    let side = row
        .sides
        .iter()
        .find(|s| s.name == side)
        .expect("a side of the row");
    println!("{}", (side.rate)());
}

/// Measures the rows whose name contains `only`, each side `repeat` times, and returns the table as Markdown.
pub fn table(rows: &[Row], only: &str, repeat: usize) -> String {
    let only = only.to_lowercase();
    let mut text = String::from(
        "| | unit | side | rate | Procession's ratio to it |\n|---|---|---|---|---|\n",
    );
    for row in rows
        .iter()
        .filter(|r| r.name.to_lowercase().contains(&only))
    {
        eprintln!("{} ...", row.name);
        let mut readings = vec![Vec::new(); row.sides.len()];
        for turn in 0..repeat {
            for step in 0..row.sides.len() {
                let side = (turn + step) % row.sides.len();
                readings[side].push(reading_of(row.name, row.sides[side].name));
            }
        }
        let ours = median(&readings[0]);
        for (side, taken) in row.sides.iter().zip(&readings) {
            let rate = median(taken);
            let ratio = if side.name == row.sides[0].name {
                String::new()
            } else {
                format!("{:.2}x", ours / rate)
            };
            let (row, unit, side) = (row.name, row.unit, side.name);
            let (rate, spread) = (figures(rate), spread(taken));
            writeln!(
                text,
                "| {row} | {unit} | {side} | {rate} ±{spread:.0} % | {ratio} |"
            )
            .expect("strings grow");
        }
    }
    text
}

fn reading_of(row: &str, side: &str) -> f64 {
    let exe = std::env::current_exe().expect("the path of this program");
    let output = Command::new(exe)
        .args([ONE, row, side])
        .output()
        .expect("a process for the reading");
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.trim().parse().unwrap_or_else(|_| {
        panic!(
            "{row}, {side}: {} {printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Returns half the range, in percent of the median.
fn spread(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = values.iter().copied().fold(f64::MAX, f64::min);
    50.0 * (highest - lowest) / median(values)
}

/// Formats with three digits and a unit prefix: 277 k, 11.0 M.
fn figures(value: f64) -> String {
    let (scaled, letter) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let decimals = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.decimals$}{letter}")
}
