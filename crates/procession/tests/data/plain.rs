//! Users' structs and enums shared by several processes.

#![forbid(unsafe_code)]

use procession::{Array, Loan, Plain, Process, Value};

procession::test_support!();

/// Fields of several sizes: in memory the struct would have padding.
#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Reading {
    valid: bool,
    pub(crate) value: f64,
    channel: u16,
    history: [i32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Plain)]
enum Light {
    #[default]
    Red = 1,
    Amber = -2,
    Green = 300,
}

#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Crossing(u8, Light, pub [Reading; 2], (), (f32, i8));

#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Nothing {}

#[derive(Debug, Clone, Copy, PartialEq, Default, Plain)]
enum Only {
    #[default]
    One,
}

#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Unit;

/// Its fields are not aligned, and one is named by a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Plain)]
#[repr(C, packed)]
struct Packed {
    r#type: u8,
    number: u64,
}

mod shared {
    pub mod processes {
        pub use procession::*;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Plain)]
#[plain(crate = shared::processes)]
#[repr(transparent)]
struct Renamed(i16);

const READING: Reading = Reading {
    valid: true,
    value: 2.5,
    channel: 7,
    history: [1, -2, 3],
};

fn change(value: Value<Reading>) {
    value
        .update(|reading| {
            assert_eq!(reading, READING);
            Reading {
                channel: 8,
                history: [4, 5, 6],
                ..reading
            }
        })
        .unwrap();
}

#[test]
fn a_struct_is_shared_by_processes() {
    let value = Value::new(READING).unwrap();
    Process::spawn(change, value.clone())
        .unwrap()
        .join()
        .unwrap();
    let changed = value.get().unwrap();
    assert_eq!((changed.channel, changed.history), (8, [4, 5, 6]));
    assert_eq!((changed.valid, changed.value), (true, 2.5));
}

fn switch(crossings: Array<Crossing>) {
    let mut crossings = crossings.lock().unwrap();
    for index in 0..crossings.len() {
        crossings.update(index, |Crossing(number, light, readings, (), load)| {
            let next = match light {
                Light::Red => Light::Green,
                Light::Green => Light::Amber,
                Light::Amber => Light::Red,
            };
            Crossing(number, next, readings, (), load)
        });
    }
}

#[test]
fn an_array_of_structs_of_enums_and_structs_is_shared_by_processes() {
    let lights = [Light::Red, Light::Amber, Light::Green];
    let crossing = |light| Crossing(9, light, [READING; 2], (), (-0.5, 1));
    let crossings = Array::new(lights.map(crossing)).unwrap();
    Process::spawn(switch, crossings.clone())
        .unwrap()
        .join()
        .unwrap();
    let switched = [Light::Green, Light::Red, Light::Amber].map(crossing);
    assert_eq!(crossings.to_vec().unwrap(), switched);
}

#[test]
fn a_value_takes_no_more_bytes_than_its_fields() {
    assert_eq!(Reading::SIZE, 1 + 8 + 2 + 12);
    assert_eq!(Light::SIZE, 2);
    assert_eq!((Nothing::SIZE, Only::SIZE), (0, 0));
}

#[test]
fn bytes_that_are_no_variant_are_the_default_one() {
    assert_eq!(Light::read(&[1, 0]), Light::Red);
    assert_eq!(Light::read(&[0xfe, 0xff]), Light::Amber);
    assert_eq!(Light::read(&[7, 7]), Light::Red);
    assert_eq!(Array::<Light>::zeroed(1).unwrap().get(0), Ok(Light::Red));
}

#[test]
fn values_without_bytes_are_values_too() {
    let nothings = Array::new([Nothing {}; 3]).unwrap();
    assert_eq!(nothings.to_vec().unwrap(), [Nothing {}; 3]);
    assert_eq!(Value::new(Only::One).unwrap().get(), Ok(Only::One));
    assert_eq!(Value::new(Unit).unwrap().get(), Ok(Unit));
}

#[test]
fn structs_of_any_layout_are_read_as_they_were_written() {
    let packed = Packed {
        r#type: 3,
        number: u64::MAX - 1,
    };
    assert_eq!(Value::new(packed).unwrap().get(), Ok(packed));
    assert_eq!(Value::new(Renamed(-2)).unwrap().get(), Ok(Renamed(-2)));
}

#[test]
fn a_struct_without_padding_is_used_where_it_lies() {
    let packed = Packed {
        r#type: 3,
        number: 4,
    };
    let loan = Loan::from_slice(&[packed, packed]).unwrap();
    assert_eq!(*loan, [packed; 2]);
    assert_eq!(*Loan::<Renamed>::zeroed(3).unwrap(), [Renamed(0); 3]);
}
