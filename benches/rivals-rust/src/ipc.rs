//! ipc-channel: channels over Unix sockets, and shared memory for large data.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory, channel};

use crate::harness::{clocked, steady};

/// The arguments that start this program as the other side: `CHILD KIND SERVER`.
pub const CHILD: &str = "--ipc-child";

const LARGE: usize = 64 << 20;

type Channels = (IpcSender<u64>, IpcReceiver<u64>);

/// Starts a child of that kind. Also returns its first message.
fn start<T: serde::de::DeserializeOwned + serde::Serialize>(kind: &str) -> (Child, T) {
    let (server, name) = IpcOneShotServer::<T>::new().expect("a server");
    let exe = std::env::current_exe().expect("the path of this program");
    let child = Command::new(exe)
        .args([CHILD, kind, &name])
        .spawn()
        .expect("a process");
    let (_, first) = server.accept().expect("the child's first message");
    (child, first)
}

fn send_first<T: serde::de::DeserializeOwned + serde::Serialize>(server: &str, message: T) {
    let sender = IpcSender::connect(server.to_owned()).expect("the server");
    sender.send(message).expect("the parent lives");
}

/// The main function of the other side.
pub fn child(kind: &str, server: &str) {
    let (requests_out, requests) = channel::<u64>().expect("a channel");
    match kind {
        "echo" => {
            let (replies, replies_in) = channel::<u64>().expect("a channel");
            send_first::<Channels>(server, (requests_out, replies_in));
            while let Ok(number) = requests.recv() {
                replies.send(number).expect("the parent lives");
            }
        }
        "stream" => {
            let (numbers, numbers_in) = channel::<u64>().expect("a channel");
            send_first::<Channels>(server, (requests_out, numbers_in));
            while let Ok(count) = requests.recv() {
                (0..count).for_each(|i| numbers.send(i).expect("the parent lives"));
            }
        }
        "large" => {
            let (buffers, buffers_in) = channel::<IpcSharedMemory>().expect("a channel");
            send_first(server, (requests_out, buffers_in));
            let source = vec![7; LARGE];
            while let Ok(count) = requests.recv() {
                for _ in 0..count {
                    buffers
                        .send(IpcSharedMemory::from_bytes(&source))
                        .expect("the parent lives");
                }
            }
        }
        other => panic!("no such kind: {other}"),
    }
}

pub fn stream() -> f64 {
    let (mut child, (requests, numbers)) = start::<Channels>("stream");
    let rate = steady(|n| {
        clocked(|| {
            requests.send(n).expect("the child lives");
            (0..n).for_each(|i| assert_eq!(numbers.recv().expect("a message"), i));
        })
    });
    drop(requests);
    child.wait().expect("it ends");
    rate
}

pub fn ping_pong() -> f64 {
    let (mut child, (requests, replies)) = start::<Channels>("echo");
    let trip = |i| {
        requests.send(i).expect("the child lives");
        assert_eq!(replies.recv().expect("a reply"), i);
    };
    let rate = steady(|n| clocked(|| (0..n).for_each(trip)));
    drop(requests);
    child.wait().expect("it ends");
    rate
}

pub fn ping_pong_asleep() -> f64 {
    let (mut child, (requests, replies)) = start::<Channels>("echo");
    let rate = asleep(|i| {
        requests.send(i).expect("the child lives");
        assert_eq!(replies.recv().expect("a reply"), i);
    });
    drop(requests);
    child.wait().expect("it ends");
    rate
}

/// Round trips per second if both sides sleep before each one; the pauses do not count.
pub fn asleep(trip: impl Fn(u64)) -> f64 {
    const TRIPS: u64 = 400;
    let mut took = Duration::ZERO;
    for i in 0..TRIPS {
        std::thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        trip(i);
        took += started.elapsed();
    }
    TRIPS as f64 / took.as_secs_f64()
}

pub fn large() -> f64 {
    let (mut child, (requests, buffers)) =
        start::<(IpcSender<u64>, IpcReceiver<IpcSharedMemory>)>("large");
    let megabytes = LARGE as f64 / 1e6;
    let rate = steady(|n| {
        clocked(|| {
            requests.send(n).expect("the child lives");
            (0..n).for_each(|_| assert_eq!(buffers.recv().expect("a buffer")[LARGE - 1], 7));
        })
    });
    drop(requests);
    child.wait().expect("it ends");
    rate * megabytes
}
