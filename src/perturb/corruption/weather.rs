//! Weather: snow, frost, fog, brightness. Spatter has a file of its own.

use super::blur::Path;
use super::draws::{Draws, between};
use super::filter::{Plane, Zoom};
use super::frost::Textures;
use super::{Planes, Table, luma, tables};

/// Whitens the image and lets flakes fall on it, once and once more turned by half a circle.
pub fn snow(image: &mut Planes, settings: &tables::Snow, draws: &mut dyn Draws) {
    let flakes = flakes(image.height, image.width, settings, draws);
    let whiter: Vec<f32> = luma(image).iter().map(|v| v * 1.5 + 0.5).collect();
    let keep = settings.keep;
    image.each(|plane| {
        let flakes = flakes.iter().zip(flakes.iter().rev());
        for ((pixel, white), (one, other)) in plane.iter_mut().zip(&whiter).zip(flakes) {
            let whitened = keep * *pixel + (1.0 - keep) * pixel.max(*white);
            *pixel = whitened + one + other;
        }
    });
}

/// Bright spots of enlarged noise, drawn out on their way down; in steps of 1/255.
fn flakes(height: usize, width: usize, settings: &tables::Snow, draws: &mut dyn Draws) -> Vec<f32> {
    let mut noise = vec![0.0; height * width];
    draws.normals(&mut noise);
    let scaled = |z: &mut f32| *z = settings.mean + settings.deviation * *z;
    noise.iter_mut().for_each(scaled);
    let noise = Plane {
        pixels: &noise,
        height,
        width,
    };
    let zoom = Zoom::new(height, width, settings.zoom);
    let mut layer = Vec::with_capacity(zoom.height() * zoom.width());
    let flake = |v: &f32| match *v < settings.threshold {
        true => 0.0,
        false => v.clamp(0.0, 1.0),
    };
    zoom.each_row(noise, zoom.height(), |_, row| {
        layer.extend(row.iter().map(flake));
    });
    let angle = between(draws, -135.0, -45.0);
    // The way is that of the layer, which may be a little larger than the image.
    let (rows, columns) = (zoom.height(), zoom.width());
    Path::new(settings.radius, settings.sigma, angle, rows, columns).blur(&mut layer, columns);
    let rows = layer.chunks_exact(columns).take(height);
    let cropped = rows.flat_map(|row| &row[..width]);
    cropped
        .map(|v| (v * 255.0).round_ties_even() / 255.0)
        .collect()
}

/// Lays a part of a frost texture over the image.
pub fn frost(
    image: &mut Planes,
    (keep, weight): (f32, f32),
    table: Table,
    textures: &Textures,
    draws: &mut dyn Draws,
) {
    let crop = textures.crop(image.height, image.width, table, draws);
    let crop = Planes {
        pixels: crop,
        channels: 3,
        height: image.height,
        width: image.width,
        eight_bit: image.eight_bit,
    };
    let grey = (image.channels == 1).then(|| luma(&crop));
    let crop = grey.unwrap_or(crop.pixels);
    for (pixel, frost) in image.pixels.iter_mut().zip(crop) {
        *pixel = keep * *pixel + weight * frost;
    }
}

/// Side of the largest cloud; larger images get several beside each other, for clouds join at their
/// edges. It bounds the memory for long images.
const LARGEST_CLOUD: usize = 2048;

/// Adds a cloud and darkens the sum, so that the brightest value cannot grow.
pub fn fog(image: &mut Planes, (thickness, decay): (f32, f64), draws: &mut dyn Draws) {
    let longer = image.height.max(image.width);
    let side = longer.min(LARGEST_CLOUD).next_power_of_two();
    let cloud = plasma(side, decay, draws);
    let brightest = image.pixels.iter().copied().fold(0.0, f32::max);
    let share = brightest / (brightest + thickness);
    let width = image.width;
    image.each(|plane| {
        let clouds = cloud.chunks_exact(side).cycle();
        for (row, cloud) in plane.chunks_exact_mut(width).zip(clouds) {
            for (pixel, cloud) in row.iter_mut().zip(cloud.iter().cycle()) {
                *pixel = (*pixel + thickness * cloud) * share;
            }
        }
    });
}

type Fill = ((usize, usize), [(isize, isize); 4]);

/// The points a step of [`plasma`] sets, in units of half its cell, and the four neighbours whose
/// mean they start from: the middles of the cells, then those of their upper and left sides.
const FILLS: [Fill; 3] = [
    ((1, 1), [(-1, -1), (-1, 1), (1, -1), (1, 1)]),
    ((0, 1), [(-1, 0), (1, 0), (0, -1), (0, 1)]),
    ((1, 0), [(-1, 0), (1, 0), (0, -1), (0, 1)]),
];

/// Plasma fractal in [0, 1] by the diamond-square algorithm (Fournier, Fussell and Carpenter
/// 1982) on a torus. The side is a power of two.
pub fn plasma(side: usize, decay: f64, draws: &mut dyn Draws) -> Vec<f32> {
    let mut map = vec![0.0_f64; side * side];
    let mut offsets = vec![0.0_f32; side * side / 4];
    let mut cell = side;
    // The published code multiplies by the amplitude twice.
    let mut amplitude = 100.0_f64;
    while cell >= 2 {
        let cells = side / cell;
        for (place, neighbours) in FILLS {
            let offsets = &mut offsets[..cells * cells];
            draws.uniforms(offsets);
            for (number, offset) in offsets.iter().enumerate() {
                let y = number / cells * cell + place.0 * cell / 2;
                let x = number % cells * cell + place.1 * cell / 2;
                let reach = (cell / 2) as isize;
                // On a torus whose side is a power of two.
                let wrapped = |i: usize, by: isize| i.wrapping_add_signed(by * reach) & (side - 1);
                let at = |(dy, dx)| map[wrapped(y, dy) * side + wrapped(x, dx)];
                let mean = neighbours.into_iter().map(at).sum::<f64>() / 4.0;
                map[y * side + x] = mean + amplitude * amplitude * (2.0 * f64::from(*offset) - 1.0);
            }
        }
        cell /= 2;
        amplitude /= decay;
    }
    let low = map.iter().copied().fold(f64::INFINITY, f64::min);
    let high = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Only draws that a caller made up can leave the map flat.
    let range = (high - low).max(f64::MIN_POSITIVE);
    map.iter().map(|v| ((v - low) / range) as f32).collect()
}

/// Raises the value of hue, saturation and value, the other two unchanged.
pub fn brightness(image: &mut Planes, by: f32) {
    for pixel in 0..image.height * image.width {
        let value = image.value(pixel);
        let raised = (value + by).min(1.0);
        // Hue and saturation are ratios of the channels: they keep them.
        for channel in image.pixel(pixel) {
            *channel = match value > 0.0 {
                true => *channel * (raised / value),
                false => raised,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_plasma_fills_its_range_and_joins_at_its_edges() {
        let map = plasma(64, 2.0, &mut Rng::from_seed(0));
        assert_eq!(map.iter().copied().fold(f32::MAX, f32::min), 0.0);
        assert_eq!(map.iter().copied().fold(0.0, f32::max), 1.0);
        let step = |a: (usize, usize), b: (usize, usize)| {
            (map[a.0 * 64 + a.1] - map[b.0 * 64 + b.1]).abs()
        };
        let inside = (0..64).map(|i| step((i, 31), (i, 32))).fold(0.0, f32::max);
        let across = (0..64).map(|i| step((i, 63), (i, 0))).fold(0.0, f32::max);
        assert!(across < 2.0 * inside, "{across} against {inside}");
    }
}
