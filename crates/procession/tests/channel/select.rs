//! Waiting for the first of several events.

use std::time::Duration;

use procession::{Event, JoinableQueue, Process, Queue, Select, Sender, select};

procession::test_support!();

const MOMENT: Duration = Duration::from_millis(20);

fn echo(requests: Queue<u64>, answers: Sender<u64>) {
    while let Ok(number) = requests.get() {
        answers.send(number + 1).unwrap();
    }
}

fn wait_for(event: Event) {
    event.wait();
}

#[test]
fn the_arm_that_is_ready_runs() {
    let (requests, quiet) = (Queue::new().unwrap(), Queue::<String>::new().unwrap());
    let (sender, answers) = procession::channel().unwrap();
    let process = Process::spawn(echo, (requests.clone(), sender)).unwrap();
    for number in 0..100 {
        requests.put(number).unwrap();
        let answer = select! {
            recv(quiet) -> _ => unreachable!("nobody puts anything there"),
            recv(answers) -> answer => answer.unwrap(),
        };
        assert_eq!(answer, number + 1);
    }
    requests.close();
    select! {
        recv(quiet) -> _ => unreachable!("nobody puts anything there"),
        join(process) => process.join().unwrap(),
    };
    let ended = select! {
        recv(answers) -> answer => answer.is_err(),
        default => false,
    };
    assert!(ended, "the other end of the pipe is gone");
}

#[test]
fn nothing_in_time_is_the_default() {
    let (queue, joinable) = (
        Queue::<u64>::new().unwrap(),
        JoinableQueue::<u64>::new().unwrap(),
    );
    let text = select! {
        recv(queue) -> _ => "message",
        recv(joinable) -> _ => "message",
        default(MOMENT) => "nothing",
    };
    assert_eq!(text, "nothing");
    (3..5).for_each(|n| joinable.put(n).unwrap());
    let got = select! {
        recv(queue) -> got => got,
        recv(joinable) -> got => got,
        default => panic!("there is one"),
    };
    assert_eq!(got.unwrap(), 3);
    let got = select! {
        recv(joinable) -> got => got,
        default(Duration::MAX) => panic!("there is one"),
    };
    assert_eq!(got.unwrap(), 4);
}

#[test]
fn an_arm_may_leave_the_loop_around_it() {
    let queue = Queue::new().unwrap();
    (0..5).for_each(|n| queue.put(n).unwrap());
    queue.close();
    let mut sum = 0;
    loop {
        select! {
            recv(queue) -> got => match got {
                Ok(n) => sum += n,
                Err(_) => break,
            }
        }
    }
    assert_eq!(sum, 10);
}

#[test]
fn a_process_that_ends_is_noticed_among_others() {
    let event = Event::new().unwrap();
    let waiting = Process::spawn(wait_for, event.clone()).unwrap();
    let killed = Process::spawn(wait_for, event.clone()).unwrap();
    let mut select = Select::new();
    let first = select.join(&waiting);
    let second = select.join(&killed);
    assert_eq!(select.ready_timeout(MOMENT), None);
    killed.kill().unwrap();
    assert_eq!(select.ready(), second);
    select.remove(second);
    assert_eq!(select.try_ready(), None);
    event.set();
    assert_eq!(select.ready(), first);
    waiting.join().unwrap();
}

#[test]
fn room_for_a_message_is_waited_for() {
    let full = Queue::bounded(1).unwrap();
    full.put(1).unwrap();
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let mut select = Select::new();
    let into_queue = select.send(&full);
    assert_eq!(select.try_ready(), None);
    let into_pipe = select.send(&sender);
    assert_eq!(select.ready(), into_pipe);
    select.remove(into_pipe);
    assert_eq!(full.get().unwrap(), 1);
    assert_eq!(select.ready(), into_queue);
    drop(receiver);
}

#[test]
fn a_message_goes_to_one_of_those_that_select() {
    let (numbers, counts) = (Queue::new().unwrap(), Queue::new().unwrap());
    let workers =
        [(); 2].map(|()| Process::spawn(count_of_two, (numbers.clone(), counts.clone())).unwrap());
    (0..1_000u64).for_each(|n| numbers.put(n).unwrap());
    numbers.close();
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    assert_eq!(counts.get().unwrap() + counts.get().unwrap(), 1_000u64);
}

fn count_of_two(numbers: Queue<u64>, counts: Queue<u64>) {
    let quiet = Queue::<u64>::new().unwrap();
    let mut count = 0;
    loop {
        select! {
            recv(quiet) -> _ => unreachable!("nobody puts anything there"),
            recv(numbers) -> got => match got {
                Ok(_) => count += 1,
                Err(_) => break,
            },
        }
    }
    counts.put(count).unwrap();
}

#[test]
#[should_panic(expected = "nothing to select from")]
fn waiting_for_nothing_is_refused() {
    Select::new().ready();
}
