//! Counts the most frequent words of the text files in a folder: maps in processes, reduces here.
//!
//! `cargo run --release -p procession --example word_count -- FOLDER`

use std::collections::HashMap;
use std::path::PathBuf;
use std::{env, fs};

use procession::Pool;

type Counts = HashMap<String, u64>;

const SHOWN: usize = 10;

/// Counts each word in one file.
fn count(path: PathBuf) -> Result<Counts, String> {
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let mut counts = Counts::new();
    for word in text.split(|letter: char| !letter.is_alphanumeric()) {
        if !word.is_empty() {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    Ok(counts)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();
    let folder = env::args_os().nth(1).ok_or("which folder? Give its path")?;
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let files = entries.iter().map(fs::DirEntry::path);
    let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();

    let pool = Pool::builder().build()?;
    let mut all = Counts::new();
    for (_, counts) in pool.imap_unordered(count, files)? {
        match counts? {
            Ok(counts) => {
                for (word, number) in counts {
                    *all.entry(word).or_default() += number;
                }
            }
            Err(unreadable) => eprintln!("{unreadable}"),
        }
    }
    let mut all: Vec<(String, u64)> = all.into_iter().collect();
    all.sort_by(|(word, number), (other, than)| than.cmp(number).then(word.cmp(other)));
    for (word, number) in all.iter().take(SHOWN) {
        println!("{number:>8}  {word}");
    }
    Ok(())
}
