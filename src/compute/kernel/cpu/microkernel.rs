//! The microkernel of every convolution: sums of products that stay in registers to the end, with whatever
//! vectors there are.

use pulp::{Arch, Simd, WithSimd};

/// Where one run of a [`Microkernel`] begins in its two factors.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub a: usize,
    pub b: usize,
}

/// `out[j · out_row + v] = Σ_s Σ_i a[s.a + j · a_row + i · a_step] · b[s.b + i · b_step + v]` for
/// the segments `s`, `i` below `length`, some `j` and some vectors of `v`.
pub struct Microkernel<'a> {
    pub a: &'a [f32],
    pub a_row: usize,
    pub a_step: usize,
    pub b: &'a [f32],
    pub b_step: usize,
    pub length: usize,
    pub segments: &'a [Segment],
    pub out: &'a mut [f32],
    pub out_row: usize,
    /// Whether to add to what is in `out`.
    pub add: bool,
}

/// How many vectors to take of those left, and how many rows they leave registers for: their
/// sums, a row of `b` and a value of `a` are held at once.
#[inline(always)]
fn block<S: Simd>(vectors: usize) -> (usize, usize) {
    // WebAssembly does not say how many registers a machine has; most have 16.
    let many = cfg!(not(target_arch = "wasm32")) && S::REGISTER_COUNT >= 32;
    match (many, vectors) {
        (true, 4..) => (4, 6),
        (true, 2..) => (2, 12),
        (true, _) => (1, 12),
        (false, 2..) => (2, 4),
        (false, _) => (1, 6),
    }
}

/// Floats of the next block of `left`, both in whole vectors, at least one.
#[inline(always)]
pub fn block_width<S: Simd>(left: usize) -> usize {
    block::<S>(left / S::F32_LANES).0 * S::F32_LANES
}

/// Rows of the next block of `left`, as even as the blocks there are allow, beside vectors that
/// make `width` floats.
#[inline(always)]
pub fn block_rows<S: Simd>(left: usize, width: usize) -> usize {
    const BLOCKS: [usize; 13] = [0, 1, 2, 3, 4, 3, 6, 4, 8, 6, 6, 8, 12];
    let (_, most) = block::<S>(width / S::F32_LANES);
    BLOCKS[left.div_ceil(left.div_ceil(most))]
}

impl Microkernel<'_> {
    /// `rows` and `width` come from [`block_rows`] and [`block_width`].
    ///
    /// # Panics
    /// Where an index would be past the end of a factor or the result, and for other blocks.
    #[inline(always)]
    pub fn run<S: Simd>(self, simd: S, rows: usize, width: usize) {
        match width / S::F32_LANES {
            4 => self.run_rows::<S, 4>(simd, rows),
            2 => self.run_rows::<S, 2>(simd, rows),
            _ => self.run_rows::<S, 1>(simd, rows),
        }
    }

    #[inline(always)]
    fn run_rows<S: Simd, const V: usize>(self, simd: S, rows: usize) {
        match rows {
            1 => self.run_block::<S, V, 1>(simd),
            2 => self.run_block::<S, V, 2>(simd),
            3 => self.run_block::<S, V, 3>(simd),
            4 => self.run_block::<S, V, 4>(simd),
            6 => self.run_block::<S, V, 6>(simd),
            8 if V < 4 => self.run_block::<S, V, 8>(simd),
            12 if V < 4 => self.run_block::<S, V, 12>(simd),
            _ => unreachable!("no block has {rows} rows"),
        }
    }

    #[inline(always)]
    fn run_block<S: Simd, const V: usize, const J: usize>(self, simd: S) {
        vectorized(simd, Block::<V, J>(self));
    }

    #[inline(always)]
    fn run_block_here<S: Simd, const V: usize, const J: usize>(self, simd: S) {
        let lanes = S::F32_LANES;
        self.check(J, V * lanes);
        let mut sums = [[simd.splat_f32s(0.0); V]; J];
        // SAFETY: no index is past the slices' ends, as was just checked.
        unsafe {
            for segment in self.segments {
                let a = self.a.as_ptr().add(segment.a);
                let b = self.b.as_ptr().add(segment.b);
                self.add_segment::<S, V, J>(simd, &mut sums, a, b);
            }
            let out = self.out.as_mut_ptr();
            for (j, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let to = out.add(j * self.out_row + v * lanes);
                    let sum = match self.add {
                        true => simd.add_f32s(load::<S>(to), *sum),
                        false => *sum,
                    };
                    to.cast::<S::f32s>().write_unaligned(sum);
                }
            }
        }
    }

    /// Adds a segment. Not unrolled: WebAssembly's compilers would then make each sum one long
    /// expression, and hold the factors of all its steps at once.
    ///
    /// # Safety
    /// As [`Self::check`] makes sure, `a` and `b` being where the segment begins.
    #[inline(always)]
    unsafe fn add_segment<S: Simd, const V: usize, const J: usize>(
        &self,
        simd: S,
        sums: &mut [[S::f32s; V]; J],
        mut a: *const f32,
        mut b: *const f32,
    ) {
        for _ in 0..self.length {
            // SAFETY: the caller promises it.
            unsafe {
                let row = vectors::<S, V>(simd, b);
                for (j, sums) in sums.iter_mut().enumerate() {
                    let a = simd.splat_f32s(*a.add(j * self.a_row));
                    for (sum, b) in sums.iter_mut().zip(row) {
                        *sum = simd.mul_add_e_f32s(a, b, *sum);
                    }
                }
            }
            // Past the last value these may point anywhere; nothing reads there.
            a = a.wrapping_add(self.a_step);
            b = b.wrapping_add(self.b_step);
        }
    }

    #[inline(always)]
    fn check(&self, rows: usize, width: usize) {
        let last = self.length.saturating_sub(1);
        let (mut a, mut b) = (0, 0);
        for segment in self.segments {
            (a, b) = (a.max(segment.a), b.max(segment.b));
        }
        if !self.segments.is_empty() && self.length > 0 {
            assert!(a + (rows - 1) * self.a_row + last * self.a_step < self.a.len());
            assert!(b + last * self.b_step + width <= self.b.len());
        }
        assert!((rows - 1) * self.out_row + width <= self.out.len());
    }
}

/// `work` in a function of its own. Compilers give registers to a whole function at once: in one
/// with many loops they leave sums in memory. In a browser that takes half as long again; natively,
/// with AVX2, one sum of twelve in memory doubled the time.
#[inline(never)]
pub fn vectorized<S: Simd, W: WithSimd>(simd: S, work: W) -> W::Output {
    simd.vectorize(work)
}

struct Block<'a, const V: usize, const J: usize>(Microkernel<'a>);

impl<const V: usize, const J: usize> WithSimd for Block<'_, V, J> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run_block_here::<S, V, J>(simd);
    }
}

/// The first columns of rows that begin this far apart, `width` of [`block_width`], side by side. A
/// compiler makes a call for each row of a copy whose length it does not know.
///
/// # Panics
/// Where `out` has no room for them.
#[inline(always)]
pub fn copy_columns<S: Simd>(simd: S, rows: &[f32], pitch: usize, width: usize, out: &mut [f32]) {
    match width / S::F32_LANES {
        4 => copy_vectors::<S, 4>(simd, rows, pitch, out),
        2 => copy_vectors::<S, 2>(simd, rows, pitch, out),
        _ => copy_vectors::<S, 1>(simd, rows, pitch, out),
    }
}

#[inline(always)]
fn copy_vectors<S: Simd, const V: usize>(simd: S, rows: &[f32], pitch: usize, out: &mut [f32]) {
    let width = V * S::F32_LANES;
    let count = match rows.len() < width {
        true => 0,
        false => (rows.len() - width) / pitch + 1,
    };
    assert!(count * width <= out.len());
    for row in 0..count {
        // SAFETY: the last row has that many columns, and there is room for as many rows.
        unsafe {
            let vectors = vectors::<S, V>(simd, rows.as_ptr().add(row * pitch));
            let to = out.as_mut_ptr().add(row * width).cast::<S::f32s>();
            for (v, vector) in vectors.into_iter().enumerate() {
                to.add(v).write_unaligned(vector);
            }
        }
    }
}

/// # Safety
/// As many vectors' worth of floats must be there.
#[inline(always)]
unsafe fn vectors<S: Simd, const V: usize>(simd: S, from: *const f32) -> [S::f32s; V] {
    let mut row = [simd.splat_f32s(0.0); V];
    for (v, row) in row.iter_mut().enumerate() {
        // SAFETY: the caller promises it.
        *row = unsafe { load::<S>(from.add(v * S::F32_LANES)) };
    }
    row
}

/// # Safety
/// A vector's worth of floats must be there.
#[inline(always)]
unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: the caller promises it.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// Floats in the widest vectors of this machine.
pub fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// `out[to(j) + i] = x[from(i) + j]` for `i` of `rows` and `j` of `columns`.
#[inline(always)]
pub fn transpose(
    x: &[f32],
    from: impl Fn(usize) -> usize,
    [rows, columns]: [usize; 2],
    out: &mut [f32],
    to: impl Fn(usize) -> usize,
) {
    let whole = [rows / 4 * 4, columns / 4 * 4];
    for i in (0..whole[0]).step_by(4) {
        let lines: [&[f32]; 4] = std::array::from_fn(|k| &x[from(i + k)..][..columns]);
        for j in (0..whole[1]).step_by(4) {
            let [a, b, c, d] = transpose_4([
                four(lines[0], j),
                four(lines[1], j),
                four(lines[2], j),
                four(lines[3], j),
            ]);
            out[to(j) + i..][..4].copy_from_slice(&a);
            out[to(j + 1) + i..][..4].copy_from_slice(&b);
            out[to(j + 2) + i..][..4].copy_from_slice(&c);
            out[to(j + 3) + i..][..4].copy_from_slice(&d);
        }
        for j in whole[1]..columns {
            let column = [lines[0][j], lines[1][j], lines[2][j], lines[3][j]];
            out[to(j) + i..][..4].copy_from_slice(&column);
        }
    }
    for i in whole[0]..rows {
        for (j, value) in x[from(i)..][..columns].iter().enumerate() {
            out[to(j) + i] = *value;
        }
    }
}

#[inline(always)]
fn four(line: &[f32], start: usize) -> [f32; 4] {
    let mut four = [0.0; 4];
    four.copy_from_slice(&line[start..][..4]);
    four
}

/// Spelled out, because compilers make sixteen moves of it otherwise.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_4(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use std::arch::x86_64::{
        __m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: four floats are a vector, and every processor of this architecture has these.
    unsafe {
        let [a, b, c, d] = std::mem::transmute::<[[f32; 4]; 4], [__m128; 4]>(rows);
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        std::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>([
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(ab_high, cd_high),
            _mm_movehl_ps(cd_high, ab_high),
        ])
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn transpose_4(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use std::arch::wasm32::{i32x4_shuffle, i64x2_shuffle, v128};
    // SAFETY: four floats are a vector.
    let [a, b, c, d] = unsafe { std::mem::transmute::<[[f32; 4]; 4], [v128; 4]>(rows) };
    let (ab, cd) = (
        i32x4_shuffle::<0, 4, 1, 5>(a, b),
        i32x4_shuffle::<0, 4, 1, 5>(c, d),
    );
    let (ab_high, cd_high) = (
        i32x4_shuffle::<2, 6, 3, 7>(a, b),
        i32x4_shuffle::<2, 6, 3, 7>(c, d),
    );
    let columns = [
        i64x2_shuffle::<0, 2>(ab, cd),
        i64x2_shuffle::<1, 3>(ab, cd),
        i64x2_shuffle::<0, 2>(ab_high, cd_high),
        i64x2_shuffle::<1, 3>(ab_high, cd_high),
    ];
    // SAFETY: as above.
    unsafe { std::mem::transmute::<[v128; 4], [[f32; 4]; 4]>(columns) }
}

#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
#[inline(always)]
fn transpose_4([a, b, c, d]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    [
        [a[0], b[0], c[0], d[0]],
        [a[1], b[1], c[1], d[1]],
        [a[2], b[2], c[2], d[2]],
        [a[3], b[3], c[3], d[3]],
    ]
}
