//! Futures of queues, pipes and processes.

use std::future::{Future, IntoFuture};
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use procession::{Connection, Event, ForkSafe, JoinableQueue, Loan, Process, Queue, Sender, Stdio};
use tokio::time::timeout;

procession::test_support!();

const MOMENT: Duration = Duration::from_millis(20);

/// Runs a future to its end in a runtime of one thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(future)
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    let mut future = std::pin::pin!(future);
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn echo(pipe: Connection<String, String>) {
    while let Ok(text) = pipe.recv() {
        pipe.send(text).unwrap();
    }
}

fn produce(queue: Queue<u64>, count: u64) {
    (0..count).for_each(|n| queue.put(n).unwrap());
}

fn consume(queue: JoinableQueue<u64>) -> u64 {
    queue.iter().map(|n| n.unwrap()).sum()
}

fn wait_for(event: Event) {
    event.wait();
}

#[test]
fn what_another_process_puts_is_received() {
    let queue = Queue::new().unwrap();
    let process = Process::spawn(produce, (queue.clone(), 500)).unwrap();
    block_on(async {
        for n in 0..500 {
            assert_eq!(queue.get_async().await.unwrap(), n);
        }
        process.await.unwrap();
        queue.close();
        assert!(queue.get_async().await.is_err());
    });
}

#[cfg(feature = "python")]
#[test]
fn a_queue_for_python_has_futures_too() {
    use procession::python;

    fn produce(queue: python::Queue<String>) {
        queue.put("hello".to_owned()).unwrap();
    }

    let queue = python::Queue::bounded(1).unwrap();
    let process = Process::spawn(produce, queue.clone()).unwrap();
    block_on(async {
        assert_eq!(queue.get_async().await.unwrap(), "hello");
        process.await.unwrap();
        queue.put_async("full".to_owned()).await.unwrap();
        assert!(poll_once(queue.put_async("no room".to_owned())).is_pending());
        assert_eq!(queue.len(), 1);
    });
}

#[test]
fn putting_waits_for_room() {
    let queue = JoinableQueue::bounded(2).unwrap();
    let process = Process::spawn(consume, queue.clone()).unwrap();
    block_on(async {
        for n in 1..=300 {
            queue.put_async(n).await.unwrap();
        }
        queue.close();
        assert!(queue.put_async(0).await.is_err());
        assert_eq!(process.await.unwrap(), 300 * 301 / 2);
    });
}

#[test]
fn a_pipe_answers() {
    let (ours, theirs) = procession::pipe::<String, String>().unwrap();
    let process = Process::spawn(echo, theirs).unwrap();
    let long = "long".repeat(200_000);
    block_on(async {
        for text in ["short", &long, "again"] {
            ours.send_async(text.to_owned()).await.unwrap();
            assert_eq!(ours.recv_async().await.unwrap(), text);
        }
        process.kill().unwrap();
        assert!(ours.recv_async().await.is_err());
        assert!(process.await.is_err());
    });
}

#[test]
fn sending_waits_until_the_pipe_has_room() {
    let (sender, receiver) = procession::channel::<Vec<u8>>().unwrap();
    let large = vec![1; 900_000];
    block_on(async {
        sender.send_async(large.clone()).await.unwrap();
        assert!(
            timeout(MOMENT, sender.send_async(large.clone()))
                .await
                .is_err()
        );
        let receive = async {
            receiver.recv_async().await.unwrap();
            receiver.recv_async().await.unwrap();
        };
        let (sent, ()) = tokio::join!(sender.send_async(large.clone()), receive);
        sent.unwrap();
        assert!(
            receiver.try_recv().is_err(),
            "what was given up was not sent"
        );
    });
}

#[test]
fn a_receiver_that_is_dropped_loses_no_message() {
    let queue = Queue::new().unwrap();
    block_on(async {
        assert!(timeout(MOMENT, queue.get_async()).await.is_err());
        assert!(poll_once(queue.get_async()).is_pending());
        queue.put(1).unwrap();
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.get_async().await.unwrap(), 1);
    });
}

#[test]
fn the_first_of_a_message_and_an_end_is_waited_for() {
    let (queue, event) = (Queue::<u64>::new().unwrap(), Event::new().unwrap());
    let mut process = Process::spawn(wait_for, event.clone()).unwrap();
    block_on(async {
        queue.put(7).unwrap();
        tokio::select! {
            biased;
            ended = process.join_async() => panic!("it waits: {ended:?}"),
            got = queue.get_async() => assert_eq!(got.unwrap(), 7),
        }
        event.set();
        tokio::select! {
            got = queue.get_async() => panic!("nothing was put: {got:?}"),
            ended = process.join_async() => ended.unwrap(),
        }
    });
}

#[test]
fn a_hundred_receivers_wait_without_a_hundred_threads() {
    let before = threads();
    let queues: Vec<Queue<u64>> = (0..100).map(|_| Queue::new().unwrap()).collect();
    block_on(async {
        let tasks: Vec<_> = queues
            .iter()
            .cloned()
            .map(|queue| async move { queue.get_async().await.unwrap() })
            .collect();
        let local = tokio::task::LocalSet::new();
        let sum = local.run_until(async {
            let tasks: Vec<_> = tasks.into_iter().map(tokio::task::spawn_local).collect();
            tokio::task::yield_now().await;
            assert!(threads() < before + 20);
            for (queue, n) in queues.iter().zip(0..) {
                queue.put(n).unwrap();
            }
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            sum
        });
        assert_eq!(sum.await, 99 * 100 / 2);
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn read_to_the_end() -> usize {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap()
}

#[test]
fn awaiting_a_process_ends_what_it_reads() {
    let process = Process::builder().stdin(Stdio::piped());
    let process = process.spawn(read_to_the_end, ()).unwrap();
    block_on(async {
        let ended = timeout(Duration::from_secs(60), process.into_future()).await;
        assert_eq!(ended.unwrap().unwrap(), 0);
    });
}

/// Counts how often it is polled.
struct Counted<F>(Pin<Box<F>>, usize);

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.1 += 1;
        self.0.as_mut().poll(context)
    }
}

type Parcel = (Option<Queue<u8>>, String);

fn polls_behind_a_full_pipe(parcel: Parcel) -> usize {
    let (sender, receiver): (Sender<Parcel>, _) = procession::channel().unwrap();
    let large = (None, "x".repeat((1 << 20) - 200));
    sender.send(large).unwrap();
    let mut sending = Counted(Box::pin(sender.send_async(parcel)), 0);
    block_on(async {
        assert!(timeout(5 * MOMENT, &mut sending).await.is_err());
    });
    drop(receiver);
    sending.1
}

#[test]
fn what_waits_for_room_is_not_woken_for_nothing() {
    let parcels = [
        (None, "y".repeat(500)),
        (None, "y".repeat(5_000)),
        (Some(Queue::new().unwrap()), "y".repeat(5_000)),
    ];
    for parcel in parcels {
        // It may be woken for forks of other tests, whose children inherit the pipe and close it.
        let polls = polls_behind_a_full_pipe(parcel);
        assert!(polls < 500, "{polls} polls");
    }
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("this executor is gone");
    }
}

struct Reporting(mpsc::Sender<()>);

impl Wake for Reporting {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_waker_that_panics_costs_no_other_future() {
    let (one, other) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
    let mut first = Box::pin(one.get_async());
    let waker = Waker::from(Arc::new(Panicking));
    let mut context = Context::from_waker(&waker);
    assert!(first.as_mut().poll(&mut context).is_pending());
    one.put(1).unwrap();

    let (woken, wakes) = mpsc::channel();
    let waker = Waker::from(Arc::new(Reporting(woken)));
    let mut context = Context::from_waker(&waker);
    let mut second = Box::pin(other.get_async());
    assert!(second.as_mut().poll(&mut context).is_pending());
    other.put(2).unwrap();
    wakes.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(second.as_mut().poll(&mut context).is_ready());
}

/// A task that lives as long as one of its wakers.
struct Task(#[expect(dead_code, reason = "it is there to be dropped")] Mutex<Option<Waiting>>);

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_future_may_move_from_one_task_to_another() {
    let (queue, other) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
    let waits_too = other.clone();
    let mut inner: Waiting = Box::pin(async move { drop(waits_too.get_async().await) });
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(inner.as_mut().poll(&mut nobody).is_pending());
    let waker = Waker::from(Arc::new(Task(Mutex::new(Some(inner)))));

    let mut moving = Box::pin(queue.get_async());
    assert!(
        moving
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(waker);
    let (woken, wakes) = mpsc::channel();
    let waker = Waker::from(Arc::new(Reporting(woken)));
    let mut context = Context::from_waker(&waker);
    assert!(moving.as_mut().poll(&mut context).is_pending());
    queue.put(1).unwrap();
    wakes.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(moving.as_mut().poll(&mut context).is_ready());
}

fn halve(frames: Queue<Loan<f64>>, halves: Sender<Loan<f64>>) {
    for frame in frames.loans() {
        let mut frame = frame.unwrap().into_loan();
        frame.iter_mut().for_each(|number| *number /= 2.0);
        halves.send_loan(frame).unwrap();
    }
}

#[test]
fn loans_are_put_and_received() {
    let frames = Queue::bounded(1).unwrap();
    let (sender, halves) = procession::channel().unwrap();
    let process = Process::spawn(halve, (frames.clone(), sender)).unwrap();
    block_on(async {
        for n in 0..20 {
            let mut frame = frames.loan(10_000).unwrap();
            frame.fill(f64::from(n));
            frames.put_loan_async(frame).await.unwrap();
            let half = halves.recv_loan_async().await.unwrap();
            assert_eq!(half[9_999], f64::from(n) / 2.0);
        }
        frames.close();
        process.await.unwrap();
        assert!(halves.recv_loan_async().await.is_err());
    });
}

#[test]
fn futures_work_in_a_forked_process() {
    let (requests, answers) = (Queue::<u64>::new().unwrap(), Queue::new().unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(requests.get_async()).unwrap());
        for n in 0..30 {
            let (numbers, answers) = (Queue::new().unwrap(), answers.clone());
            let for_child = numbers.clone();
            // SAFETY: the child uses only this crate and its own runtime.
            let closure = unsafe {
                ForkSafe::new(move || {
                    let number = block_on(for_child.get_async()).unwrap();
                    answers.put(number).unwrap();
                })
            };
            let process = Process::fork(closure).unwrap();
            numbers.put(n).unwrap();
            process.join().unwrap();
        }
        requests.put(1).unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
    assert_eq!(answers.len(), 30);
}
