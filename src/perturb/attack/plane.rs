//! A model made linear at an image: where it takes two classes for equally likely is a hyperplane.

use super::context::Context;
use super::error::AttackError;
use super::norm::Norm;
use super::oracle::Oracle;

/// Keeps a division by the gradient's size finite.
pub(super) const TINY: f64 = 1e-8;

/// The difference of two logits made linear at an image: that of the class to raise minus that of
/// the one to lower.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    /// The difference at the image; above 0 on the side of the class to raise.
    pub gap: f64,
    /// Its gradient.
    pub slope: Vec<f32>,
}

impl Plane {
    /// What a step of length 1 in `norm` changes the difference by at most.
    pub fn steepness(&self, norm: Norm) -> f64 {
        let dual = match norm {
            Norm::Linf => Norm::L1,
            Norm::L2 => Norm::L2,
            Norm::L1 => Norm::Linf,
        };
        dual.of(self.slope.iter().map(|s| f64::from(*s)))
    }

    /// From the image, without regard to the box. Infinite when it is no number, so that it never
    /// is the nearest.
    pub fn distance(&self, norm: Norm) -> f64 {
        let distance = self.gap.abs() / (self.steepness(norm) + TINY);
        match distance.is_nan() {
            true => f64::INFINITY,
            false => distance,
        }
    }

    pub fn is_finite(&self) -> bool {
        self.gap.is_finite() && self.slope.iter().all(|s| s.is_finite())
    }

    /// The smallest change, in `norm`, that takes `x` in [0, 1] onto the plane and leaves it in
    /// the box; where the box does not reach the plane, the change that comes nearest to it. The
    /// plane is that of the image `about`.
    ///
    /// Pixels are used up in the order in which they reach the end of their range (L∞, L2) or of
    /// what they bring about (L1), so after a sort one pass is exact.
    pub fn reach(&self, norm: Norm, x: &[f32], about: &[f32]) -> Vec<f64> {
        let slopes = self.slope.iter().map(|s| f64::from(*s));
        let moved = x.iter().zip(about).zip(slopes.clone());
        let moved: f64 = moved
            .map(|((x, a), s)| s * (f64::from(*x) - f64::from(*a)))
            .sum();
        let wanted = -(self.gap + moved);
        // Towards the side of the plane on which the difference is 0.
        let up = if wanted < 0.0 { -1.0 } else { 1.0 };
        let pixels = x.iter().zip(slopes).map(|(x, s)| Pixel {
            direction: if up * s < 0.0 { -1.0 } else { 1.0 },
            gain: s.abs(),
            room: match up * s {
                s if s > 0.0 => 1.0 - f64::from(*x),
                s if s < 0.0 => f64::from(*x),
                _ => 0.0,
            },
        });
        let pixels: Vec<Pixel> = pixels.collect();
        let sizes = match norm {
            Norm::Linf => fill(&pixels, |_| 1.0, wanted.abs()),
            Norm::L2 => fill(&pixels, |p| p.gain, wanted.abs()),
            Norm::L1 => spend(&pixels, wanted.abs()),
        };
        pixels
            .iter()
            .zip(sizes)
            .map(|(p, size)| p.direction * size)
            .collect()
    }
}

/// What a pixel can do towards a plane.
struct Pixel {
    direction: f64,
    /// By a change of 1.
    gain: f64,
    /// The largest change that stays in the box; 0 for a pixel that does nothing.
    room: f64,
}

/// Changes `min(level · rate, room)` that together gain `wanted`, or all there is room for.
fn fill(pixels: &[Pixel], rate: impl Fn(&Pixel) -> f64, wanted: f64) -> Vec<f64> {
    let mut free: Vec<&Pixel> = pixels.iter().filter(|p| p.room > 0.0).collect();
    let level_of = |p: &Pixel| p.room / rate(p);
    free.sort_by(|a, b| level_of(a).total_cmp(&level_of(b)));
    // What all pixels from this one on gain with the level: summed from the last, so that nothing
    // is lost by taking large numbers from each other.
    let mut speeds: Vec<f64> = free.iter().map(|p| p.gain * rate(p)).collect();
    for i in (1..speeds.len()).rev() {
        speeds[i - 1] += speeds[i];
    }
    let (mut used, mut level) = (0.0, f64::INFINITY);
    for (pixel, speed) in free.into_iter().zip(speeds) {
        let full = level_of(pixel);
        if used + speed * full >= wanted {
            level = ((wanted - used) / speed).clamp(0.0, full);
            break;
        }
        used += pixel.gain * pixel.room;
    }
    let change = |p: &Pixel| match p.room > 0.0 {
        true => (level * rate(p)).min(p.room),
        false => 0.0,
    };
    pixels.iter().map(change).collect()
}

/// Whole rooms, those that gain the most first, until `wanted` is gained.
fn spend(pixels: &[Pixel], wanted: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..pixels.len())
        .filter(|i| pixels[*i].room > 0.0)
        .collect();
    order.sort_by(|a, b| pixels[*b].gain.total_cmp(&pixels[*a].gain));
    let mut changes = vec![0.0; pixels.len()];
    let mut left = wanted;
    for i in order {
        let Pixel { gain, room, .. } = pixels[i];
        changes[i] = (left / gain).clamp(0.0, room);
        left -= gain * changes[i];
        if left <= 0.0 {
            break;
        }
    }
    changes
}

/// Which class to raise and which to lower, from an image's place in the batch and its logits.
pub(super) type Pair<'a> = &'a dyn Fn(usize, &[f32]) -> (usize, usize);

/// The logits of `[n, ...]` pixels, and a plane for each image.
pub(super) async fn planes<O: Oracle>(
    context: &mut Context<'_, O>,
    pixels: &[f32],
    pair: Pair<'_>,
) -> Result<(Vec<f32>, Vec<Plane>), AttackError> {
    let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
    let cotangent = |logits: &[f32]| {
        let mut slope = vec![0.0; logits.len()];
        let rows = logits.chunks_exact(classes).enumerate();
        for ((i, row), slope) in rows.zip(slope.chunks_exact_mut(classes)) {
            let (up, down) = pair(i, row);
            slope[up] = 1.0;
            slope[down] = -1.0;
        }
        slope
    };
    let found = context.oracle.gradient(pixels, &cotangent).await?;
    let rows = found.logits.chunks_exact(classes).enumerate();
    let planes = rows.zip(found.gradient.chunks_exact(length));
    let planes = planes
        .map(|((i, row), slope)| {
            let (up, down) = pair(i, row);
            Plane {
                gap: f64::from(row[up]) - f64::from(row[down]),
                slope: slope.to_vec(),
            }
        })
        .collect();
    Ok((found.logits, planes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// What the change is off the plane by.
    fn miss(plane: &Plane, x: &[f32], about: &[f32], change: &[f64]) -> f64 {
        let terms = plane.slope.iter().zip(x).zip(about).zip(change);
        plane.gap
            + terms
                .map(|(((s, x), a), c)| f64::from(*s) * (f64::from(*x) + c - f64::from(*a)))
                .sum::<f64>()
    }

    /// The smallest size of any change onto the plane, by bisection over the size: a ball of that
    /// size in the box holds a point of the plane or does not. Knows no order of pixels.
    fn least(plane: &Plane, norm: Norm, x: &[f32], wanted: f64) -> f64 {
        let most = |size: f64| -> f64 {
            // The largest gain within the ball and the box, by bisection over the multiplier of
            // the norm in the Lagrangian; in L1 by trying all corners of the knapsack greedily.
            let pixels: Vec<(f64, f64)> = plane
                .slope
                .iter()
                .zip(x)
                .map(|(s, x)| {
                    let toward = wanted.signum() * f64::from(*s);
                    let room = if toward > 0.0 { 1.0 - *x } else { *x };
                    (toward.abs(), f64::from(room))
                })
                .collect();
            let gain = |change: &dyn Fn(f64, f64) -> f64| -> f64 {
                pixels.iter().map(|(g, r)| g * change(*g, *r)).sum()
            };
            match norm {
                Norm::Linf => gain(&|_, r| r.min(size)),
                Norm::L2 => {
                    let (mut low, mut high) = (0.0, 1e9);
                    for _ in 0..200 {
                        let level = (low + high) / 2.0;
                        let square: f64 = pixels
                            .iter()
                            .map(|(g, r)| (level * g).min(*r).powi(2))
                            .sum();
                        if square <= size * size {
                            low = level;
                        } else {
                            high = level;
                        }
                    }
                    gain(&|g, r| (low * g).min(r))
                }
                Norm::L1 => {
                    // By price: pixels whose gain is above a price are bought whole.
                    let mut prices: Vec<f64> = pixels.iter().map(|p| p.0).collect();
                    prices.push(0.0);
                    let at = |price: f64| {
                        let dearer: Vec<_> = pixels.iter().filter(|p| p.0 > price).collect();
                        let spent: f64 = dearer.iter().map(|p| p.1).sum();
                        let got: f64 = dearer.iter().map(|p| p.0 * p.1).sum();
                        let same: f64 = pixels.iter().filter(|p| p.0 == price).map(|p| p.1).sum();
                        match spent <= size {
                            true => got + price * (size - spent).min(same),
                            false => 0.0,
                        }
                    };
                    prices.into_iter().map(at).fold(0.0, f64::max)
                }
            }
        };
        let (mut low, mut high) = (0.0, x.len() as f64);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if most(middle) >= wanted.abs() {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    #[test]
    fn the_change_is_on_the_plane_in_the_box_and_the_smallest() {
        let mut rng = Rng::from_seed(11);
        let (mut on, mut short) = (0, 0);
        for round in 0..400 {
            let norm = Norm::ALL[round % 3];
            let length = 1 + rng.below(12);
            // Ends of the range and ties among the slopes are common.
            let pixel = |rng: &mut Rng| (rng.uniform_f32() * 1.4 - 0.2).clamp(0.0, 1.0);
            let x: Vec<f32> = (0..length).map(|_| pixel(&mut rng)).collect();
            let about: Vec<f32> = (0..length).map(|_| pixel(&mut rng)).collect();
            let slope = (0..length).map(|_| rng.below(9) as f32 / 4.0 - 1.0);
            let plane = Plane {
                slope: slope.collect(),
                gap: 1.5 * f64::from(rng.normal_f32()),
            };
            let change = plane.reach(norm, &x, &about);
            for (x, c) in x.iter().zip(&change) {
                let there = f64::from(*x) + c;
                assert!((-1e-12..=1.0 + 1e-12).contains(&there), "{there}");
            }
            let start = miss(&plane, &x, &about, &vec![0.0; length]);
            let off = miss(&plane, &x, &about, &change);
            let rooms = plane.slope.iter().zip(&x);
            let most: f64 = rooms
                .map(|(s, x)| {
                    let rises = -start * f64::from(*s) > 0.0;
                    f64::from(s.abs()) * f64::from(if rises { 1.0 - x } else { *x })
                })
                .sum();
            if most < start.abs() {
                // As near as the box allows.
                assert!((off.abs() - (start.abs() - most)).abs() < 1e-6);
                short += 1;
                continue;
            }
            on += 1;
            assert!(off.abs() < 1e-9, "{norm:?}: {off}");
            let size = norm.of(change.iter().copied());
            let best = least(&plane, norm, &x, -start);
            assert!((size - best).abs() < 1e-6, "{norm:?}: {size} {best}");
        }
        assert!(on > 50 && short > 50, "{on} {short}");
    }

    /// Against every change on a grid, for two pixels.
    #[test]
    fn no_point_of_a_grid_is_nearer() {
        let mut rng = Rng::from_seed(3);
        for round in 0..60 {
            let norm = Norm::ALL[round % 3];
            let x = [rng.uniform_f32(), rng.uniform_f32()];
            let plane = Plane {
                slope: vec![1.0 + rng.uniform_f32(), 0.3 - rng.uniform_f32()],
                gap: -0.5 * rng.uniform_f64(),
            };
            let size = norm.of(plane.reach(norm, &x, &x).into_iter());
            for first in 0..=1000 {
                let a = f64::from(first) / 1000.0 - f64::from(x[0]);
                // The other pixel is what the plane leaves it.
                let b = (-plane.gap - f64::from(plane.slope[0]) * a) / f64::from(plane.slope[1]);
                if (0.0..=1.0).contains(&(f64::from(x[1]) + b)) {
                    let other = norm.of([a, b].into_iter());
                    assert!(other >= size - 1e-9, "{norm:?}: {other} < {size}");
                }
            }
        }
    }
}
