//! Writes a thumbnail of each image in a folder, on all cores:
//!
//!     cargo run --release -p procession --example thumbnails -- SOURCE TARGET [--size N] [--workers N]
//!
//! A worker process decodes each file. A file that is broken, makes the decoder panic or crash, or takes longer
//! than 30 seconds costs a line in the report; the others are still processed.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use image::{DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, ImageResult};
use procession::Pool;

const USAGE: &str = "usage: thumbnails SOURCE TARGET [--size N] [--workers N]";
const TIME_LIMIT: Duration = Duration::from_secs(30);

type Size = (u32, u32);

struct Options {
    source: PathBuf,
    target: PathBuf,
    size: u32,
    workers: Option<usize>,
}

fn main() -> ExitCode {
    procession::init(); // workers enter here
    match options(env::args_os().skip(1)).and_then(|options| run(&options)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("thumbnails: {error}");
            ExitCode::from(2)
        }
    }
}

fn options(mut args: impl Iterator<Item = OsString>) -> Result<Options, Box<dyn Error>> {
    let (mut folders, mut size, mut workers) = (Vec::new(), 128, None);
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()?
                .to_str()?
                .parse()
                .ok()
                .filter(|&number: &u32| number > 0)
        };
        match arg.to_str() {
            Some("--size") => size = number().ok_or("--size takes a number above 0")?,
            Some("--workers") => {
                workers = Some(number().ok_or("--workers takes a number above 0")? as usize)
            }
            Some(option) if option.starts_with("--") => return Err(USAGE.into()),
            _ => folders.push(PathBuf::from(arg)),
        }
    }
    let [source, target] = folders.try_into().map_err(|_| USAGE)?;
    Ok(Options {
        source,
        target,
        size,
        workers,
    })
}

/// Runs everything and returns the number of files that failed.
fn run(options: &Options) -> Result<usize, Box<dyn Error>> {
    let start = Instant::now();
    let Options {
        source,
        target,
        workers,
        ..
    } = options;
    let names = images(source).map_err(|error| format!("{}: {error}", source.display()))?;
    fs::create_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    if source.canonicalize()? == target.canonicalize()? {
        return Err("SOURCE and TARGET are the same folder".into());
    }

    let mut pool = Pool::builder().name("thumbnails").task_timeout(TIME_LIMIT);
    if let Some(workers) = workers {
        pool = pool.workers(*workers);
    }
    let pool = pool.build()?;

    let report = report(&pool, options, &names);
    pool.terminate(); // all is done, or there is nobody left to tell
    let failed = report?;
    let (done, seconds) = (names.len() - failed, start.elapsed().as_secs_f64());
    writeln!(
        io::stdout(),
        "{done} of {} thumbnails made, {failed} failed, in {seconds:.1} s",
        names.len()
    )?;
    Ok(failed)
}

/// Creates the thumbnails and prints a line for each, in the order of completion.
fn report(pool: &Pool, options: &Options, names: &[OsString]) -> Result<usize, Box<dyn Error>> {
    let Options {
        source,
        target,
        size,
        ..
    } = options;
    let tasks = names
        .iter()
        .map(|name| (source.join(name).into(), target.join(name).into(), *size));
    let (mut failed, mut out) = (0, io::stdout());
    for (place, result) in pool.imap_unordered(thumbnail, tasks)? {
        let name = names[place].display();
        // The outer error is the pool's (a panic, a crash, the time limit), the inner one the
        // function's.
        match result.map_err(|error| error.to_string()).flatten() {
            Ok(((w, h), (width, height))) => {
                writeln!(out, "{name}: {w} x {h} -> {width} x {height}")?
            }
            Err(reason) => {
                failed += 1;
                writeln!(out, "{name}: failed: {reason}")?;
            }
        }
    }
    Ok(failed)
}

/// Returns the names of the images in a folder, in order.
fn images(folder: &Path) -> io::Result<Vec<OsString>> {
    let is_image =
        |name: &OsStr| ImageFormat::from_path(name).is_ok_and(|format| format.reading_enabled());
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let mut names: Vec<_> = names.collect::<io::Result<_>>()?;
    names.retain(|name| is_image(name) && !folder.join(name).is_dir());
    names.sort();
    Ok(names)
}

/// Processes one file in a worker. Returns the size of the image and of its thumbnail, or why there is none.
fn thumbnail(source: OsString, target: OsString, limit: u32) -> Result<(Size, Size), String> {
    shrink(source.as_ref(), target.as_ref(), limit).map_err(|error| error.to_string())
}

fn shrink(source: &Path, target: &Path, limit: u32) -> ImageResult<(Size, Size)> {
    let reader = ImageReader::open(source)?.with_guessed_format()?;
    let format = reader.format().unwrap_or(ImageFormat::Png);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);

    let original = image.dimensions();
    if original.0.max(original.1) > limit {
        image = image.thumbnail(limit, limit);
    }
    let mut bytes = Vec::new(); // a worker that dies while it encodes leaves no half a file
    image.write_to(&mut Cursor::new(&mut bytes), format)?;
    fs::write(target, bytes)?;
    Ok((original, image.dimensions()))
}
