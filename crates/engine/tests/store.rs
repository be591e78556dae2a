//! Stores as their users see them.

mod common;

use common::{Child, Footprint, SharedCells, isolated, promptly};
use procession_engine::process;
use procession_engine::store::{Access, ExclusiveAccess, Room, Store, StoreError, StoreHandle};

fn exclusive(store: &Store) -> ExclusiveAccess<'_> {
    store.enter(promptly()).unwrap().unwrap()
}

fn set(store: &Store, key: &[u8], value: &[u8]) {
    let mut access = exclusive(store);
    if let Err(StoreError::NoRoom(room)) = access.set(key, value) {
        access.grow(room).unwrap();
        access.set(key, value).unwrap();
    }
}

fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    exclusive(store)
        .get(key, &mut value)
        .unwrap()
        .then_some(value)
}

fn entries(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    exclusive(store)
        .each(|key, value| entries.push((key.to_vec(), value.to_vec())))
        .unwrap();
    entries
}

#[test]
fn a_child_finds_what_its_parent_set_and_the_other_way_round() {
    isolated(|| {
        let store = Store::new().unwrap();
        set(&store, b"one", b"1");
        Child::fork(|| {
            assert_eq!(get(&store, b"one").unwrap(), b"1");
            set(&store, b"two", b"2");
        })
        .succeed();
        assert_eq!(get(&store, b"two").unwrap(), b"2");
        assert_eq!(get(&store, b"three"), None);
    });
}

#[test]
fn it_means_what_a_map_means() {
    isolated(|| {
        let store = Store::new().unwrap();
        let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut random = 12345_u64;
        for round in 0..20_000_u64 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let key = (random >> 33) % 97;
            let key = key.to_string().into_bytes();
            let at = model.iter().position(|(known, _)| *known == key);
            if random >> 60 < 9 {
                let value = vec![round as u8; (random >> 40) as usize % 70];
                set(&store, &key, &value);
                match at {
                    Some(at) => model[at].1 = value,
                    None => model.push((key, value)),
                }
            } else {
                let mut value = Vec::new();
                let was_there = exclusive(&store).remove(&key, &mut value).unwrap();
                let expected = at.map(|at| model.remove(at).1);
                assert_eq!(was_there.then_some(value), expected);
            }
            assert_eq!(exclusive(&store).len(), model.len());
        }
        assert_eq!(entries(&store), model);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        assert!(exclusive(&store).pop_last(&mut key, &mut value).unwrap());
        assert_eq!(Some((key, value)), model.pop());
        exclusive(&store).clear();
        assert_eq!(entries(&store), []);
    });
}

#[test]
fn a_sequence_keeps_its_order() {
    isolated(|| {
        let store = Store::new().unwrap();
        for number in 0..1000_u32 {
            let mut access = exclusive(&store);
            let bytes = number.to_le_bytes();
            if let Err(StoreError::NoRoom(room)) = access.push(&bytes) {
                access.grow(room).unwrap();
                access.push(&bytes).unwrap();
            }
        }
        let access = exclusive(&store);
        let mut value = Vec::new();
        assert!(access.get_at(700, &mut value).unwrap());
        assert_eq!(value, 700_u32.to_le_bytes());
        assert!(!access.get_at(1000, &mut value).unwrap());
        value.clear();
        assert!(access.pop(&mut value).unwrap());
        assert_eq!(value, 999_u32.to_le_bytes());
        assert_eq!(access.len(), 999);
    });
}

#[test]
fn others_follow_when_it_grows() {
    isolated(|| {
        let store = Store::new().unwrap();
        let other = Store::open(&StoreHandle::from_bytes(&store.handle().to_bytes()).unwrap());
        let other = other.unwrap();
        for number in 0..500_u32 {
            set(&store, &number.to_le_bytes(), &[7; 100]);
            assert_eq!(get(&other, &number.to_le_bytes()).unwrap(), [7; 100]);
        }
    });
}

#[test]
fn without_its_owner_it_is_detached() {
    isolated(|| {
        let store = Store::new().unwrap();
        set(&store, b"key", b"value");
        let other = Store::open(&store.handle()).unwrap();
        exclusive(&store).retire();
        assert!(!other.is_here());
        let entered = other.enter(promptly()).unwrap();
        assert!(matches!(entered, Err(StoreError::Detached)));
    });
}

#[test]
fn it_ends_with_the_process_that_owns_it() {
    isolated(|| {
        process::ensure().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let owner = Child::fork(|| {
            let store = Store::new().unwrap();
            set(&store, b"key", b"value");
            std::io::Write::write_all(&mut writer, &store.handle().to_bytes()).unwrap();
            loop {
                std::thread::park();
            }
        });
        let mut handle = [0; 64];
        std::io::Read::read_exact(&mut reader, &mut handle).unwrap();
        let store = Store::open(&StoreHandle::from_bytes(&handle).unwrap()).unwrap();
        assert_eq!(get(&store, b"key").unwrap(), b"value");
        owner.kill();
        owner.join();
        assert!(matches!(
            store.enter(promptly()).unwrap(),
            Err(StoreError::Detached)
        ));
    });
}

#[test]
fn nothing_is_left_of_it() {
    isolated(|| {
        drop(Store::new().unwrap());
        let before = Footprint::take();
        let store = Store::new().unwrap();
        (0..200_u32).for_each(|number| set(&store, &number.to_le_bytes(), &[1; 300]));
        drop(store);
        before.assert_unchanged();
    });
}

#[test]
fn values_that_are_replaced_all_the_time_need_no_more_room() {
    isolated(|| {
        let store = Store::new().unwrap();
        let mut grown = 0;
        for round in 0..20_000_usize {
            let value = vec![round as u8; round * 7919 % 3_000];
            let key = (round % 50).to_string().into_bytes();
            let mut access = exclusive(&store);
            if let Err(StoreError::NoRoom(room)) = access.set(&key, &value) {
                grown += 1;
                access.grow(room).unwrap();
                access.set(&key, &value).unwrap();
            }
            drop(access);
            assert_eq!(get(&store, &key).unwrap(), value);
        }
        assert!(grown < 12, "it was copied {grown} times");
    });
}

#[test]
fn large_values_mean_what_small_ones_mean() {
    isolated(|| {
        let store = Store::new().unwrap();
        let enter = || Ok(exclusive(&store));
        let access: Access<'_, StoreError> = Access::new(&enter, std::convert::identity);
        let set = |key: &[u8], value: &[u8]| {
            while let Err(StoreError::NoRoom(room)) = access.set(key, value) {
                exclusive(&store).grow(room).unwrap();
            }
        };
        let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for round in 0..600_usize {
            let key = vec![b'k', (round * 31 % 7) as u8];
            let value = vec![round as u8; round * 7919 % 30_000];
            let at = model.iter().position(|(known, _)| *known == key);
            let mut out = Vec::new();
            match round % 5 {
                0..3 => {
                    set(&key, &value);
                    match at {
                        Some(at) => model[at].1 = value,
                        None => model.push((key, value)),
                    }
                }
                3 => {
                    let removed = access.remove(&key, &mut out).unwrap();
                    assert_eq!(removed.then_some(out), at.map(|at| model.remove(at).1));
                }
                _ => {
                    let mut name = Vec::new();
                    let popped = access.pop_last(&mut name, &mut out).unwrap();
                    assert_eq!(popped.then_some((name, out)), model.pop());
                }
            }
            for (key, value) in &model {
                let mut found = Vec::new();
                assert!(access.get(key, &mut found).unwrap());
                assert_eq!(&found, value);
            }
        }
        let begin = Vec::<(Vec<u8>, Vec<u8>)>::new;
        let all = access.all(begin, |all, key, value| {
            all.push((key.into(), value.into()))
        });
        assert_eq!(all.unwrap(), model);
    });
}

#[test]
fn readers_of_a_large_value_see_it_whole_while_others_replace_it() {
    isolated(|| {
        let cells = SharedCells::new();
        let store = Store::new().unwrap();
        set(&store, b"value", &[0; 100_000]);
        exclusive(&store)
            .grow(Room::of(b"", &[0; 800_000]))
            .unwrap();
        let writers: Vec<_> = (1..=2_u8)
            .map(|writer| {
                let store = &store;
                Child::fork(move || {
                    let enter = || Ok(exclusive(store));
                    let access: Access<'_, StoreError> =
                        Access::new(&enter, std::convert::identity);
                    for _ in 0..300 {
                        access.set(b"value", &[writer; 100_000]).unwrap();
                    }
                    cells.count(0);
                })
            })
            .collect();
        let enter = || Ok(exclusive(&store));
        let access: Access<'_, StoreError> = Access::new(&enter, std::convert::identity);
        while cells.read(0) < 2 {
            let mut value = Vec::new();
            assert!(access.get(b"value", &mut value).unwrap());
            assert_eq!(value.len(), 100_000);
            assert!(value.iter().all(|byte| *byte == value[0]), "a torn value");
        }
        writers.iter().for_each(Child::succeed);
    });
}
