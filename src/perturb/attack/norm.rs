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
            (Norm::L1, Projection::Nearest) => self.project_l1(x),
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

    fn project_l1(&self, x: &mut [f32]) {
        let moved: Vec<f64> = x
            .iter()
            .zip(self.centre)
            .map(|(x, c)| f64::from(*x) - f64::from(*c))
            .collect();
        let eps = f64::from(self.eps);
        if Norm::L1.of(moved.iter().copied()) <= eps {
            return;
        }
        let threshold = soft_threshold(&moved, eps);
        for ((x, c), d) in x.iter_mut().zip(self.centre).zip(moved) {
            *x = (f64::from(*c) + d.signum() * (d.abs() - threshold).max(0.0)) as f32;
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

/// What every magnitude must shrink by so that they sum to `total`.
fn soft_threshold(values: &[f64], total: f64) -> f64 {
    let mut sizes: Vec<f64> = values.iter().map(|v| v.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut threshold) = (0.0, 0.0);
    for (i, size) in sizes.into_iter().enumerate() {
        sum += size;
        let candidate = (sum - total) / (i + 1) as f64;
        if size <= candidate {
            break;
        }
        threshold = candidate;
    }
    threshold
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
            for how in [Projection::Scale, Projection::Nearest] {
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
