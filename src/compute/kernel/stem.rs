//! The first convolution of a network: a few input channels, the colours, and many taps.
//!
//! Filters that read one colour each, as Gabor filters do, are convolved with that colour alone.
//! Back to the input the few channels would leave most of a vector empty: there, each tap's product
//! with the whole map comes first, positions in the lanes, and the taps are added where they belong.

use burn::backend::flex::FlexTensor;

use super::affine::Finish;
use super::conv::{Geometry, Results, Shared, each, each_chunk, run, threads};
use super::flex;
use super::pass::{Pass, Pointwise};

/// Input channels at most.
const MOST_COLOURS: usize = 4;

/// Filters, and the colours they read: one, or all.
struct Group {
    filters: Vec<usize>,
    colours: std::ops::Range<usize>,
}

/// Whether this is such a convolution.
pub(super) fn is_stem(g: &Geometry) -> bool {
    g.channels_in <= MOST_COLOURS && g.kernel > 1
}

/// The filters by the colour each reads; `None` where one reads several.
fn by_colour(g: &Geometry, weight: &[f32]) -> Option<Vec<Group>> {
    let mut groups: Vec<Group> = (0..g.channels_in)
        .map(|colour| Group {
            filters: Vec::new(),
            colours: colour..colour + 1,
        })
        .collect();
    for (f, filter) in weight.chunks_exact(g.channels_in * g.area()).enumerate() {
        let planes = filter.chunks_exact(g.area()).enumerate();
        let mut read = planes.filter(|(_, taps)| taps.iter().any(|w| *w != 0.0));
        let colour = read.next().map_or(0, |(colour, _)| colour);
        if read.next().is_some() {
            return None;
        }
        groups[colour].filters.push(f);
    }
    groups.retain(|group| !group.filters.is_empty());
    Some(groups)
}

/// The convolution of `x`, finished, where each filter reads one colour of several.
pub(super) fn forward(
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    finish: Option<&Finish>,
) -> Option<Vec<f32>> {
    let (area_in, area_out) = (g.positions_in(), g.positions_out());
    if g.channels_in < 2 || area_in * area_out == 0 {
        return None;
    }
    let y = Results::new(g.images, [g.channels_out, area_out], finish);
    for group in by_colour(g, weight)? {
        let part = Geometry {
            channels_in: 1,
            channels_out: group.filters.len(),
            ..*g
        };
        let colour = group.colours.start;
        let images = x.chunks_exact(g.channels_in * area_in);
        let seen: Vec<f32> = images
            .flat_map(|image| &image[colour * area_in..][..area_in])
            .copied()
            .collect();
        let shape = [group.filters.len(), 1, g.kernel, g.kernel];
        let weight = flex(group.weights(g, weight), shape);
        let made = run(&part, false, &seen, &weight, None);
        let maps: Vec<_> = made.chunks_exact(area_out).enumerate().collect();
        each(&maps, |(place, map), _| {
            let (image, filter) = (place / group.filters.len(), place % group.filters.len());
            let channel = group.filters[filter];
            // SAFETY: every map of an image is one item.
            let maps = unsafe { y.image(image) };
            maps[channel * area_out..][..area_out].copy_from_slice(map);
            y.finish(image, maps, channel..channel + 1, 0..area_out);
        });
    }
    Some(y.into_inner())
}

/// Gradient with respect to the input; `None` where maps are smaller than a vector.
pub(super) fn backward_x(
    g: &Geometry,
    grad: &[f32],
    weight: &FlexTensor,
    lanes: usize,
) -> Option<Vec<f32>> {
    let area_out = g.positions_out();
    if area_out < lanes {
        return None;
    }
    let weight: &[f32] = weight.storage();
    let all = || Group {
        filters: (0..g.channels_out).collect(),
        colours: 0..g.channels_in,
    };
    let groups = by_colour(g, weight).unwrap_or_else(|| vec![all()]);
    let weights: Vec<Vec<f32>> = groups
        .iter()
        .map(|group| group.weights(g, weight))
        .collect();
    let size = g.channels_in * g.positions_in();
    let x = Shared::zeros(g.images * size);
    let images: Vec<usize> = (0..g.images).collect();
    each(&images, |image, _| {
        // SAFETY: every image is one item.
        let x = &mut unsafe { x.get() }[image * size..][..size];
        let grad = &grad[image * g.channels_out * area_out..][..g.channels_out * area_out];
        for (group, weight) in groups.iter().zip(&weights) {
            let taps = group.taps(g, grad, weight, lanes);
            let plane = g.positions_in();
            let planes = group.colours.start * plane..group.colours.end * plane;
            each_chunk(&mut x[planes], plane, |colour, x| {
                let own = colour * g.area() * area_out;
                add_taps(g, &taps[own..][..g.area() * area_out], x);
            });
        }
    });
    Some(x.into_inner())
}

impl Group {
    /// `[filters, colours, k, k]`.
    fn weights(&self, g: &Geometry, weight: &[f32]) -> Vec<f32> {
        let (area, row) = (g.area(), g.channels_in * g.area());
        let of = |f: &usize| &weight[f * row..][self.colours.start * area..self.colours.end * area];
        self.filters.iter().flat_map(of).copied().collect()
    }

    /// `[colours · k², h′ · w′]`: what each tap brings of one image's gradient.
    fn taps(&self, g: &Geometry, grad: &[f32], weight: &[f32], lanes: usize) -> Vec<f32> {
        let area_out = g.positions_out();
        let whole = self.filters.len() == g.channels_out;
        let own: Vec<f32>;
        let grad = match whole {
            true => grad,
            false => {
                let maps = self
                    .filters
                    .iter()
                    .map(|f| &grad[f * area_out..][..area_out]);
                own = maps.flatten().copied().collect();
                &own
            }
        };
        let product = Geometry {
            images: 1,
            channels_in: self.colours.len() * g.area(),
            channels_out: self.filters.len(),
            kernel: 1,
            stride: 1,
            padding: 0,
            size_in: g.size_out,
            size_out: g.size_out,
        };
        let taps = Results::new(1, [product.channels_in, area_out], None);
        let pass = Pass::backward(&product, lanes);
        let work = Pointwise {
            pass: &pass,
            x: grad,
            weight,
            y: &taps,
        };
        each(&work.items(threads()), |item, scratch| {
            work.run(*item, scratch);
        });
        taps.into_inner()
    }
}

/// Adds what each tap brings where it belongs in a colour's plane.
fn add_taps(g: &Geometry, taps: &[f32], x: &mut [f32]) {
    let ([height, width], [down, across]) = (g.size_in, g.size_out);
    for (tap_at, tap) in taps.chunks_exact(down * across).enumerate() {
        let (dy, dx) = (tap_at / g.kernel, tap_at % g.kernel);
        // Columns of the result whose tap lies within the input.
        let first = g.padding.saturating_sub(dx).div_ceil(g.stride);
        let end = (width + g.padding).saturating_sub(dx).div_ceil(g.stride);
        let end = end.min(across);
        if first >= end {
            continue;
        }
        for (at, line) in tap.chunks_exact(across).enumerate() {
            let y = (at * g.stride + dy).checked_sub(g.padding);
            let Some(y) = y.filter(|y| *y < height) else {
                continue;
            };
            let start = y * width + first * g.stride + dx - g.padding;
            add_line(&line[first..end], &mut x[start..], g.stride);
        }
    }
}

fn add_line(line: &[f32], to: &mut [f32], stride: usize) {
    match stride {
        1 => to.iter_mut().zip(line).for_each(|(to, v)| *to += v),
        _ => to
            .iter_mut()
            .step_by(stride)
            .zip(line)
            .for_each(|(to, v)| *to += v),
    }
}
