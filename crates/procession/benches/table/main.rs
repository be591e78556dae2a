//! `cargo bench --bench table`: Procession between processes, compared with threads of one process, which are
//! the upper bound. `-- --only Queue` selects rows, `-- --repeat 9` takes more readings.

mod harness;
mod processes;
mod threads;

use harness::{Row, Side};

const OURS: &str = "Procession, processes";

const ROWS: &[Row] = &[
    Row {
        name: "Queue of u64, one to one",
        unit: "messages/s",
        sides: &[
            Side {
                name: OURS,
                rate: processes::queue_stream,
            },
            Side {
                name: "crossbeam-channel, threads",
                rate: threads::crossbeam_stream,
            },
            Side {
                name: "std::sync::mpsc, threads",
                rate: threads::std_stream,
            },
        ],
    },
    Row {
        name: "Queue of 1 MiB, one to one",
        unit: "messages/s",
        sides: &[
            Side {
                name: "Procession, loans",
                rate: processes::loan_stream,
            },
            Side {
                name: "Procession, Vec<u8> by serde",
                rate: processes::vec_stream,
            },
        ],
    },
    Row {
        name: "Pipe, ping-pong of a u64",
        unit: "round trips/s",
        sides: &[
            Side {
                name: OURS,
                rate: processes::pipe_ping_pong,
            },
            Side {
                name: "crossbeam-channel, threads",
                rate: threads::crossbeam_ping_pong,
            },
            Side {
                name: "std::sync::mpsc, threads",
                rate: threads::std_ping_pong,
            },
        ],
    },
    Row {
        name: "Pool(2)::map",
        unit: "tasks/s",
        sides: &[Side {
            name: OURS,
            rate: processes::pool_map,
        }],
    },
    Row {
        name: "Pool(2)::map_chunked by one",
        unit: "tasks/s",
        sides: &[Side {
            name: OURS,
            rate: processes::pool_map_single,
        }],
    },
    Row {
        name: "Pool(2)::apply",
        unit: "tasks/s",
        sides: &[Side {
            name: OURS,
            rate: processes::pool_apply,
        }],
    },
    Row {
        name: "Process, start and join",
        unit: "processes/s",
        sides: &[
            Side {
                name: OURS,
                rate: processes::start,
            },
            Side {
                name: "std::process::Command",
                rate: processes::bare_start,
            },
        ],
    },
    Row {
        name: "Lock, free",
        unit: "turns/s",
        sides: &[
            Side {
                name: OURS,
                rate: processes::lock,
            },
            Side {
                name: "std::sync::Mutex",
                rate: threads::std_mutex,
            },
        ],
    },
];

fn main() {
    procession::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        arguments.get(at + 1).map(String::as_str)
    };
    if arguments
        .iter()
        .any(|argument| argument == processes::NOTHING)
    {
        return;
    }
    if let [option, row, side] = arguments.as_slice()
        && option == harness::ONE
    {
        return harness::print_one(ROWS, row, side);
    }
    let repeat = after("--repeat")
        .and_then(|number| number.parse().ok())
        .unwrap_or(5);
    print!(
        "{}",
        harness::table(ROWS, after("--only").unwrap_or(""), repeat)
    );
}
