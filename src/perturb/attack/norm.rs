//! Norms, balls about an image, and the way back into them.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// How a perturbation is measured, over all pixels and channels in units of the range [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    #[default]
    Linf,
    L2,
    L1,
}

impl Norm {
    pub const ALL: [Self; 3] = [Self::Linf, Self::L2, Self::L1];

    /// As commands, plans and addresses write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Linf => "linf",
            Self::L2 => "l2",
            Self::L1 => "l1",
        }
    }

    /// The norm of a [`word`](Self::word).
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|norm| norm.word() == word)
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Linf => "L∞",
            Self::L2 => "L2",
            Self::L1 => "L1",
        }
    }

    /// Of a vector, summed in f64.
    pub fn of(self, values: impl Iterator<Item = f64>) -> f64 {
        match self {
            Self::Linf => values.fold(0.0, |m, v| m.max(v.abs())),
            Self::L2 => values.map(|v| v * v).sum::<f64>().sqrt(),
            Self::L1 => values.map(f64::abs).sum(),
        }
    }

    /// Of `a − b`.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = a.iter().zip(b);
        self.of(pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)))
    }

    /// The direction of steepest ascent, of length 1 in this norm, for one image's gradient.
    pub fn direction(self, gradient: &[f32]) -> Vec<f32> {
        match self {
            Self::Linf => gradient.iter().map(|g| sign(*g)).collect(),
            Self::L2 | Self::L1 => {
                let length = self.of(gradient.iter().map(|g| f64::from(*g))).max(1e-12);
                let scale = (1.0 / length) as f32;
                gradient.iter().map(|g| g * scale).collect()
            }
        }
    }

    /// A point drawn evenly from the ball of radius `eps` about 0.
    pub fn random_point(self, length: usize, eps: f32, rng: &mut Rng) -> Vec<f32> {
        match self {
            Self::Linf => (0..length)
                .map(|_| eps * (2.0 * rng.uniform_f32() - 1.0))
                .collect(),
            // A point of a sphere two dimensions up, two coordinates dropped (Voelker et al. 2017).
            Self::L2 => {
                let mut draws = vec![0.0_f32; length + 2];
                rng.fill_normal(&mut draws);
                let radius = Self::L2.of(draws.iter().map(|d| f64::from(*d))).max(1e-12);
                draws.truncate(length);
                let scale = (f64::from(eps) / radius) as f32;
                draws.iter_mut().for_each(|d| *d *= scale);
                draws
            }
            // Gaps between sorted uniforms (Rubinstein 1982), with random signs.
            Self::L1 => {
                let mut draws: Vec<f64> = (0..length).map(|_| rng.uniform_f64()).collect();
                draws.sort_by(f64::total_cmp);
                let mut before = 0.0;
                draws
                    .into_iter()
                    .map(|draw| {
                        let gap = (draw - before) as f32;
                        before = draw;
                        let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
                        eps * gap * sign
                    })
                    .collect()
            }
        }
    }
}

/// −1, 0 or 1; 0 for 0, unlike [`f32::signum`].
pub fn sign(value: f32) -> f32 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// How a point outside the ball is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Along the line to the centre. In L∞ and L2 that is the nearest point, or as good as.
    Scale,
    /// To the nearest point: in L1 it keeps a sparse perturbation sparse (Duchi et al. 2008).
    Nearest,
    /// In L1 to the nearest point that is an image, too (Croce and Hein 2021): the nearest of the
    /// ball alone, then cut off at the ends of the range, is neither the nearest nor on the ball's
    /// surface. In the others as [`Nearest`](Self::Nearest).
    NearestImage,
}

/// The points within `eps` of an image that are images, pixels in [0, 1].
#[derive(Clone, Copy, Debug)]
pub struct Ball<'a> {
    pub norm: Norm,
    pub eps: f32,
    pub centre: &'a [f32],
}

impl Ball<'_> {
    /// Projects `x` into the ball and the box. The result is inside to the last bit: its
    /// distance, computed in f64 from the f32 pixels, is at most `eps`.
    pub fn project(&self, x: &mut [f32], how: Projection) {
        match (self.norm, how) {
            (Norm::Linf, _) => {}
            (Norm::L1, Projection::Nearest) => self.project_l1(x, |_, _| f64::INFINITY),
            (Norm::L1, Projection::NearestImage) => self.project_l1(x, room),
            _ => self.scale_back(x),
        }
        x.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        self.tighten(x);
    }

    fn scale_back(&self, x: &mut [f32]) {
        let distance = self.norm.distance(x, self.centre);
        if distance <= f64::from(self.eps) {
            return;
        }
        let factor = (f64::from(self.eps) / distance) as f32;
        for (x, c) in x.iter_mut().zip(self.centre) {
            *x = c + (*x - c) * factor;
        }
    }

    /// `room` is how far a value may go from its centre in the direction of a move.
    fn project_l1(&self, x: &mut [f32], room: fn(f64, f64) -> f64) {
        let pairs = x.iter().zip(self.centre);
        let moves: Vec<Move> = pairs
            .map(|(x, c)| {
                let (x, c) = (f64::from(*x), f64::from(*c));
                let by = x - c;
                Move {
                    by,
                    room: room(c, by),
                }
            })
            .collect();
        let eps = f64::from(self.eps);
        if moves.iter().map(|m| m.shrunk(0.0)).sum::<f64>() <= eps {
            return;
        }
        let threshold = soft_threshold(&moves, eps);
        for ((x, c), m) in x.iter_mut().zip(self.centre).zip(moves) {
            *x = (f64::from(*c) + m.by.signum() * m.shrunk(threshold)) as f32;
        }
    }

    /// Undoes what rounding left outside.
    fn tighten(&self, x: &mut [f32]) {
        let eps = f64::from(self.eps);
        if self.norm == Norm::Linf {
            for (x, c) in x.iter_mut().zip(self.centre) {
                *x = x.clamp(c - self.eps, c + self.eps);
                while (f64::from(*x) - f64::from(*c)).abs() > eps {
                    *x = if *x > *c { x.next_down() } else { x.next_up() };
                }
            }
            return;
        }
        let mut slack = 1e-7_f32;
        while self.norm.distance(x, self.centre) > eps {
            for (x, c) in x.iter_mut().zip(self.centre) {
                *x = c + (*x - c) * (1.0 - slack);
            }
            // Too small a step may round to no step at all.
            slack = (slack * 2.0).min(1.0);
        }
    }

    /// Rounds to 8 bits a channel, staying inside: a level that would lie outside gives way to
    /// the next one towards the centre. Pixels whose centre is no level itself and has none within
    /// reach keep their centre.
    pub fn round(&self, x: &mut [f32]) {
        for (x, c) in x.iter_mut().zip(self.centre) {
            let level = (*x * 255.0).round();
            let towards = sign(*c - *x);
            let near = [level, level + towards].map(|l| (l / 255.0).clamp(0.0, 1.0));
            let limit = match self.norm {
                Norm::Linf => f64::from(self.eps),
                // The others have no limit a pixel; rounding towards the centre shrinks them all.
                _ => (f64::from(*x) - f64::from(*c)).abs(),
            };
            let inside = |v: &f32| (f64::from(*v) - f64::from(*c)).abs() <= limit;
            *x = near.into_iter().find(inside).unwrap_or(*c);
        }
    }
}

/// How far it is from a pixel `from` to the end of the range in the direction of `by`.
fn room(from: f64, by: f64) -> f64 {
    if by > 0.0 { 1.0 - from } else { from }
}

/// What a value has moved by, and the most it may.
struct Move {
    by: f64,
    room: f64,
}

impl Move {
    /// Its size when it shrinks by `threshold`, within its room.
    fn shrunk(&self, threshold: f64) -> f64 {
        (self.by.abs() - threshold).clamp(0.0, self.room)
    }
}

/// What every move must shrink by so that together they are of size `total`, where without
/// shrinking they are larger.
fn soft_threshold(moves: &[Move], total: f64) -> f64 {
    // As the threshold falls, a move counts from its own size on and until its room is full; in
    // between, the sum grows with the number of those that count.
    let ends = |m: &Move| [(m.by.abs(), 1.0), (m.by.abs() - m.room, -1.0)];
    let mut events: Vec<(f64, f64)> = moves.iter().flat_map(ends).collect();
    events.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut at = events.first().map_or(0.0, |first| first.0);
    let (mut sum, mut counting) = (0.0, 0.0);
    for (level, change) in events {
        let level = level.max(0.0);
        let grown = sum + counting * (at - level);
        if grown >= total && counting > 0.0 {
            return at - (total - sum) / counting;
        }
        (sum, at) = (grown, level);
        counting += change;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(rng: &mut Rng, length: usize) -> Vec<f32> {
        (0..length).map(|_| rng.below(256) as f32 / 255.0).collect()
    }

    #[test]
    fn ball_and_box_are_never_left() {
        let mut rng = Rng::from_seed(7);
        for round in 0..300 {
            let norm = Norm::ALL[round % 3];
            let length = 1 + rng.below(300);
            let eps = rng.uniform_f32() * [0.1, 2.0, 20.0][round % 3];
            let centre = image(&mut rng, length);
            let mut x: Vec<f32> = centre.iter().map(|c| c + rng.normal_f32()).collect();
            let ball = Ball {
                norm,
                eps,
                centre: &centre,
            };
            for how in [
                Projection::Scale,
                Projection::Nearest,
                Projection::NearestImage,
            ] {
                let mut x = x.clone();
                ball.project(&mut x, how);
                assert!(norm.distance(&x, &centre) <= f64::from(eps));
                assert!(x.iter().all(|v| (0.0..=1.0).contains(v)));
                ball.round(&mut x);
                assert!(norm.distance(&x, &centre) <= f64::from(eps));
                let levels = x.iter().map(|v| (v * 255.0 - (v * 255.0).round()).abs());
                assert!(levels.into_iter().all(|d| d < 1e-4));
            }
            // A point inside stays where it is.
            let inner = norm.random_point(length, eps * 0.5, &mut rng);
            x.iter_mut()
                .zip(&centre)
                .zip(inner)
                .for_each(|((x, c), i)| *x = (c + i).clamp(0.0, 1.0));
            let before = x.clone();
            ball.project(&mut x, Projection::Nearest);
            assert_eq!(x, before);
        }
    }

    /// No image of the ball is nearer: not the one on the way from it to any other (by convexity
    /// that is enough, with the one-sided derivative along it).
    #[test]
    fn the_projection_onto_ball_and_box_is_the_nearest_image() {
        let mut rng = Rng::from_seed(3);
        for round in 0..200 {
            let length = 1 + rng.below(40);
            let eps = 0.05 + 4.0 * rng.uniform_f32();
            let mut centre = image(&mut rng, length);
            // Many values at the ends of the range, where ball and box meet.
            centre.iter_mut().step_by(2).for_each(|c| *c = c.round());
            let x: Vec<f32> = centre.iter().map(|c| c + rng.normal_f32()).collect();
            let ball = Ball {
                norm: Norm::L1,
                eps,
                centre: &centre,
            };
            let mut nearest = x.clone();
            ball.project(&mut nearest, Projection::NearestImage);
            let reach = Norm::L1.distance(&nearest, &centre);
            let mut clamped = x.clone();
            clamped.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
            let free = Norm::L1.distance(&clamped, &centre);
            assert!(
                (reach - free.min(f64::from(eps))).abs() < 1e-4,
                "{reach} {free} {eps}"
            );
            for _ in 0..200 {
                let mut other = centre.clone();
                for (o, step) in other
                    .iter_mut()
                    .zip(Norm::L1.random_point(length, eps, &mut rng))
                {
                    *o = (*o + step).clamp(0.0, 1.0);
                }
                // (x − nearest) · (other − nearest) ≤ 0 for every other image of the ball.
                let terms = x.iter().zip(&nearest).zip(&other);
                let slope: f64 = terms
                    .map(|((x, n), o)| {
                        (f64::from(*x) - f64::from(*n)) * (f64::from(*o) - f64::from(*n))
                    })
                    .sum();
                assert!(slope < 1e-4, "round {round}: {slope}");
            }
        }
    }

    /// What is cut off at the end of the range is given to the others.
    #[test]
    fn the_nearest_image_in_l1_fills_the_ball() {
        let centre = [0.9_f32, 0.5, 0.5];
        let ball = Ball {
            norm: Norm::L1,
            eps: 0.4,
            centre: &centre,
        };
        let mut x = [1.5, 0.9, 0.5];
        ball.project(&mut x, Projection::NearestImage);
        // 0.1 at most for the first, the other 0.3 for the second.
        for (x, e) in x.iter().zip([1.0, 0.8, 0.5]) {
            assert!((x - e).abs() < 1e-6, "{x} {e}");
        }
        let mut x = [1.5, 0.9, 0.5];
        ball.project(&mut x, Projection::Nearest);
        assert!(
            (x[1] - 0.6).abs() < 1e-6,
            "the ball alone uses 0.2 of 0.4: {x:?}"
        );
    }

    #[test]
    fn the_nearest_point_in_l1_is_sparse() {
        let centre = [0.5_f32; 5];
        let mut x = [0.9, 0.6, 0.5, 0.45, 0.5];
        let ball = Ball {
            norm: Norm::L1,
            eps: 0.3,
            centre: &centre,
        };
        ball.project(&mut x, Projection::Nearest);
        let expected = [0.8, 0.5, 0.5, 0.5, 0.5];
        for (x, e) in x.iter().zip(expected) {
            assert!((x - e).abs() < 1e-6, "{x} {e}");
        }
    }
}
