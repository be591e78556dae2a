//! Pipes between two processes.

use std::time::Duration;

use procession::{Connection, GetError, Process, PutError, Receiver, Sender, channel, pipe};

procession::test_support!();

fn send(sender: Sender<String>) {
    sender.send("Hello from sender!".to_owned()).unwrap();
}

#[test]
fn a_message_reaches_the_other_end() {
    let (sender, receiver) = channel().unwrap();
    let process = Process::spawn(send, sender).unwrap();
    assert_eq!(receiver.recv().unwrap(), "Hello from sender!");
    process.join().unwrap();
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
}

fn answer(requests: Connection<usize, String>) {
    for request in requests.iter() {
        requests.send(request.unwrap().len()).unwrap();
    }
}

#[test]
fn both_ends_of_a_pipe_send_and_receive() {
    let (ours, theirs) = pipe::<String, usize>().unwrap();
    let process = Process::spawn(answer, theirs).unwrap();
    for word in ["a", "bc", ""] {
        ours.send(word.to_owned()).unwrap();
        assert_eq!(ours.recv().unwrap(), word.len());
    }
    drop(ours);
    process.join().unwrap();
}

fn die_with(_connection: Connection<u8, u8>) {
    std::process::abort();
}

#[test]
fn the_death_of_the_other_side_ends_the_stream() {
    let (ours, theirs) = pipe::<u8, u8>().unwrap();
    let process = Process::spawn(die_with, theirs).unwrap();
    assert!(matches!(ours.recv(), Err(GetError::Closed)));
    assert!(matches!(ours.send(5), Err(PutError::Closed(5))));
    process.join().unwrap_err();
}

#[test]
fn receiving_can_be_limited_and_polled() {
    let (sender, receiver) = channel().unwrap();
    assert!(!receiver.poll());
    assert!(matches!(receiver.try_recv(), Err(GetError::Empty)));
    assert!(matches!(
        receiver.recv_timeout(Duration::from_millis(1)),
        Err(GetError::Empty)
    ));
    sender.send(1).unwrap();
    assert!(receiver.poll_timeout(Duration::from_secs(60)));
    assert_eq!(receiver.recv().unwrap(), 1);
    drop(sender);
    assert!(receiver.poll());
}

#[test]
fn a_pipe_nobody_reads_from_becomes_full() {
    let (sender, _receiver) = channel().unwrap();
    let mut sent = 0;
    while sender.try_send(vec![0u8; 1024]).is_ok() {
        sent += 1;
    }
    assert!(sent > 0);
    let late = sender
        .send_timeout(vec![0; 1024], Duration::from_millis(1))
        .unwrap_err();
    assert!(matches!(late, PutError::Full(_)));
}

fn drain(receiver: Receiver<Vec<u8>>) -> usize {
    receiver.iter().map(|message| message.unwrap().len()).sum()
}

#[test]
fn much_more_than_fits_passes_through() {
    let (sender, receiver) = channel().unwrap();
    let process = Process::spawn(drain, receiver).unwrap();
    for _ in 0..20 {
        sender.send(vec![7; 500_000]).unwrap();
    }
    drop(sender);
    assert_eq!(process.join().unwrap(), 10_000_000);
}

#[test]
fn the_stream_ends_when_the_last_clone_of_a_sender_is_gone() {
    let (sender, receiver) = procession::channel::<u32>().unwrap();
    let (one, other) = (receiver.clone(), receiver);
    let senders = [(); 3].map(|()| Process::spawn(send_ten, sender.clone()).unwrap());
    let clone = sender.clone();
    drop(sender);
    clone.send(1).unwrap();
    assert!(one.recv_timeout(Duration::from_secs(30)).is_ok());
    drop(clone);
    let count = std::thread::scope(|scope| {
        let counted = scope.spawn(|| one.iter().count());
        other.iter().count() + counted.join().unwrap()
    });
    assert_eq!(count, 30);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
}

fn send_ten(sender: Sender<u32>) {
    (0..10).for_each(|n| sender.send(n).unwrap());
}
