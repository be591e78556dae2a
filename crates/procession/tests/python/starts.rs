//! Starts Python, and reports what happened.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::Duration;

use procession::python::{self, Queue};
use procession::{Error, Event, GetError, JoinError, Lock};
use procession_engine::process::memory_stats;
use serde_json::{Value, json};

use crate::any::Any;

fn started<R: serde::de::DeserializeOwned>(
    interpreter: &str,
    module: &str,
    function: &str,
    args: impl serde::Serialize,
) -> Result<python::Process<R>, Error> {
    python::Process::builder()
        .interpreter(interpreter)
        .spawn(module, function, args)
}

fn said(outcome: Result<Value, JoinError>) -> Value {
    match outcome {
        Ok(value) => json!({ "returned": value }),
        Err(JoinError::Raised(exception)) => json!({ "raised": exception }),
        Err(JoinError::Undelivered { reason, .. }) => json!({ "undelivered": reason }),
        Err(JoinError::Exited { code, .. }) => json!({ "exited": code }),
        Err(JoinError::Killed { signal, .. }) => json!({ "killed": signal }),
        Err(other) => json!({ "other": other.to_string() }),
    }
}

/// Calls a function with the contents of a JSON array, object or null.
pub fn call(interpreter: &str, module: &str, function: &str, args: &str) -> Value {
    let args: Value = serde_json::from_str(args).expect("JSON");
    match started(interpreter, module, function, args) {
        Ok(process) => said(process.join()),
        Err(Error::NoInterpreter { interpreter, .. }) => json!({ "no interpreter": interpreter }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// A worker that responds to each message until the queue is closed.
pub fn queues(interpreter: &str) -> Value {
    let questions: Queue<Vec<i64>> = Queue::bounded(2).unwrap();
    let answers: Queue<HashMap<String, Any>> = Queue::new().unwrap();
    let pair = (questions.clone(), answers.clone());
    let worker = started::<i64>(interpreter, "workers", "answer", (pair,)).unwrap();
    let mut all = Vec::new();
    for n in 0..5 {
        questions.put(vec![n, n + 1]).unwrap();
        let answer = answers.get().unwrap();
        all.push(format!("{:?} {:?}", answer["sum"], answer["bytes"]));
    }
    questions.close();
    json!([all, worker.join().unwrap()])
}

/// Messages that are not numbers or not plain data, and a number after them.
pub fn foreign_messages(interpreter: &str) -> Value {
    let queue: Queue<i64> = Queue::new().unwrap();
    started::<()>(interpreter, "workers", "put_anything", (queue.clone(),))
        .unwrap()
        .join()
        .unwrap();
    let got = || match queue.get_timeout(Duration::from_secs(60)) {
        Ok(n) => json!(n),
        Err(GetError::Failed(error)) => json!(error.to_string()),
        Err(other) => panic!("{other}"),
    };
    json!([got(), got(), got(), got()])
}

pub fn event_and_lock(interpreter: &str) -> Value {
    let (go, lock, held) = (
        Event::new().unwrap(),
        Lock::new().unwrap(),
        Event::new().unwrap(),
    );
    let args = (go.clone(), lock.clone(), held.clone());
    let worker = started::<String>(interpreter, "workers", "hold", args).unwrap();
    held.wait();
    let is_held = lock.try_lock().is_err();
    go.set();
    let kinds = worker.join().unwrap();
    let is_free = lock.try_lock().is_ok();
    json!([is_held, kinds, is_free])
}

/// Kills a worker that is waiting, after checking that it is alive.
pub fn kill(interpreter: &str) -> Value {
    let event = Event::new().unwrap();
    let never = Event::new().unwrap();
    let args = (never.clone(), Lock::new().unwrap(), event.clone());
    let mut worker = started::<Value>(interpreter, "workers", "hold", args).unwrap();
    event.wait();
    let before = worker.join_timeout(Duration::ZERO).unwrap();
    let was_alive = worker.is_alive();
    worker.kill().unwrap();
    json!([before, was_alive, said(worker.join())])
}

/// Waits for a message, and then for the end of the worker, beside other things.
pub fn select(interpreter: &str) -> Value {
    let questions: Queue<Vec<i64>> = Queue::new().unwrap();
    let answers: Queue<HashMap<String, Any>> = Queue::new().unwrap();
    let others: procession::Queue<u32> = procession::Queue::new().unwrap();
    let pair = (questions.clone(), answers.clone());
    let worker = started::<i64>(interpreter, "workers", "answer", (pair,)).unwrap();
    questions.put(vec![3, 4]).unwrap();
    let sum = procession::select! {
        recv(others) -> _ => panic!("nobody puts anything there"),
        recv(answers) -> got => format!("{:?}", got.unwrap()["sum"]),
    };
    questions.close();
    procession::select! {
        recv(others) -> _ => panic!("nobody puts anything there"),
        join(worker) => json!([sum, worker.join().unwrap()]),
    }
}

/// Ends like a killed program, while a daemon works.
pub fn daemon(interpreter: &str) -> Value {
    let started = Event::new().unwrap();
    let _daemon: python::Process<()> = python::Process::builder()
        .interpreter(interpreter)
        .daemon(true)
        .spawn("workers", "daemon", (started.clone(),))
        .unwrap();
    started.wait();
    let me = nix::unistd::Pid::this();
    nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL).unwrap();
    Value::Null
}

pub fn bad_arguments(interpreter: &str) -> Value {
    let keyed = HashMap::from([((vec![1], 2), 3)]);
    let refused = |result: Result<python::Process<()>, Error>| result.unwrap_err().to_string();
    json!([
        refused(started(interpreter, "math", "sqrt", 4)),
        refused(started(
            interpreter,
            "math",
            "sqrt",
            HashMap::from([(1, 2)])
        )),
        refused(started(interpreter, "builtins", "len", (keyed,))),
        Queue::new()
            .unwrap()
            .put((1, HashMap::from([(vec![1], 2)])))
            .unwrap_err()
            .to_string(),
    ])
}

pub fn own_queue(interpreter: &str) -> Value {
    let queue: procession::Queue<i64> = procession::Queue::new().unwrap();
    let refused = started::<()>(interpreter, "builtins", "print", (queue,));
    json!(refused.unwrap_err().to_string())
}

pub fn settings(interpreter: &str) -> Value {
    let mut process: python::Process<Value> = python::Process::builder()
        .interpreter(interpreter)
        .name("scout")
        .args(["one", "two"])
        .env("GREETING", "hello")
        .current_dir("/")
        .stdin(procession::Stdio::piped())
        .stdout(procession::Stdio::piped())
        .spawn("workers", "settings", ())
        .unwrap();
    assert_eq!(process.name(), "scout");
    write!(process.stdin.as_ref().unwrap(), "typed").unwrap();
    assert!(process.wait().unwrap().success());
    let mut printed = String::new();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    json!([printed, process.join().unwrap()])
}

/// The memory in use after many starts, good and bad, beyond that after the first.
pub fn nothing_left(interpreter: &str) -> Value {
    let round = || {
        let queue: Queue<i64> = Queue::new().unwrap();
        started::<()>(interpreter, "workers", "put_anything", (queue.clone(),))
            .unwrap()
            .join()
            .unwrap();
        drop(queue);
        started::<()>(interpreter, "workers", "missing", ())
            .unwrap()
            .join()
            .unwrap_err();
        started::<()>("/nowhere/python", "math", "sqrt", (Event::new().unwrap(),)).unwrap_err();
        started::<()>(interpreter, "math", "sqrt", Event::new().unwrap()).unwrap_err();
    };
    let in_use = || {
        let memory_stats = memory_stats();
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        (
            memory_stats.processes,
            memory_stats.objects,
            memory_stats.blocks_in_use,
            descriptors,
        )
    };
    round();
    let before = in_use();
    round();
    json!(before == in_use())
}
