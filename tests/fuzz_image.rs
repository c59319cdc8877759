//! 10,000 spoilt pictures: no panic, no hang, no more memory than the limits allow.
#![cfg(feature = "picture")]

mod common;

use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use common::spoil::{Counting, Dice, begin, most_since, spoil};
use ventral::image::{Preprocessing, decode, to_input};

const CASES: usize = 10_000;

/// No single file of a few hundred bytes may take longer, slow machines included.
const SLOWEST: Duration = Duration::from_secs(10);

/// The decoder's limit (512 MB), the picture itself and its RGB copy (192 MB each), and some air.
const MOST_MEMORY: usize = 1_000_000_000;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Every picture of the fixtures, by name.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image");
    let known = ["jpg", "png", "webp", "bmp", "gif", "tif"];
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let pictures = paths.filter(|path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| known.contains(&ending))
    });
    let mut seeds: Vec<_> = pictures
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn spoilt_pictures_are_sentences_or_pictures() {
    let seeds = seeds();
    assert!(seeds.len() >= 30);
    let how = Preprocessing {
        resize: 32,
        crop: 32,
    };
    let mut dice = Dice(2024);
    let (mut read, mut slowest) = (0, Duration::ZERO);
    let mut most = 0;
    for case in 0..CASES {
        let (name, seed) = &seeds[case % seeds.len()];
        let file = spoil(seed, &mut dice);
        let before = begin();
        let begun = Instant::now();
        let outcome = catch_unwind(|| match decode(&file) {
            Ok(decoded) => {
                let input = to_input(&decoded.picture, how).unwrap();
                assert_eq!(input.len(), 3 * 32 * 32);
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        });
        let Ok(decoded) = outcome else {
            panic!("case {case}, from {name}, panics: {file:02x?}");
        };
        let took = begun.elapsed();
        assert!(took < SLOWEST, "case {case}, from {name}, took {took:?}");
        let memory = most_since(before);
        assert!(
            memory < MOST_MEMORY,
            "case {case}, from {name}, took {memory} bytes"
        );
        most = most.max(memory);
        slowest = slowest.max(took);
        read += usize::from(decoded);
    }
    println!("{read} of {CASES} were pictures; slowest {slowest:?}; {most} bytes at most");
    // A mutation that always destroys, or never does, would test little.
    assert!((CASES / 10..CASES * 9 / 10).contains(&read), "{read}");
}
