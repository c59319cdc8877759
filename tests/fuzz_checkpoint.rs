//! Ten thousand damaged weight files: no panic, no hang, bounded memory. The mutations are drawn
//! from a fixed seed, so a failure repeats; its number is in the message.

#![cfg(feature = "checkpoint")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::reference;
use common::torch::{archive, pickle, small, small_object, small_storages, zip_of_pickle};
use ventral::model::checkpoint::npy::{Array, Data, Npz, NpzWriter, read_npy, write_npy};
use ventral::model::checkpoint::{Checkpoint, Limits, write_safetensors};
use ventral::model::recognise::recognise;

/// As many, or `VENTRAL_FUZZ_CASES`, from `VENTRAL_FUZZ_SEED` on, for a longer look.
const CASES: usize = 10_000;
const SEED: u64 = 0x5eed_0002;
/// Above what was in use before the case, its own bytes included.
const MOST_MEMORY: usize = 64 << 20;
/// Generous: a busy machine without optimisation needs some 20 ms for the largest.
const MOST_TIME: Duration = Duration::from_secs(5);

/// Counts the bytes in use and the most there were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        PEAK.fetch_max(before + layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A place in a file: half the time near its beginning or end, where the structure is.
    fn place(&mut self, length: usize) -> usize {
        const NEAR: usize = 4096;
        match self.below(4) {
            0 => self.below(length.min(NEAR)),
            1 => length.saturating_sub(1 + self.below(length.min(NEAR))),
            _ => self.below(length),
        }
    }
}

/// Numbers that lengths and counts go wrong at.
const LENGTHS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Opcodes that move the stack, the memo, or make something.
const OPCODES: &[u8] = b"(.01234NIJKLMGSTUVXBC])}ltdaesupqrghjcRiobPQ\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97";

fn mutate(file: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        if file.is_empty() {
            return;
        }
        let at = random.place(file.len());
        match random.below(9) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = random.next() as u8,
            2 => file[at] = OPCODES[random.below(OPCODES.len())],
            3 => file.truncate(at),
            4 => write_number(file, at, random),
            5 => splice(file, at, other, random),
            6 => {
                // A piece of itself somewhere else.
                let copy = file.clone();
                splice(file, at, &copy, random);
            }
            7 => {
                let end = (at + 1 + random.below(64)).min(file.len());
                file.drain(at..end);
            }
            _ => edit_ascii_number(file, at, random),
        }
    }
}

/// Overwrites 2, 4 or 8 bytes with a number that is too large, too small, or a little off.
fn write_number(file: &mut [u8], at: usize, random: &mut Random) {
    let size = [2, 4, 8][random.below(3)].min(file.len() - at);
    let mut old = [0; 8];
    old[..size].copy_from_slice(&file[at..at + size]);
    let number = match random.below(3) {
        0 => u64::from_le_bytes(old)
            .wrapping_add(random.next() % 17)
            .wrapping_sub(8),
        _ => LENGTHS[random.below(LENGTHS.len())],
    };
    file[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
}

/// Numbers in JSON and in NumPy's headers.
fn edit_ascii_number(file: &mut [u8], at: usize, random: &mut Random) {
    let digit = file[at..].iter().position(u8::is_ascii_digit);
    if let Some(digit) = digit {
        file[at + digit] = b"0123456789-.eE"[random.below(14)];
    }
}

fn splice(file: &mut Vec<u8>, at: usize, from: &[u8], random: &mut Random) {
    let start = random.place(from.len());
    let end = (start + 1 + random.below(256)).min(from.len());
    let piece = from[start..end].iter().copied();
    let replaced = match random.below(2) {
        0 => at..at,
        _ => at..(at + piece.len()).min(file.len()),
    };
    file.splice(replaced, piece);
}

/// A file to be damaged, and what is put around it afterwards.
struct Sample {
    bytes: Vec<u8>,
    around: fn(Vec<u8>) -> Vec<u8>,
}

fn nothing(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Damage within sound checksums, which else would end every look into an archive.
fn sound_archive(table: Vec<u8>) -> Vec<u8> {
    zip_of_pickle(&table, &small_storages(), false, "little")
}

fn corpus() -> Vec<Sample> {
    let whole = files().into_iter().map(|bytes| Sample {
        bytes,
        around: nothing,
    });
    let tables = [small_object(false), small_object(true)].map(|object| Sample {
        bytes: pickle(&object),
        around: sound_archive,
    });
    whole.chain(tables).collect()
}

fn files() -> Vec<Vec<u8>> {
    let values = [0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    let tensors: [(&str, &[usize], &[f32]); 3] = [
        ("conv1.weight", &[2, 3], &values),
        ("conv1.bias", &[2], &values[..2]),
        ("steps", &[], &values[..1]),
    ];
    let metadata = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
    let mut safetensors = Vec::new();
    write_safetensors(&mut safetensors, tensors, false, &metadata).unwrap();
    let array = Array::new(vec![2, 3], Data::F32(values.to_vec())).unwrap();
    let mut npy = Vec::new();
    write_npy(&mut npy, &array).unwrap();
    let mut npz = NpzWriter::new(Vec::new());
    npz.add("a", &array).unwrap();
    npz.add("b", &Array::new(vec![2], Data::I64(vec![1, 2])).unwrap())
        .unwrap();
    let deflated_npz = archive(&[("a.npy", &npy), ("b.npy", &npy)], true);
    let mut corpus = vec![
        small(true, false),
        small(false, false),
        small(false, true),
        safetensors,
        npy,
        npz.finish().unwrap(),
        deflated_npz,
    ];
    for name in [
        "cornet_z_div8.pth",
        "voneresnet50_small.pth.tar",
        "small_cnn.safetensors",
    ] {
        corpus.push(fs::read(reference(name)).unwrap());
    }
    corpus
}

/// What became of a file.
#[derive(Default)]
struct Tally {
    opened: usize,
    refused: usize,
    read: usize,
    unreadable: usize,
}

/// Everything that can be done with a file that was dropped on the page.
fn exercise(file: &[u8], tally: &mut Tally) {
    let limits = Limits::default();
    match Checkpoint::open(Cursor::new(file), &limits) {
        Ok(mut checkpoint) => {
            tally.opened += 1;
            let shapes = checkpoint.shapes();
            for (name, shape) in &shapes {
                match checkpoint.read_f32(name) {
                    Ok(values) => {
                        assert_eq!(values.len(), shape.iter().product::<usize>());
                        tally.read += 1;
                    }
                    Err(e) => {
                        assert!(e.to_string().len() > 20);
                        tally.unreadable += 1;
                    }
                }
            }
            let shapes = checkpoint.shapes();
            if let Err(e) = recognise(&shapes, &checkpoint.flags, "cornet_z-5c427c9c.pth") {
                assert!(e.to_string().len() > 20);
            }
        }
        Err(e) => {
            tally.refused += 1;
            assert_is_sentence(&e.to_string());
        }
    }
    if let Err(e) = read_npy(Cursor::new(file), &limits) {
        assert_is_sentence(&e.to_string());
    }
    if let Ok(mut npz) = Npz::open(Cursor::new(file), &limits) {
        let names: Vec<String> = npz.names().map(str::to_owned).collect();
        for name in names {
            if let Err(e) = npz.read(&name) {
                assert_is_sentence(&e.to_string());
            }
        }
    }
}

fn assert_is_sentence(text: &str) {
    assert!((10..2000).contains(&text.len()), "{text:?}");
    assert!(!text.contains('\0') && !text.contains('\n'), "{text:?}");
}

/// Without this, the bound on memory would hold for a counter that is not in use.
fn assert_counter_counts() {
    let before = IN_USE.load(Ordering::Relaxed);
    let block = vec![1u8; 3 << 20];
    assert_eq!(IN_USE.load(Ordering::Relaxed), before + block.len());
}

#[test]
fn damaged_files_neither_panic_nor_hang_nor_eat_memory() {
    assert_counter_counts();
    let setting = |name: &str| std::env::var(name).ok()?.parse().ok();
    let cases = setting("VENTRAL_FUZZ_CASES").unwrap_or(CASES as u64) as usize;
    let seed = setting("VENTRAL_FUZZ_SEED").unwrap_or(SEED);
    let corpus = corpus();
    let mut tally = Tally::default();
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    for case in 0..cases {
        let mut random = Random(seed.wrapping_add((case as u64) << 32));
        let sample = &corpus[case % corpus.len()];
        let mut file = sample.bytes.clone();
        let other = &corpus[random.below(corpus.len())].bytes;
        mutate(&mut file, other, &mut random);
        let file = (sample.around)(file);

        let before = IN_USE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| exercise(&file, &mut tally)));
        let time = start.elapsed();
        let memory = PEAK.load(Ordering::Relaxed) - before;
        assert!(result.is_ok(), "case {case} panicked");
        assert!(memory < MOST_MEMORY, "case {case} took {memory} bytes");
        assert!(time < MOST_TIME, "case {case} took {time:?}");
        slowest = slowest.max(time);
        largest = largest.max(memory);
    }
    println!(
        "{cases} files: {} opened, {} refused; {} tensors read, {} not; slowest {slowest:?}, most memory {largest} bytes",
        tally.opened, tally.refused, tally.read, tally.unreadable
    );
    // The mutations reach both the reading of values and the refusals.
    assert!(tally.opened > cases / 50 && tally.refused > cases / 10);
    assert!(tally.read > cases / 10 && tally.unreadable > 0);
}
