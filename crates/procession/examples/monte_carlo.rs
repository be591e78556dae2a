//! Estimates the area of a circle with random points in many processes, with a progress bar.
//!
//! `cargo run --release -p procession --example monte_carlo -- 200000000`

use std::env;

use indicatif::{ProgressBar, ProgressStyle};
use procession::Pool;

const THROWS: u64 = 20_000_000;
/// Points per task: enough to be worth a task, few enough for a smooth bar.
const ROUND: u64 = 500_000;

/// Returns how many of `darts` random points are inside the circle.
fn hits(seed: u64, throws: u64) -> u64 {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut dart = || dice.f64().powi(2) + dice.f64().powi(2) <= 1.0;
    (0..throws).map(|_| u64::from(dart())).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();
    let throws = env::args().nth(1).map_or(Ok(THROWS), |text| text.parse())?;
    let rounds = (0..throws.div_ceil(ROUND)).map(|at| (at, ROUND.min(throws - at * ROUND)));

    let bar = ProgressBar::new(throws).with_style(ProgressStyle::with_template(
        "{bar:40} {human_pos} of {human_len} darts, {per_sec}",
    )?);
    let pool = Pool::builder().build()?;
    let mut hit = 0;
    let mut thrown = 0;
    for (round, hits) in pool.imap_unordered(hits, rounds)? {
        hit += hits?;
        let length = ROUND.min(throws - round as u64 * ROUND);
        thrown += length;
        bar.inc(length);
    }
    bar.finish_and_clear();
    println!("{:.4}", 4.0 * hit as f64 / thrown as f64);
    Ok(())
}
