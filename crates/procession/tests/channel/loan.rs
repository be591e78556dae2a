//! Messages written and read in place.

use std::time::{Duration, Instant};

use procession::{
    Connection, Error, GetError, JoinableQueue, Loan, Process, PutError, Queue, Receiver, Sender,
    channel, pipe,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

procession::test_support!();

#[test]
fn a_loan_is_received_where_it_was_written() {
    let queue = Queue::new().unwrap();
    for len in [0, 1, 5, 300, 1 << 20] {
        let mut loan = queue.loan(len).unwrap();
        loan.fill(2.5f64);
        let written = loan.as_ptr();
        queue.put_loan(loan).unwrap();
        let received = queue.get_loan().unwrap();
        assert_eq!(*received, vec![2.5; len]);
        assert_eq!(received.as_ptr(), written);
    }
}

#[test]
fn items_are_aligned_as_their_type_wants_it() {
    let queue = Queue::new().unwrap();
    queue
        .put_loan(Loan::from_slice(&[[u128::MAX; 2]]).unwrap())
        .unwrap();
    let received = queue.get_loan().unwrap();
    assert_eq!(*received, [[u128::MAX; 2]]);
    assert_eq!(received.as_ptr().addr() % 64, 0);
}

fn double_all(requests: Connection<Loan<u32>, Loan<u32>>) {
    for request in requests.loans() {
        let mut loan = request.unwrap().into_loan();
        loan.iter_mut().for_each(|n| *n *= 2);
        requests.send_loan(loan).unwrap();
    }
}

#[test]
fn a_loan_comes_back_from_another_process_to_where_it_was_written() {
    let (ours, theirs) = pipe().unwrap();
    let process = Process::spawn(double_all, theirs).unwrap();
    for len in [3, 100_000] {
        let loan = Loan::from_slice(&vec![21; len]).unwrap();
        let written = loan.as_ptr();
        ours.send_loan(loan).unwrap();
        let back = ours.recv_loan().unwrap();
        assert_eq!(*back, vec![42; len]);
        assert_eq!(back.as_ptr(), written);
    }
    drop(ours);
    process.join().unwrap();
}

fn count(words: Receiver<Loan<u8>>) -> usize {
    words.loans().map(|word| word.unwrap().len()).sum()
}

#[test]
fn small_loans_pass_too_and_a_read_may_be_shorter_than_its_buffer() {
    let (sender, receiver) = channel().unwrap();
    let process = Process::spawn(count, receiver).unwrap();
    for len in 0..100 {
        let mut loan = sender.loan(1000).unwrap();
        loan[..len].fill(b'x');
        loan.truncate(len);
        assert_eq!(loan.len(), len);
        sender.send_loan(loan).unwrap();
    }
    drop(sender);
    assert_eq!(process.join().unwrap(), (0..100).sum());
}

#[test]
fn one_direction_of_a_pipe_may_be_loans_and_the_other_what_serde_carries() {
    let (ours, theirs) = pipe::<Loan<i16>, String>().unwrap();
    ours.send_loan(Loan::from_slice(&[1, -2]).unwrap()).unwrap();
    let sum: i16 = theirs.recv_loan().unwrap().iter().sum();
    theirs.send(sum.to_string()).unwrap();
    assert_eq!(ours.recv().unwrap(), "-1");
}

fn put_and_die(queue: Queue<Loan<u8>>) {
    queue
        .put_loan(Loan::from_slice(&[7; 5000]).unwrap())
        .unwrap();
    std::process::abort();
}

#[test]
fn a_loan_survives_the_process_that_put_it() {
    let queue = Queue::new().unwrap();
    Process::spawn(put_and_die, queue.clone())
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!(*queue.try_get_loan().unwrap(), [7; 5000]);
}

#[test]
fn a_loan_that_is_not_put_comes_back() {
    let queue = Queue::bounded(1).unwrap();
    queue.put_loan(Loan::from_slice(&[1]).unwrap()).unwrap();
    let loan = Loan::from_slice(&[2]).unwrap();
    let refused = queue.try_put_loan(loan).unwrap_err();
    assert!(matches!(refused, PutError::Full(_)));
    let refused = queue
        .put_loan_timeout(refused.into_inner(), Duration::from_millis(1))
        .unwrap_err();
    queue.close();
    let refused = queue.put_loan(refused.into_inner()).unwrap_err();
    assert!(matches!(refused, PutError::Closed(_)));
    assert_eq!(*refused.into_inner(), [2u16]);
    assert_eq!(*queue.get_loan().unwrap(), [1]);
    assert!(matches!(queue.get_loan(), Err(GetError::Closed)));
}

#[test]
fn receiving_loans_can_be_limited() {
    let (sender, receiver): (Sender<Loan<u8>>, _) = channel().unwrap();
    assert!(matches!(receiver.try_recv_loan(), Err(GetError::Empty)));
    let late = receiver.recv_loan_timeout(Duration::from_millis(1));
    assert!(matches!(late, Err(GetError::Empty)));
    drop(receiver);
    // A process being started by another test briefly has all descriptors.
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = loop {
        if let Err(refused) = sender.try_send_loan(sender.loan(3).unwrap()) {
            break refused;
        }
        assert!(Instant::now() < deadline, "nobody is there to receive it");
        std::thread::yield_now();
    };
    assert!(matches!(refused, PutError::Closed(loan) if loan.len() == 3));
}

#[test]
fn bytes_become_items_only_where_they_are_a_whole_number_of_them() {
    let queue = Queue::<Loan<u8>>::new().unwrap();
    queue.put_loan(Loan::from_slice(&[0; 12]).unwrap()).unwrap();
    let bytes = queue.get_loan().unwrap();
    let bytes = bytes.cast::<f64>().expect_err("a number and a half");
    assert_eq!(bytes.len(), 12, "the message is not lost");
    assert_eq!(*bytes.cast::<f32>().unwrap(), [0.0; 3]);
}

#[test]
fn more_than_there_is_is_refused() {
    let too_much = Loan::<u64>::new(usize::MAX).unwrap_err();
    assert!(too_much.to_string().contains("out of shared memory"));
}

fn finish(queue: JoinableQueue<Loan<u8>>) {
    for message in queue.loans() {
        assert_eq!(*message.unwrap(), [5]);
        queue.task_done().unwrap();
    }
}

#[test]
fn a_joinable_queue_of_loans_waits_until_all_is_done() {
    let queue = JoinableQueue::new().unwrap();
    let consumer = Process::spawn(finish, queue.clone()).unwrap();
    for _ in 0..20 {
        queue.put_loan(Loan::from_slice(&[5]).unwrap()).unwrap();
    }
    queue.join().unwrap();
    queue.close();
    consumer.join().unwrap();
}

/// Serialises as a queue of one type and deserialises as a queue of another.
struct Disguised(Queue<Loan<u8>>, Option<Queue<Loan<f64>>>);

impl Serialize for Disguised {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Disguised {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Disguised, D::Error> {
        let numbers = Queue::deserialize(deserializer)?;
        Ok(Disguised(Queue::new().unwrap(), Some(numbers)))
    }
}

fn read_numbers(queue: Disguised) -> Vec<u8> {
    let numbers = queue.1.unwrap();
    assert_eq!(*numbers.get_loan().unwrap(), [0.0; 2]);
    match numbers.get_loan() {
        Err(GetError::Failed(Error::Misfit { bytes, .. })) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_receives_loans_of_another_type_gets_them_with_an_error_where_they_do_not_fit() {
    let queue = Queue::new().unwrap();
    for len in [16, 12] {
        queue.put_loan(Loan::zeroed(len).unwrap()).unwrap();
    }
    let reader = Process::spawn(read_numbers, Disguised(queue, None)).unwrap();
    assert_eq!(reader.join().unwrap(), [0; 12]);
}
