//! The first convolution of a network: a few input channels, the colours, and many taps.
//!
//! Filters that read one colour each, as Gabor filters do, are convolved with that colour alone.
//! Back to the input the few channels would leave most of a vector empty: there, each tap's product
//! with the whole map comes first, positions in the lanes, and the taps are then added in their places.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use burn::backend::flex::FlexTensor;

use super::super::weight_cache::{Packing, Weight, WeightCache};
use super::epilogue::{CpuEpilogue, Output};
use super::geometry::{Geometry, Pass};
use super::microkernel::lanes;
use super::pointwise::Pointwise;
use super::tensor::{contiguous, tensor};
use super::threads::{Shared, each, threads};
use super::weight_cache::packed;

/// Input channels at most.
const MOST_COLOURS: usize = 4;

/// Rows of the input whose gradient a thread takes at a time.
const ROWS: usize = 16;

/// Filters, the colours they read, one or all, and their weights `[filters, colours, k, k]`.
pub struct Group {
    filters: Vec<usize>,
    colours: Range<usize>,
    weight: FlexTensor,
}

/// A layer's filters `[out, in, k, k]`, not yet contiguous: they may be a slice of a larger bank.
#[derive(Clone)]
pub struct Filters(pub FlexTensor);

impl Weight for Filters {
    type Packed = Arc<Vec<Group>>;

    fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0) && self.0.layout() == other.0.layout()
    }

    fn is_unheld(&self) -> bool {
        self.0.is_unheld()
    }

    fn floats(groups: &Self::Packed) -> usize {
        let sizes = groups
            .iter()
            .map(|group| group.weight.storage::<f32>().len());
        sizes.sum()
    }
}

/// Floats of filters that are kept at most: a VOneBlock's are a million.
const MOST: usize = 16 << 20;

static CACHE: WeightCache<Filters> = WeightCache::new(MOST);

/// Drops the groups of filters that nobody else holds any more.
pub fn forget_unused() {
    CACHE.forget_unused();
}

/// Whether it is a network's first convolution: a few input channels, and more than one tap.
pub fn is_first_layer(g: &Geometry) -> bool {
    g.channels_in <= MOST_COLOURS && g.kernel > 1
}

/// The filters by the colour each reads; `None` where one reads several.
fn by_colour(g: &Geometry, all: &Filters) -> Option<Arc<Vec<Group>>> {
    // Both caches hold the weights they know, so weights in both would never be dropped: a layer's filters are in
    // one of the two, forward and back.
    if g.channels_in < 2 || g.positions_out() < lanes() {
        return None;
    }
    let packing = Packing::default();
    if let Some(known) = CACHE.find(all, packing) {
        return Some(known);
    }
    let weight = contiguous(all.0.clone());
    let groups = split(g, weight.storage())?;
    drop(weight);
    Some(CACHE.insert(all, packing, Arc::new(groups)))
}

fn split(g: &Geometry, weight: &[f32]) -> Option<Vec<Group>> {
    let mut filters = vec![Vec::new(); g.channels_in];
    for (f, filter) in weight.chunks_exact(g.channels_in * g.area()).enumerate() {
        let planes = filter.chunks_exact(g.area()).enumerate();
        let mut read = planes.filter(|(_, taps)| taps.iter().any(|w| *w != 0.0));
        let colour = read.next().map_or(0, |(colour, _)| colour);
        if read.next().is_some() {
            return None;
        }
        filters[colour].push(f);
    }
    let groups = filters.into_iter().enumerate();
    let groups = groups.filter(|(_, filters)| !filters.is_empty());
    Some(
        groups
            .map(|(colour, filters)| Group::new(g, weight, filters, colour))
            .collect(),
    )
}

/// The convolution of `x` with its epilogue, where each filter reads one colour of several.
pub fn forward(
    g: &Geometry,
    x: &[f32],
    all: &Filters,
    epilogue: Option<&CpuEpilogue>,
) -> Option<Vec<f32>> {
    let (area_in, area_out) = (g.positions_in(), g.positions_out());
    if area_in * area_out == 0 {
        return None;
    }
    let groups = by_colour(g, all)?;
    let part = |group: &Group| Geometry {
        channels_in: 1,
        channels_out: group.filters.len(),
        ..*g
    };
    let parts: Vec<Geometry> = groups.iter().map(part).collect();
    let pairs = groups.iter().zip(&parts);
    let works: Vec<Work> = pairs.map(|(group, part)| group.work(part, g, x)).collect();
    let bands = |(place, work): (usize, &Work)| {
        let bands = work.pass.bands(threads()).into_iter();
        bands.map(move |band| (place, band))
    };
    // All groups' at once, so that threads wait for each other once.
    let bands: Vec<_> = works.iter().enumerate().flat_map(bands).collect();
    let y = Output::new(g.images, [g.channels_out, area_out], epilogue);
    each(&bands, |(place, band), scratch| {
        let work = &works[*place];
        work.pass
            .run(*band, &work.planes, &work.packed, &y, scratch);
    });
    Some(y.into_inner())
}

/// A group's pass over the planes of its colour.
struct Work<'a> {
    pass: Pass<'a>,
    planes: Vec<f32>,
    packed: Arc<Vec<f32>>,
}

/// Gradient with respect to the input; `None` where maps are smaller than a vector.
pub fn backward_x(g: &Geometry, grad: &[f32], all: &Filters) -> Option<Vec<f32>> {
    let area_out = g.positions_out();
    if area_out < lanes() {
        return None;
    }
    let groups = by_colour(g, all).unwrap_or_else(|| Arc::new(vec![Group::all(g, all)]));
    let size = g.channels_in * g.positions_in();
    let x = Shared::zeros(g.images * size);
    let images: Vec<usize> = (0..g.images).collect();
    each(&images, |image, _| {
        let grad = &grad[image * g.channels_out * area_out..][..g.channels_out * area_out];
        for group in groups.iter() {
            let taps = group.taps(g, grad);
            let items: Vec<_> = group.bands(g).collect();
            each(&items, |(colour, rows), _| {
                let start = image * size + colour * g.positions_in() + rows.start * g.size_in[1];
                // SAFETY: every image is one item, and so is every band of a colour's rows.
                let x = &mut unsafe { x.get() }[start..][..rows.len() * g.size_in[1]];
                let first = (colour - group.colours.start) * g.area() * area_out;
                add_taps(g, &taps[first..][..g.area() * area_out], rows.clone(), x);
            });
        }
    });
    Some(x.into_inner())
}

impl Group {
    /// These of the weights `[out, in, k, k]`, which read this colour alone.
    fn new(g: &Geometry, weight: &[f32], filters: Vec<usize>, colour: usize) -> Self {
        let (area, row) = (g.area(), g.channels_in * g.area());
        let of = |f: &usize| &weight[f * row + colour * area..][..area];
        let values = filters.iter().flat_map(of).copied().collect();
        let shape = [filters.len(), 1, g.kernel, g.kernel];
        Self {
            weight: tensor(values, shape),
            colours: colour..colour + 1,
            filters,
        }
    }

    /// Rows of the group's input planes, some at a time.
    fn bands(&self, g: &Geometry) -> impl Iterator<Item = (usize, Range<usize>)> {
        let height = g.size_in[0];
        let bands = move || (0..height).step_by(ROWS);
        let band = move |start: usize| start..height.min(start + ROWS);
        self.colours
            .clone()
            .flat_map(move |colour| bands().map(move |start| (colour, band(start))))
    }

    fn all(g: &Geometry, all: &Filters) -> Self {
        Self {
            filters: (0..g.channels_out).collect(),
            colours: 0..g.channels_in,
            weight: contiguous(all.0.clone()),
        }
    }

    /// For images `x`, `part` being this group's part of the convolution `g`.
    fn work<'a>(&'a self, part: &'a Geometry, g: &Geometry, x: &[f32]) -> Work<'a> {
        let pass = Pass::forward(part, lanes()).placed(&self.filters);
        let area = g.positions_in();
        let mut planes = Vec::with_capacity(g.images * area);
        for image in x.chunks_exact(g.channels_in * area) {
            planes.extend_from_slice(&image[self.colours.start * area..][..area]);
        }
        let packing = Packing::default();
        // A clone: weights that nobody else holds would not be cached.
        let weight = self.weight.clone();
        let packed = packed(&weight, packing, |weight| pass.pack(weight));
        Work {
            pass,
            planes,
            packed,
        }
    }

    /// The maps of its filters side by side.
    fn gather(&self, maps: &[f32], area: usize) -> Vec<f32> {
        let all = Shared::unwritten(self.filters.len() * area);
        let places: Vec<_> = self.filters.iter().enumerate().collect();
        each(&places, |(place, filter), _| {
            // SAFETY: every map is one item.
            let map = &mut unsafe { all.get() }[place * area..][..area];
            map.copy_from_slice(&maps[**filter * area..][..area]);
        });
        all.into_inner()
    }

    /// `[colours · k², h′ · w′]`: each tap's share of one image's gradient.
    fn taps(&self, g: &Geometry, grad: &[f32]) -> Vec<f32> {
        let area_out = g.positions_out();
        let whole = self.filters.len() == g.channels_out;
        let grad = match whole {
            true => Cow::Borrowed(grad),
            false => Cow::Owned(self.gather(grad, area_out)),
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
        let taps = Output::new(1, [product.channels_in, area_out], None);
        let pass = Pass::backward(&product, lanes());
        let work = Pointwise {
            pass: &pass,
            x: &grad,
            weight: self.weight.storage(),
            y: &taps,
        };
        each(&work.items(threads()), |item, scratch| {
            work.run(*item, scratch);
        });
        taps.into_inner()
    }
}

/// Adds each tap's share to its places in these rows of a colour's plane.
fn add_taps(g: &Geometry, taps: &[f32], rows: Range<usize>, x: &mut [f32]) {
    let (width, [down, across]) = (g.size_in[1], g.size_out);
    for (tap_at, tap) in taps.chunks_exact(down * across).enumerate() {
        let (dy, dx) = (tap_at / g.kernel, tap_at % g.kernel);
        // Rows and columns of the result whose tap lies within these rows, and within the input.
        let after =
            |place: usize, d: usize| (place + g.padding).saturating_sub(d).div_ceil(g.stride);
        let lines = after(rows.start, dy)..after(rows.end, dy).min(down);
        let columns = after(0, dx)..after(width, dx).min(across);
        if columns.is_empty() {
            continue;
        }
        for at in lines {
            let row = at * g.stride + dy - g.padding - rows.start;
            let start = row * width + columns.start * g.stride + dx - g.padding;
            let line = &tap[at * across..][columns.clone()];
            add_line(line, &mut x[start..], g.stride);
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
