//! Fetches one address and returns one [`Outcome`], whatever happens: the work of a pool worker.
//!
//! A worker keeps one agent for all its pages, so it reuses connections.

use std::io;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::StatusCode;

use crate::outcome::{Kind, Outcome};

const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MOST_REDIRECTS: u32 = 10;
const TEMPORARY_STATUS: [u16; 6] = [408, 429, 500, 502, 503, 504];

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(MOST_REDIRECTS)
        .build()
        .into()
});

/// How long to wait for a response, and how often to retry.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct RetryPolicy {
    pub timeout: f64,
    pub retries: u32,
}

impl RetryPolicy {
    /// Returns the wait after the given failed attempt (1, 2, ...): each is twice the previous one.
    fn pause_after(self, attempt: u32) -> Duration {
        let doublings = (attempt - 1).min(16);
        LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(doublings))
    }
}

/// Requests the address, and retries after a pause while that may help.
pub fn fetch(address: String, policy: RetryPolicy) -> Outcome {
    let started = Instant::now();
    let mut attempt = 1;
    let mut outcome = ask_once(&address, policy.timeout);
    while may_succeed_later(&outcome) && attempt <= policy.retries {
        thread::sleep(policy.pause_after(attempt));
        attempt += 1;
        outcome = ask_once(&address, policy.timeout);
    }
    Outcome {
        attempts: attempt,
        seconds: started.elapsed().as_secs_f64(),
        ..outcome
    }
}

fn may_succeed_later(outcome: &Outcome) -> bool {
    match outcome.status {
        Some(status) => TEMPORARY_STATUS.contains(&status),
        None => matches!(
            outcome.kind,
            Kind::Refused | Kind::Unreachable | Kind::TimedOut | Kind::Broken
        ),
    }
}

fn ask_once(address: &str, timeout: f64) -> Outcome {
    match answer(address, timeout) {
        Ok((status, size)) => answered(address, status, size),
        Err(error) => {
            let (kind, detail) = explain(&error, timeout);
            Outcome::failed(address, kind, detail)
        }
    }
}

/// Returns the status and the number of bytes of the body, which is discarded.
fn answer(address: &str, timeout: f64) -> Result<(StatusCode, u64), ureq::Error> {
    let mut response = AGENT
        .get(address)
        .config()
        .timeout_global(Some(Duration::from_secs_f64(timeout)))
        .build()
        .call()?;
    let size = io::copy(&mut response.body_mut().as_reader(), &mut io::sink())?;
    Ok((response.status(), size))
}

fn answered(address: &str, status: StatusCode, size: u64) -> Outcome {
    let kind = match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        status if status.as_u16() >= 400 => Kind::BadStatus,
        _ => Kind::Ok,
    };
    let detail = match kind {
        Kind::Ok => "",
        _ => status.canonical_reason().unwrap_or("unknown status"),
    };
    Outcome {
        status: Some(status.as_u16()),
        size,
        ..Outcome::failed(address, kind, detail)
    }
}

fn explain(error: &ureq::Error, timeout: f64) -> (Kind, String) {
    let too_late = || (Kind::TimedOut, format!("no answer within {timeout} s"));
    match error {
        ureq::Error::Timeout(_) => too_late(),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => too_late(),
            io::ErrorKind::ConnectionRefused => (Kind::Refused, "connection refused".into()),
            _ => broken(&error.to_string()),
        },
        ureq::Error::HostNotFound => (Kind::Unreachable, "host not found".into()),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => (Kind::Malformed, error.to_string()),
        ureq::Error::TooManyRedirects => (
            Kind::BadStatus,
            format!("more than {MOST_REDIRECTS} redirects"),
        ),
        _ => broken(&error.to_string()),
    }
}

/// The standard library has no error kind for a name that cannot be resolved.
fn broken(reason: &str) -> (Kind, String) {
    match reason.strip_prefix("failed to lookup address information: ") {
        Some(reason) => (Kind::Unreachable, format!("host not found: {reason}")),
        None => (Kind::Broken, reason.to_owned()),
    }
}
