//! Round trips, and messages that Python writes and Rust does not.

use std::collections::{BTreeMap, HashSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{decode, encode};
use crate::python::Bytes;

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
    let message = encode(&value).unwrap();
    assert_eq!(decode::<T>(&message).unwrap(), value);
}

#[track_caller]
fn refused<T: DeserializeOwned + std::fmt::Debug>(message: &[u8]) -> String {
    decode::<T>(message).unwrap_err().to_string()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Metres(f64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: Option<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(u32),
    Segment(i8, i8),
    Box { width: u8, height: u8 },
}

#[test]
fn every_shape_of_serde_comes_back() {
    comes_back(());
    comes_back(Unit);
    comes_back(Metres(1.5));
    comes_back((true, 'é', "text".to_owned(), -3i8));
    comes_back(Point { x: 1, y: None });
    comes_back(vec![Some(1u16), None]);
    comes_back(HashSet::from([1, 2, 3]));
    comes_back(BTreeMap::from([((1u8, 'a'), vec![1.5f32])]));
    comes_back(Bytes(vec![0, 1, 255]));
    comes_back(vec![
        Shape::Empty,
        Shape::Circle(7),
        Shape::Segment(-1, 1),
        Shape::Box {
            width: 2,
            height: 3,
        },
    ]);
    comes_back(Err::<u8, _>("no".to_owned()));
    comes_back("x".repeat(1 << 20));
}

#[test]
fn ints_come_back_to_their_bounds() {
    comes_back([i64::MIN, i64::MAX, 127, 128, -128, -129, 32767, 32768]);
    comes_back([u64::MIN, u64::MAX, 1 << 63]);
    comes_back([i128::MIN, i128::MAX, 1 << 64]);
    comes_back([u128::MAX, 0]);
    comes_back([f64::INFINITY, -0.0, f64::MIN_POSITIVE]);
    let nan = f64::from_bits(0x7ff8_0000_0000_1234);
    let bits = decode::<f64>(&encode(&nan).unwrap()).unwrap().to_bits();
    assert_eq!(bits, nan.to_bits());
}

#[test]
fn the_bytes_are_those_of_the_format() {
    assert_eq!(encode(&5).unwrap(), [0x85]);
    assert_eq!(encode(&-1).unwrap(), b"1\xff");
    assert_eq!(
        encode(&u64::MAX).unwrap(),
        b"i\x09\xff\xff\xff\xff\xff\xff\xff\xff\0"
    );
    assert_eq!(
        encode(&Point { x: 1, y: None }).unwrap(),
        b"m\x02s\x01x\x81s\x01yn"
    );
    assert_eq!(encode(&(1, "a")).unwrap(), b"u\x02\x81s\x01a");
    assert_eq!(
        encode(&[Shape::Empty].as_slice()).unwrap(),
        b"l\x01s\x05Empty"
    );
    assert_eq!(encode(&Shape::Circle(1)).unwrap(), b"m\x01s\x06Circle\x81");
}

#[test]
fn a_sequence_of_unknown_length_gets_its_count_afterwards() {
    struct Lazy;
    impl Serialize for Lazy {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0..300).filter(|n| n % 2 == 0))
        }
    }
    let message = encode(&(Lazy, "behind")).unwrap();
    let (evens, behind): (Vec<u32>, String) = decode(&message).unwrap();
    assert_eq!(
        (evens.len(), evens[149], behind.as_str()),
        (150, 298, "behind")
    );
}

#[test]
fn what_python_writes_more_freely_is_read() {
    assert_eq!(decode::<Vec<u8>>(b"b\x02\x01\xff").unwrap(), [1, 255]);
    assert_eq!(decode::<(u8, u8)>(b"l\x02\x81\x82").unwrap(), (1, 2));
    assert_eq!(decode::<HashSet<u8>>(b"z\x02\x81\x82").unwrap().len(), 2);
    assert_eq!(decode::<f64>(&[0x83]).unwrap(), 3.0);
    assert_eq!(*decode::<Bytes>(b"y\x01a").unwrap(), b"a");
    assert_eq!(decode::<i64>(&[0x80]).unwrap(), 0, "not a pickle");
}

#[test]
fn references_are_followed() {
    // ["ab", "ab", ("ab",)]
    let message = b"l\x03S\x02abr\x02u\x01r\x02";
    let words: (String, String, (String,)) = decode(message).unwrap();
    assert_eq!(words, ("ab".into(), "ab".into(), ("ab".into(),)));
    // Through a value that is skipped.
    #[derive(Debug, Deserialize)]
    struct Last {
        b: Vec<u8>,
    }
    assert_eq!(
        decode::<Last>(b"m\x02s\x01aL\x01\x85s\x01br\x05")
            .unwrap()
            .b,
        [5]
    );
    // A variant's name, a bytes object, an option.
    let message = b"l\x02S\x05Emptyr\x02";
    assert_eq!(decode::<Vec<Shape>>(message).unwrap()[1], Shape::Empty);
    assert_eq!(
        decode::<Vec<Option<String>>>(b"l\x02S\x01ar\x02").unwrap()[1].as_deref(),
        Some("a")
    );
}

#[test]
fn references_that_lead_nowhere_or_back_are_refused() {
    assert!(refused::<Vec<String>>(b"l\x01r\x05").contains("a reference to nothing"));
    assert!(refused::<Vec<String>>(b"l\x02s\x01ar\x02").contains("a reference to nothing"));
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it cannot be made")]
    struct Nested(Vec<Nested>);
    assert!(refused::<Nested>(b"L\x01r\0").contains("holds itself"));
}

#[test]
fn a_message_that_would_unfold_to_more_than_memory_is_refused() {
    // [x0 = [], x1 = [x0, x0], x2 = [x1, x1], ...]
    let mut message = b"l\x32L\0".to_vec();
    let mut last = 2;
    for _ in 1..50 {
        let offset = message.len();
        message.extend_from_slice(b"L\x02");
        for _ in 0..2 {
            message.push(b'r');
            procession_wire::varint::write(&mut message, last);
        }
        last = offset;
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is not looked at")]
    struct Nested(Vec<Nested>);
    assert!(refused::<Vec<Nested>>(&message).contains("repeats its parts too often"));
}

#[test]
fn damaged_messages_are_refused() {
    for message in [
        &b""[..],
        b"l",
        b"l\x05\x81",
        b"s\x05ab",
        b"s\x01\xff",
        b"8abc",
        b"?",
        b"nn",
        b"i\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        let error = refused::<serde::de::IgnoredAny>(message);
        assert!(error.contains("damaged message"), "{message:?}: {error}");
    }
    let deep = [b"l\x01".repeat(101), b"n".to_vec()].concat();
    assert!(refused::<serde::de::IgnoredAny>(&deep).contains("nested too deep"));
    let just = [b"l\x01".repeat(100), b"n".to_vec()].concat();
    assert!(decode::<serde::de::IgnoredAny>(&just).is_ok());
}

#[test]
fn a_pickle_is_called_one() {
    for message in [&b"P\x80\x04N."[..], b"\x80\x04N.", b"O\0\0\0\0"] {
        assert!(refused::<()>(message).contains("it is a pickle, which only Python reads"));
    }
}

#[test]
fn values_that_do_not_fit_are_told_apart() {
    assert!(refused::<u8>(&encode(&300).unwrap()).contains("300"));
    assert!(refused::<u64>(&encode(&-1).unwrap()).contains("-1"));
    assert!(refused::<String>(&encode(&1).unwrap()).contains("expected a string"));
    assert!(refused::<(u8, u8)>(&encode(&(1, 2, 3)).unwrap()).contains("3 items where 2"));
    assert!(refused::<Shape>(&encode(&"Round").unwrap()).contains("unknown variant `Round`"));
    assert!(refused::<Shape>(&encode(&1).unwrap()).contains("the name of a variant"));
    let huge = b"i\x12\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
    assert!(refused::<u128>(huge).contains("an int of 18 bytes"));
}

#[test]
fn what_python_could_not_read_is_refused() {
    let deep = (0..100).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    assert!(encode(&deep).is_ok());
    let error = encode(&[deep]).unwrap_err().to_string();
    assert!(
        error.contains("nested deeper than 100 containers"),
        "{error}"
    );
    let keyed = BTreeMap::from([(vec![1], 2)]);
    let error = encode(&keyed).unwrap_err().to_string();
    assert!(
        error.contains("a list cannot be in the key of a dict"),
        "{error}"
    );
    let keyed = BTreeMap::from([((1, Shape::Circle(1)), 2)]);
    let error = encode(&keyed).unwrap_err().to_string();
    assert!(
        error.contains("a dict cannot be in the key of a dict"),
        "{error}"
    );
    assert!(encode(&BTreeMap::from([(Shape::Empty, vec![1])])).is_ok());
}

#[test]
fn no_bytes_make_it_panic_or_take_memory_they_do_not_have() {
    let rows = serde_json::json!([
        {"id": 1, "name": "somebody", "tags": ["a", "bb", 2.5, null, true]},
        {"id": -70000, "nested": [[], {}, [[["deep"]]]]},
    ]);
    let kept = b"l\x04L\x02S\x02ab\x85r\x04r\x02D\x01s\x01xr\x02".to_vec();
    let messages = [encode(&rows).unwrap(), encode(&u128::MAX).unwrap(), kept];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut message = random.choice(&messages).unwrap().clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..message.len());
            match random.u8(..3) {
                0 => message[at] = random.u8(..),
                1 => message[at] = *random.choice(b"rlmSLDMdinb8\x80\xff").unwrap(),
                _ => message.truncate(at.max(1)),
            }
        }
        // It may fail, but must not panic.
        let _ = decode::<serde_json::Value>(&message);
        let _ = decode::<Vec<Shape>>(&message);
    }
}
