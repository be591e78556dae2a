//! Isolates a C function that crashes on some inputs.
//!
//! `cargo run -p procession --example crash_isolation`
//!
//! A pool worker handles each input. When the C function kills its process, that input's result is an error,
//! the worker is replaced, and the other inputs continue.

use std::ffi::{CString, c_char};

use procession::{Pool, Result};

unsafe extern "C" {
    /// From the C library. It reads from any address it gets.
    fn strlen(text: *const c_char) -> usize;
}

/// A typical binding to a C library, with a bug: an empty text becomes a null pointer.
fn length(text: String) -> usize {
    let text = CString::new(text).expect("no text with a zero in it is given");
    let pointer = match text.is_empty() {
        true => std::ptr::null(),
        false => text.as_ptr(),
    };
    // SAFETY: violated for an empty text. That is why this runs in another process.
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
