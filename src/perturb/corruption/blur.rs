//! Blur: defocus, glass, motion, zoom, Gaussian.

use super::Planes;
use super::draws::{Draws, between};
use super::filter::{self, Plane, Zoom, add_scaled};

pub fn gaussian(image: &mut Planes, sigma: f64) {
    let width = image.width;
    image.each(|plane| filter::gaussian(plane, width, sigma));
}

/// Spreads every point over a disc.
pub fn defocus(image: &mut Planes, (radius, rim): (f64, f64)) {
    let (kernel, side) = disc(radius, rim);
    let width = image.width;
    image.each(|plane| filter::correlate(plane, width, &kernel, side));
}

/// A disc of sum 1 with a smoothed rim, and the side of its square: at least 17, as published.
fn disc(radius: f64, rim: f64) -> (Vec<f32>, usize) {
    // The larger discs' rims are smoothed over 5 px, the others' over 3.
    let (reach, smooth) = match radius <= 8.0 {
        true => (8, 1),
        false => (radius as i32, 2),
    };
    let side = 2 * reach as usize + 1;
    let inside = |i: usize| {
        let (y, x) = ((i / side) as i32 - reach, (i % side) as i32 - reach);
        f64::from(y * y + x * x) <= radius * radius
    };
    let area = (0..side * side).filter(|i| inside(*i)).count() as f32;
    let weight = |i: usize| if inside(i) { 1.0 / area } else { 0.0 };
    let mut kernel: Vec<f32> = (0..side * side).map(weight).collect();
    // The same Gaussian, cut off where the published one is.
    let smoothing = filter::gaussian_kernel_f32(rim, f64::from(smooth) / rim);
    filter::separable(
        &mut kernel,
        side,
        &smoothing,
        &smoothing,
        filter::Edge::Reflect101,
    );
    (kernel, side)
}

/// Blurs, copies every pixel from a neighbour at random, blurs.
pub fn glass(image: &mut Planes, settings: (f64, usize, usize), draws: &mut dyn Draws) {
    let (sigma, reach, rounds) = settings;
    match image.eight_bit {
        true => gaussian_cut_off(image, sigma),
        false => gaussian(image, sigma),
    }
    for _ in 0..rounds {
        shuffle(image, reach, draws);
    }
    gaussian(image, sigma);
}

/// Gaussian blur of an 8-bit image, cut off to 8 bits. Where the image is flat, rounding errors
/// decide on a level: these are the published ones, of f64.
fn gaussian_cut_off(image: &mut Planes, sigma: f64) {
    let kernel = filter::gaussian_kernel(sigma, 4.0);
    let width = image.width;
    image.each(|plane| {
        let levels = plane.iter().map(|v| f64::from((v * 255.0).round()));
        let mut exact: Vec<f64> = levels.map(|level| level / 255.0).collect();
        filter::separable(&mut exact, width, &kernel, &kernel, filter::Edge::Nearest);
        for (v, exact) in plane.iter_mut().zip(exact) {
            *v = (exact * 255.0).floor() as f32 / 255.0;
        }
    });
}

/// Copies, from the last pixel to the first, what lies up to `reach` before or less than that
/// after. The published code means to swap the two, and copies; its images are what counts.
fn shuffle(image: &mut Planes, reach: usize, draws: &mut dyn Draws) {
    let (height, width) = (image.height, image.width);
    let area = height * width;
    for y in (reach + 1..=height - reach).rev() {
        for x in (reach + 1..=width - reach).rev() {
            let dx = draws.below(2 * reach);
            let dy = draws.below(2 * reach);
            let from = (y + dy - reach) * width + x + dx - reach;
            let to = y * width + x;
            for channel in 0..image.channels {
                image.pixels[channel * area + to] = image.pixels[channel * area + from];
            }
        }
    }
}

/// Blurs along a line of random direction, at most 45 degrees from the horizontal.
pub fn motion(image: &mut Planes, (radius, sigma): (usize, f64), draws: &mut dyn Draws) {
    let angle = between(draws, -45.0, 45.0);
    let (height, width) = (image.height, image.width);
    let path = Path::new(radius, sigma, angle, height, width);
    image.each(|plane| path.blur(plane, width));
}

/// The way a point moves while it is exposed: half a Gaussian, strongest at its start.
pub struct Path {
    /// Down, right, weight.
    steps: Vec<(isize, isize, f32)>,
}

impl Path {
    /// The angle is in degrees.
    pub fn new(radius: usize, sigma: f64, angle: f64, height: usize, width: usize) -> Self {
        let length = 2 * radius + 1;
        let weight = |i: usize| libm::exp(-((i * i) as f64) / (2.0 * sigma * sigma));
        let sum: f64 = (0..length).map(weight).sum();
        let (sine, cosine) = (libm::sin(angle.to_radians()), libm::cos(angle.to_radians()));
        let step = |i: usize| {
            let along = |part: f64| -(i as f64 * part - 0.5).ceil() as isize;
            (along(sine), along(cosine), (weight(i) / sum) as f32)
        };
        // A move by more than the image ends the path.
        let inside = |step: &(isize, isize, f32)| {
            step.0.unsigned_abs() < height && step.1.unsigned_abs() < width
        };
        Self {
            steps: (0..length).map(step).take_while(inside).collect(),
        }
    }

    /// Blurs a plane, its edges repeated.
    pub fn blur(&self, plane: &mut [f32], width: usize) {
        let source = plane.to_vec();
        let last = (source.len() / width) as isize - 1;
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for (down, right, weight) in &self.steps {
                let from = (y as isize - down).clamp(0, last) as usize * width;
                add_shifted(out, &source[from..from + width], *right, *weight);
            }
        }
    }
}

/// Adds a row that is moved to the right, or by a negative number to the left.
fn add_shifted(out: &mut [f32], row: &[f32], right: isize, weight: f32) {
    let shift = right.unsigned_abs().min(row.len() - 1);
    let rest = row.len() - shift;
    if right >= 0 {
        add_scaled(&mut out[shift..], &row[..rest], weight);
        out[..shift].iter_mut().for_each(|v| *v += weight * row[0]);
    } else {
        let end = row[row.len() - 1];
        add_scaled(&mut out[..rest], &row[shift..], weight);
        out[rest..].iter_mut().for_each(|v| *v += weight * end);
    }
}

/// The factors of a zoom blur: from 1 on by the difference between 1 and the second, as
/// `numpy.arange` has them. That difference is not the step to the last bit, and at 32 px the bit
/// decides whether 1.3 times 25 px are 32 or 33.
fn factors((count, step): (usize, f64)) -> impl Iterator<Item = f64> {
    let apart = (1.0 + step) - 1.0;
    (0..count).map(move |i| 1.0 + i as f64 * apart)
}

/// The mean of the image and of its enlargements.
pub fn zoom(image: &mut Planes, (count, step): (usize, f64)) {
    let (height, width) = (image.height, image.width);
    let zooms = factors((count, step)).map(|factor| Zoom::new(height, width, factor));
    let zooms: Vec<Zoom> = zooms.collect();
    image.each(|plane| {
        let source = plane.to_vec();
        let source = Plane {
            pixels: &source,
            height,
            width,
        };
        for zoom in &zooms {
            zoom.each_row(source, height, |y, row| {
                add_scaled(&mut plane[y * width..(y + 1) * width], row, 1.0);
            });
        }
        let share = 1.0 / (count + 1) as f32;
        plane.iter_mut().for_each(|v| *v *= share);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disc_is_round_and_sums_to_one() {
        for (radius, rim) in [(3.0, 0.1), (4.0, 0.5), (10.0, 0.5), (0.3, 0.4), (2.5, 0.01)] {
            let (kernel, side) = disc(radius, rim);
            // Where the disc touches its square its rim is smoothed against its own reflection.
            let sum: f32 = kernel.iter().sum();
            assert!((sum - 1.0).abs() < 0.02, "{radius}: {sum}");
            for (i, weight) in kernel.iter().enumerate() {
                let (y, x) = (i / side, i % side);
                assert_eq!(*weight, kernel[y * side + side - 1 - x]);
                assert!((weight - kernel[x * side + y]).abs() < 1e-8);
            }
        }
    }

    /// Values of `numpy.arange(1, 1.31, 0.03)` and `(1, 1.26, 0.01)`, and of the published zoom blur
    /// with them, made with NumPy 2.4 and SciPy 1.18.
    #[test]
    fn zooms_are_as_far_apart_as_arange_has_them() {
        let imagenet: Vec<f64> = factors((11, 0.03)).collect();
        let expected = [
            1.0,
            1.03,
            1.06,
            1.09,
            1.12,
            1.1500000000000001,
            1.1800000000000002,
            1.2100000000000002,
            1.2400000000000002,
            1.2700000000000002,
            1.3000000000000003,
        ];
        assert_eq!(imagenet, expected);
        let cifar: Vec<f64> = factors((26, 0.01)).collect();
        assert_eq!(cifar[25], 1.2500000000000002);
        for (side, factor, zoomed) in [
            (32, imagenet[10], 33),
            (32, cifar[25], 33),
            (512, cifar[25], 513),
        ] {
            assert_eq!(Zoom::new(side, side, factor).height(), zoomed, "{side}");
        }
        let level = |i: usize| ((7 * (i / 32) + 13 * (i % 32)) % 256) as f32 / 255.0;
        let places = [(0, 0), (0, 31), (5, 9), (16, 16), (20, 27), (31, 31)];
        let published = [
            (
                (11, 0.03),
                [
                    0.111_111_11,
                    0.500_653_56,
                    0.636_685_67,
                    0.213_662_25,
                    0.804_933_6,
                    0.247_058_81,
                ],
            ),
            (
                (26, 0.01),
                [
                    0.092_955_7,
                    0.502_737,
                    0.626_163_8,
                    0.211_577_34,
                    0.811_436_24,
                    0.260_039_96,
                ],
            ),
        ];
        for (setting, expected) in published {
            let mut image = Planes {
                pixels: (0..32 * 32).map(level).collect(),
                channels: 1,
                height: 32,
                width: 32,
                eight_bit: false,
            };
            zoom(&mut image, setting);
            for ((y, x), expected) in places.into_iter().zip(expected) {
                let found = image.pixels[32 * y + x];
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{setting:?} {y} {x}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_path_leads_right_and_up_for_positive_angles() {
        let path = Path::new(2, 100.0, 45.0, 64, 64);
        let steps: Vec<_> = path.steps.iter().map(|s| (s.0, s.1)).collect();
        // Half steps are rounded towards the start: 0.7, 1.4, 2.1, 2.8.
        assert_eq!(steps, [(0, 0), (-1, -1), (-1, -1), (-2, -2), (-3, -3)]);
        // One that is as long as the image ends at its border.
        assert_eq!(Path::new(20, 15.0, 0.0, 32, 32).steps.len(), 32);
    }

    #[test]
    fn a_moved_row_repeats_its_end() {
        for (right, expected) in [(2, [1.0, 1.0, 1.0, 2.0]), (-1, [2.0, 3.0, 4.0, 4.0])] {
            let mut out = [0.0; 4];
            add_shifted(&mut out, &[1.0, 2.0, 3.0, 4.0], right, 1.0);
            assert_eq!(out, expected);
        }
    }
}
