//! Frost textures: ours, grown from a seed, or the user's.

use std::f64::consts::TAU;
use std::sync::OnceLock;

use super::draws::Draws;
use super::filter::{self, Edge};
use super::weather::plasma;
use super::{CorruptionError, Table};
use crate::rng::Rng;

/// The textures that frost is taken from.
///
/// The published sets take it from six photographs, of which the last is never drawn.
#[derive(Clone, Debug)]
pub struct Textures(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Each is made when it is first needed.
    Generated {
        seed: u64,
        grown: Box<[OnceLock<Texture>]>,
    },
    Supplied(Vec<Texture>),
}

/// In 8 bits, as textures are stored.
#[derive(Clone, Debug)]
struct Texture {
    /// Planar RGB.
    pixels: Vec<u8>,
    height: usize,
    width: usize,
}

impl Default for Textures {
    fn default() -> Self {
        Self::generated(0)
    }
}

impl Textures {
    /// Textures of our own: five of them, 512 px wide and high.
    pub fn generated(seed: u64) -> Self {
        let grown = STYLES.iter().map(|_| OnceLock::new()).collect();
        Self(Source::Generated { seed, grown })
    }

    /// The user's textures: `(pixels, height, width)`, planar RGB in [0, 1]. As in the published
    /// sets, the first five are used. A texture of exactly an image's size is laid over it as it
    /// is; of any other a part is taken, as published.
    ///
    /// # Errors
    /// No texture, one without pixels, a buffer of another length, values that are not finite.
    pub fn from_images(images: Vec<(Vec<f32>, usize, usize)>) -> Result<Self, CorruptionError> {
        if images.is_empty() {
            return Err(CorruptionError::NoTexture);
        }
        let stored = images.into_iter().map(Texture::new);
        Ok(Self(Source::Supplied(stored.collect::<Result<_, _>>()?)))
    }

    /// `generated` or `supplied`.
    pub fn origin(&self) -> &'static str {
        match self.0 {
            Source::Generated { .. } => "generated",
            Source::Supplied(_) => "supplied",
        }
    }

    fn draw(&self, draws: &mut dyn Draws) -> &Texture {
        const DRAWN: usize = 5;
        match &self.0 {
            Source::Generated { seed, grown } => {
                let number = draws.below(grown.len().min(DRAWN));
                grown[number].get_or_init(|| grow(*seed, number))
            }
            Source::Supplied(textures) => &textures[draws.below(textures.len().min(DRAWN))],
        }
    }

    /// A random part of a random texture, `[3, height, width]`, in steps of 1/255.
    pub(super) fn crop(
        &self,
        height: usize,
        width: usize,
        table: Table,
        draws: &mut dyn Draws,
    ) -> Vec<f32> {
        let texture = self.draw(draws);
        if (texture.height, texture.width) == (height, width) {
            return texture
                .pixels
                .iter()
                .map(|v| f32::from(*v) / 255.0)
                .collect();
        }
        let scale = texture.scale(height, width, table);
        let [rows, columns] =
            [(texture.height, height), (texture.width, width)].map(|(n, side)| {
                let start = draws.below(scale.length(n).saturating_sub(side));
                scale.taps(n, start, side)
            });
        texture.resampled(&rows, &columns)
    }
}

/// How a texture is resized before a part of it is taken.
struct Scale {
    factor: f64,
    /// Between four pixels, not between two.
    cubic: bool,
}

/// The four pixels that a resampled one is made of, and their weights.
type Taps = ([usize; 4], [f32; 4]);

impl Scale {
    fn length(&self, n: usize) -> usize {
        let length = n as f64 * self.factor;
        match self.cubic {
            true => length.ceil() as usize,
            false => length.round_ties_even() as usize,
        }
    }

    /// Of `side` pixels from `start` on of a resized line of `n`.
    fn taps(&self, n: usize, start: usize, side: usize) -> Vec<Taps> {
        // The published enlargement fixes the size, the published reduction the factor.
        let step = match self.cubic {
            true => n as f64 / self.length(n) as f64,
            false => 1.0 / self.factor,
        };
        let tap = |i: usize| {
            let position = (i as f64 + 0.5) * step - 0.5;
            let before = position.floor();
            let on = (position - before) as f32;
            let weights = if self.cubic {
                cubic(on)
            } else {
                [0.0, 1.0 - on, on, 0.0]
            };
            let indices = [-1, 0, 1, 2].map(|k| Edge::Nearest.index(before as isize + k, n));
            (indices, weights)
        };
        (start..start + side).map(tap).collect()
    }
}

/// Cubic convolution (Keys 1981) with a slope of -0.75, which is OpenCV's.
fn cubic(on: f32) -> [f32; 4] {
    const SLOPE: f32 = -0.75;
    let near = |x: f32| ((SLOPE + 2.0) * x - (SLOPE + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((SLOPE * x - 5.0 * SLOPE) * x + 8.0 * SLOPE) * x - 4.0 * SLOPE;
    [far(1.0 + on), near(on), near(1.0 - on), far(2.0 - on)]
}

impl Texture {
    fn new((pixels, height, width): (Vec<f32>, usize, usize)) -> Result<Self, CorruptionError> {
        let values = height
            .checked_mul(width)
            .and_then(|area| area.checked_mul(3));
        if values != Some(pixels.len()) || pixels.is_empty() {
            return Err(CorruptionError::Buffer {
                channels: 3,
                height,
                width,
                actual: pixels.len(),
            });
        }
        if let Some(place) = pixels.iter().position(|v| !v.is_finite()) {
            return Err(CorruptionError::NotFinite(place));
        }
        let level = |v: &f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
        Ok(Self {
            pixels: pixels.iter().map(level).collect(),
            height,
            width,
        })
    }

    /// As published, and always to more than the image's size.
    fn scale(&self, height: usize, width: usize, table: Table) -> Scale {
        let (down, across) = (
            height as f64 / self.height as f64,
            width as f64 / self.width as f64,
        );
        let covering = Scale {
            factor: 1.1 * down.max(across).max(1.0),
            cubic: true,
        };
        let factor = match table {
            Table::ImageNet => return covering,
            Table::Cifar => 0.2,
            Table::TinyImageNet => 0.3,
        };
        let reduced = Scale {
            factor,
            cubic: false,
        };
        let covers = reduced.length(self.height) > height && reduced.length(self.width) > width;
        if covers { reduced } else { covering }
    }

    fn resampled(&self, rows: &[Taps], columns: &[Taps]) -> Vec<f32> {
        let mut out = Vec::with_capacity(3 * rows.len() * columns.len());
        let mut blend = vec![0.0; self.width];
        for plane in self.pixels.chunks_exact(self.height * self.width) {
            for (ys, down) in rows {
                blend.fill(0.0);
                for (y, weight) in ys.iter().zip(down) {
                    let row = &plane[y * self.width..][..self.width];
                    for (v, s) in blend.iter_mut().zip(row) {
                        *v += weight * f32::from(*s);
                    }
                }
                out.extend(columns.iter().map(|(xs, across)| {
                    let sum: f32 = xs.iter().zip(across).map(|(x, w)| w * blend[*x]).sum();
                    sum.round().clamp(0.0, 255.0) / 255.0
                }));
            }
        }
        out
    }
}

/// Side of the textures of our own; a power of two. They join at their edges.
const SIDE: usize = 512;

/// What a texture of our own is made with.
struct Style {
    /// Number of ferns that begin to grow, and the length of the first in px.
    ferns: usize,
    length: f64,
    /// How much the ferns turn towards one direction, 0 to 1.
    order: f64,
    /// Brightness of the haze behind the ferns and of the ferns.
    haze: f32,
    ice: f32,
    /// RGB of bare glass and of the thickest ice.
    glass: [f32; 3],
    white: [f32; 3],
}

/// From nearly white to dark blue, as the published photographs are; so are their mean colour and
/// contrast.
const STYLES: [Style; 5] = [
    Style {
        ferns: 450,
        length: 160.0,
        order: 0.6,
        haze: 0.35,
        ice: 1.0,
        glass: [0.36, 0.51, 0.58],
        white: [0.97, 0.99, 1.0],
    },
    Style {
        ferns: 160,
        length: 260.0,
        order: 0.85,
        haze: 0.2,
        ice: 0.9,
        glass: [0.06, 0.31, 0.41],
        white: [0.72, 0.90, 0.97],
    },
    Style {
        ferns: 800,
        length: 90.0,
        order: 0.1,
        haze: 0.5,
        ice: 1.0,
        glass: [0.74, 0.77, 0.79],
        white: [1.0, 1.0, 1.0],
    },
    Style {
        ferns: 300,
        length: 200.0,
        order: 0.0,
        haze: 0.35,
        ice: 1.0,
        glass: [0.12, 0.36, 0.45],
        white: [0.85, 0.96, 1.0],
    },
    Style {
        ferns: 400,
        length: 170.0,
        order: 0.4,
        haze: 0.4,
        ice: 1.0,
        glass: [0.60, 0.65, 0.68],
        white: [1.0, 1.0, 1.0],
    },
];

/// Ferns of ice over haze on glass.
fn grow(seed: u64, number: usize) -> Texture {
    let style = &STYLES[number];
    let mut rng = Rng::stream(seed, &format!("frost {number}"));
    let haze = plasma(SIDE, 1.6, &mut rng);
    let grain = plasma(SIDE, 1.05, &mut rng);
    let ice = ferns(style, &mut rng);
    // Light scattered in the ice.
    let mut glow = ice.clone();
    let kernel = filter::gaussian_kernel_f32(5.0, 3.0);
    filter::separable(&mut glow, SIDE, &kernel, &kernel, Edge::Reflect);
    let layers = haze.iter().zip(&grain).zip(ice.iter().zip(&glow));
    let cover = layers.map(|((haze, grain), (ice, glow))| {
        let behind = style.haze * haze * (0.6 + 0.8 * grain);
        let crystal = 0.8 * ice + 0.25 * glow;
        behind + style.ice * crystal / (0.4 + crystal)
    });
    let cover: Vec<f32> = cover.collect();
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for (glass, white) in style.glass.into_iter().zip(style.white) {
        let colour = |cover: &f32| glass + (white - glass) * cover.clamp(0.0, 1.0);
        pixels.extend(cover.iter().map(|c| (colour(c) * 255.0).round() as u8));
    }
    Texture {
        pixels,
        height: SIDE,
        width: SIDE,
    }
}

/// The light of ferns that grow one after the other, each smaller than the last, where there is
/// room.
fn ferns(style: &Style, rng: &mut Rng) -> Vec<f32> {
    let mut ice = Ice {
        light: vec![0.0; SIDE * SIDE],
        owners: vec![0; SIDE * SIDE],
        fern: 0,
    };
    let main = rng.uniform_f64() * TAU;
    for fern in 0..style.ferns {
        let start = [rng.uniform_f64(), rng.uniform_f64()].map(|u| u * SIDE as f64);
        let turn = (1.0 - style.order) * TAU * (rng.uniform_f64() - 0.5);
        let angle = main + turn + 0.3 * rng.normal_f64();
        let rank = fern as f64 / style.ferns as f64;
        let length = style.length * (1.0 - 0.8 * rank.sqrt()) * (0.7 + 0.6 * rng.uniform_f64());
        ice.fern = fern as u32 + 1;
        ice.grow_fern(rng, start, angle, length);
    }
    ice.light
}

/// Ice crystals on a torus.
struct Ice {
    light: Vec<f32>,
    /// The fern that has grown over each pixel, from 1; 0 for none.
    owners: Vec<u32>,
    /// The one that grows.
    fern: u32,
}

/// The angle at which ice branches.
const SIXTY_DEGREES: f64 = TAU / 6.0;

/// A step of 1 px.
fn heading(angle: f64) -> [f64; 2] {
    [libm::sin(angle), libm::cos(angle)]
}

fn onwards(place: [f64; 2], heading: [f64; 2], by: f64) -> [f64; 2] {
    [place[0] + by * heading[0], place[1] + by * heading[1]]
}

impl Ice {
    /// Adds light to the four pixels about a place; `false` where another fern has grown.
    fn add(&mut self, [y, x]: [f64; 2], light: f32) -> bool {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = ((y - top) as f32, (x - left) as f32);
        let wrapped = |i: f64| i as isize as usize & (SIDE - 1);
        let rows = [(wrapped(top), 1.0 - down), (wrapped(top + 1.0), down)];
        let columns = [(wrapped(left), 1.0 - right), (wrapped(left + 1.0), right)];
        let owner = self.owners[rows[0].0 * SIDE + columns[0].0];
        if owner != 0 && owner != self.fern {
            return false;
        }
        for (y, a) in rows {
            for (x, b) in columns {
                self.light[y * SIDE + x] += light * a * b;
                self.owners[y * SIDE + x] = self.fern;
            }
        }
        true
    }

    /// A straight needle that thins out towards its end. Returns how far it got.
    fn needle(&mut self, start: [f64; 2], angle: f64, length: f64, light: f32) -> usize {
        let heading = heading(angle);
        let grows = |ice: &mut Self, i: usize| {
            let rest = 1.0 - (i as f64 / length) as f32;
            ice.add(onwards(start, heading, i as f64), light * rest)
        };
        let length = length as usize;
        (1..length).find(|i| !grows(self, *i)).unwrap_or(length)
    }

    /// A curved stem with branches, longest in its lower third.
    fn grow_fern(&mut self, rng: &mut Rng, start: [f64; 2], angle: f64, length: f64) {
        let curve = 0.5 * rng.normal_f64() / length;
        let light = 0.15 + 0.6 * rng.uniform_f32();
        let (mut place, mut angle) = (start, angle);
        for i in 0..length as usize {
            let along = i as f64 / length;
            if !self.add(place, light * (1.4 - along as f32)) {
                return;
            }
            if i % 2 == 0 {
                let side = if i % 4 == 0 {
                    SIXTY_DEGREES
                } else {
                    -SIXTY_DEGREES
                };
                let reach = 0.75 * length * (1.0 - along) * (0.25 + along).min(0.6);
                let reach = reach * (0.3 + rng.uniform_f64());
                let light = light * (0.2 + rng.uniform_f32());
                self.branch(rng, place, angle + side, reach, light);
            }
            place = onwards(place, heading(angle), 1.0);
            angle += curve + 0.02 * rng.normal_f64();
        }
    }

    /// A needle with short ones on both of its sides.
    fn branch(&mut self, rng: &mut Rng, start: [f64; 2], angle: f64, length: f64, light: f32) {
        let grown = self.needle(start, angle, length, light);
        let heading = heading(angle);
        let mut at = 2 + rng.below(4);
        while at < grown {
            let side = if at.is_multiple_of(2) {
                SIXTY_DEGREES
            } else {
                -SIXTY_DEGREES
            };
            let place = onwards(start, heading, at as f64);
            let reach = 0.5 * (length - at as f64) * rng.uniform_f64();
            self.needle(place, angle + side, reach, 0.7 * light);
            at += 2 + rng.below(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubic_weights_are_those_of_a_partition() {
        for i in 0..=10 {
            let weights = cubic(i as f32 / 10.0);
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(cubic(0.0), [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn textures_of_our_own_differ_and_join_at_their_edges() {
        let first = grow(0, 0);
        assert_eq!(first.pixels, grow(0, 0).pixels);
        assert_ne!(first.pixels, grow(1, 0).pixels);
        let mean_step = |from: usize, to: usize| -> f64 {
            let steps = first.pixels.chunks_exact(SIDE).take(SIDE);
            let steps = steps.map(|row| f64::from(row[from].abs_diff(row[to])));
            steps.sum::<f64>() / SIDE as f64
        };
        assert!(mean_step(SIDE - 1, 0) < 1.5 * mean_step(200, 201));
    }
}
