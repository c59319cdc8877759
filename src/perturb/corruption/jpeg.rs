//! JPEG compression, as libjpeg does it: the lossy part of the encoder and the decoder, to the bit.
//!
//! Baseline JPEG (ITU-T T.81) loses information in the conversion to luma and chroma, the halving
//! of chroma (4:2:0), the cosine transform and its quantisation, and their inverses. The entropy
//! coding between them is lossless, so no bitstream is written. The tables are those of the
//! standard's annex K, scaled by quality as the Independent JPEG Group does; the transform is its
//! accurate integer one (Loeffler, Ligtenberg and Moschytz 1989); chroma is enlarged by the
//! triangle filter.

use super::Planes;

/// Quantisation of luma in the standard's annex K, row by row.
const LUMA_TABLE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, //
    12, 12, 14, 19, 26, 58, 60, 55, //
    14, 13, 16, 24, 40, 57, 69, 56, //
    14, 17, 22, 29, 51, 87, 80, 62, //
    18, 22, 37, 56, 68, 109, 103, 77, //
    24, 35, 55, 64, 81, 104, 113, 92, //
    49, 64, 78, 87, 103, 121, 120, 101, //
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Quantisation of chroma; what is not listed is 99.
const CHROMA_CORNER: [[u16; 4]; 4] = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
];

fn chroma_table() -> [u16; 64] {
    std::array::from_fn(|i| match (i / 8, i % 8) {
        (y @ 0..4, x @ 0..4) => CHROMA_CORNER[y][x],
        _ => 99,
    })
}

/// A table for a quality of 1 to 100.
fn scaled(table: [u16; 64], quality: u16) -> [i32; 64] {
    let quality = i32::from(quality.clamp(1, 100));
    let percent = match quality < 50 {
        true => 5000 / quality,
        false => 200 - 2 * quality,
    };
    table.map(|q| ((i32::from(q) * percent + 50) / 100).clamp(1, 255))
}

/// The tables of luma and chroma for a quality, row by row.
#[doc(hidden)]
pub fn quantisation_tables(quality: u16) -> [[i32; 64]; 2] {
    [scaled(LUMA_TABLE, quality), scaled(chroma_table(), quality)]
}

/// Compresses and decompresses. The pixels are rounded to 8 bits first, for JPEG knows no others.
pub fn compress(image: &mut Planes, quality: u16) {
    let [luma, chroma] = quantisation_tables(quality);
    let bytes: Vec<i32> = image
        .pixels
        .iter()
        .map(|v| (v * 255.0).round() as i32)
        .collect();
    let (height, width) = (image.height, image.width);
    let component = |samples: Vec<i32>| Component {
        samples,
        height,
        width,
    };
    let decoded = match image.channels {
        1 => component(bytes).coded(&luma).samples,
        _ => {
            let [y, cb, cr] = to_ycc(&bytes).map(component);
            let [cb, cr] = [cb, cr].map(|c| c.halved().coded(&chroma).doubled(height, width));
            to_rgb(&y.coded(&luma).samples, &cb, &cr)
        }
    };
    for (pixel, byte) in image.pixels.iter_mut().zip(decoded) {
        *pixel = byte as f32 / 255.0;
    }
}

/// A number in units of 2^-16.
const fn fixed(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// Luma and both chromas, row by row, from planar RGB.
fn to_ycc(rgb: &[i32]) -> [Vec<i32>; 3] {
    const HALF: i32 = 1 << 15;
    const CENTRE: i32 = 128 << 16;
    const WEIGHTS: [([i32; 3], i32); 3] = [
        ([fixed(0.299), fixed(0.587), fixed(0.114)], HALF),
        (
            [-fixed(0.16874), -fixed(0.33126), fixed(0.5)],
            CENTRE + HALF - 1,
        ),
        (
            [fixed(0.5), -fixed(0.41869), -fixed(0.08131)],
            CENTRE + HALF - 1,
        ),
    ];
    let (r, gb) = rgb.split_at(rgb.len() / 3);
    let (g, b) = gb.split_at(r.len());
    WEIGHTS.map(|([wr, wg, wb], offset)| {
        let pixels = r.iter().zip(g).zip(b);
        pixels
            .map(|((r, g), b)| (wr * r + wg * g + wb * b + offset) >> 16)
            .collect()
    })
}

/// Planar RGB.
fn to_rgb(y: &[i32], cb: &[i32], cr: &[i32]) -> Vec<i32> {
    const HALF: i32 = 1 << 15;
    let pixels = || {
        y.iter()
            .zip(cb.iter().zip(cr))
            .map(|(y, (cb, cr))| (*y, cb - 128, cr - 128))
    };
    let red = pixels().map(|(y, _, cr)| y + ((fixed(1.402) * cr + HALF) >> 16));
    let green =
        pixels().map(|(y, cb, cr)| y + ((-fixed(0.34414) * cb - fixed(0.71414) * cr + HALF) >> 16));
    let blue = pixels().map(|(y, cb, _)| y + ((fixed(1.772) * cb + HALF) >> 16));
    red.chain(green)
        .chain(blue)
        .map(|v| v.clamp(0, 255))
        .collect()
}

/// One of luma and both chromas, 0 to 255.
struct Component {
    samples: Vec<i32>,
    height: usize,
    width: usize,
}

impl Component {
    fn at(&self, y: usize, x: usize) -> i32 {
        self.samples[y.min(self.height - 1) * self.width + x.min(self.width - 1)]
    }

    /// Means of 2 x 2 samples. The columns reach to the end of the last block, for there the
    /// original's last column is repeated before the halving and not after it.
    fn halved(&self) -> Self {
        let height = self.height.div_ceil(2);
        let width = self.width.div_ceil(2).next_multiple_of(8);
        let mean = |i: usize| {
            let (y, x) = (2 * (i / width), 2 * (i % width));
            let rows = [y, y + 1].map(|y| self.at(y, x) + self.at(y, x + 1));
            // The rounding alternates, so that it cancels out.
            let bias = 1 + (i % width % 2) as i32;
            (rows[0] + rows[1] + bias) >> 2
        };
        Self {
            samples: (0..height * width).map(mean).collect(),
            height,
            width,
        }
    }

    /// What is left after quantisation, block by block. The last row and column are repeated to
    /// fill the last blocks.
    fn coded(mut self, table: &[i32; 64]) -> Self {
        let mut samples = self.samples.clone();
        for top in (0..self.height).step_by(8) {
            for left in (0..self.width).step_by(8) {
                let mut block: [i32; 64] =
                    std::array::from_fn(|i| self.at(top + i / 8, left + i % 8) - 128);
                forward(&mut block);
                for (c, q) in block.iter_mut().zip(table) {
                    *c = quantised(*c, *q);
                }
                inverse(&mut block);
                let columns = 8.min(self.width - left);
                for (y, row) in block.chunks_exact(8).enumerate().take(self.height - top) {
                    let start = (top + y) * self.width + left;
                    samples[start..start + columns].copy_from_slice(&row[..columns]);
                }
            }
        }
        self.samples = samples;
        self
    }

    /// Twice the size, cropped to `height` rows of `width`: every sample is three parts its own and
    /// one part the nearer neighbour's, either way.
    fn doubled(&self, height: usize, width: usize) -> Vec<i32> {
        let columns = width.div_ceil(2);
        let mut out = Vec::with_capacity(height * width);
        let mut sums = vec![0; columns];
        for y in 0..height {
            let near = y / 2;
            let far = match y % 2 {
                0 => near.saturating_sub(1),
                _ => (near + 1).min(self.height - 1),
            };
            let row = |y: usize| &self.samples[y * self.width..][..columns];
            for ((sum, near), far) in sums.iter_mut().zip(row(near)).zip(row(far)) {
                *sum = 3 * near + far;
            }
            out.extend((0..width).map(|x| {
                let near = x / 2;
                let (far, bias) = match x % 2 {
                    0 => (near.saturating_sub(1), 8),
                    _ => ((near + 1).min(columns - 1), 7),
                };
                (3 * sums[near] + sums[far] + bias) >> 4
            }));
        }
        out
    }
}

/// A coefficient after quantisation and back. The forward transform leaves a factor of 8 in it.
fn quantised(coefficient: i32, q: i32) -> i32 {
    let step = 8 * q;
    let level = (coefficient.abs() + step / 2) / step;
    level * q * coefficient.signum()
}

/// Bits of the cosines, and extra bits of what the first of two passes leaves.
const BITS: i32 = 13;
const EXTRA: i32 = 2;

/// A cosine constant.
const fn cosine(x: f64) -> i32 {
    (x * (1 << BITS) as f64 + 0.5) as i32
}

/// Division by `2^bits`, rounded.
fn descale(x: i32, bits: i32) -> i32 {
    (x + (1 << (bits - 1))) >> bits
}

/// The rotation by 3 pi / 8 of the even half, shared by both directions.
fn rotated(a: i32, b: i32) -> (i32, i32) {
    let sum = (a + b) * cosine(0.541_196_1);
    (
        sum + a * cosine(0.765_366_865),
        sum - b * cosine(1.847_759_065),
    )
}

/// The odd half, which is its own transpose.
fn odd([a, b, c, d]: [i32; 4]) -> [i32; 4] {
    let all = (a + c + b + d) * cosine(1.175_875_602);
    let ad = -(a + d) * cosine(0.899_976_223);
    let bc = -(b + c) * cosine(2.562_915_447);
    let ac = all - (a + c) * cosine(1.961_570_56);
    let bd = all - (b + d) * cosine(0.390_180_644);
    [
        a * cosine(0.298_631_336) + ad + ac,
        b * cosine(2.053_119_869) + bc + bd,
        c * cosine(3.072_711_026) + bc + ac,
        d * cosine(1.501_321_11) + ad + bd,
    ]
}

/// The eight values of a row (step 1) or a column (step 8).
fn gathered(block: &[i32; 64], start: usize, step: usize) -> [i32; 8] {
    std::array::from_fn(|i| block[start + i * step])
}

fn scattered(block: &mut [i32; 64], start: usize, step: usize, values: [i32; 8]) {
    for (i, v) in values.into_iter().enumerate() {
        block[start + i * step] = v;
    }
}

/// Cosine transform of a block, 8 times the standard's.
fn forward(block: &mut [i32; 64]) {
    for i in 0..8 {
        let row = forward_line(gathered(block, 8 * i, 1));
        let line = std::array::from_fn(|k| descale(row[k], BITS - EXTRA));
        scattered(block, 8 * i, 1, line);
    }
    for i in 0..8 {
        let column = forward_line(gathered(block, i, 8));
        let line = std::array::from_fn(|k| descale(column[k], BITS + EXTRA));
        scattered(block, i, 8, line);
    }
}

/// In units of 2^-13.
fn forward_line(v: [i32; 8]) -> [i32; 8] {
    let sums: [i32; 4] = std::array::from_fn(|i| v[i] + v[7 - i]);
    let (a, b) = (sums[0] + sums[3], sums[1] + sums[2]);
    let (c, d) = (sums[0] - sums[3], sums[1] - sums[2]);
    let (second, sixth) = rotated(c, d);
    let [seventh, fifth, third, first] = odd([v[3] - v[4], v[2] - v[5], v[1] - v[6], v[0] - v[7]]);
    [
        (a + b) << BITS,
        first,
        second,
        third,
        (a - b) << BITS,
        fifth,
        sixth,
        seventh,
    ]
}

/// Back to samples of 0 to 255.
fn inverse(block: &mut [i32; 64]) {
    for i in 0..8 {
        let column = inverse_line(gathered(block, i, 8));
        let line = std::array::from_fn(|k| descale(column[k], BITS - EXTRA));
        scattered(block, i, 8, line);
    }
    for i in 0..8 {
        let row = inverse_line(gathered(block, 8 * i, 1));
        let sample = |k: usize| (descale(row[k], BITS + EXTRA + 3) + 128).clamp(0, 255);
        scattered(block, 8 * i, 1, std::array::from_fn(sample));
    }
}

/// In units of 2^-13.
fn inverse_line(v: [i32; 8]) -> [i32; 8] {
    let (c, d) = rotated(v[2], v[6]);
    let (a, b) = ((v[0] + v[4]) << BITS, (v[0] - v[4]) << BITS);
    let even = [a + c, b + d, b - d, a - c];
    let [seventh, fifth, third, first] = odd([v[7], v[5], v[3], v[1]]);
    let odd = [first, third, fifth, seventh];
    std::array::from_fn(|i| match i {
        0..4 => even[i] + odd[i],
        _ => even[7 - i] - odd[7 - i],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transform by its definition, in f64.
    fn cosine_transform(block: &[i32; 64]) -> [f64; 64] {
        use std::f64::consts::{FRAC_1_SQRT_2, PI};
        let scale = |k: usize| if k == 0 { FRAC_1_SQRT_2 } else { 1.0 };
        let wave = |i: usize, k: usize| ((2 * i + 1) as f64 * k as f64 * PI / 16.0).cos();
        std::array::from_fn(|i| {
            let (v, u) = (i / 8, i % 8);
            let term = |j: usize| f64::from(block[j]) * wave(j / 8, v) * wave(j % 8, u);
            (0..64).map(term).sum::<f64>() * scale(u) * scale(v) / 4.0
        })
    }

    #[test]
    fn the_transform_is_the_cosine_transform_and_its_inverse() {
        let mut rng = crate::rng::Rng::from_seed(8);
        for _ in 0..50 {
            let block: [i32; 64] = std::array::from_fn(|_| rng.below(256) as i32 - 128);
            let exact = cosine_transform(&block);
            let mut coded = block;
            forward(&mut coded);
            for (ours, exact) in coded.iter().zip(exact) {
                assert!(
                    (f64::from(*ours) - 8.0 * exact).abs() < 1.5,
                    "{ours} for {exact}"
                );
            }
            let mut back: [i32; 64] = std::array::from_fn(|i| exact[i].round() as i32);
            inverse(&mut back);
            for (back, sample) in back.iter().zip(block) {
                assert!((back - 128 - sample).abs() <= 2);
            }
        }
    }

    #[test]
    fn qualities_scale_the_tables() {
        assert_eq!(scaled(LUMA_TABLE, 50), LUMA_TABLE.map(i32::from));
        assert_eq!(scaled(LUMA_TABLE, 100), [1; 64]);
        assert_eq!(scaled(LUMA_TABLE, 25)[..3], [32, 22, 20]);
        assert_eq!(scaled(chroma_table(), 1), [255; 64]);
    }
}
