//! `cargo run --release`: Procession beside ipc-channel, procspawn and iceoryx2, all between processes.
//! `-- --only Queue` selects rows, `-- --repeat 9` repeats each measurement nine times.

#[path = "../../../crates/procession/benches/table/harness.rs"]
mod harness;
mod iceoryx;
mod ipc;
mod large;
#[path = "../../../crates/procession/benches/table/processes.rs"]
#[allow(dead_code)]
mod processes;
mod spawned;

use harness::{Row, Side};

const OURS: &str = "Procession";

const fn side(name: &'static str, rate: fn() -> f64) -> Side {
    Side { name, rate }
}

const ROWS: &[Row] = &[
    Row {
        name: "Queue of u64, one to one",
        unit: "messages/s",
        sides: &[
            side(OURS, processes::queue_stream),
            side("ipc-channel", ipc::stream),
        ],
    },
    Row {
        name: "Ping-pong of a u64, both spinning",
        unit: "round trips/s",
        sides: &[
            side(OURS, processes::pipe_ping_pong),
            side("iceoryx2", iceoryx::ping_pong),
            side("ipc-channel (sleeps)", ipc::ping_pong),
        ],
    },
    Row {
        name: "Ping-pong of a u64, both asleep before each",
        unit: "round trips/s",
        sides: &[
            side(OURS, large::ping_pong_asleep),
            side("ipc-channel", ipc::ping_pong_asleep),
        ],
    },
    Row {
        name: "64 MiB buffer, written once, read in place",
        unit: "MB/s",
        sides: &[
            side(OURS, large::stream),
            side("memcpy, one thread", large::memcpy),
            side("ipc-channel, shared memory", ipc::large),
        ],
    },
    Row {
        name: "Process, start and join",
        unit: "processes/s",
        sides: &[
            side(OURS, processes::start),
            side("procspawn", spawned::start),
        ],
    },
];

fn main() {
    procession::init();
    procspawn::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [harness::ONE, row, side] => return harness::print_one(ROWS, row, side),
        [ipc::CHILD, kind, server] => return ipc::child(kind, server),
        [iceoryx::CHILD, service] => return iceoryx::child(service),
        _ => {}
    }
    let after = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let repeat = after("--repeat")
        .and_then(|number| number.parse().ok())
        .unwrap_or(5);
    print!(
        "{}",
        harness::table(ROWS, after("--only").unwrap_or(""), repeat)
    );
}
