//! Deaths during exclusive access to a store.

use crate::case::{Scenario, stopped_at};
use crate::common::{SharedCells, isolated, promptly};
use procession_engine::store::{Access, ExclusiveAccess, Store, StoreError};
use procession_engine::{Deadline, process};

const STEADY: u8 = 20;
const FLICKER: &[u8] = b"flicker";

/// A map with some rows that come and go, a map that is emptied and filled, and a sequence.
pub struct Storing {
    map: Store,
    emptied: Store,
    sequence: Store,
}

fn exclusive(store: &Store, deadline: Deadline) -> ExclusiveAccess<'_> {
    let entered = store.enter(deadline).expect("the lock is available");
    entered.expect("the owner lives")
}

/// Makes a change, after making room if needed.
fn with_room(
    access: &mut ExclusiveAccess<'_>,
    change: impl Fn(&ExclusiveAccess<'_>) -> Result<(), StoreError>,
) {
    match change(access) {
        Err(StoreError::NoRoom(room)) => {
            access.grow(room).expect("memory");
            change(access).expect("there is room now");
        }
        done => done.expect("nothing is damaged"),
    }
}

impl Storing {
    pub fn new(_: SharedCells) -> Storing {
        let made = Storing {
            map: Store::new().expect("memory"),
            emptied: Store::new().expect("memory"),
            sequence: Store::new().expect("memory"),
        };
        let map = exclusive(&made.map, Deadline::NEVER);
        for key in 0..STEADY {
            map.set(&[key], &[key; 5]).expect("room");
        }
        drop(map);
        made
    }

    fn change(&self, deadline: Deadline) {
        for round in 0..3 {
            let mut map = exclusive(&self.map, deadline);
            with_room(&mut map, |map| map.set(FLICKER, &[round; 30]));
            with_room(&mut map, |map| map.set(FLICKER, &[round + 1; 40]));
            map.remove(FLICKER, &mut Vec::new()).expect("whole");
            drop(map);

            let mut emptied = exclusive(&self.emptied, deadline);
            with_room(&mut emptied, |emptied| emptied.set(b"a", b"first"));
            with_room(&mut emptied, |emptied| emptied.set(b"b", b"second"));
            emptied.clear();
            drop(emptied);

            let mut sequence = exclusive(&self.sequence, deadline);
            with_room(&mut sequence, |sequence| sequence.push(&[round; 10]));
            with_room(&mut sequence, |sequence| sequence.push(&[round; 10]));
            sequence.pop(&mut Vec::new()).expect("whole");
        }
    }

    fn check(&self) {
        let map = exclusive(&self.map, promptly());
        let mut met = Vec::new();
        map.each(|key, value| met.push((key.to_vec(), value.to_vec())))
            .expect("whole");
        assert_eq!(map.len(), met.len());
        for (at, (key, value)) in met.iter().enumerate() {
            let mut found = Vec::new();
            assert!(map.get(key, &mut found).expect("whole"));
            assert_eq!(&found, value);
            if at < usize::from(STEADY) {
                assert_eq!((key, value), (&vec![at as u8], &vec![at as u8; 5]));
            } else {
                assert_eq!(key, FLICKER);
                assert!([30, 40].contains(&value.len()));
                assert!(value.iter().all(|byte| *byte == value[0]));
            }
        }
        assert!(met.len() >= usize::from(STEADY));
        drop(map);

        let emptied = exclusive(&self.emptied, promptly());
        let mut keys = Vec::new();
        emptied
            .each(|key, _| keys.push(key.to_vec()))
            .expect("whole");
        assert!([&b""[..], b"a", b"ab"].contains(&&*keys.concat()));
        assert_eq!(emptied.len(), keys.len());
        drop(emptied);

        let sequence = exclusive(&self.sequence, promptly());
        let mut length = 0;
        sequence
            .each(|key, value| {
                length += 1;
                assert!(key.is_empty() && value.len() == 10);
                assert!(value.iter().all(|byte| *byte == value[0]));
            })
            .expect("whole");
        assert_eq!(sequence.len(), length);
    }
}

impl Scenario for Storing {
    fn victim(&mut self, _: SharedCells) {
        self.change(Deadline::NEVER);
    }

    fn survive(&mut self, _: SharedCells) {
        self.check();
        self.change(promptly());
        self.check();
    }
}

/// Values that are copied without exclusive access.
const LARGE: usize = 20_000;

/// A map and a sequence of large values.
pub struct StoringLarge {
    map: Store,
    sequence: Store,
}

/// Makes a change to a store, after making room if needed.
fn with_access<T>(
    store: &Store,
    deadline: Deadline,
    change: impl Fn(&Access<'_, StoreError>) -> Result<T, StoreError>,
) -> T {
    let enter = || Ok(exclusive(store, deadline));
    let access = Access::new(&enter, std::convert::identity);
    match change(&access) {
        Err(StoreError::NoRoom(room)) => {
            exclusive(store, deadline).grow(room).expect("memory");
            change(&access).expect("there is room now")
        }
        done => done.expect("nothing is damaged"),
    }
}

fn assert_uniform(value: &[u8]) {
    assert!([LARGE, LARGE + 9].contains(&value.len()), "{}", value.len());
    assert!(value.iter().all(|byte| *byte == value[0]), "a torn value");
}

impl StoringLarge {
    pub fn new(_: SharedCells) -> StoringLarge {
        let made = StoringLarge {
            map: Store::new().expect("memory"),
            sequence: Store::new().expect("memory"),
        };
        for key in [b"steady", b"moving"] {
            with_access(&made.map, Deadline::NEVER, |map| map.set(key, &[1; LARGE]));
        }
        made
    }

    fn change(&self, deadline: Deadline) {
        for round in 0..2 {
            let (one, other) = (vec![round; LARGE], vec![round + 5; LARGE + 9]);
            with_access(&self.map, deadline, |map| map.set(b"moving", &one));
            with_access(&self.map, deadline, |map| {
                map.update(&[(b"moving", &other), (b"more", &one)])
            });
            assert!(with_access(&self.map, deadline, |map| map
                .get(b"steady", &mut Vec::new())));
            with_access(&self.map, deadline, |map| {
                map.get_or_set(b"more", &one, &mut Vec::new())
            });
            with_access(&self.map, deadline, |map| {
                map.remove(b"more", &mut Vec::new())
            });
            with_access(&self.sequence, deadline, |items| items.push(&one));
            with_access(&self.sequence, deadline, |items| {
                items.set_at(|_| 0, &other)
            });
            with_access(&self.sequence, deadline, |items| items.pop(&mut Vec::new()));
            let all = with_access(&self.map, deadline, |map| {
                map.all(Vec::new, |all, _, value| all.push(value.to_vec()))
            });
            all.iter().for_each(|value| assert_uniform(value));
        }
    }

    fn check(&self) {
        for store in [&self.map, &self.sequence] {
            let all = with_access(store, promptly(), |store| {
                store.all(Vec::new, |all, _, value| all.push(value.to_vec()))
            });
            all.iter().for_each(|value| assert_uniform(value));
        }
        let mut steady = Vec::new();
        exclusive(&self.map, promptly())
            .get(b"steady", &mut steady)
            .expect("whole");
        assert_eq!(steady, [1; LARGE]);
    }
}

impl Scenario for StoringLarge {
    fn victim(&mut self, _: SharedCells) {
        self.change(Deadline::NEVER);
    }

    fn survive(&mut self, _: SharedCells) {
        self.check();
        self.change(promptly());
        self.check();
    }
}

#[test]
fn a_client_that_is_stopped_while_it_moves_a_large_value_holds_up_nobody() {
    let cells = SharedCells::new();
    for nth in 1..=8 {
        isolated(|| {
            process::ensure().expect("an arena");
            let stores = StoringLarge::new(cells);
            let client = stopped_at("store.unlocked", nth, || stores.change(Deadline::NEVER));
            stores.change(promptly());
            stores.check();
            client.resume();
            client.succeed();
            stores.check();
        });
    }
}
