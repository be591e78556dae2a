//! procspawn: starts this program again, with a function and its argument.

use crate::harness::{clocked, steady};

pub fn start() -> f64 {
    steady(|n| {
        clocked(|| {
            for _ in 0..n {
                procspawn::spawn((), |()| ()).join().expect("it ends well");
            }
        })
    })
}
