//! The tiles of convolution by 3x3 kernels with fewer multiplications (Winograd 1980; Lavin and Gray 2016),
//! forward or back to the input, at stride 1 or 2, on every device.
//!
//! A tile of the result, 2x2 or 4x4, is made of a patch of the input, 4x4 or 6x6, by as many
//! products as the patch has values, where the sum over taps takes 36 or 144. Patches and kernels
//! are evaluated at points, channels are summed there, and the result is interpolated. The larger
//! tile's points are 0, ±√½, ±√2 and infinity: with them its rounding errors are those of the sum
//! over taps, with the usual 0, ±1, ±2 four times as large.
//!
//! At stride 2 the first and last tap of an axis read every second value, and are a kernel of two
//! taps at stride 1 there, evaluated at one point more than there are results; the middle tap reads
//! the values between, and is a product a result. That is 25 products for 2x2 results in the place
//! of 36, or 81 for 4x4 in the place of 144. Back to the input it is the same with the two halves
//! of the results in the place of the two halves of the values.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::marker::PhantomData;

use pulp::Simd;

/// Values, points or results of a patch along an axis, at most.
pub const MOST: usize = 9;

/// How an axis is evaluated and interpolated.
pub trait Transform {
    /// Results along an axis, from one tile to the next.
    const OUT: usize;
    /// Values read along an axis.
    const READ: usize;
    /// Values from one tile to the next.
    const STEP: usize;
    /// Products along an axis.
    const POINTS: usize;
    /// Values of a kernel's axis; the points past them share the last.
    const WEIGHTS: usize;

    /// Values of a kernel's axis at the points.
    fn weight(w: [f32; 3]) -> [f32; MOST];

    /// The same of an input's axis.
    fn input<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST];

    /// Results of the products.
    fn output<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST];
}

/// At 0, 1, −1 and infinity.
pub struct Two;

impl Transform for Two {
    const OUT: usize = 2;
    const READ: usize = 4;
    const STEP: usize = 2;
    const POINTS: usize = 4;
    const WEIGHTS: usize = 4;

    fn weight([a, b, c]: [f32; 3]) -> [f32; MOST] {
        let (even, odd) = (0.5 * (a + c), 0.5 * b);
        first([a, even + odd, even - odd, c], 0.0)
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let points = [
            simd.sub_f32s(a, c),
            simd.add_f32s(b, c),
            simd.sub_f32s(c, b),
            simd.sub_f32s(b, d),
        ];
        first(points, a)
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let (even, odd) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        first([simd.add_f32s(a, even), simd.sub_f32s(odd, d)], a)
    }
}

/// At 0, ±√½, ±√2 and infinity.
pub struct Four;

impl Transform for Four {
    const OUT: usize = 4;
    const READ: usize = 6;
    const STEP: usize = 4;
    const POINTS: usize = 6;
    const WEIGHTS: usize = 6;

    fn weight([a, b, c]: [f32; 3]) -> [f32; MOST] {
        let (near, near_odd) = (-(2.0 * a + c) / 3.0, -2.0 / 3.0 * FRAC_1_SQRT_2 * b);
        let (far, far_odd) = ((a + 2.0 * c) / 6.0, SQRT_2 / 6.0 * b);
        let points = [
            a,
            near + near_odd,
            near - near_odd,
            far + far_odd,
            far - far_odd,
            c,
        ];
        first(points, 0.0)
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, f, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let near = fma(simd, -2.0, c, e);
        let near_odd = scaled(simd, FRAC_1_SQRT_2, fma(simd, -2.0, b, d));
        let far = fma(simd, -0.5, c, e);
        let far_odd = scaled(simd, SQRT_2, fma(simd, -0.5, b, d));
        let points = [
            fma(simd, -2.5, c, simd.add_f32s(a, e)),
            simd.add_f32s(near, near_odd),
            simd.sub_f32s(near, near_odd),
            simd.add_f32s(far, far_odd),
            simd.sub_f32s(far, far_odd),
            fma(simd, -2.5, d, simd.add_f32s(b, f)),
        ];
        first(points, a)
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, f, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let (near, far) = (simd.add_f32s(b, c), simd.add_f32s(d, e));
        let near_odd = scaled(simd, FRAC_1_SQRT_2, simd.sub_f32s(b, c));
        let far_odd = scaled(simd, SQRT_2, simd.sub_f32s(d, e));
        let results = [
            simd.add_f32s(a, simd.add_f32s(near, far)),
            simd.add_f32s(near_odd, far_odd),
            fma(simd, 0.5, near, simd.add_f32s(far, far)),
            fma(simd, 0.5, near_odd, fma(simd, 2.0, far_odd, f)),
        ];
        first(results, a)
    }
}

/// A kernel of two taps: some results of one value more, by as many products as values.
pub trait Pair {
    const OUT: usize;

    fn weight(w: [f32; 2]) -> [f32; MOST];

    fn input<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST];

    fn output<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST];
}

/// At 0, 1 and infinity.
pub struct PairTwo;

impl Pair for PairTwo {
    const OUT: usize = 2;

    fn weight([a, b]: [f32; 2]) -> [f32; MOST] {
        first([a, a + b, b], 0.0)
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        first([simd.sub_f32s(a, b), b, simd.sub_f32s(c, b)], a)
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        first([simd.add_f32s(a, b), simd.add_f32s(b, c)], a)
    }
}

/// At ±√½, ±√2 and infinity.
pub struct PairFour;

impl Pair for PairFour {
    const OUT: usize = 4;

    fn weight([a, b]: [f32; 2]) -> [f32; MOST] {
        let (near, far) = (FRAC_1_SQRT_2 * b, SQRT_2 * b);
        let points = [-(a + near), near - a, a + far, a - far];
        let [p, q, r, s] = points.map(|point| point / 3.0);
        first([p, q, r, s, b], 0.0)
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, [a, b, c, d, e, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let near = fma(simd, -2.0, a, c);
        let near_odd = scaled(simd, SQRT_2, fma(simd, -2.0, b, d));
        let far = fma(simd, -0.5, a, c);
        let far_odd = scaled(simd, FRAC_1_SQRT_2, fma(simd, -0.5, b, d));
        let points = [
            simd.add_f32s(near, near_odd),
            simd.sub_f32s(near, near_odd),
            simd.add_f32s(far, far_odd),
            simd.sub_f32s(far, far_odd),
            fma(simd, -2.5, c, simd.add_f32s(a, e)),
        ];
        first(points, a)
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, [a, b, c, d, e, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let (near, far) = (simd.add_f32s(a, b), simd.add_f32s(c, d));
        let near_odd = scaled(simd, FRAC_1_SQRT_2, simd.sub_f32s(a, b));
        let far_odd = scaled(simd, SQRT_2, simd.sub_f32s(c, d));
        let results = [
            simd.add_f32s(near, far),
            simd.add_f32s(near_odd, far_odd),
            fma(simd, 0.5, near, simd.add_f32s(far, far)),
            fma(simd, 0.5, near_odd, fma(simd, 2.0, far_odd, e)),
        ];
        first(results, a)
    }
}

/// At stride 2, forward.
pub struct Halved<P>(PhantomData<P>);

impl<P: Pair> Transform for Halved<P> {
    const OUT: usize = P::OUT;
    const READ: usize = 2 * P::OUT + 1;
    const STEP: usize = 2 * P::OUT;
    const POINTS: usize = 2 * P::OUT + 1;
    const WEIGHTS: usize = P::OUT + 2;

    fn weight([a, b, c]: [f32; 3]) -> [f32; MOST] {
        let mut weights = P::weight([a, c]);
        weights[P::OUT + 1] = b;
        weights
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let mut even = x;
        for i in 0..=P::OUT {
            even[i] = x[2 * i];
        }
        let mut points = P::input(simd, even);
        for i in 0..P::OUT {
            points[P::OUT + 1 + i] = x[2 * i + 1];
        }
        points
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let mut results = P::output(simd, x);
        for i in 0..P::OUT {
            results[i] = simd.add_f32s(results[i], x[P::OUT + 1 + i]);
        }
        results
    }
}

/// At stride 2, back to the input.
pub struct Doubled<P>(PhantomData<P>);

impl<P: Pair> Transform for Doubled<P> {
    const OUT: usize = 2 * P::OUT;
    const READ: usize = P::OUT + 1;
    const STEP: usize = P::OUT;
    const POINTS: usize = 2 * P::OUT + 1;
    const WEIGHTS: usize = P::OUT + 2;

    fn weight(w: [f32; 3]) -> [f32; MOST] {
        Halved::<P>::weight(w)
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let mut points = P::input(simd, x);
        for i in 0..P::OUT {
            points[P::OUT + 1 + i] = x[i];
        }
        points
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, x: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let odd = P::output(simd, x);
        let mut results = x;
        for i in 0..P::OUT {
            results[2 * i] = x[P::OUT + 1 + i];
            results[2 * i + 1] = odd[i];
        }
        results
    }
}

/// The tiles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tile {
    Two,
    Four,
    HalvedTwo,
    HalvedFour,
    DoubledTwo,
    DoubledFour,
}

/// `$body` with `$transform` the transforms of a tile. A macro, because a closure that is not inlined would be
/// compiled without vectors.
macro_rules! with_transform {
    ($tile:expr, $transform:ident => $body:expr) => {{
        use $crate::compute::kernel::tiles::{Doubled, Four, Halved, PairFour, PairTwo, Tile, Two};
        with_transform!(@each $tile, $transform, $body,
            Two: Two, Four: Four,
            HalvedTwo: Halved<PairTwo>, HalvedFour: Halved<PairFour>,
            DoubledTwo: Doubled<PairTwo>, DoubledFour: Doubled<PairFour>)
    }};
    (@each $tile:expr, $transform:ident, $body:expr, $($name:ident: $type:ty),*) => {
        match $tile {
            $(Tile::$name => {
                type $transform = $type;
                $body
            })*
        }
    };
}
pub(super) use with_transform;

/// A tile's sizes along an axis; see [`Transform`].
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub out: usize,
    pub read: usize,
    pub step: usize,
    pub points: usize,
    pub weights: usize,
}

/// How an axis is evaluated and interpolated, a row for each value made; rows and columns past those
/// that a tile has are of no account.
#[cfg(any(feature = "worker", feature = "gpu"))]
#[derive(Clone, Copy, Debug)]
pub struct Matrices {
    pub input: [[f32; MOST]; MOST],
    pub weight: [[f32; MOST]; MOST],
    pub output: [[f32; MOST]; MOST],
}

/// The matrix of a linear map.
#[cfg(any(feature = "worker", feature = "gpu"))]
fn matrix(map: impl Fn([f32; MOST]) -> [f32; MOST]) -> [[f32; MOST]; MOST] {
    let mut rows = [[0.0; MOST]; MOST];
    for j in 0..MOST {
        let mut unit = [0.0; MOST];
        unit[j] = 1.0;
        for (row, value) in rows.iter_mut().zip(map(unit)) {
            row[j] = value;
        }
    }
    rows
}

/// A convolution but for the sizes of its maps.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Side of the kernel.
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Back to the input.
    pub backward: bool,
}

impl Convolution {
    /// The tiles that compute it, if any.
    pub fn tiles(self) -> &'static [Tile] {
        match (self.kernel, self.stride, self.padding, self.backward) {
            (3, 1, 0..=2, _) => &[Tile::Two, Tile::Four],
            (3, 2, 1, false) => &[Tile::HalvedTwo, Tile::HalvedFour],
            (3, 2, 1, true) => &[Tile::DoubledTwo, Tile::DoubledFour],
            _ => &[],
        }
    }
}

impl Tile {
    /// The tile's transforms as matrices.
    #[cfg(any(feature = "worker", feature = "gpu"))]
    pub fn matrices(self) -> Matrices {
        let simd = pulp::Scalar::new();
        with_transform!(self, T => Matrices {
            input: matrix(|x| T::input(simd, x)),
            weight: matrix(|[a, b, c, ..]: [f32; MOST]| T::weight([a, b, c])),
            output: matrix(|x| T::output(simd, x)),
        })
    }

    pub fn sizes(self) -> Sizes {
        with_transform!(self, T => Sizes {
            out: T::OUT,
            read: T::READ,
            step: T::STEP,
            points: T::POINTS,
            weights: T::WEIGHTS,
        })
    }
}

// No closures where vectors are: one that is not inlined would be compiled without them.

/// `k · x + y`.
#[inline(always)]
fn fma<S: Simd>(simd: S, k: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(k), x, y)
}

#[inline(always)]
fn scaled<S: Simd>(simd: S, k: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(k), x)
}

/// These, and the rest of no account.
#[inline(always)]
fn first<V: Copy, const N: usize>(values: [V; N], rest: V) -> [V; MOST] {
    let mut all = [rest; MOST];
    all[..N].copy_from_slice(&values);
    all
}
