//! A local site to scrape: 200 pages, some missing, some slow, and one that never responds.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use procession::{Process, Sender};

use crate::outcome::Kind;

const PAGES: usize = 200;
const HANGING_PAGE: usize = 11;
const LONGEST_HANG: Duration = Duration::from_secs(60);
const LONGEST_START: Duration = Duration::from_secs(60);
const USUAL_DELAY: Duration = Duration::from_millis(10);
const SLOW_DELAY: Duration = Duration::from_millis(250);

/// The expected outcomes of the pages.
pub fn expected() -> BTreeMap<Kind, usize> {
    let mut kinds = BTreeMap::new();
    for page in 0..PAGES {
        *kinds.entry(kind_of(page)).or_default() += 1;
    }
    kinds
}

/// Returns the addresses of all pages.
pub fn addresses_of(port: u16) -> Vec<String> {
    (0..PAGES)
        .map(|page| format!("http://127.0.0.1:{port}/page/{page}"))
        .collect()
}

fn kind_of(page: usize) -> Kind {
    match page {
        HANGING_PAGE => Kind::TimedOut,
        page if is_missing(page) => Kind::NotFound,
        _ => Kind::Ok,
    }
}

/// One page in twenty is missing.
fn is_missing(page: usize) -> bool {
    page % 20 == 7
}

/// One page in ten is slow.
fn is_slow(page: usize) -> bool {
    page % 10 == 3
}

/// A running site. Dropping it ends the site.
#[derive(Debug)]
pub struct Site {
    pub port: u16,
    _process: Process<()>,
}

/// Starts the site in its own process, so that it takes no time from the measured ones.
pub fn start() -> procession::Result<Site> {
    let (sender, receiver) = procession::channel()?;
    let process = Process::builder()
        .name("site")
        .daemon(true)
        .kill_on_drop(true)
        .spawn(serve, sender)?;
    Ok(Site {
        port: receiver.recv_timeout(LONGEST_START)?,
        _process: process,
    })
}

/// Serves until killed, with a thread per connection. Sends the port to `sender`.
fn serve(sender: Sender<u16>) {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("this machine has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    sender.send(port).expect("the parent waits for the port");
    for connection in listener.incoming().flatten() {
        // A client that disconnects ends only its own connection.
        thread::spawn(move || converse(connection));
    }
}

fn converse(connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut requests = BufReader::new(connection.try_clone()?);
    let mut answers = connection;
    while let Some(path) = read_request(&mut requests)? {
        match page_of(&path) {
            Some(HANGING_PAGE) => {
                thread::sleep(LONGEST_HANG);
                return Ok(());
            }
            Some(page) if !is_missing(page) => {
                thread::sleep(if is_slow(page) {
                    SLOW_DELAY
                } else {
                    USUAL_DELAY
                });
                let paragraph = format!("<p>{}</p>\n", "words ".repeat(page + 1));
                let body = format!("<h1>Page {page}</h1>\n{}", paragraph.repeat(20));
                write_answer(&mut answers, "200 OK", &body)?;
            }
            _ => write_answer(
                &mut answers,
                "404 Not Found",
                "<h1>There is no such page</h1>\n",
            )?,
        }
    }
    Ok(())
}

/// Returns the path of the next request, or `None` when the client is done.
fn read_request(requests: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut request = String::new();
    requests.read_line(&mut request)?;
    let Some(path) = request.split_whitespace().nth(1) else {
        return Ok(None);
    };
    let mut header = String::new();
    while requests.read_line(&mut header)? > 0 && !header.trim_end().is_empty() {
        header.clear();
    }
    Ok(Some(path.to_owned()))
}

/// Send headers and body in one packet.
fn write_answer(out: &mut impl Write, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    out.write_all(answer.as_bytes())
}

fn page_of(path: &str) -> Option<usize> {
    let page = path.strip_prefix("/page/")?.parse().ok()?;
    (page < PAGES).then_some(page)
}
