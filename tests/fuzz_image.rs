//! 10,000 spoilt pictures: no panic, no hang, no more memory than the limits allow.
#![cfg(feature = "picture")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ventral::image::{Preprocessing, decode, to_input};

const CASES: usize = 10_000;

/// No single file of a few hundred bytes may take longer, slow machines included.
const SLOWEST: Duration = Duration::from_secs(10);

/// The decoder's limit (512 MB), the picture itself and its RGB copy (192 MB each), and some air.
const MOST_MEMORY: usize = 1_000_000_000;

/// Counts what is allocated, and the most it ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The generator of Numerical Recipes, its upper half.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn byte(&mut self) -> u8 {
        self.roll(256) as u8
    }
}

/// Values that headers stumble over.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF, 0xD8, 0xD9];

type Mutation = fn(&mut Vec<u8>, &mut Dice);

const MUTATIONS: [Mutation; 8] = [
    |file, dice| {
        let at = dice.roll(file.len());
        file[at] ^= 1 << dice.roll(8);
    },
    |file, dice| {
        let at = dice.roll(file.len());
        file[at] = dice.byte();
    },
    |file, dice| {
        let at = dice.roll(file.len());
        file[at] = EDGES[dice.roll(EDGES.len())];
    },
    // The header is where sizes and lengths stand.
    |file, dice| {
        let at = dice.roll(file.len().min(64));
        file[at] = EDGES[dice.roll(EDGES.len())];
    },
    |file, dice| {
        let at = dice.roll(file.len().saturating_sub(4).max(1));
        let value = [0, 1, 0x7FFF_FFFF, u32::MAX, 30_000, 65_535][dice.roll(6)];
        let bytes = if dice.roll(2) == 0 {
            u32::to_le_bytes(value)
        } else {
            u32::to_be_bytes(value)
        };
        let end = (at + 4).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
    },
    |file, dice| {
        let keep = 1 + dice.roll(file.len());
        file.truncate(keep);
    },
    |file, dice| {
        let from = dice.roll(file.len());
        let to = (from + 1 + dice.roll(32)).min(file.len());
        let piece = file[from..to].to_vec();
        let at = dice.roll(file.len());
        file.splice(at..at, piece);
    },
    |file, dice| {
        let from = dice.roll(file.len());
        let to = (from + 1 + dice.roll(32)).min(file.len());
        if to - from < file.len() {
            file.drain(from..to);
        }
    },
];

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

fn spoil(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut file = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        MUTATIONS[dice.roll(MUTATIONS.len())](&mut file, dice);
    }
    file
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
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
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
        let memory = MOST.load(Ordering::Relaxed) - before;
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
