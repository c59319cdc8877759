//! Digital: contrast, elastic transform, pixelate, saturate. JPEG has a file of its own.

use super::Planes;
use super::draws::{Draws, between};
use super::filter::{self, Edge, Plane};
use super::tables;

/// Draws every channel to its mean.
pub fn contrast(image: &mut Planes, keep: f32) {
    image.each(|plane| {
        let sum: f64 = plane.iter().map(|v| f64::from(*v)).sum();
        let mean = (sum / plane.len() as f64) as f32;
        plane
            .iter_mut()
            .for_each(|v| *v = (*v - mean) * keep + mean);
    });
}

/// Scales and raises the saturation of hue, saturation and value. A grey image has no hue: it stays
/// as it is. Grey pixels of a colour image have the hue 0, red, as published.
pub fn saturate(image: &mut Planes, (factor, offset): (f32, f32)) {
    if image.channels == 1 {
        return;
    }
    for number in 0..image.height * image.width {
        let value = image.value(number);
        let lowest = image.pixel(number).fold(f32::MAX, |low, v| low.min(*v));
        let distance = value - lowest;
        if value <= 0.0 {
            continue;
        }
        let saturation = distance / value;
        let wanted = (saturation * factor + offset).clamp(0.0, 1.0);
        for (channel, v) in image.pixel(number).enumerate() {
            *v = match (saturation > 0.0, channel) {
                // The distance from the value is in proportion to the saturation.
                (true, _) => value - (value - *v) * (wanted / saturation),
                (false, 0) => value,
                (false, _) => value * (1.0 - wanted),
            };
        }
    }
}

/// Bends the image as if it were drawn on rubber; the CIFAR and Tiny ImageNet settings also map it
/// affinely.
pub fn elastic(image: &mut Planes, settings: &tables::Elastic, draws: &mut dyn Draws) {
    if settings.affine > 0.0 {
        affine(image, settings.affine, draws);
    }
    let (height, width) = (image.height, image.width);
    let right = displacements(height, width, settings, draws);
    let down = displacements(height, width, settings, draws);
    image.each(|plane| {
        let source = plane.to_vec();
        let source = Plane {
            pixels: &source,
            height,
            width,
        };
        for (i, pixel) in plane.iter_mut().enumerate() {
            let (dy, dx) = (down[i], right[i]);
            let top = (i / width) as isize + dy.floor() as isize;
            let left = (i % width) as isize + dx.floor() as isize;
            *pixel = source.bilinear(top, left, dy - dy.floor(), dx - dx.floor(), Edge::Reflect);
        }
    });
}

/// Smoothed uniform displacements in px.
fn displacements(
    height: usize,
    width: usize,
    settings: &tables::Elastic,
    draws: &mut dyn Draws,
) -> Vec<f32> {
    let mut field = vec![0.0; height * width];
    draws.uniforms(&mut field);
    let largest = (settings.amplitude * height as f64) as f32;
    field
        .iter_mut()
        .for_each(|u| *u = largest * (2.0 * *u - 1.0));
    let kernel = |side: usize| filter::gaussian_kernel_f32(settings.sigma * side as f64, 3.0);
    let (vertical, horizontal) = (kernel(height), kernel(width));
    filter::separable(&mut field, width, &vertical, &horizontal, Edge::Reflect);
    field
}

/// Moves three corners of a square in the image's middle by up to a part of its side, and the rest
/// with them.
fn affine(image: &mut Planes, reach: f64, draws: &mut dyn Draws) {
    let (height, width) = (image.height, image.width);
    let reach = reach * height.min(width) as f64;
    let half = (height.min(width) / 3) as f64;
    let (y, x) = ((height / 2) as f64, (width / 2) as f64);
    let corners = [
        (x + half, y + half),
        (x + half, y - half),
        (x - half, y - half),
    ];
    let mut moved = || between(draws, -reach, reach);
    let targets = corners.map(|(x, y)| (x + moved(), y + moved()));
    let Some(map) = Affine::between(targets, corners) else {
        return;
    };
    image.each(|plane| {
        let source = plane.to_vec();
        let source = Plane {
            pixels: &source,
            height,
            width,
        };
        for (i, pixel) in plane.iter_mut().enumerate() {
            let (x, y) = map.apply((i % width) as f64, (i / width) as f64);
            let (top, left) = (y.floor(), x.floor());
            let (down, right) = ((y - top) as f32, (x - left) as f32);
            *pixel = source.bilinear(top as isize, left as isize, down, right, Edge::Reflect101);
        }
    });
}

/// `x' = a x + b y + c` and the like for `y'`.
struct Affine([[f64; 3]; 2]);

impl Affine {
    /// The map that takes three points to three others; `None` where they lie on a line.
    fn between(from: [(f64, f64); 3], to: [(f64, f64); 3]) -> Option<Self> {
        let [p, q, r] = from;
        let (u, v) = ((q.0 - p.0, q.1 - p.1), (r.0 - p.0, r.1 - p.1));
        let area = u.0 * v.1 - u.1 * v.0;
        if area == 0.0 {
            return None;
        }
        let row = |[tp, tq, tr]: [f64; 3]| {
            let (du, dv) = (tq - tp, tr - tp);
            let a = (du * v.1 - dv * u.1) / area;
            let b = (dv * u.0 - du * v.0) / area;
            [a, b, tp - a * p.0 - b * p.1]
        };
        Some(Self([row(to.map(|t| t.0)), row(to.map(|t| t.1))]))
    }

    fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        let [first, second] = self.0;
        let at = |row: [f64; 3]| row[0] * x + row[1] * y + row[2];
        (at(first), at(second))
    }
}

/// Shrinks the image by averaging and enlarges it again by repeating.
pub fn pixelate(image: &mut Planes, side: f64) {
    let (height, width) = (image.height, image.width);
    let coarse = |n: usize| ((n as f64 * side) as usize).max(1);
    let (rows, columns) = (coarse(height), coarse(width));
    let (vertical, horizontal) = (boxes(height, rows), boxes(width, columns));
    let nearest = |i: usize, coarse: usize, n: usize| (2 * i + 1) * coarse / (2 * n);
    let rounded = image.eight_bit;
    image.each(|plane| {
        let narrow: Vec<f32> = plane
            .chunks_exact(width)
            .flat_map(|row| horizontal.iter().map(|b| b.mean(|i| row[i], rounded)))
            .collect();
        let column = |b: &Mean, x: usize| b.mean(|i| narrow[i * columns + x], rounded);
        let small: Vec<f32> = vertical
            .iter()
            .flat_map(|b| (0..columns).map(move |x| column(b, x)))
            .collect();
        for (i, pixel) in plane.iter_mut().enumerate() {
            let y = nearest(i / width, rows, height);
            *pixel = small[y * columns + nearest(i % width, columns, width)];
        }
    });
}

/// The mean of the pixels whose middles a coarse one covers.
struct Mean {
    start: usize,
    end: usize,
    /// Of each, as PIL rounds it.
    weight: f64,
}

fn boxes(n: usize, coarse: usize) -> Vec<Mean> {
    let scale = n as f64 / coarse as f64;
    let covered = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        // PIL's window, and its box, which holds its right end and not its left.
        let from = (centre - 0.5 * scale + 0.5) as usize;
        let to = ((centre + 0.5 * scale + 0.5) as usize).min(n);
        let inside = |j: &usize| {
            let at = (*j as f64 - centre + 0.5) / scale;
            at > -0.5 && at <= 0.5
        };
        let start = (from..to).find(inside).unwrap_or(from.min(n - 1));
        let end = (from..to).rev().find(inside).unwrap_or(start) + 1;
        const UNIT: f64 = (1 << 22) as f64;
        let weight = (UNIT / (end - start) as f64).round() / UNIT;
        Mean { start, end, weight }
    };
    (0..coarse).map(covered).collect()
}

impl Mean {
    /// Rounded to 8 bits, if asked for, as PIL does after either direction.
    fn mean(&self, value: impl Fn(usize) -> f32, rounded: bool) -> f32 {
        let values = (self.start..self.end).map(|i| f64::from(value(i)) * 255.0);
        if !rounded {
            let sum: f64 = values.sum();
            return (sum / (self.end - self.start) as f64 / 255.0) as f32;
        }
        let sum: f64 = values.map(|v| v.round() * self.weight).sum();
        ((sum + 0.5).floor() / 255.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_affine_map_takes_its_points_to_their_targets() {
        let from = [(3.0, 4.0), (10.0, 5.0), (2.0, -7.0)];
        let to = [(1.0, 1.0), (8.0, 3.5), (0.0, -9.0)];
        let map = Affine::between(from, to).expect("these are not on a line");
        for (from, to) in from.into_iter().zip(to) {
            let (x, y) = map.apply(from.0, from.1);
            assert!((x - to.0).abs() < 1e-12 && (y - to.1).abs() < 1e-12);
        }
        assert!(Affine::between([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)], to).is_none());
    }

    #[test]
    fn boxes_cover_every_pixel_once() {
        for (n, coarse) in [(224, 134), (224, 67), (33, 8), (64, 19), (224, 112)] {
            let boxes = boxes(n, coarse);
            assert_eq!((boxes[0].start, boxes[coarse - 1].end), (0, n));
            assert!(boxes.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
