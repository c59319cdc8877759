//! Resizing as PIL does it, to the bit, and cropping as torchvision does it.
//!
//! The reference weights were trained and tested on `Resize(256) + CenterCrop(224)` of PIL
//! pictures. PIL's `Image.resize` widens its filter by the reduction factor (antialias) and works
//! in two passes, columns then rows, in 8-bit fixed point: weights scaled by 2²² and rounded, sums
//! rounded and clipped to a byte after each pass. Doing the same in floats differs by a level
//! here and there, enough to move a logit; so this is the same arithmetic in integers. Checked
//! against Pillow 12.3 in `tests/image.rs`. (Pillow 13.0 takes rows before columns for pictures
//! three times as tall as wide, and then differs from all earlier versions by a level; the
//! published weights come from the earlier ones, and so does this order.)

use std::borrow::Cow;
use std::f64::consts::PI;
use std::ops::Range;

use super::error::{ImageError, MAX_PIXELS};
use super::picture::{Picture, check_buffer, unit};

/// Fraction bits of a weight: 32, less 8 for the pixel and 2 for the overshoot of a sum.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The largest picture [`resize`] makes, in pixels.
const MAX_OUTPUT: usize = MAX_PIXELS as usize;

/// The resampling kernels of PIL, by its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// The pixel under the centre of the new one; no antialias.
    Nearest,
    /// The mean of the pixels under the new one.
    Box,
    /// A triangle of half-width 1.
    #[default]
    Bilinear,
    /// Keys' cubic with a = −1/2, half-width 2.
    Bicubic,
    /// A sinc windowed by a sinc, half-width 3.
    Lanczos,
}

impl Filter {
    /// Half-width at scale 1, in source pixels.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The kernel at `x` source pixels from its centre, before normalisation.
    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest => 1.0,
            // Half open, so that a pixel on the border belongs to one side only.
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => cubic(x.abs()),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// Keys' cubic convolution kernel, a = −1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else {
        // libm's sine rather than the platform's: the same weights in the browser.
        let x = x * PI;
        libm::sin(x) / x
    }
}

/// The size of a model's input. Normalisation is done by the model itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocessing {
    /// The short side is resized to this many pixels (bilinear) …
    pub resize: usize,
    /// … and the centre square of this side is kept.
    pub crop: usize,
}

/// One source interval and its weights for each output position.
struct Weights {
    /// First source position of each output position.
    starts: Vec<usize>,
    /// Where the weights of each output position lie in `values`.
    ranges: Vec<Range<usize>>,
    /// Fixed point, [`PRECISION_BITS`] fraction bits.
    values: Vec<i32>,
}

impl Weights {
    /// The weights of the output positions `window` when `from` samples become `to`.
    fn new(from: usize, to: usize, window: Range<usize>, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        // Reducing widens the kernel; enlarging does not narrow it.
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let mut weights = Self {
            starts: Vec::with_capacity(window.len()),
            ranges: Vec::with_capacity(window.len()),
            values: Vec::new(),
        };
        for position in window {
            let center = (position as f64 + 0.5) * scale;
            // `as` truncates towards zero and sends negatives to 0, as PIL's cast and clip do.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let raw = (start..end)
                .map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / stretch)))
                .collect::<Vec<_>>();
            weights.push(start, &raw);
        }
        weights
    }

    fn push(&mut self, start: usize, raw: &[f64]) {
        let sum: f64 = raw.iter().sum();
        let first = self.values.len();
        self.values.extend(raw.iter().map(|&weight| {
            let weight = if sum == 0.0 { weight } else { weight / sum };
            fixed(weight)
        }));
        self.starts.push(start);
        self.ranges.push(first..self.values.len());
    }

    /// For each output position: its first source position and its weights.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let ranges = self.ranges.iter().map(|range| &self.values[range.clone()]);
        self.starts.iter().copied().zip(ranges)
    }

    /// The source positions that any output position reads.
    fn reach(&self) -> Range<usize> {
        let first = self.starts.iter().copied().min().unwrap_or(0);
        let last = self.iter().map(|(start, weights)| start + weights.len());
        first..last.max().unwrap_or(0)
    }
}

/// A weight in fixed point, rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

/// A fixed-point sum as a byte, rounded half up and clipped.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    width: usize,
    height: usize,
}

/// A rectangle of output pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Window {
    fn full(size: Size) -> Self {
        Self {
            columns: 0..size.width,
            rows: 0..size.height,
        }
    }

    fn size(&self) -> Size {
        Size {
            width: self.columns.len(),
            height: self.rows.len(),
        }
    }
}

/// The part `window` of `data`, `[from.height, from.width, C]`, resized to `to`.
///
/// An output pixel depends on its own weights only, so a window is computed without the rest:
/// a panorama 60,000 pixels long costs what its crop costs.
fn resample_window<const C: usize>(
    data: &[[u8; C]],
    from: Size,
    to: Size,
    window: &Window,
    filter: Filter,
) -> Vec<[u8; C]> {
    if filter == Filter::Nearest {
        return nearest(data, from, to, window);
    }
    // PIL skips a pass that would change nothing.
    if from.height == to.height {
        return narrow(data, from, to, &window.columns, window.rows.clone(), filter);
    }
    let rows = Weights::new(from.height, to.height, window.rows.clone(), filter);
    // Of the first pass only the rows are made that the second one reads.
    let reach = rows.reach();
    let narrowed = narrow(data, from, to, &window.columns, reach.clone(), filter);
    vertical(&narrowed, window.columns.len(), reach.start, &rows)
}

/// The first pass: the source rows `rows` at the output columns `columns`.
fn narrow<const C: usize>(
    data: &[[u8; C]],
    from: Size,
    to: Size,
    columns: &Range<usize>,
    rows: Range<usize>,
    filter: Filter,
) -> Vec<[u8; C]> {
    let lines = data.chunks_exact(from.width);
    let lines = lines.skip(rows.start).take(rows.len());
    if from.width == to.width {
        let part = lines.flat_map(|line| &line[columns.clone()]);
        return part.copied().collect();
    }
    let weights = Weights::new(from.width, to.width, columns.clone(), filter);
    let mut out = Vec::with_capacity(rows.len() * columns.len());
    for line in lines {
        horizontal(line, &weights, &mut out);
    }
    out
}

fn horizontal<const C: usize>(line: &[[u8; C]], weights: &Weights, out: &mut Vec<[u8; C]>) {
    out.extend(weights.iter().map(|(start, weights)| {
        let mut sums = [HALF; C];
        for (pixel, &weight) in line[start..].iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        sums.map(clip)
    }));
}

/// `first` is the source row that `lines` begins with.
fn vertical<const C: usize>(
    lines: &[[u8; C]],
    width: usize,
    first: usize,
    weights: &Weights,
) -> Vec<[u8; C]> {
    let mut out = Vec::with_capacity(width * weights.starts.len());
    let mut sums = vec![[HALF; C]; width];
    for (start, weights) in weights.iter() {
        sums.fill([HALF; C]);
        let source = lines.chunks_exact(width).skip(start - first);
        for (line, &weight) in source.zip(weights) {
            for (sums, pixel) in sums.iter_mut().zip(line) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
        }
        out.extend(sums.iter().map(|sums| sums.map(clip)));
    }
    out
}

/// PIL's nearest neighbour: an affine walk whose position is a running sum, rounding errors and
/// all.
fn nearest<const C: usize>(
    data: &[[u8; C]],
    from: Size,
    to: Size,
    window: &Window,
) -> Vec<[u8; C]> {
    let columns = nearest_positions(from.width, to.width, &window.columns);
    let rows = nearest_positions(from.height, to.height, &window.rows);
    rows.iter()
        .flat_map(|row| {
            columns
                .iter()
                .map(move |column| data[row * from.width + column])
        })
        .collect()
}

fn nearest_positions(from: usize, to: usize, window: &Range<usize>) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    let walk = std::iter::successors(Some(scale * 0.5), |at| Some(at + scale));
    walk.skip(window.start)
        .take(window.len())
        // The running sum may end a hair beyond the last pixel; PIL leaves such a pixel black.
        .map(|at| (at as usize).min(from - 1))
        .collect()
}

/// Interleaved 8-bit samples `[height, width, channels]` resized to `to` = (width, height); for
/// pictures that are not RGB (masks, textures). `channels` is 1 to 4; alpha is not treated
/// specially.
///
/// # Errors
/// [`ImageError::Buffer`] when `data` does not fit, [`ImageError::Size`] when the target is empty
/// or above 64 megapixels.
pub fn resample(
    data: &[u8],
    channels: usize,
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
) -> Result<Vec<u8>, ImageError> {
    let (width, height) = from;
    check_buffer(width, height, channels, data.len())?;
    check_output(to.0, to.1)?;
    let from = Size { width, height };
    let to = Size {
        width: to.0,
        height: to.1,
    };
    match channels {
        1 => Ok(resample_all::<1>(data, from, to, filter)),
        2 => Ok(resample_all::<2>(data, from, to, filter)),
        3 => Ok(resample_all::<3>(data, from, to, filter)),
        4 => Ok(resample_all::<4>(data, from, to, filter)),
        _ => Err(ImageError::Buffer {
            width,
            height,
            channels,
            len: data.len(),
        }),
    }
}

fn resample_all<const C: usize>(data: &[u8], from: Size, to: Size, filter: Filter) -> Vec<u8> {
    let pixels = data.as_chunks::<C>().0;
    resample_window(pixels, from, to, &Window::full(to), filter).into_flattened()
}

/// The picture at `width` x `height`, as `PIL.Image.resize((width, height), filter)` gives it.
///
/// # Errors
/// [`ImageError::Size`] when the target is empty or above 64 megapixels.
pub fn resize(
    picture: &Picture,
    width: usize,
    height: usize,
    filter: Filter,
) -> Result<Picture, ImageError> {
    check_output(width, height)?;
    let to = Size { width, height };
    Ok(resize_window(picture, to, &Window::full(to), filter))
}

fn resize_window(picture: &Picture, to: Size, window: &Window, filter: Filter) -> Picture {
    let from = Size {
        width: picture.width,
        height: picture.height,
    };
    let pixels = picture.data.as_chunks::<3>().0;
    let Size { width, height } = window.size();
    Picture {
        width,
        height,
        data: resample_window(pixels, from, to, window, filter).into_flattened(),
    }
}

fn check_output(width: usize, height: usize) -> Result<(), ImageError> {
    match width.checked_mul(height) {
        Some(1..=MAX_OUTPUT) => Ok(()),
        _ => Err(ImageError::Size { width, height }),
    }
}

/// The (width, height) that torchvision's `Resize(short)` gives a picture: the short side becomes
/// `short`, the other `short · long / short side`, rounded down. Sides must not be 0.
pub fn resized_size(width: usize, height: usize, short: usize) -> (usize, usize) {
    let other = |long: usize, side: usize| {
        // Sides are at most a few ten thousand pixels; saturating keeps a wild size wild.
        short.saturating_mul(long) / side.max(1)
    };
    if width <= height {
        (short, other(height, width))
    } else {
        (other(width, height), short)
    }
}

/// Where a centred crop of `crop` begins in `side` ≥ `crop` pixels: half the rest, and half a
/// pixel goes to the even neighbour, as Python's `round` does.
fn crop_start(side: usize, crop: usize) -> usize {
    let rest = side - crop;
    let floor = rest / 2;
    floor + usize::from(rest % 2 == 1 && floor % 2 == 1)
}

/// torchvision's `CenterCrop(crop)`; a picture smaller than the crop is padded with black.
///
/// # Errors
/// [`ImageError::Size`] when `crop` is 0 or above 64 megapixels.
pub fn center_crop(picture: &Picture, crop: usize) -> Result<Picture, ImageError> {
    check_output(crop, crop)?;
    let size = Size {
        width: picture.width,
        height: picture.height,
    };
    let window = crop_window(size, crop);
    let part = if window == Window::full(size) {
        Cow::Borrowed(picture)
    } else {
        Cow::Owned(resize_window(picture, size, &window, Filter::Bilinear))
    };
    Ok(pad(part, crop))
}

fn crop_window(size: Size, crop: usize) -> Window {
    let range = |side: usize| {
        if side <= crop {
            return 0..side;
        }
        let start = crop_start(side, crop);
        start..start + crop
    };
    Window {
        columns: range(size.width),
        rows: range(size.height),
    }
}

/// Black around a picture smaller than the square; the odd pixel goes right and below.
fn pad(picture: Cow<'_, Picture>, side: usize) -> Picture {
    if picture.width == side && picture.height == side {
        return picture.into_owned();
    }
    let mut data = vec![0; side * side * 3];
    let (left, top) = ((side - picture.width) / 2, (side - picture.height) / 2);
    let lines = picture.data.chunks_exact(picture.width * 3);
    let targets = data.chunks_exact_mut(side * 3).skip(top);
    for (target, line) in targets.zip(lines) {
        target[left * 3..left * 3 + line.len()].copy_from_slice(line);
    }
    Picture {
        width: side,
        height: side,
        data,
    }
}

/// `Resize(resize)` (bilinear, antialiased) and `CenterCrop(crop)` of torchvision on a PIL picture,
/// to the bit; only the crop is computed.
///
/// # Errors
/// [`ImageError::Size`] when `resize` or `crop` is 0 or a square of that side is above 64
/// megapixels.
pub fn resize_and_crop(picture: &Picture, how: Preprocessing) -> Result<Picture, ImageError> {
    check_output(how.resize, how.resize)?;
    check_output(how.crop, how.crop)?;
    let (width, height) = resized_size(picture.width, picture.height, how.resize);
    let to = Size { width, height };
    let window = crop_window(to, how.crop);
    let part = resize_window(picture, to, &window, Filter::Bilinear);
    Ok(pad(Cow::Owned(part), how.crop))
}

/// A model's input: f32 `[1, 3, crop, crop]`, RGB in [0, 1], resized and cropped, not normalised.
///
/// # Errors
/// As [`resize_and_crop`].
pub fn to_input(picture: &Picture, how: Preprocessing) -> Result<Vec<f32>, ImageError> {
    let cropped = resize_and_crop(picture, how)?;
    Ok(cropped.planar().into_iter().map(unit).collect())
}
