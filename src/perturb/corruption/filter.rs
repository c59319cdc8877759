//! Filters and resampling of one plane, row by row, so that the inner loops run over neighbours.

use std::ops::{Add, AddAssign, Mul, MulAssign};

/// f32, or f64 where a rounding error decides.
pub trait Real:
    Copy + Default + Add<Output = Self> + Mul<Output = Self> + AddAssign + MulAssign
{
}

impl Real for f32 {}
impl Real for f64 {}

/// What lies beyond the edge of an image `a b c d`.
#[derive(Clone, Copy)]
pub enum Edge {
    /// `a a | a b c d | d d`
    Nearest,
    /// `b a | a b c d | d c`
    Reflect,
    /// `c b | a b c d | c b`
    Reflect101,
}

impl Edge {
    /// The index inside 0..n that stands for `i`; n is at least 1.
    pub fn index(self, i: isize, n: usize) -> usize {
        let n = n as isize;
        let folded = |period: isize, last: isize| {
            let i = i.rem_euclid(period);
            if i < n { i } else { last - i }
        };
        let inside = match self {
            Self::Nearest => i.clamp(0, n - 1),
            Self::Reflect => folded(2 * n, 2 * n - 1),
            Self::Reflect101 if n == 1 => 0,
            Self::Reflect101 => folded(2 * (n - 1), 2 * (n - 1)),
        };
        inside as usize
    }
}

/// A normalised Gaussian that ends `truncate` deviations from its middle, as SciPy's does.
/// A deviation of 0 is the identity.
pub fn gaussian_kernel(sigma: f64, truncate: f64) -> Vec<f64> {
    let radius = (truncate * sigma + 0.5) as isize;
    let weight = |i: isize| match i {
        0 => 1.0,
        _ => libm::exp(-0.5 * (i * i) as f64 / (sigma * sigma)),
    };
    let weights: Vec<f64> = (-radius..=radius).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// [`gaussian_kernel`], rounded.
pub fn gaussian_kernel_f32(sigma: f64, truncate: f64) -> Vec<f32> {
    let kernel = gaussian_kernel(sigma, truncate);
    kernel.into_iter().map(|w| w as f32).collect()
}

/// Gaussian blur of a plane, cut off at 4 deviations, the edges repeated: scikit-image's defaults.
pub fn gaussian(plane: &mut [f32], width: usize, sigma: f64) {
    let kernel = gaussian_kernel_f32(sigma, 4.0);
    separable(plane, width, &kernel, &kernel, Edge::Nearest);
}

/// Filters the columns with one symmetric kernel of odd length and the rows with another, summing
/// from the middle and then inwards from the ends, as SciPy does.
pub fn separable<T: Real>(
    plane: &mut [T],
    width: usize,
    vertical: &[T],
    horizontal: &[T],
    edge: Edge,
) {
    if vertical.len() > 1 {
        filter_columns(plane, width, vertical, edge);
    }
    if horizontal.len() > 1 {
        filter_rows(plane, width, horizontal, edge);
    }
}

fn filter_columns<T: Real>(plane: &mut [T], width: usize, kernel: &[T], edge: Edge) {
    let source = plane.to_vec();
    let height = source.len() / width;
    let radius = kernel.len() / 2;
    let row = |y: isize| {
        let start = edge.index(y, height) * width;
        &source[start..start + width]
    };
    for (y, out) in plane.chunks_exact_mut(width).enumerate() {
        let y = y as isize;
        let middle = kernel[radius];
        out.iter_mut().for_each(|v| *v *= middle);
        for (i, weight) in kernel[radius + 1..].iter().enumerate().rev() {
            let reach = i as isize + 1;
            add_pair(out, row(y - reach), row(y + reach), *weight);
        }
    }
}

fn filter_rows<T: Real>(plane: &mut [T], width: usize, kernel: &[T], edge: Edge) {
    let radius = kernel.len() / 2;
    let mut padded = vec![T::default(); width + 2 * radius];
    for out in plane.chunks_exact_mut(width) {
        pad(&mut padded, out, radius, edge);
        let middle = kernel[radius];
        out.iter_mut().for_each(|v| *v *= middle);
        for (i, weight) in kernel[radius + 1..].iter().enumerate().rev() {
            let (left, right) = (radius - i - 1, radius + i + 1);
            let (left, right) = (&padded[left..left + width], &padded[right..right + width]);
            add_pair(out, left, right, *weight);
        }
    }
}

fn add_pair<T: Real>(out: &mut [T], one: &[T], other: &[T], weight: T) {
    for ((v, a), b) in out.iter_mut().zip(one).zip(other) {
        *v += weight * (*a + *b);
    }
}

/// A row with `radius` values of what lies beyond either end.
fn pad<T: Real>(padded: &mut [T], row: &[T], radius: usize, edge: Edge) {
    let width = row.len();
    padded[radius..radius + width].copy_from_slice(row);
    for i in 0..radius {
        padded[i] = row[edge.index(i as isize - radius as isize, width)];
        padded[radius + width + i] = row[edge.index((width + i) as isize, width)];
    }
}

/// Adds `weight * source` to a row.
pub fn add_scaled(out: &mut [f32], source: &[f32], weight: f32) {
    for (v, s) in out.iter_mut().zip(source) {
        *v += weight * s;
    }
}

/// Correlates a plane with a square kernel of odd side, edges reflected as OpenCV's filters do.
pub fn correlate(plane: &mut [f32], width: usize, kernel: &[f32], side: usize) {
    let height = plane.len() / width;
    let radius = side / 2;
    let stride = width + 2 * radius;
    let mut padded = vec![0.0; stride * (height + 2 * radius)];
    for (y, row) in padded.chunks_exact_mut(stride).enumerate() {
        let y = Edge::Reflect101.index(y as isize - radius as isize, height);
        pad(
            row,
            &plane[y * width..(y + 1) * width],
            radius,
            Edge::Reflect101,
        );
    }
    // A disc leaves many of the square's weights 0.
    let weights = kernel.iter().enumerate().filter(|(_, w)| **w != 0.0);
    let taps: Vec<(usize, f32)> = weights
        .map(|(i, w)| (i / side * stride + i % side, *w))
        .collect();
    for (y, out) in plane.chunks_exact_mut(width).enumerate() {
        out.fill(0.0);
        for (offset, weight) in &taps {
            let start = y * stride + offset;
            add_scaled(out, &padded[start..start + width], *weight);
        }
    }
}

/// A plane of `height` rows of `width`.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    pub pixels: &'a [f32],
    pub height: usize,
    pub width: usize,
}

impl Plane<'_> {
    /// The value between four pixels: `top`, `left` and how far on from there, in [0, 1).
    pub fn bilinear(&self, top: isize, left: isize, down: f32, right: f32, edge: Edge) -> f32 {
        let (y0, y1) = (
            edge.index(top, self.height),
            edge.index(top + 1, self.height),
        );
        let (x0, x1) = (
            edge.index(left, self.width),
            edge.index(left + 1, self.width),
        );
        let row = |y: usize| {
            let start = y * self.width;
            let (a, b) = (self.pixels[start + x0], self.pixels[start + x1]);
            a + right * (b - a)
        };
        let (above, below) = (row(y0), row(y1));
        above + down * (below - above)
    }
}

/// The middle of a plane, enlarged bilinearly by a factor of 1 or more to about the plane's own
/// size or a little over it, corners onto corners as SciPy's `zoom` does.
pub struct Zoom {
    rows: Axis,
    columns: Axis,
}

/// One axis of a [`Zoom`].
struct Axis {
    /// For each value of the result: the sample before it and how far on it lies, in [0, 1].
    samples: Vec<(usize, f32)>,
    /// First of the middle's samples and their number.
    start: usize,
    count: usize,
}

impl Axis {
    fn new(side: usize, factor: f64) -> Self {
        let count = ((side as f64 / factor).ceil() as usize).clamp(1, side);
        let length = (count as f64 * factor).round_ties_even() as usize;
        let last = count - 1;
        let step = last as f64 / length.saturating_sub(1).max(1) as f64;
        let sample = |i: usize| {
            let position = (i as f64 * step).min(last as f64);
            let before = (position as usize).min(last.saturating_sub(1));
            (before, (position - before as f64) as f32)
        };
        Self {
            samples: (0..length).map(sample).collect(),
            start: (side - count) / 2,
            count,
        }
    }
}

impl Zoom {
    pub fn new(height: usize, width: usize, factor: f64) -> Self {
        Self {
            rows: Axis::new(height, factor),
            columns: Axis::new(width, factor),
        }
    }

    pub fn height(&self) -> usize {
        self.rows.samples.len()
    }

    pub fn width(&self) -> usize {
        self.columns.samples.len()
    }

    /// Calls `take` with each of the first `rows` rows of the result and its number.
    pub fn each_row(&self, plane: Plane, rows: usize, mut take: impl FnMut(usize, &[f32])) {
        let columns = &self.columns;
        let mut blend = vec![0.0; columns.count];
        let mut out = vec![0.0; columns.samples.len()];
        let row = |y: usize| {
            let y = (self.rows.start + y).min(plane.height - 1);
            &plane.pixels[y * plane.width + columns.start..][..columns.count]
        };
        for (number, (y, down)) in self.rows.samples.iter().take(rows).enumerate() {
            for ((v, a), b) in blend.iter_mut().zip(row(*y)).zip(row(*y + 1)) {
                *v = a + down * (b - a);
            }
            for (v, (x, right)) in out.iter_mut().zip(&columns.samples) {
                let (a, b) = (blend[*x], blend[(*x + 1).min(columns.count - 1)]);
                *v = a + right * (b - a);
            }
            take(number, &out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_fold_as_drawn() {
        let read = |edge: Edge| -> String {
            (-6..10)
                .map(|i| char::from(b"abcd"[edge.index(i, 4)]))
                .collect()
        };
        assert_eq!(read(Edge::Nearest), "aaaaaaabcddddddd");
        assert_eq!(read(Edge::Reflect), "cddcbaabcddcbaab");
        assert_eq!(read(Edge::Reflect101), "abcdcbabcdcbabcd");
        for edge in [Edge::Nearest, Edge::Reflect, Edge::Reflect101] {
            assert!((-5..5).all(|i| edge.index(i, 1) == 0));
        }
    }

    #[test]
    fn a_kernel_sums_to_one_and_ends_where_it_is_cut() {
        for (sigma, truncate, length) in [
            (0.0, 4.0, 1),
            (1.0, 4.0, 9),
            (6.0, 4.0, 49),
            (2.24, 3.0, 15),
        ] {
            let kernel = gaussian_kernel(sigma, truncate);
            assert_eq!(kernel.len(), length);
            assert!((kernel.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_point_becomes_the_kernel_on_both_axes() {
        let mut plane = vec![0.0; 32 * 40];
        plane[16 * 40 + 20] = 1.0;
        let (down, across) = ([0.25_f32, 0.5, 0.25], [0.1, 0.8, 0.1]);
        separable(&mut plane, 40, &down, &across, Edge::Reflect);
        for (dy, a) in down.iter().enumerate() {
            for (dx, b) in across.iter().enumerate() {
                assert!((plane[(15 + dy) * 40 + 19 + dx] - a * b).abs() < 1e-7);
            }
        }
        // Correlation keeps the kernel's point mirrored.
        let mut plane = vec![0.0; 32 * 32];
        plane[10 * 32 + 10] = 1.0;
        let kernel: Vec<f32> = (0..9).map(|i| i as f32).collect();
        correlate(&mut plane, 32, &kernel, 3);
        assert_eq!(plane[9 * 32 + 9], 8.0);
        assert_eq!(plane[9 * 32 + 10], 7.0);
        assert_eq!(plane[11 * 32 + 11], 0.0);
    }

    #[test]
    fn a_zoom_keeps_a_ramp_a_ramp() {
        let pixels: Vec<f32> = (0..64 * 48)
            .map(|i| (i % 48) as f32 + 100.0 * (i / 48) as f32)
            .collect();
        let plane = Plane {
            pixels: &pixels,
            height: 64,
            width: 48,
        };
        let zoom = Zoom::new(64, 48, 1.3);
        // ceil(64 / 1.3) = 50 rows from row 7 become 65; ceil(48 / 1.3) = 37 columns from 5, 48.
        assert_eq!((zoom.height(), zoom.width()), (65, 48));
        let mut rows = 0;
        zoom.each_row(plane, 64, |y, row| {
            rows += 1;
            for (x, v) in row.iter().enumerate() {
                let expected =
                    100.0 * (7.0 + y as f32 * 49.0 / 64.0) + 5.0 + x as f32 * 36.0 / 47.0;
                assert!((v - expected).abs() < 1e-2, "{y} {x}: {v} for {expected}");
            }
        });
        assert_eq!(rows, 64);
    }
}
