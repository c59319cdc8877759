//! Random windows and erased squares of training images.

use super::recipe::augmentation::AugmentationConfig;
use crate::rng::Rng;

/// A square of side `square` about a random pixel of an image `[3, side, side]`, cut off at the
/// border, set to the mean of each channel.
#[cfg(any(feature = "cli", test))]
pub(super) fn erase(image: &mut [f32], side: usize, square: usize, mean: [f32; 3], rng: &mut Rng) {
    if square == 0 {
        return;
    }
    let mut span = || {
        let start = rng.below(side) as isize - (square / 2) as isize;
        let end = (start + square as isize).clamp(0, side as isize) as usize;
        start.max(0) as usize..end
    };
    let (rows, columns) = (span(), span());
    for (plane, mean) in image.chunks_exact_mut(side * side).zip(mean) {
        for row in rows.clone() {
            plane[row * side..][columns.clone()].fill(mean);
        }
    }
}

/// A square part of an image; what lies beyond the border is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    flip: bool,
    left: isize,
    top: isize,
    /// Side, px.
    pub side: usize,
}

impl Window {
    /// The whole image of side `side`.
    pub fn whole(side: usize) -> Self {
        Self {
            flip: false,
            left: 0,
            top: 0,
            side,
        }
    }

    /// A window of side `side` on an image of side `whole`, with the flips and shifts of the recipe.
    pub fn draw(config: &AugmentationConfig, side: usize, whole: usize, rng: &mut Rng) -> Self {
        let slack = whole - side + 2 * config.shift;
        Self {
            flip: config.flip && rng.uniform_f64() < 0.5,
            left: rng.below(slack + 1) as isize - config.shift as isize,
            top: rng.below(slack + 1) as isize - config.shift as isize,
            side,
        }
    }

    /// Writes the window of `image`, `[3, whole, whole]`, to `out`, `[3, side, side]`.
    pub fn cut(&self, image: &[f32], whole: usize, out: &mut [f32]) {
        let rows = image
            .chunks_exact(whole * whole)
            .flat_map(|plane| (0..self.side).map(move |y| (plane, y)));
        for ((plane, y), out) in rows.zip(out.chunks_exact_mut(self.side)) {
            let row = reflect(y as isize + self.top, whole) * whole;
            for (x, out) in out.iter_mut().enumerate() {
                let x = if self.flip { self.side - 1 - x } else { x };
                *out = plane[row + reflect(x as isize + self.left, whole)];
            }
        }
    }
}

/// Mirrors an index at the borders, without repeating the border pixel.
fn reflect(i: isize, side: usize) -> usize {
    let last = side as isize - 1;
    let i = i.abs();
    let i = if i > last { 2 * last - i } else { i };
    i.clamp(0, last) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_mirror_at_the_border() {
        let image: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let window = Window {
            flip: false,
            left: -1,
            top: 1,
            side: 3,
        };
        let mut out = [0.0; 9];
        window.cut(&image, 3, &mut out);
        assert_eq!(out, [4.0, 3.0, 4.0, 7.0, 6.0, 7.0, 4.0, 3.0, 4.0]);
        let window = Window {
            flip: true,
            left: 0,
            top: 0,
            side: 3,
        };
        window.cut(&image, 3, &mut out);
        assert_eq!(out, [2.0, 1.0, 0.0, 5.0, 4.0, 3.0, 8.0, 7.0, 6.0]);
    }

    #[test]
    fn an_erased_square_is_no_larger_than_it_says_and_has_the_mean() {
        let mut rng = Rng::from_seed(2);
        let mut largest = 0;
        for _ in 0..200 {
            let mut image = vec![0.0; 3 * 100];
            erase(&mut image, 10, 4, [0.1, 0.2, 0.3], &mut rng);
            let counts: Vec<usize> = image
                .chunks_exact(100)
                .zip([0.1, 0.2, 0.3])
                .map(|(plane, mean)| plane.iter().filter(|v| **v == mean).count())
                .collect();
            assert!(
                counts.iter().all(|n| *n == counts[0] && *n >= 4),
                "{counts:?}"
            );
            largest = largest.max(counts[0]);
        }
        assert_eq!(largest, 16);
    }
}
