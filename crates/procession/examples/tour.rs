//! Process, Pool, Queue, Pipe, Value and Array, one small program each.
//!
//! `cargo run -p procession --example tour`

use procession::{Array, Pool, Process, Queue, Receiver, Result, Sender, Value};

fn worker(parent: u32) {
    let place = match std::process::id() == parent {
        true => "the parent",
        false => "its own process",
    };
    println!("The worker runs in {place}");
}

fn process() -> Result<()> {
    let process = Process::spawn(worker, std::process::id())?;
    process.join()?;
    println!("The parent goes on; the worker ended without an error");
    Ok(())
}

fn square(n: u64) -> u64 {
    n * n
}

fn pool() -> Result<()> {
    let pool = Pool::new(3)?;
    println!("{:?}", pool.map(square, [1, 2, 3, 4, 5])?);
    Ok(())
}

fn producer(queue: Queue<String>) {
    queue
        .put("Hello from producer!".to_owned())
        .expect("the queue is open");
}

fn consumer(queue: Queue<String>) {
    println!("{}", queue.get().expect("the producer puts a message"));
}

fn queue() -> Result<()> {
    let queue = Queue::new()?;
    let producer = Process::spawn(producer, queue.clone())?;
    let consumer = Process::spawn(consumer, queue)?;
    producer.join()?;
    consumer.join()?;
    Ok(())
}

fn sender(sender: Sender<String>) {
    sender
        .send("Hello from sender!".to_owned())
        .expect("the receiver is there");
}

fn receiver(receiver: Receiver<String>) {
    println!("{}", receiver.recv().expect("the sender sends a message"));
}

fn pipe() -> Result<()> {
    let (tx, rx) = procession::channel()?;
    let sender = Process::spawn(sender, tx)?;
    let receiver = Process::spawn(receiver, rx)?;
    sender.join()?;
    receiver.join()?;
    Ok(())
}

fn change(value: Value<i32>, array: Array<i32>) {
    value
        .update(|n| n + 1)
        .expect("nobody died holding the lock");
    array
        .update(0, |n| n + 1)
        .expect("nobody died holding the lock");
}

fn value_and_array() -> Result<()> {
    let value = Value::new(10)?;
    let array = Array::new([1, 2, 3])?;
    Process::spawn(change, (value.clone(), array.clone()))?.join()?;
    println!("{}", value.get()?);
    println!("{:?}", array.to_vec()?);
    Ok(())
}

type Program = fn() -> Result<()>;

fn main() -> Result<()> {
    procession::init();
    let programs: [(&str, Program); 5] = [
        ("Process", process),
        ("Pool", pool),
        ("Queue", queue),
        ("Pipe", pipe),
        ("Value and Array", value_and_array),
    ];
    for (title, program) in programs {
        println!("{title}:");
        program()?;
    }
    Ok(())
}
