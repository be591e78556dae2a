//! iceoryx2: publishers and subscribers. Receivers poll and never sleep.

use std::process::Command;

use iceoryx2::port::{publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;

use crate::harness::{clocked, steady};

/// The arguments that start this program as the other side: `CHILD SERVICE`.
pub const CHILD: &str = "--iceoryx-child";

const STOP: u64 = u64::MAX;

type Ends = (
    Publisher<ipc::Service, u64, ()>,
    Subscriber<ipc::Service, u64, ()>,
);

/// Opens both ends. Returns once the other side has opened both of its own.
fn ends(out: &str, back: &str) -> (Node<ipc::Service>, Ends) {
    let node = NodeBuilder::new().create::<ipc::Service>().expect("a node");
    let service = |name: &str| {
        let name = ServiceName::new(name).expect("a name");
        node.service_builder(&name)
            .publish_subscribe::<u64>()
            .open_or_create()
            .expect("a service")
    };
    let (out, back) = (service(out), service(back));
    let subscriber = back.subscriber_builder().create().expect("a subscriber");
    let publisher = out.publisher_builder().create().expect("a publisher");
    while out.dynamic_config().number_of_subscribers() == 0
        || back.dynamic_config().number_of_publishers() == 0
    {
        std::thread::yield_now();
    }
    (node, (publisher, subscriber))
}

fn send(publisher: &Publisher<ipc::Service, u64, ()>, number: u64) {
    let sample = publisher.loan_uninit().expect("room");
    sample.write_payload(number).send().expect("a subscriber");
}

fn receive(subscriber: &Subscriber<ipc::Service, u64, ()>) -> u64 {
    loop {
        if let Some(sample) = subscriber.receive().expect("no failure") {
            return *sample;
        }
        std::hint::spin_loop();
    }
}

pub fn child(service: &str) {
    let (_node, (publisher, subscriber)) =
        ends(&format!("{service}/back"), &format!("{service}/out"));
    loop {
        match receive(&subscriber) {
            STOP => return,
            number => send(&publisher, number),
        }
    }
}

pub fn ping_pong() -> f64 {
    set_log_level(LogLevel::Error);
    let service = format!("bench/{}", std::process::id());
    let exe = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(exe)
        .args([CHILD, &service])
        .spawn()
        .expect("a process");
    let (_node, (publisher, subscriber)) =
        ends(&format!("{service}/out"), &format!("{service}/back"));
    let trip = |i| {
        send(&publisher, i);
        assert_eq!(receive(&subscriber), i);
    };
    let rate = steady(|n| clocked(|| (0..n).for_each(trip)));
    send(&publisher, STOP);
    child.wait().expect("it ends");
    rate
}
