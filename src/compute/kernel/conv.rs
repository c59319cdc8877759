//! Convolution on the CPU, with channels in the lanes of vectors.
//!
//! Maps are laid out with their channels innermost, `[height, width, channels]`. All three passes
//! are then sums of one kind ([`super::sum::Sum`]): rows times vectors that stay in registers to the end.
//!
//! - Forward, the rows are positions side by side, the vectors output channels, a segment is a
//!   tap of the kernel and the sum runs over input channels.
//! - The gradient of the input is the same with the channels' roles exchanged; at stride 2 every
//!   second position of a row has the same taps.
//! - For the gradient of the weights the rows are taps of a row of the kernel with their input
//!   channels, the vectors output channels, a segment is a row of an image and the sum runs along
//!   it.
//!
//! Nothing is copied for each tap: those above and below a map are left out, those to its sides
//! read columns of zeros. Kernels of 3x3 take fewer products where there is enough to do
//! ([`super::winograd`]). Kernels of one weight at stride 1 have positions in the lanes instead,
//! and leave the maps as they lie.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::affine::{After, Finish};
use super::packed::{Kind, packed};
use super::pass::{Pass, Pointwise};
use super::stem::{self, Bank, is_stem};
use super::sum::{Segment, lanes};
use super::weights::weight_gradient;
use super::winograd::Winograd;
use super::{flex, own};

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub images: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub size_in: [usize; 2],
    pub size_out: [usize; 2],
}

impl Geometry {
    fn new(x: [usize; 4], weight: [usize; 4], stride: usize, padding: usize) -> Self {
        let [images, channels_in, height, width] = x;
        let [channels_out, _, kernel, _] = weight;
        let out = |side: usize| (side + 2 * padding).saturating_sub(kernel) / stride + 1;
        Self {
            images,
            channels_in,
            channels_out,
            kernel,
            stride,
            padding,
            size_in: [height, width],
            size_out: [out(height), out(width)],
        }
    }

    pub fn positions_in(&self) -> usize {
        self.size_in[0] * self.size_in[1]
    }

    pub fn positions_out(&self) -> usize {
        self.size_out[0] * self.size_out[1]
    }

    pub fn area(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Whether most positions of the input are not looked at.
    fn is_sparse(&self) -> bool {
        self.kernel == 1 && self.stride > 1 && self.padding == 0
    }

    /// The same where only the positions that are looked at are there.
    fn thinned(&self) -> Self {
        Self {
            stride: 1,
            size_in: self.size_out,
            ..*self
        }
    }

    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// The shape of the result.
    fn shape_out(&self) -> [usize; 4] {
        let [height, width] = self.size_out;
        [self.images, self.channels_out, height, width]
    }
}

/// `[n, in, h, w]` and `[out, in, k, k]` to `[n, out, h′, w′]`, and what becomes of these.
pub fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    stride: usize,
    padding: usize,
    after: Option<After>,
) -> FlexTensor {
    let g = Geometry::new(x.shape().dims(), weight.shape().dims(), stride, padding);
    let (x, bank) = (own(x), Bank(weight));
    let after = after.map(After::own);
    let finish = after.as_ref().map(After::finish);
    let finish = finish.as_ref();
    let by_colour = match is_stem(&g) {
        true => stem::forward(&g, x.storage(), &bank, finish),
        false => None,
    };
    let y = by_colour.unwrap_or_else(|| {
        let weight = own(bank.0);
        match g.is_sparse() {
            true => run(&g.thinned(), false, &thin(&g, x.storage()), &weight, finish),
            false => run(&g, false, x.storage(), &weight, finish),
        }
    });
    flex(y, g.shape_out())
}

/// Gradient with respect to the input `[n, in, h, w]`, `[h, w]` being `size`.
pub fn backward_x(
    size: [usize; 2],
    weight: FlexTensor,
    grad: FlexTensor,
    stride: usize,
    padding: usize,
) -> FlexTensor {
    let [n, ..] = grad.shape().dims::<4>();
    let [out, channels, kernel, _] = weight.shape().dims::<4>();
    let x = [n, channels, size[0], size[1]];
    let g = Geometry::new(x, [out, channels, kernel, kernel], stride, padding);
    let (bank, grad) = (Bank(weight), own(grad));
    let by_taps = match is_stem(&g) {
        true => stem::backward_x(&g, grad.storage(), &bank),
        false => None,
    };
    let gradient = by_taps.unwrap_or_else(|| {
        let weight = own(bank.0);
        match g.is_sparse() {
            true => thicken(&g, &run(&g.thinned(), true, grad.storage(), &weight, None)),
            false => run(&g, true, grad.storage(), &weight, None),
        }
    });
    flex(gradient, x)
}

/// Gradient with respect to the weights, `[out, in, k, k]`.
pub fn backward_weight(
    x: FlexTensor,
    kernel: usize,
    grad: FlexTensor,
    stride: usize,
    padding: usize,
) -> FlexTensor {
    let (x, grad) = (own(x), own(grad));
    let [_, channels, ..] = x.shape().dims::<4>();
    let [_, out, ..] = grad.shape().dims::<4>();
    let shape = [out, channels, kernel, kernel];
    let g = Geometry::new(x.shape().dims(), shape, stride, padding);
    let weight = match g.is_sparse() {
        true => weight_gradient(&g.thinned(), &thin(&g, x.storage()), grad.storage()),
        false => weight_gradient(&g, x.storage(), grad.storage()),
    };
    flex(weight, shape)
}

/// The positions of the input that a sparse convolution looks at.
fn thin(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let mut thin = vec![0.0; g.images * g.channels_in * g.positions_out()];
    each_chunk(&mut thin, g.positions_out().max(1), |map, thin| {
        let map = &x[map * g.positions_in()..][..g.positions_in()];
        let rows = map.chunks_exact(g.size_in[1]).step_by(g.stride);
        for (row, thin) in rows.zip(thin.chunks_exact_mut(g.size_out[1])) {
            for (thin, value) in thin.iter_mut().zip(row.iter().step_by(g.stride)) {
                *thin = *value;
            }
        }
    });
    thin
}

/// Its inverse, zeros at the positions not looked at.
fn thicken(g: &Geometry, thin: &[f32]) -> Vec<f32> {
    let width = g.size_in[1];
    let mut x = vec![0.0; g.images * g.channels_in * g.positions_in()];
    each_chunk(&mut x, g.positions_in().max(1), |map, x| {
        let thin = &thin[map * g.positions_out()..][..g.positions_out()];
        let rows = x.chunks_exact_mut(width).step_by(g.stride);
        for (row, thin) in rows.zip(thin.chunks_exact(g.size_out[1])) {
            for (value, thin) in row.iter_mut().step_by(g.stride).zip(thin) {
                *value = *thin;
            }
        }
    });
    x
}

/// The convolution of `x`, finished, or the gradient of its input where `x` is that of its result.
pub(super) fn run(
    g: &Geometry,
    backward: bool,
    x: &[f32],
    weight: &FlexTensor,
    finish: Option<&Finish>,
) -> Vec<f32> {
    let lanes = lanes();
    let pass = match backward {
        false => Pass::forward(g, lanes),
        true => Pass::backward(g, lanes),
    };
    let positions = pass.size[0] * pass.size[1];
    let y = Results::new(g.images, [pass.to, positions], finish);
    if g.is_pointwise() && positions >= lanes {
        let work = Pointwise {
            pass: &pass,
            x,
            weight: weight.storage(),
            y: &y,
        };
        each(&work.items(threads()), |item, scratch| {
            work.run(*item, scratch)
        });
        return y.into_inner();
    }
    if let Some(winograd) = Winograd::of(&pass, lanes) {
        let kind = Kind {
            backward,
            tile: Some(winograd.form()),
            half: false,
        };
        let weight = packed(weight, kind, |weight| winograd.pack(weight));
        winograd.run(x, &weight, &y);
        return y.into_inner();
    }
    let kind = Kind {
        backward,
        tile: None,
        half: false,
    };
    let packed = packed(weight, kind, |weight| pass.pack(weight));
    each(&pass.bands(threads()), |band, scratch| {
        pass.run(*band, x, &packed, &y, scratch);
    });
    y.into_inner()
}

/// The maps that a convolution writes, each place of them once, and finishes as it goes: they are in
/// the cache then.
pub(super) struct Results<'a> {
    values: Shared,
    channels: usize,
    /// Positions of a map.
    area: usize,
    finish: Option<&'a Finish<'a>>,
}

impl<'a> Results<'a> {
    pub fn new(images: usize, [channels, area]: [usize; 2], finish: Option<&'a Finish>) -> Self {
        Self {
            values: Shared::unwritten(images * channels * area),
            channels,
            area,
            finish,
        }
    }

    /// Floats of an image.
    fn size(&self) -> usize {
        self.channels * self.area
    }

    /// An image's maps.
    ///
    /// # Safety
    /// As of [`Shared::get`].
    #[allow(clippy::mut_from_ref, reason = "that is what the caller promises")]
    pub unsafe fn image(&self, image: usize) -> &mut [f32] {
        // SAFETY: the caller promises it.
        let all = unsafe { self.values.get() };
        &mut all[image * self.size()..][..self.size()]
    }

    /// Finishes what was written of an image to `maps`, its own: some positions of some channels.
    #[inline(always)]
    pub fn finish(
        &self,
        image: usize,
        maps: &mut [f32],
        channels: Range<usize>,
        positions: Range<usize>,
    ) {
        let Some(finish) = self.finish else {
            return;
        };
        for channel in channels {
            let start = channel * self.area + positions.start;
            let values = &mut maps[start..][..positions.len()];
            finish.apply(channel, image * self.size() + start, values);
        }
    }

    pub fn into_inner(self) -> Vec<f32> {
        self.values.into_inner()
    }
}

/// Buffers a thread uses again and again. What is in them is of earlier work.
#[derive(Default)]
pub(super) struct Scratch {
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
pub(super) fn grown(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// A buffer whose parts are written by several threads.
pub(super) struct Shared {
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
pub(super) fn each<T: Sync>(items: &[T], work: impl Fn(&T, &mut Scratch) + Sync) {
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
pub(super) fn shares(threads: usize) -> usize {
    match threads {
        1 => 1,
        _ => 8 * threads,
    }
}

/// Of fewer floats a pass over memory is over before another thread has begun.
pub(super) const LEAST_SHARED: usize = 1 << 16;

/// `work` on chunks of this size, on the threads of the pool this runs in; with each its number.
pub(super) fn each_chunk(values: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
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
