//! Deaths in the middle of a turn with a store.

use crate::case::Play;
use crate::common::{Slate, promptly};
use procession_engine::Deadline;
use procession_engine::store::{Store, StoreError, Turn};

const STEADY: u8 = 20;
const FLICKER: &[u8] = b"flicker";

/// A map in which some entries come and go, one that is emptied and filled, and a sequence.
pub struct Storing {
    map: Store,
    emptied: Store,
    sequence: Store,
}

fn turn(store: &Store, deadline: Deadline) -> Turn<'_> {
    let entered = store.enter(deadline).expect("the lock is to be had");
    entered.expect("the keeper lives")
}

/// Does something, after making room if need be.
fn with_room(turn: &Turn<'_>, change: impl Fn(&Turn<'_>) -> Result<(), StoreError>) {
    match change(turn) {
        Err(StoreError::NoRoom(room)) => {
            turn.grow(room).expect("memory");
            change(turn).expect("there is room now");
        }
        done => done.expect("nothing is damaged"),
    }
}

impl Storing {
    pub fn new(_: Slate) -> Storing {
        let made = Storing {
            map: Store::new().expect("memory"),
            emptied: Store::new().expect("memory"),
            sequence: Store::new().expect("memory"),
        };
        let map = turn(&made.map, Deadline::NEVER);
        for key in 0..STEADY {
            map.set(&[key], &[key; 5]).expect("room");
        }
        drop(map);
        made
    }

    fn change(&self, deadline: Deadline) {
        for round in 0..3 {
            let map = turn(&self.map, deadline);
            with_room(&map, |map| map.set(FLICKER, &[round; 30]));
            with_room(&map, |map| map.set(FLICKER, &[round + 1; 40]));
            map.remove(FLICKER, &mut Vec::new()).expect("whole");
            drop(map);

            let emptied = turn(&self.emptied, deadline);
            with_room(&emptied, |emptied| emptied.set(b"a", b"first"));
            with_room(&emptied, |emptied| emptied.set(b"b", b"second"));
            emptied.clear();
            drop(emptied);

            let sequence = turn(&self.sequence, deadline);
            with_room(&sequence, |sequence| sequence.push(&[round; 10]));
            with_room(&sequence, |sequence| sequence.push(&[round; 10]));
            sequence.pop(&mut Vec::new()).expect("whole");
        }
    }

    fn check(&self) {
        let map = turn(&self.map, promptly());
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

        let emptied = turn(&self.emptied, promptly());
        let mut keys = Vec::new();
        emptied
            .each(|key, _| keys.push(key.to_vec()))
            .expect("whole");
        assert!([&b""[..], b"a", b"ab"].contains(&&*keys.concat()));
        assert_eq!(emptied.len(), keys.len());
        drop(emptied);

        let sequence = turn(&self.sequence, promptly());
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

impl Play for Storing {
    fn victim(&mut self, _: Slate) {
        self.change(Deadline::NEVER);
    }

    fn survive(&mut self, _: Slate) {
        self.check();
        self.change(promptly());
        self.check();
    }
}
