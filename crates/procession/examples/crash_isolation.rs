//! A C function that crashes on some inputs, kept away from the program that needs it.
//!
//! `cargo run -p procession --example crash_isolation`
//!
//! Each input is given to a worker of a pool. Where the C function brings its process down, that input has an
//! error for a result, the worker is replaced, and the others go on.

use std::ffi::{CString, c_char};

use procession::{Pool, Result};

unsafe extern "C" {
    /// Of the C library. It reads wherever it is told to.
    fn strlen(text: *const c_char) -> usize;
}

/// What a binding to a C library looks like, with a bug in it: an empty text becomes a null pointer.
fn length(text: String) -> usize {
    let text = CString::new(text).expect("no text with a zero in it is given");
    let pointer = match text.is_empty() {
        true => std::ptr::null(),
        false => text.as_ptr(),
    };
    // SAFETY: there is none, for an empty text; that is why this runs in a process of its own.
    unsafe { strlen(std::hint::black_box(pointer)) }
}

fn main() -> Result<()> {
    procession::init();
    let texts = ["one", "three", "", "seventeen", ""].map(str::to_owned);
    let pool = Pool::new(2)?;
    let lengths = pool.imap(length, texts.clone())?;
    for (text, length) in texts.iter().zip(lengths) {
        match length {
            Ok(length) => println!("{text:?}: {length} bytes"),
            Err(error) => println!("{text:?}: {error}"),
        }
    }
    pool.join();
    Ok(())
}
