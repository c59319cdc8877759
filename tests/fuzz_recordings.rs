//! 10,000 spoilt recordings and image sets: no panic, no hang, bounded memory; each is read or refused
//! with a sentence.
#![cfg(feature = "cli")]

mod common;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::spoil::{Counting, Dice, begin, most_since, spoil};
use common::{root, shared_quietly};
use ventral::archive::npy::{Array, Data, NpzWriter};
use ventral::image::dataset::{OpenOptions, open};
use ventral::neural::{self, ReadOptions};

#[global_allocator]
static COUNTING: Counting = Counting;

const CASES: usize = 10_000;

/// No file of some kilobytes may take longer, slow machines included.
const SLOWEST: Duration = Duration::from_secs(10);

/// Above what was in use before the case; the files have some kilobytes.
const MOST_MEMORY: usize = 64 << 20;

/// Files that are read, by name.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |path: std::path::PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy();
        seeds.push((name.into_owned(), std::fs::read(&path).expect("a file")));
    };
    for name in ["assembly.nc", "bins.nc", "responses.parquet"] {
        add(root().join("tests/fixtures/neural").join(name));
    }
    // The larger set adds forms that these have not.
    for name in [
        "neural/matlab73.mat",
        "neural/pandas.h5",
        "neural/compound.h5",
        "neural/lz4-v2pages.parquet",
        "sets/hardlinks.tar",
        "sets/cp437.zip",
    ] {
        shared_quietly(&format!("field-cases/{name}"))
            .into_iter()
            .for_each(&mut add);
    }
    let mut archive = NpzWriter::new(Vec::new());
    let array = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| i as f32).collect();
        Array::new(shape.to_vec(), Data::F32(values)).expect("as many values")
    };
    archive
        .add("responses", &array(&[6, 2, 5]))
        .expect("a vector");
    archive.add("order", &array(&[6])).expect("a vector");
    seeds.push(("x.npz".to_owned(), archive.finish().expect("a vector")));
    let table = "image;n1;n2\nim00.png;0,5;1,25\nim01.png;2,5;\nim02.png;-1,75;3,5\n";
    seeds.push(("x.csv".to_owned(), table.into()));
    seeds
}

/// Whether the file is read, as what its name says.
fn is_read(name: &str, file: &[u8]) -> Result<(), String> {
    if name.ends_with(".tar") || name.ends_with(".zip") {
        let options = OpenOptions {
            size: 8,
            images: 50,
            without: Vec::new(),
            flat: true,
            in_order: true,
        };
        let opened = open(file, name, &options, &mut |_| ControlFlow::Continue(()));
        return opened.map(|_| ()).map_err(|error| error.to_string());
    }
    let choices = ReadOptions {
        time_bin: (name == "bins.nc").then_some(0),
        ..ReadOptions::default()
    };
    let read = neural::read(name, file.to_vec(), &choices);
    let responses = read.map_err(|error| error.to_string())?;
    let pictures: Vec<String> = (0..6).map(|i| format!("img_{i:02}.png")).collect();
    let with = neural::interpret(&responses, Some(&pictures)).map(|_| ());
    let without = neural::interpret(&responses, None).map(|_| ());
    with.or(without).map_err(|error| error.to_string())
}

#[test]
fn spoilt_recordings_and_sets_are_sentences_or_read() {
    let seeds = seeds();
    for (name, seed) in &seeds {
        assert_eq!(is_read(name, seed), Ok(()), "{name}");
    }
    let mut dice = Dice(2026);
    let (mut read, mut slowest, mut most) = (0, Duration::ZERO, 0);
    for case in 0..CASES {
        let (name, seed) = &seeds[case % seeds.len()];
        let file = spoil(seed, &mut dice);
        let before = begin();
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| is_read(name, &file)));
        let took = begun.elapsed();
        let memory = most_since(before);
        match outcome {
            Ok(Ok(())) => read += 1,
            Ok(Err(sentence)) => assert!(!sentence.is_empty(), "case {case}, from {name}"),
            Err(_) => panic!("case {case}, from {name}, panics"),
        }
        assert!(took < SLOWEST, "case {case}, from {name}, took {took:?}");
        assert!(
            memory < MOST_MEMORY,
            "case {case}, from {name}, took {memory} bytes"
        );
        slowest = slowest.max(took);
        most = most.max(memory);
    }
    println!("{read} of {CASES} were read; slowest {slowest:?}; {most} bytes at most");
    // A mutation that always destroys, or never does, would test little.
    assert!((CASES / 20..CASES * 19 / 20).contains(&read), "{read}");
}
