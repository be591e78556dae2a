//! Computes the CRC-32 of a large file, each part in another process.
//!
//! `cargo run --release -p procession --example checksums -- FILE`
//!
//! Workers read their parts themselves. Only the offset of a part and its checksum are sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use crc32fast::Hasher;
use procession::Pool;
use serde::{Deserialize, Serialize};

const PART: u64 = 16 << 20;
const BUFFER: usize = 1 << 20;

/// A part of a file.
#[derive(Serialize, Deserialize)]
struct Part {
    path: PathBuf,
    start: u64,
    length: u64,
}

/// Returns the checksum of a part, or why it could not be read.
fn checksum(part: Part) -> Result<u32, String> {
    read_through(&part).map_err(|error| format!("{}: {error}", part.path.display()))
}

fn read_through(part: &Part) -> io::Result<u32> {
    let file = File::open(&part.path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut done = 0;
    while done < part.length {
        let wanted = usize::try_from(part.length - done).map_or(BUFFER, |left| left.min(BUFFER));
        file.read_exact_at(&mut buffer[..wanted], part.start + done)?;
        hasher.update(&buffer[..wanted]);
        done += wanted as u64;
    }
    Ok(hasher.finalize())
}

fn parts(path: &Path) -> io::Result<Vec<Part>> {
    let size = path.metadata()?.len();
    let starts = (0..size).step_by(PART as usize);
    let part = |start| Part {
        path: path.to_owned(),
        start,
        length: PART.min(size - start),
    };
    Ok(starts.map(part).collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();
    let path = env::args_os().nth(1).ok_or("which file? Give its path")?;
    let path = PathBuf::from(path);
    let parts = parts(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lengths: Vec<u64> = parts.iter().map(|part| part.length).collect();

    let pool = Pool::builder().build()?;
    let mut whole = Hasher::new();
    for (sum, length) in pool.imap(checksum, parts)?.zip(lengths) {
        whole.combine(&Hasher::new_with_initial_len(sum??, length));
    }
    println!("{:08x}  {}", whole.finalize(), path.display());
    Ok(())
}
