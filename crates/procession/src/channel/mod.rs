//! Queues and pipes: messages between processes.
//!
//! Messages are values that serde carries, or [`loan`]s, which are written and read in place.

#[cfg(feature = "async")]
pub(crate) mod futures;
pub(crate) mod joinable;
pub(crate) mod loan;
pub(crate) mod pipe;
pub(crate) mod queue;

use crate::transfer::codec::RustCodec;

/// A first-in, first-out queue with many producers and many consumers.
///
/// When [`put`](Queue::put) returns, the message is in shared memory and survives its producer. When a consumer
/// dies while it takes a message, another consumer gets the message.
///
/// Clones refer to the same queue. A queue lives as long as a process or a waiting message holds it. A message
/// that refers to the queue in which it waits keeps both until the tree of processes ends.
///
/// # Examples
/// ```
/// use procession::{Process, Queue};
///
/// fn produce(queue: Queue<String>) {
///     queue.put("Hello from producer!".to_owned()).unwrap();
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let queue = Queue::new()?;
///     let producer = Process::spawn(produce, queue.clone())?;
///     assert_eq!(queue.get()?, "Hello from producer!");
///     producer.join()?;
///     Ok(())
/// }
/// ```
pub type Queue<T> = queue::Queue<T, RustCodec>;

/// A [`Queue`] whose consumers report when they have processed a message.
///
/// # Examples
/// ```
/// use procession::{JoinableQueue, Process};
///
/// fn consume(queue: JoinableQueue<u32>) {
///     for message in queue.iter() {
///         println!("{}", message.unwrap());
///         queue.task_done().unwrap();
///     }
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let queue = JoinableQueue::new()?;
///     let consumer = Process::spawn(consume, queue.clone())?;
///     queue.put(1)?;
///     queue.put(2)?;
///     queue.join()?;
///     assert_eq!(queue.unfinished(), 0);
///     queue.close();
///     consumer.join()?;
///     Ok(())
/// }
/// ```
pub type JoinableQueue<T> = queue::Queue<T, RustCodec, joinable::Joinable>;
