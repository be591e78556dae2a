//! The scraper prints one line per address, whatever happens to it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);

/// A site in this process that records its requests.
struct Site {
    port: u16,
    asked: Arc<Mutex<HashMap<String, u32>>>,
    hanging: Receiver<()>,
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let (hangs, hanging) = channel();
        let memory = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (memory, hangs) = (Arc::clone(&memory), hangs.clone());
                thread::spawn(move || converse(&connection, &memory, &hangs));
            }
        });
        Self {
            port,
            asked,
            hanging,
        }
    }

    fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked_for(&self, path: &str) -> u32 {
        *self
            .asked
            .lock()
            .expect("not poisoned")
            .get(path)
            .unwrap_or(&0)
    }
}

fn converse(connection: &TcpStream, asked: &Mutex<HashMap<String, u32>>, hangs: &Sender<()>) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        let path = request.split(' ').nth(1).expect("a path").to_owned();
        let _headers = lines.by_ref().take_while(|line| !line.is_empty()).count();
        let times = {
            let mut asked = asked.lock().expect("not poisoned");
            let times = asked.entry(path.clone()).or_insert(0);
            *times += 1;
            *times
        };
        match path.as_str() {
            "/missing" => answer(connection, "404 Not Found"),
            "/unwell" if times <= 2 => answer(connection, "503 Service Unavailable"),
            "/hang" => {
                let _ = hangs.send(());
                thread::park_timeout(LIMIT);
                return;
            }
            "/deadly" => {
                let client = connection.peer_addr().expect("a client").port();
                kill(process_behind(client), Signal::SIGKILL).expect("it lives");
                return;
            }
            _ => answer(connection, "200 OK"),
        }
    }
}

fn answer(mut connection: &TcpStream, status: &str) {
    let body = "Hello from the site!\n";
    let length = body.len();
    // A client that has disconnected needs no response.
    let _ = write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
}

/// Returns the process with the client's end of a connection from this local port.
fn process_behind(port: u16) -> Pid {
    let table = fs::read_to_string("/proc/net/tcp").expect("a table of connections");
    let local = format!(":{port:04X}");
    let inode = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>())
        .find(|row| row[1].ends_with(&local) && row[9] != "0")
        .map(|row| format!("socket:[{}]", row[9]))
        .expect("the connection is in the table");
    let holds_it = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        descriptors
            .filter_map(|each| fs::read_link(each.path()).ok())
            .any(|target| target.as_os_str() == inode.as_str())
    };
    fs::read_dir("/proc")
        .expect("processes")
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .find(|(_, process)| holds_it(process))
        .map(|(pid, _)| Pid::from_raw(pid))
        .expect("somebody holds the connection")
}

/// Cargo puts examples beside the folder of the tests built with them.
fn scraper() -> PathBuf {
    let test = env::current_exe().expect("this test has a path");
    let built = test.ancestors().nth(2).expect("it lies in target/*/deps");
    let scraper = built.join("examples/scrape");
    assert!(
        scraper.exists(),
        "build it first: cargo build --example scrape"
    );
    scraper
}

fn start(arguments: &[String]) -> Child {
    Command::new(scraper())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("the scraper starts")
}

/// Waits for the scraper to end, and kills it if it hangs.
fn end_of(scraper: Child) -> Output {
    let group = Pid::from_raw(i32::try_from(scraper.id()).expect("a pid"));
    let (ended, heard) = channel();
    thread::spawn(move || ended.send(scraper.wait_with_output()));
    match heard.recv_timeout(LIMIT) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            killpg(group, Signal::SIGKILL).expect("it can be killed");
            panic!("the scraper hung");
        }
    }
}

/// Returns its sorted output lines, its standard error, and its exit status.
fn scrape(arguments: &[String]) -> (Vec<String>, String, Option<i32>) {
    let output = end_of(start(arguments));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    (
        lines,
        String::from_utf8(output.stderr).expect("text"),
        output.status.code(),
    )
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&each| each.to_owned()).collect()
}

#[test]
fn each_page_gets_its_line() {
    let site = Site::start();
    let addresses: Vec<String> = (0..20)
        .map(|page| site.address(&format!("/page/{page}")))
        .collect();
    let (lines, told, status) = scrape(&addresses);
    let mut expected: Vec<String> = addresses
        .iter()
        .map(|each| format!("URL: {each}, Status Code: 200"))
        .collect();
    expected.sort();
    assert_eq!(lines, expected);
    assert!(told.contains("20 of 20 addresses: 20 ok"), "{told}");
    assert_eq!(status, Some(0));
}

#[test]
fn what_fails_gets_its_own_line_and_stops_nothing() {
    let site = Site::start();
    let refusing = {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        format!("http://{}/", closed.local_addr().expect("an address"))
    };
    let (missing, hang, fine) = (
        site.address("/missing"),
        site.address("/hang"),
        site.address("/fine"),
    );
    let mut arguments = strings(&["--retries", "0", "--timeout", "2", "no-scheme.example"]);
    arguments.extend([&missing, &refusing, &hang, &fine].map(Clone::clone));
    let (lines, _, status) = scrape(&arguments);
    let mut expected = vec![
        "URL: no-scheme.example, Failed: malformed (no scheme: put http:// or https:// in front)"
            .to_owned(),
        format!("URL: {missing}, Status Code: 404 (Not Found)"),
        format!("URL: {refusing}, Failed: refused (connection refused)"),
        format!("URL: {hang}, Failed: timed out (no answer within 2 s)"),
        format!("URL: {fine}, Status Code: 200"),
    ];
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(status, Some(1));
}

#[test]
fn a_passing_failure_is_asked_again() {
    let site = Site::start();
    let address = site.address("/unwell");
    let (lines, _, status) = scrape(&strings(&["--retries", "3", &address]));
    assert_eq!(
        lines,
        [format!("URL: {address}, Status Code: 200 (3 attempts)")]
    );
    assert_eq!(site.asked_for("/unwell"), 3);
    assert_eq!(status, Some(0));
}

#[test]
fn json_and_csv_can_be_read_back() {
    let site = Site::start();
    let (fine, missing) = (site.address("/fine"), site.address("/missing"));
    let json = end_of(start(&strings(&["--format", "json", &fine, &missing]))).stdout;
    let document: serde_json::Value = serde_json::from_slice(&json).expect("one document");
    assert_eq!(document["outcomes"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["summary"]["kinds"]["not found"], 1);
    let csv = end_of(start(&strings(&[
        "--format",
        "csv",
        &fine,
        "nonsense, with a comma",
    ])))
    .stdout;
    let mut rows: Vec<Vec<String>> = csv::Reader::from_reader(csv.as_slice())
        .records()
        .map(|row| {
            row.expect("a row")
                .iter()
                .take(3)
                .map(str::to_owned)
                .collect()
        })
        .collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            [&fine, "ok", "200"],
            ["nonsense, with a comma", "malformed", ""]
        ]
    );
}

#[test]
fn a_worker_that_dies_costs_one_line() {
    let site = Site::start();
    let mut addresses: Vec<String> = (0..12)
        .map(|page| site.address(&format!("/page/{page}")))
        .collect();
    addresses.insert(4, site.address("/deadly"));
    let (lines, _, status) = scrape(&[strings(&["--processes", "2"]), addresses].concat());
    let (fetched, failed): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| line.ends_with("Status Code: 200"));
    assert_eq!(fetched.len(), 12);
    assert_eq!(failed.len(), 1);
    let told = format!("URL: {}, Failed: worker died (", site.address("/deadly"));
    assert!(
        failed[0].starts_with(&told) && failed[0].contains("SIGKILL"),
        "{}",
        failed[0]
    );
    assert_eq!(status, Some(1));
}

#[test]
fn interrupt_ends_with_what_there_is() {
    let site = Site::start();
    let (fine, hang) = (site.address("/fine"), site.address("/hang"));
    let mut scraper = start(&strings(&["--timeout", "600", &fine, &hang]));
    let group = Pid::from_raw(i32::try_from(scraper.id()).expect("a pid"));
    let mut out = scraper.stdout.take().expect("piped");
    let mut first = vec![0; format!("URL: {fine}, Status Code: 200\n").len()];
    out.read_exact(&mut first)
        .expect("the page that answers is told first");
    site.hanging
        .recv_timeout(LIMIT)
        .expect("the page that hangs was asked for");
    killpg(group, Signal::SIGINT).expect("it runs");
    let output = end_of(scraper);
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains("1 of 2 addresses: 1 ok"), "{told}");
    assert!(
        told.contains("interrupted: 1 addresses have no outcome"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(130));
}

#[test]
fn without_addresses_a_local_site_is_scraped() {
    let (lines, told, status) = scrape(&[]);
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(
        (lines.len(), count("Code: 200"), count("Code: 404")),
        (200, 189, 10)
    );
    assert_eq!(count("Failed: timed out"), 1);
    assert_eq!(
        told.matches("200 of 200 addresses: 189 ok, 10 not found, 1 timed out")
            .count(),
        2
    );
    assert!(told.contains("4 processes were "), "{told}");
    assert_eq!(status, Some(0));
}

#[test]
fn passwords_stay_hidden_and_only_processes_that_ran_are_counted() {
    let site = Site::start();
    let (fine, user) = (site.address("/fine"), "http://user:");
    let secret = fine.replace("http://", "http://user:se@cret@");
    let arguments = ["--processes", "900", &secret, "user:se@cret@no-scheme"];
    let (lines, told, _) = scrape(&strings(&arguments));
    let shown = fine.replace("http://", "***@");
    let malformed = "malformed (no scheme: put http:// or https:// in front)";
    assert_eq!(
        lines,
        [
            format!("URL: {user}{shown}, Status Code: 200"),
            format!("URL: user:***@no-scheme, Failed: {malformed}"),
        ]
    );
    assert!(told.contains("with 1 process:"), "{told}");
}

#[test]
fn nothing_asked_for_has_no_rate_and_an_error_names_its_option() {
    let (_, told, _) = scrape(&strings(&["nonsense"]));
    assert_eq!(told, "1 of 1 addresses: 1 malformed\n");
    for arguments in [["--processes", "5000"], ["--output", "/nonexistent/report"]] {
        let (_, told, status) = scrape(&strings(&arguments));
        assert!(told.contains(arguments[0]), "{told}");
        assert_eq!(status, Some(2));
    }
}
