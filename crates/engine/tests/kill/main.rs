//! Death at every step: survivors go on, messages arrive whole and once, nothing is leaked.
//!
//! The engine names its steps (`failpoint::names()`). Each test here runs one scenario many times; each time its
//! victim is killed, exits, calls exec or is stopped at another step (`case.rs`). The stepper goes below the named
//! steps: it kills short operations after every k-th instruction.

#[path = "../common/mod.rs"]
mod common;

mod attachments;
mod case;
mod cow_buffers;
mod descriptors;
mod locks;
mod meetings;
mod memory;
mod message_bufs;
mod pipes;
mod queues;
mod rwlocks;
mod sleepers;
#[cfg(target_arch = "x86_64")]
mod stepper;
mod stepping_over;
mod stores;
mod wakeups;
mod workers;

use case::run_all_cases;
use procession_engine::failpoint;
use std::collections::BTreeSet;

macro_rules! scenarios {
    ($($test:ident: $make:expr;)*) => {
        $(
            #[test]
            fn $test() {
                run_all_cases($make);
            }
        )*

        /// Every step the victims of all scenarios pass.
        fn all_steps() -> BTreeSet<&'static str> {
            let mut all = BTreeSet::new();
            $( all.extend(case::steps_of($make)); )*
            all
        }
    };
}

scenarios! {
    death_while_allocating_and_freeing_memory: memory::Allocating::small;
    death_while_using_large_memory: memory::Allocating::large;
    death_while_the_arena_grows: memory::Growing::new;
    death_while_memory_is_tight: memory::Tight::new;
    death_while_releasing_memory: memory::Releasing::new;
    death_while_holding_and_dropping_objects: memory::Holding::new;
    death_while_adding_many_holders: memory::ManyHolders::new;
    death_while_forking: memory::Forking::new;
    death_while_reaping_the_dead: memory::Reaping::idle;
    death_while_reaping_one_that_died_making_an_object: memory::Reaping::making;
    death_while_reaping_one_that_died_freeing_an_object: memory::Reaping::freeing;
    death_while_reaping_one_that_died_leaving_a_chunk: memory::Reaping::retiring;
    death_while_reaping_one_that_died_freeing_a_queue: memory::Reaping::dismantling;
    death_while_leaving: memory::Leaving::new;
    death_while_moving_to_a_reserved_entry: memory::Moving::new;
    death_while_handing_over_the_liveness_word: memory::HandingOver::new;

    death_while_locking: locks::Locking::new;
    death_with_a_lock_is_told_once: locks::Telling::new;
    death_while_taking_the_lock_of_the_dead: locks::Inheriting::new;
    death_while_locking_recursively: locks::Recursing::new;
    death_while_reading_and_writing: rwlocks::ReadingAndWriting::new;
    death_while_using_a_semaphore: locks::Counting::new;
    death_while_giving_units_to_sleepers: locks::Giving::new;
    death_while_waiting_on_a_condition: meetings::Waiting::new;
    death_while_many_wait_on_a_condition: meetings::ManyWaiters::new;
    death_while_many_waiters_are_requeued_to_a_lock: meetings::Requeuing::new;
    death_while_others_sleep_for_long: sleepers::Sleeping::new;
    death_while_using_an_event: meetings::Signalling::new;
    death_at_a_barrier: meetings::Meeting::new;
    death_while_resetting_a_barrier: meetings::Resetting::new;

    death_while_putting: queues::Putting::small;
    death_while_putting_large_messages: queues::Putting::large;
    death_while_putting_huge_messages: queues::Putting::huge;
    death_while_putting_into_a_bounded_queue: queues::Putting::bounded;
    death_while_putting_large_messages_into_a_bounded_queue: queues::Putting::bounded_large;
    death_while_getting: queues::Getting::small;
    death_while_getting_from_chunk_to_chunk: queues::Getting::chunks;
    death_while_getting_large_messages: queues::Getting::large;
    death_while_getting_from_a_bounded_queue: queues::Getting::bounded;
    death_while_asking_for_a_queues_descriptor: descriptors::Watching::new;
    death_while_using_a_queues_descriptor: descriptors::Watching::asked;
    death_while_looking_for_a_queues_descriptor: descriptors::Searching::new;
    death_with_an_unfinished_task: queues::Tasks::new;
    death_while_making_and_dropping_queues: queues::Making::new;
    death_while_closing_a_queue: queues::Closing::new;
    death_while_repairing_what_the_dead_left: queues::Repairing::small;
    death_while_repairing_large_messages_of_the_dead: queues::Repairing::large;

    death_while_repairing_tasks_of_the_dead: queues::Repairing::tasks;
    death_while_stepping_over_a_stopped_writer: stepping_over::SteppingOver::new;
    death_while_chunks_leave_behind_a_stopped_writer: stepping_over::SteppingOver::chunks;

    death_while_sending_objects: attachments::Sending::new;
    death_while_receiving_objects: attachments::Receiving::new;
    death_while_sending_one_object_many_times: attachments::Repeating::new;
    death_while_dropping_a_queue_of_objects: attachments::Dropping::new;

    death_while_memory_is_borrowed: cow_buffers::Borrowing::new;
    death_while_using_a_cow_buffer: cow_buffers::Sharing::new;
    death_while_passing_on_a_message: message_bufs::PassingOn::new;
    death_while_using_a_store: stores::Storing::new;
    death_while_using_a_store_of_large_values: stores::StoringLarge::new;

    death_of_a_worker_of_a_pool: workers::Working::new;
    death_of_a_worker_with_large_tasks: workers::Working::large;

    death_while_sending: pipes::Sending::small;
    death_while_sending_large_messages: pipes::Sending::large;
    death_while_sending_to_a_watched_end: pipes::Sending::armed;
    death_while_receiving: pipes::Receiving::small;
    death_while_receiving_large_messages: pipes::Receiving::large;
    death_while_receiving_at_a_watched_end: pipes::Receiving::armed;
    death_of_one_of_several_users_of_a_pipe: pipes::Sharing::new;
    death_of_one_of_several_users_of_a_watched_pipe: pipes::Sharing::watched;
}

#[test]
fn every_named_step_is_struck_by_a_scenario() {
    let listed: BTreeSet<_> = failpoint::names().iter().copied().collect();
    let mut hit = all_steps();
    if !listed.is_subset(&hit) {
        // The scheduler decides which process waits for which: some paths are not taken every time.
        hit.extend(all_steps());
    }
    let missed: Vec<_> = listed.difference(&hit).collect();
    assert!(missed.is_empty(), "no scenario comes to {missed:?}");
}
