//! Items that are large together are serialised only as workers take them.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use procession::{Event, Pool, memory_usage};

procession::test_support!();

const SIZE: usize = 4 << 20;
const ITEMS: usize = 40;
/// Two items for each of two workers, two more, and other objects.
const FEW: u64 = 10 * SIZE as u64;

/// One test at a time: all of them count the memory of the whole process tree.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

static GO: OnceLock<Event> = OnceLock::new();

fn keep(go: Event) {
    assert!(GO.set(go).is_ok());
}

fn items() -> impl Iterator<Item = Vec<u8>> {
    (0..ITEMS).map(|item| vec![item as u8; SIZE])
}

/// Returns the first byte, and the memory in use meanwhile. Processing an item takes longer than writing it.
fn look(item: Vec<u8>) -> (u8, u64) {
    std::thread::sleep(Duration::from_millis(10));
    (item[0], memory_usage().unwrap().in_use)
}

fn wait(item: Vec<u8>) -> u8 {
    assert!(GO.get().unwrap().wait_timeout(Duration::from_secs(60)));
    item[0]
}

fn pool() -> (Pool, Event) {
    let go = Event::new().unwrap();
    let pool = Pool::builder().workers(2).initializer(keep, go.clone());
    (pool.build().unwrap(), go)
}

fn check(found: &[(u8, u64)], before: u64) {
    assert!(
        found
            .iter()
            .map(|(item, _)| usize::from(*item))
            .eq(0..ITEMS)
    );
    let most = found.iter().map(|(_, in_use)| in_use - before).max();
    assert!(most < Some(FEW), "{most:?}");
}

#[test]
fn large_items_are_serialised_as_workers_take_them() {
    let _alone = alone();
    let (pool, _) = pool();
    let before = memory_usage().unwrap().in_use;
    std::thread::scope(|scope| {
        let maps = [(); 2].map(|()| scope.spawn(|| pool.map_chunked(look, items(), 1)));
        for map in maps {
            check(&map.join().unwrap().unwrap(), before);
        }
    });
    let found: Result<Vec<_>, _> = pool.imap(look, items()).unwrap().collect();
    check(&found.unwrap(), before);
    let found = pool.imap_unordered(look, items()).unwrap();
    let mut found: Vec<_> = found.map(|(_, result)| result.unwrap()).collect();
    found.sort_unstable();
    check(&found, before);
    // Chunks of several items are as large as their items.
    let found = pool.map(look, items()).unwrap();
    assert!(
        found
            .iter()
            .map(|(item, _)| usize::from(*item))
            .eq(0..ITEMS)
    );
}

#[test]
fn a_map_that_waits_for_room_does_all_items() {
    let _alone = alone();
    let (pool, go) = pool();
    std::thread::scope(|scope| {
        let mapped = scope.spawn(|| pool.map_chunked(wait, items(), 1));
        go.set();
        assert_eq!(mapped.join().unwrap().unwrap().len(), ITEMS);
    });
}

#[test]
fn a_map_that_waits_for_room_ends_with_its_pool() {
    let _alone = alone();
    let (pool, go) = pool();
    std::thread::scope(|scope| {
        let mapped = scope.spawn(|| pool.map_chunked(wait, items(), 1));
        while !format!("{pool:?}").contains("outstanding: 6") {
            std::thread::yield_now();
        }
        pool.close();
        assert!(mapped.join().unwrap().is_err());
        go.set();
    });
}
