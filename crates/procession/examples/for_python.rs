//! Functions for Python programs to run in other processes; `examples/with_rust.py` does.
//!
//! `cargo build --release -p procession --features python --example for_python`

use procession::python::{self, Queue};

/// Returns the number of primes below a limit.
fn primes_below(limit: usize) -> usize {
    let mut is_prime = vec![true; limit];
    let mut count = 0;
    for n in 2..limit {
        if is_prime[n] {
            count += 1;
            (n * n..limit)
                .step_by(n)
                .for_each(|multiple| is_prime[multiple] = false);
        }
    }
    count
}

/// Counts the words of each text until the queue is closed.
fn count_words(texts: Queue<Option<String>>, counts: Queue<(String, usize)>) {
    while let Some(text) = texts.get().expect("a text or none") {
        let words = text.split_whitespace().count();
        counts.put((text, words)).expect("the queue is open");
    }
}

fn main() {
    python::export!(primes_below, count_words);
    procession::init();
    eprintln!("This program has functions for Python: python examples/with_rust.py");
}
