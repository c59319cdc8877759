//! Spatter: drops of water or mud on the lens.
//!
//! Water is shaded by the distance from the drops' outlines, on 8-bit maps and with OpenCV's
//! definitions: Canny's edges (1986) with Sobel's gradient and the sum of its absolute values, the
//! 5 x 5 chamfer distance of Borgefors (1986), a histogram that is made even.

use super::draws::Draws;
use super::filter::{self, Edge};
use super::tables::{self, Liquid};
use super::{LUMA, Planes};

/// Pale turquoise.
const WATER: [f32; 3] = [175.0 / 255.0, 238.0 / 255.0, 238.0 / 255.0];
const MUD: [f32; 3] = [63.0 / 255.0, 42.0 / 255.0, 20.0 / 255.0];

pub fn spatter(image: &mut Planes, settings: &tables::Spatter, draws: &mut dyn Draws) {
    let (height, width) = (image.height, image.width);
    let mut drops = vec![0.0; height * width];
    draws.normals(&mut drops);
    let scaled = |z: &mut f32| *z = settings.mean + settings.deviation * *z;
    drops.iter_mut().for_each(scaled);
    filter::gaussian(&mut drops, width, settings.sigma);
    match settings.liquid {
        Liquid::Water(weight) => water(image, &drops, settings.threshold, weight),
        Liquid::Mud(sigma) => mud(image, &drops, settings.threshold, sigma),
    }
}

/// A liquid's colour in each of the image's channels.
fn colours(image: &Planes, rgb: [f32; 3]) -> Vec<f32> {
    match image.channels {
        1 => vec![rgb.iter().zip(LUMA).map(|(c, weight)| c * weight).sum()],
        _ => rgb.to_vec(),
    }
}

fn mud(image: &mut Planes, drops: &[f32], threshold: f32, sigma: f64) {
    // On the threshold is dry: there the published code has set it to 0 or compares strictly.
    let wet = |v: &f32| f32::from(u8::from(*v > threshold));
    let mut cover: Vec<f32> = drops.iter().map(wet).collect();
    filter::gaussian(&mut cover, image.width, sigma);
    let thick = |v: &mut f32| *v = if *v < 0.8 { 0.0 } else { *v };
    cover.iter_mut().for_each(thick);
    let mut colours = colours(image, MUD).into_iter();
    image.each(|plane| {
        let colour = colours.next().unwrap_or_default();
        for (pixel, cover) in plane.iter_mut().zip(&cover) {
            *pixel = *pixel * (1.0 - cover) + colour * cover;
        }
    });
}

fn water(image: &mut Planes, drops: &[f32], threshold: f32, weight: f32) {
    let level = |v: &f32| match *v < threshold {
        true => 0,
        // The published cast truncates.
        false => (v * 255.0) as u8,
    };
    let drops = Map {
        values: drops.iter().map(level).collect(),
        height: image.height,
        width: image.width,
    };
    let shade = shading(&drops);
    let lit = drops.values.iter().zip(&shade.values);
    let lit: Vec<f32> = lit.map(|(d, s)| f32::from(*d) * f32::from(*s)).collect();
    let brightest = lit.iter().copied().fold(0.0, f32::max);
    if brightest == 0.0 {
        return;
    }
    let mut colours = colours(image, WATER).into_iter();
    image.each(|plane| {
        let colour = colours.next().unwrap_or_default() * weight / brightest;
        filter::add_scaled(plane, &lit, colour);
    });
}

/// An 8-bit map.
struct Map {
    values: Vec<u8>,
    height: usize,
    width: usize,
}

impl Map {
    /// The 3 x 3 neighbourhood of every pixel, row by row.
    fn neighbourhoods(&self, edge: Edge) -> impl Iterator<Item = [i32; 9]> {
        let (height, width) = (self.height, self.width);
        (0..height * width).map(move |i| {
            let (y, x) = ((i / width) as isize, (i % width) as isize);
            let rows = [y - 1, y, y + 1].map(|y| edge.index(y, height) * width);
            let columns = [x - 1, x, x + 1].map(|x| edge.index(x, width));
            std::array::from_fn(|k| i32::from(self.values[rows[k / 3] + columns[k % 3]]))
        })
    }

    fn mapped(&self, values: Vec<u8>) -> Self {
        Self { values, ..*self }
    }
}

/// Light from the upper left on drops that are higher the further from their outline.
fn shading(drops: &Map) -> Map {
    let distance = chamfer(&canny(drops), drops.width);
    let height = drops.mapped(mean_truncated(&distance, drops.width));
    let even = height.mapped(equalised(&height.values));
    const RELIEF: [i32; 9] = [-2, -1, 0, -1, 1, 1, 0, 1, 2];
    let relief = even.neighbourhoods(Edge::Reflect101).map(|around| {
        let sum: i32 = around.iter().zip(RELIEF).map(|(v, k)| v * k).sum();
        sum.clamp(0, 255) as u8
    });
    let relief = even.mapped(relief.collect());
    let mean = relief
        .neighbourhoods(Edge::Reflect101)
        .map(|around| ((around.iter().sum::<i32>() + 4) / 9) as u8);
    relief.mapped(mean.collect())
}

/// The mean of 3 x 3 values, cut off to whole numbers.
fn mean_truncated(plane: &[f32], width: usize) -> Vec<u8> {
    let mut mean = plane.to_vec();
    let third = [1.0 / 3.0; 3];
    filter::separable(&mut mean, width, &third, &third, Edge::Reflect101);
    // A mean of whole numbers may come out a rounding error below.
    mean.iter().map(|v| (v + 1e-4) as u8).collect()
}

/// Spreads the values so that their histogram is about even, the lowest on 0.
fn equalised(values: &[u8]) -> Vec<u8> {
    let mut histogram = [0_usize; 256];
    values.iter().for_each(|v| histogram[usize::from(*v)] += 1);
    let lowest = histogram.iter().position(|n| *n > 0).unwrap_or_default();
    let others = values.len() - histogram[lowest];
    if others == 0 {
        return values.to_vec();
    }
    let scale = 255.0 / others as f32;
    let mut below = 0;
    let mut level = [0_u8; 256];
    for value in lowest + 1..256 {
        below += histogram[value];
        level[value] = (below as f32 * scale).round_ties_even() as u8;
    }
    values.iter().map(|v| level[usize::from(*v)]).collect()
}

/// Thresholds of Canny's hysteresis.
const WEAK: i32 = 50;
const STRONG: i32 = 150;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    None,
    Weak,
    Edge,
}

/// Canny's edges: ridges of the gradient above the strong threshold, and what is connected to them
/// above the weak one.
fn canny(map: &Map) -> Vec<bool> {
    let (height, width) = (map.height, map.width);
    let gradient = map.neighbourhoods(Edge::Nearest).map(|a| {
        let across = a[2] - a[0] + 2 * (a[5] - a[3]) + a[8] - a[6];
        let down = a[6] - a[0] + 2 * (a[7] - a[1]) + a[8] - a[2];
        (across, down)
    });
    let gradient: Vec<(i32, i32)> = gradient.collect();
    // A frame of 0 around the magnitudes and the marks spares asking for the border.
    let stride = width + 2;
    let inner = |i: usize| (i / width + 1) * stride + i % width + 1;
    let mut magnitude = vec![0; stride * (height + 2)];
    for (i, (across, down)) in gradient.iter().enumerate() {
        magnitude[inner(i)] = across.abs() + down.abs();
    }
    let mut marks = vec![Mark::None; magnitude.len()];
    let mut open = Vec::new();
    for (i, gradient) in gradient.iter().enumerate() {
        let at = inner(i);
        if !is_ridge(&magnitude, at, stride, *gradient) {
            continue;
        }
        marks[at] = Mark::Weak;
        if magnitude[at] > STRONG {
            marks[at] = Mark::Edge;
            open.push(at);
        }
    }
    while let Some(at) = open.pop() {
        for row in [at - stride, at, at + stride] {
            for (offset, mark) in marks[row - 1..=row + 1].iter_mut().enumerate() {
                if *mark == Mark::Weak {
                    *mark = Mark::Edge;
                    open.push(row - 1 + offset);
                }
            }
        }
    }
    (0..height * width)
        .map(|i| marks[inner(i)] == Mark::Edge)
        .collect()
}

/// Whether a gradient is above the weak threshold and the largest along its direction, which is
/// one of four. Of two that are equal, the right or lower one is not.
fn is_ridge(magnitude: &[i32], at: usize, stride: usize, (across, down): (i32, i32)) -> bool {
    // The tangent of 22.5 degrees in units of 2^-15; that of 67.5 degrees is larger by 2.
    const TANGENT: i64 = 13573;
    let own = magnitude[at];
    if own <= WEAK {
        return false;
    }
    let (x, y) = (i64::from(across.abs()), i64::from(down.abs()) << 15);
    if y < x * TANGENT {
        return own > magnitude[at - 1] && own >= magnitude[at + 1];
    }
    if y > x * (TANGENT + (2 << 15)) {
        return own > magnitude[at - stride] && own >= magnitude[at + stride];
    }
    match (across ^ down) < 0 {
        true => own > magnitude[at - stride + 1] && own > magnitude[at + stride - 1],
        false => own > magnitude[at - stride - 1] && own > magnitude[at + stride + 1],
    }
}

/// Beyond this the distance does not matter.
const FAR: f32 = 20.0;

/// The distance to the next edge in px, at most [`FAR`], over steps to the side, along the
/// diagonal and like a knight's.
fn chamfer(edges: &[bool], width: usize) -> Vec<f32> {
    const FRAME: usize = 2;
    // In units of 2^-16, as OpenCV adds them.
    const UNIT: f32 = 65536.0;
    let step = |length: f32| (length * UNIT).round() as u32;
    let (side, diagonal, knight) = (step(1.0), step(1.4), step(2.1969));
    let stride = width + 2 * FRAME;
    let height = edges.len() / width;
    let before = [
        (2 * stride + 1, knight),
        (2 * stride - 1, knight),
        (stride + 2, knight),
        (stride + 1, diagonal),
        (stride, side),
        (stride - 1, diagonal),
        (stride - 2, knight),
        (1, side),
    ];
    let far = step(FAR);
    let mut distance = vec![far; stride * (height + 2 * FRAME)];
    let inner = |i: usize| (i / width + FRAME) * stride + i % width + FRAME;
    for (i, edge) in edges.iter().enumerate() {
        let at = inner(i);
        let reached = before
            .iter()
            .map(|(offset, step)| distance[at - offset] + step);
        distance[at] = if *edge {
            0
        } else {
            reached.fold(far, u32::min)
        };
    }
    for i in (0..edges.len()).rev() {
        let at = inner(i);
        let reached = before
            .iter()
            .map(|(offset, step)| distance[at + offset] + step);
        distance[at] = reached.fold(distance[at], u32::min);
    }
    (0..edges.len())
        .map(|i| distance[inner(i)] as f32 / UNIT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chamfer_distance_is_that_of_its_steps() {
        let mut edges = vec![false; 48 * 40];
        edges[24 * 40 + 20] = true;
        let distance = chamfer(&edges, 40);
        for (y, x, expected) in [
            (24, 20, 0.0),
            (24, 25, 5.0),
            (20, 16, 5.6),
            (26, 21, 2.1969),
            (27, 24, 2.1969 + 2.0 * 1.4),
            (47, 39, FAR),
        ] {
            let found = distance[y * 40 + x];
            assert!((found - expected).abs() < 1e-3, "{y} {x}: {found}");
        }
    }

    #[test]
    fn the_outline_of_a_square_is_its_edge() {
        let inside = |i: usize| (10..30).contains(&(i / 40)) && (10..30).contains(&(i % 40));
        let values = (0..1600).map(|i| if inside(i) { 200 } else { 0 }).collect();
        let map = Map {
            values,
            height: 40,
            width: 40,
        };
        let edges = canny(&map);
        assert!((60..=80).contains(&edges.iter().filter(|e| **e).count()));
        // One of the two pixels at each border.
        for y in 12..28 {
            let row = &edges[y * 40..(y + 1) * 40];
            let at: Vec<usize> = (0..40).filter(|x| row[*x]).collect();
            assert_eq!(at.len(), 2, "row {y}: {at:?}");
            assert!((9..=10).contains(&at[0]) && (29..=30).contains(&at[1]));
        }
    }

    #[test]
    fn an_equalised_histogram_starts_at_0_and_ends_at_255() {
        assert_eq!(equalised(&[3, 3, 5, 9]), [0, 0, 128, 255]);
        assert_eq!(equalised(&[7; 5]), [7; 5]);
    }
}
