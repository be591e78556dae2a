//! The standard streams of a process.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;

use crate::error::{Error, os};

/// Where a standard stream of a process leads.
///
/// # Examples
/// ```
/// use procession::{Process, Stdio};
/// use std::io::Read;
///
/// fn speak() {
///     println!("hello");
/// }
///
/// # fn main() -> procession::Result<()> {
/// # procession::init();
/// let mut process = Process::builder().stdout(Stdio::piped()).spawn(speak, ())?;
/// let mut said = String::new();
/// let mut stdout = process.stdout.take().expect("it is piped");
/// stdout.read_to_string(&mut said).unwrap();
/// assert_eq!(said, "hello\n");
/// process.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// To the same place as this process's own stream.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// To this process, which has the other end in [`Process::stdin`](crate::Process::stdin),
    /// [`stdout`](crate::Process::stdout) or [`stderr`](crate::Process::stderr).
    Piped,
    /// To a file, a pipe or a socket.
    To(OwnedFd),
}

impl Stdio {
    /// Uses this process's own stream. This is the default.
    pub fn inherit() -> Stdio {
        Stdio::Inherit
    }

    /// Reads the end of the stream at once, and discards all output.
    pub fn null() -> Stdio {
        Stdio::Null
    }

    /// Connects the stream to this process through a pipe.
    ///
    /// A process that writes more than the pipe holds waits until it is read.
    pub fn piped() -> Stdio {
        Stdio::Piped
    }
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(stream: T) -> Stdio {
        Stdio::To(stream.into())
    }
}

/// This process's ends of another process's streams.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: Option<PipeReader>,
    pub(super) stderr: Option<PipeReader>,
}

/// Opens the streams. Returns the descriptors for the child, and the ends that stay here.
pub(super) fn open(streams: [Stdio; 3]) -> Result<([Option<OwnedFd>; 3], Ends), Error> {
    let writing = |(theirs, ours): (PipeReader, PipeWriter)| (theirs.into(), ours);
    let reading = |(ours, theirs): (PipeReader, PipeWriter)| (theirs.into(), ours);
    let [stdin, stdout, stderr] = streams;
    let (their_stdin, stdin) = open_one(stdin, writing)?;
    let (their_stdout, stdout) = open_one(stdout, reading)?;
    let (their_stderr, stderr) = open_one(stderr, reading)?;
    let ends = Ends {
        stdin,
        stdout,
        stderr,
    };
    Ok(([their_stdin, their_stdout, their_stderr], ends))
}

fn open_one<End>(
    stream: Stdio,
    split: impl FnOnce((PipeReader, PipeWriter)) -> (OwnedFd, End),
) -> Result<(Option<OwnedFd>, Option<End>), Error> {
    Ok(match stream {
        Stdio::Inherit => (None, None),
        Stdio::To(fd) => (Some(fd), None),
        Stdio::Null => {
            let open = File::options().read(true).write(true).open("/dev/null");
            (Some(open.map_err(os("open /dev/null"))?.into()), None)
        }
        Stdio::Piped => {
            let (theirs, ours) = split(std::io::pipe().map_err(os("make a pipe"))?);
            (Some(theirs), Some(ours))
        }
    })
}
