//! The worker pool: work divided among the threads of the pool it runs in, the buffers of each thread, and
//! memory that several threads write to.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::microkernel::Segment;

/// Threads of the pool this runs in; 1 where there can be none.
pub fn threads() -> usize {
    match HAS_THREADS {
        true => rayon::current_num_threads(),
        false => 1,
    }
}

/// Threads in a browser need shared memory, and with it atomic operations.
const HAS_THREADS: bool = cfg!(any(not(target_arch = "wasm32"), target_feature = "atomics"));

/// `work` on every item, on the threads of the pool this runs in. Each takes the next that nobody has
/// taken, so the last items had best be small, or as many as there are threads.
pub fn each<T: Sync>(items: &[T], work: impl Fn(&T, &mut Scratch) + Sync) {
    let threads = threads().min(items.len());
    if threads < 2 {
        return items
            .iter()
            .for_each(|item| Scratch::lend(|scratch| work(item, scratch)));
    }
    awake::keep();
    let (next, working) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let take = || {
        working.fetch_add(1, Ordering::Relaxed);
        Scratch::lend(|scratch| {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                work(item, scratch);
            }
        });
        working.fetch_sub(1, Ordering::Release);
    };
    rayon::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| take());
        }
        take();
        awake::wait_for(|| working.load(Ordering::Acquire) == 0);
    });
}

/// Threads that look for work a little longer than their pool lets them before they sleep. In a browser
/// it takes 0.1 ms and more to wake one, as long as a small pass, the system may then place it on the core of
/// the thread that woke it, and the next pass is about to come.
mod awake {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rayon::Yield;

    use crate::clock::Clock;

    /// Milliseconds that a thread looks and finds nothing before it sleeps: longer than what lies between
    /// two passes of a test.
    const PATIENCE: f32 = 20.0;

    /// Milliseconds to look whether the others are through before sleeping.
    const LAST: f32 = 2.0;

    /// Times in a row that it looks between two looks at the clock: a fraction of a millisecond.
    const LOOKS: usize = 4000;

    /// Threads that stay awake.
    static AWAKE: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        static IS_AWAKE: Cell<bool> = const { Cell::new(false) };
    }

    /// Wakes the threads that sleep and lets them stay awake for a while; natively nothing.
    pub fn keep() {
        let others = rayon::current_num_threads() - 1;
        if cfg!(target_arch = "wasm32") && AWAKE.load(Ordering::Relaxed) < others {
            rayon::spawn_broadcast(|_| look());
        }
    }

    /// Whether there was work in the next [`LOOKS`].
    fn has_worked() -> bool {
        let mut worked = false;
        for _ in 0..LOOKS {
            worked |= matches!(rayon::yield_now(), Some(Yield::Executed));
            std::hint::spin_loop();
        }
        worked
    }

    /// Looks whether the others are `through` with their last items, which are about to be. Left to its
    /// pool this thread would sleep after some microseconds.
    pub fn wait_for(through: impl Fn() -> bool) {
        let waited = Clock::start();
        let look = |_| {
            std::hint::spin_loop();
            through()
        };
        while !(0..LOOKS).any(look) && waited.milliseconds() < LAST {
            // There may be more threads than cores; in a browser this does nothing.
            std::thread::yield_now();
        }
    }

    fn look() {
        // The first thread is the one that has the passes made.
        if rayon::current_thread_index() == Some(0) || IS_AWAKE.replace(true) {
            return;
        }
        AWAKE.fetch_add(1, Ordering::Relaxed);
        let mut idle = Clock::start();
        while idle.milliseconds() < PATIENCE {
            if has_worked() {
                idle = Clock::start();
            }
        }
        AWAKE.fetch_sub(1, Ordering::Relaxed);
        IS_AWAKE.set(false);
    }
}

/// Into how many items to divide work for this many threads: one whose core is slower, or wakes later,
/// takes fewer.
pub fn shares(threads: usize) -> usize {
    match threads {
        1 => 1,
        _ => 8 * threads,
    }
}

/// Of fewer floats a pass over memory is over before another thread has begun.
pub const LEAST_SHARED: usize = 1 << 16;

/// `work` on chunks of this size, on the threads of the pool this runs in; with each its number.
pub fn each_chunk(values: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let on_run = |first: usize, run: &mut [f32]| {
        let chunks = run.chunks_exact_mut(size).enumerate();
        chunks.for_each(|(number, chunk)| work(first + number, chunk));
    };
    if values.len() < LEAST_SHARED || threads() < 2 {
        return on_run(0, values);
    }
    let run = LEAST_SHARED.div_ceil(4 * size);
    // Each is locked once, by the thread that takes it.
    let runs: Vec<_> = values.chunks_mut(run * size).map(Mutex::new).collect();
    let numbered: Vec<_> = runs.iter().enumerate().collect();
    each(&numbered, |(number, values), _| {
        let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
        on_run(number * run, &mut values);
    });
}

/// Buffers a thread uses again and again. What is in them is of earlier work.
#[derive(Default)]
pub struct Scratch {
    pub maps: Vec<f32>,
    pub sums: Vec<f32>,
    pub segments: Vec<Segment>,
    pub blocks: Vec<Range<usize>>,
    pub patches: Vec<f32>,
    pub products: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Scratch {
    /// `work` with those of this thread; with new ones where `work` is part of other work that has them.
    fn lend<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        let mut scratch = SCRATCH.take();
        let result = work(&mut scratch);
        SCRATCH.set(scratch);
        result
    }
}

/// The first so many of a buffer's floats. It grows where it has fewer, and never shrinks: zeros are
/// written once.
pub fn grown(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// A buffer whose parts are written by several threads.
pub struct Shared {
    start: *mut f32,
    length: usize,
    values: Vec<f32>,
}

// SAFETY: `get` asks its callers not to touch the same place from two threads.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn zeros(length: usize) -> Self {
        Self::of(vec![0.0; length], length)
    }

    /// Floats that are all written before any of them is read, here or after [`Self::into_inner`].
    pub fn unwritten(length: usize) -> Self {
        Self::of(Vec::with_capacity(length), length)
    }

    fn of(mut values: Vec<f32>, length: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            length,
            values,
        }
    }

    /// # Safety
    /// Two threads must not write to, or one read what the other writes, the same place; and what is
    /// unwritten must not be read.
    #[allow(clippy::mut_from_ref, reason = "that is what the caller promises")]
    pub unsafe fn get(&self) -> &mut [f32] {
        // SAFETY: the vector is neither moved nor resized while it is shared, and has that capacity.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    pub fn into_inner(self) -> Vec<f32> {
        let mut values = self.values;
        // SAFETY: it has that capacity, and all of it was written.
        unsafe { values.set_len(self.length) };
        values
    }
}
