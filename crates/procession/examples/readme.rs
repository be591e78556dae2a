//! The program of the README: a worker dies, and the pool goes on.

use procession::Pool;

fn reciprocal(n: u64) -> f64 {
    if n == 0 {
        std::process::abort(); // as a crash in C code would
    }
    1.0 / n as f64
}

fn main() -> procession::Result<()> {
    procession::init(); // workers enter here
    let pool = Pool::new(2)?;
    println!("{}", pool.map(reciprocal, [1, 0, 2]).unwrap_err());
    println!("{:?}", pool.map(reciprocal, [1, 2, 4])?); // [1.0, 0.5, 0.25]
    Ok(())
}
