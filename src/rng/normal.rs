//! The Box-Muller transform on many draws at once, without branches, so that it vectorises.
//!
//! The polynomials are fdlibm's (Sun Microsystems 1993), in the order of operations that `libm` has
//! them in: the results are those of its functions, to the bit but for angles next to a multiple of
//! π / 2.

/// ln 2 in two parts, the first with zeros at its end.
const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];

/// Of (ln(1 + f) − ln(1 − f)) / f − 2, with f as the function has it.
const LN: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];

/// High word of √½, where a mantissa's logarithm changes its sign of being closest to 0.
const SQRT_HALF: u32 = 0x3fe6_a09e;

/// High word of 1.
const ONE: u32 = 0x3ff0_0000;

/// The natural logarithm of a normal number above 0.
#[inline(always)]
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let high = ((bits >> 32) as u32).wrapping_add(ONE - SQRT_HALF);
    let exponent = f64::from((high >> 20) as i32 - 0x3ff);
    let high = (high & 0x000f_ffff) + SQRT_HALF;
    let f = f64::from_bits(u64::from(high) << 32 | bits & 0xffff_ffff) - 1.0;
    let half = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (LN[1] + w * (LN[3] + w * LN[5]));
    let odd = z * (LN[0] + w * (LN[2] + w * (LN[4] + w * LN[6])));
    s * (half + (odd + even)) + exponent * LN_2[1] - half + f + exponent * LN_2[0]
}

/// π / 2 in two parts, the first with zeros at its end.
const HALF_PI: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];

const SINE: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];

const COSINE: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

/// Sine and cosine of an angle in [0, 2π].
#[inline(always)]
fn sine_and_cosine(angle: f64) -> (f64, f64) {
    // The closest multiple of π / 2, as the bounds between them are rounded there.
    let quarter = [0.25, 0.75, 1.25, 1.75]
        .map(|bound| f64::from(u8::from(angle > bound * std::f64::consts::PI)));
    let quarters = quarter[0] + quarter[1] + (quarter[2] + quarter[3]);
    let rest = angle - quarters * HALF_PI[0];
    let x = rest - quarters * HALF_PI[1];
    let y = (rest - x) - quarters * HALF_PI[1];

    let z = x * x;
    let w = z * z;
    let r = SINE[1] + z * (SINE[2] + z * SINE[3]) + z * w * (SINE[4] + z * SINE[5]);
    let v = z * x;
    let sine = x - ((z * (0.5 * y - v * r) - y) - v * SINE[0]);

    let r = z * (COSINE[0] + z * (COSINE[1] + z * COSINE[2]))
        + w * w * (COSINE[3] + z * (COSINE[4] + z * COSINE[5]));
    let half = 0.5 * z;
    let w = 1.0 - half;
    let cosine = w + (((1.0 - w) - half) + (z * r - x * y));

    let is_odd = quarters == 1.0 || quarters == 3.0;
    let (a, b) = if is_odd {
        (cosine, sine)
    } else {
        (sine, cosine)
    };
    let a = if quarters == 2.0 || quarters == 3.0 {
        -a
    } else {
        a
    };
    let b = if quarters == 1.0 || quarters == 2.0 {
        -b
    } else {
        b
    };
    (a, b)
}

/// Pairs of independent standard normals from pairs of draws, the first in (0, 1], the second in
/// [0, 1). Wider vectors change no bit: nothing is fused.
pub fn pairs<const N: usize>(draws: &[[f64; N]; 2]) -> [(f64, f64); N] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has them.
        return unsafe { pairs_in_wide_vectors(draws) };
    }
    pairs_in_vectors(draws)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn pairs_in_wide_vectors<const N: usize>(draws: &[[f64; N]; 2]) -> [(f64, f64); N] {
    pairs_in_vectors(draws)
}

#[inline(always)]
fn pairs_in_vectors<const N: usize>(draws: &[[f64; N]; 2]) -> [(f64, f64); N] {
    // Two arrays, interleaved afterwards: the compiler does not vectorise one of pairs.
    let (mut xs, mut ys) = ([0.0; N], [0.0; N]);
    let normals = xs.iter_mut().zip(&mut ys);
    for ((x, y), (first, second)) in normals.zip(draws[0].iter().zip(&draws[1])) {
        let radius = (-2.0 * ln(*first)).sqrt();
        let (sine, cosine) = sine_and_cosine(std::f64::consts::TAU * second);
        *x = radius * cosine;
        *y = radius * sine;
    }
    std::array::from_fn(|i| (xs[i], ys[i]))
}
