//! Python functions in other processes, and queues shared with them.
//!
//! `cargo run -p procession --features python --example with_python -- venv/bin/python`. The interpreter must
//! have the package `procession`; the default is `python3`.

use procession::python::{self, Queue};
use procession::{JoinError, Result};
use serde::Serialize;

/// A module of our own. Python finds it because `PYTHONPATH` contains its directory.
const WORKER: &str = "\
import statistics

def describe(samples, summaries):
    while (numbers := samples.get()) is not None:
        summaries.put({'mean': statistics.mean(numbers), 'median': statistics.median(numbers)})
";

#[derive(Debug, serde::Deserialize)]
struct Summary {
    mean: f64,
    median: f64,
}

#[derive(Serialize)]
struct Rounding {
    number: f64,
    ndigits: u8,
}

fn call(interpreter: &str) -> Result<()> {
    let python = || python::Process::builder().interpreter(interpreter);
    let factorial = python().spawn::<u128, _>("math", "factorial", (30,))?;
    let mean = python().spawn::<f64, _>("statistics", "mean", ([1.0, 2.0, 6.0],))?;
    println!("  30! = {}", factorial.join()?);
    println!("  the mean is {}", mean.join()?);

    // The fields of a struct are keyword arguments.
    let rounding = Rounding {
        number: std::f64::consts::E,
        ndigits: 2,
    };
    let rounded: python::Process<f64> = python().spawn("builtins", "round", rounding)?;
    println!("  e is about {}", rounded.join()?);
    Ok(())
}

fn fail(interpreter: &str) -> Result<()> {
    let process: python::Process<u64> =
        python::Process::builder()
            .interpreter(interpreter)
            .spawn("math", "factorial", (-1,))?;
    match process.join() {
        Err(JoinError::Raised(exception)) => println!("  {exception}"),
        other => println!("  not what was expected: {other:?}"),
    }
    Ok(())
}

fn share(interpreter: &str) -> Result<()> {
    let modules = std::env::temp_dir().join(format!("with_python-{}", std::process::id()));
    std::fs::create_dir_all(&modules).expect("a directory for the module");
    std::fs::write(modules.join("worker.py"), WORKER).expect("the module");

    let samples: Queue<Option<Vec<f64>>> = Queue::new()?;
    let summaries: Queue<Summary> = Queue::new()?;
    let worker: python::Process<()> = python::Process::builder()
        .interpreter(interpreter)
        .env("PYTHONPATH", &modules)
        .spawn("worker", "describe", (samples.clone(), summaries.clone()))?;
    for sample in [vec![1.0, 2.0, 6.0], vec![5.0, 5.0]] {
        samples.put(Some(sample))?;
        let Summary { mean, median } = summaries.get()?;
        println!("  mean {mean}, median {median}");
    }
    samples.put(None)?;
    worker.join()?;
    std::fs::remove_dir_all(&modules).expect("the directory is still there");
    Ok(())
}

fn main() -> Result<()> {
    let interpreter = std::env::args().nth(1);
    let interpreter = interpreter.as_deref().unwrap_or("python3");
    println!("Functions");
    call(interpreter)?;
    println!("An exception");
    fail(interpreter)?;
    println!("Queues");
    share(interpreter)
}
