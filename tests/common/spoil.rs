//! Spoilt files, and what reading them takes. A test program that measures memory makes [`Counting`]
//! its allocator:
//!
//! ```ignore
//! #[global_allocator]
//! static COUNTING: Counting = Counting;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is allocated, and the most it ever was.
pub struct Counting;

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

/// Bytes in use now. The most from here on is counted afresh.
pub fn begin() -> usize {
    let now = NOW.load(Ordering::Relaxed);
    MOST.store(now, Ordering::Relaxed);
    now
}

/// The most bytes in use since [`begin`], beyond those that it told.
pub fn most_since(before: usize) -> usize {
    MOST.load(Ordering::Relaxed) - before
}

/// The generator of Numerical Recipes, its upper half.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
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

/// The file with one to five mutations.
pub fn spoil(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut file = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        MUTATIONS[dice.roll(MUTATIONS.len())](&mut file, dice);
    }
    file
}
