//! The Rust side of `tests/rust/test_rust.py`: functions for Python to start, and a command line that starts Python.

mod any;
mod exports;
mod starts;

fn main() {
    exports::export();
    procession::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = match args[..] {
        ["call", interpreter, module, function, args] => {
            starts::call(interpreter, module, function, args)
        }
        ["queues", interpreter] => starts::queues(interpreter),
        ["foreign-messages", interpreter] => starts::foreign_messages(interpreter),
        ["event-and-lock", interpreter] => starts::event_and_lock(interpreter),
        ["kill", interpreter] => starts::kill(interpreter),
        ["select", interpreter] => starts::select(interpreter),
        ["bad-arguments", interpreter] => starts::bad_arguments(interpreter),
        ["own-queue", interpreter] => starts::own_queue(interpreter),
        ["daemon", interpreter] => starts::daemon(interpreter),
        ["settings", interpreter] => starts::settings(interpreter),
        ["nothing-left", interpreter] => starts::nothing_left(interpreter),
        _ => panic!("no such part: {args:?}"),
    };
    println!("{said}");
}
