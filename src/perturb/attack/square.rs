//! Square attack (Andriushchenko et al. 2020; in L1, Croce and Hein 2021): random search by squares,
//! from scores alone.

use serde::{Deserialize, Serialize};

use super::context::{Context, pick};
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::norm::{Ball, Norm, Projection};
use super::oracle::Oracle;
use crate::rng::Rng;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Square {
    pub norm: Norm,
    /// Radius, in the norm of pixels in [0, 1].
    pub eps: f32,
    /// Passes an image may take, at least 1.
    pub queries: usize,
    /// Part of the image that the first squares cover, above 0 and at most 1.
    pub start_share: f32,
}

impl Default for Square {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            queries: 5000,
            start_share: 0.8,
        }
    }
}

/// The squares' share of the image is halved after these queries of 10,000.
const HALVINGS: [usize; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];

impl Square {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.queries > 0 && self.eps.is_finite() && self.eps >= 0.0,
            "The Square attack needs at least one query and a radius of at least 0.",
        )?;
        require(
            self.start_share > 0.0 && self.start_share <= 1.0,
            "The Square attack's first squares must cover more than 0 and at most all of the image.",
        )
    }

    /// Side of the squares at a query.
    fn side(&self, query: usize, [_, height, width]: [usize; 3]) -> usize {
        let scaled = query * 10_000 / self.queries;
        let halvings = HALVINGS.iter().filter(|q| scaled > **q).count();
        let share = f64::from(self.start_share) / f64::from(1 << halvings);
        let side = (share * (height * width) as f64).sqrt().round() as usize;
        let least = if self.norm == Norm::Linf { 1 } else { 3 };
        let side = side.max(least).min(height.min(width));
        // In L2 and L1 a square has a middle.
        match self.norm {
            Norm::L2 | Norm::L1 if side.is_multiple_of(2) => (side + 1).min(height.min(width)),
            _ => side,
        }
    }

    fn propose(
        &self,
        image: &mut [f32],
        centre: &[f32],
        shape: [usize; 3],
        query: usize,
        rng: &mut Rng,
    ) {
        let side = self.side(query, shape);
        match (self.norm, query) {
            (Norm::Linf, 0) => self.stripes(image, shape, rng),
            (Norm::Linf, _) => self.recolour(image, shape, side, rng),
            (_, 0) => self.tiles(image, centre, shape, rng),
            _ => self.exchange(image, centre, shape, side, rng),
        }
        let ball = Ball {
            norm: self.norm,
            eps: self.eps,
            centre,
        };
        // Only in L1 does the nearest image use what the ends of the range cut off.
        ball.project(
            image,
            match self.norm {
                Norm::L1 => Projection::NearestImage,
                _ => Projection::Scale,
            },
        );
    }

    /// What of a budget values take up: their squares in L2, their sizes in L1.
    fn spent<'v>(&self, values: impl Iterator<Item = &'v f32>) -> f64 {
        let one = |value: &f32| match self.norm {
            Norm::L1 => f64::from(value.abs()),
            _ => f64::from(*value).powi(2),
        };
        values.map(one).sum()
    }

    /// The length of values that take up so much of a budget.
    fn length(&self, spent: f64) -> f64 {
        match self.norm {
            Norm::L1 => spent,
            _ => spent.sqrt(),
        }
    }

    /// The budget of the radius.
    fn budget(&self) -> f64 {
        self.spent(std::iter::once(&self.eps))
    }

    /// Vertical stripes of ±ε, a column and a channel each.
    fn stripes(&self, image: &mut [f32], [_, height, width]: [usize; 3], rng: &mut Rng) {
        for plane in image.chunks_exact_mut(height * width) {
            let signs: Vec<f32> = (0..width).map(|_| coin(rng)).collect();
            for row in plane.chunks_exact_mut(width) {
                row.iter_mut()
                    .zip(&signs)
                    .for_each(|(v, s)| *v += s * self.eps);
            }
        }
    }

    /// A square goes to +ε or −ε, whatever it was.
    fn recolour(
        &self,
        image: &mut [f32],
        [_, height, width]: [usize; 3],
        side: usize,
        rng: &mut Rng,
    ) {
        let window = Window::draw(side, height, width, rng);
        for plane in image.chunks_exact_mut(height * width) {
            let change = 2.0 * self.eps * coin(rng);
            window.each(width, |i| plane[i] += change);
        }
    }

    /// A grid of 5 x 5 bumps, together of length ε.
    fn tiles(&self, image: &mut [f32], centre: &[f32], shape: [usize; 3], rng: &mut Rng) {
        let [channels, height, width] = shape;
        let side = (height.min(width) / 5).max(1);
        let mut delta = vec![0.0_f32; image.len()];
        for row in 0..height / side {
            for column in 0..width / side {
                let bump = self.bump(side, rng);
                let window = Window {
                    top: row * side,
                    left: column * side,
                    side,
                };
                for c in 0..channels {
                    let sign = coin(rng);
                    let plane = &mut delta[c * height * width..][..height * width];
                    window.zip(width, &bump, |i, b| plane[i] += sign * b);
                }
            }
        }
        self.lay(image, centre, &delta);
    }

    /// One window gives its share of the norm to another, which gets a bump on top of what it had.
    fn exchange(
        &self,
        image: &mut [f32],
        centre: &[f32],
        [channels, height, width]: [usize; 3],
        side: usize,
        rng: &mut Rng,
    ) {
        let mut delta: Vec<f32> = image.iter().zip(centre).map(|(x, c)| x - c).collect();
        let area = height * width;
        let gains = Window::draw(side, height, width, rng);
        let gives = Window::draw(side, height, width, rng);
        let whole = self.spent(delta.iter());
        let mut either = vec![false; area];
        gains.each(width, |i| either[i] = true);
        gives.each(width, |i| either[i] = true);
        let shared: f64 = delta
            .chunks_exact(area)
            .map(|plane| {
                let inside = plane.iter().zip(&either).filter(|(_, e)| **e);
                self.spent(inside.map(|(d, _)| d))
            })
            .sum();
        let mut had = 0.0;
        for plane in delta.chunks_exact(area) {
            gains.each(width, |i| had += self.spent(std::iter::once(&plane[i])));
        }
        let had = (1.0 / (self.length(had) + 1e-12)) as f32;
        let free = (self.budget() - whole).max(0.0) / channels as f64;
        let length = self.length(free + shared / channels as f64);
        let bump = self.bump(side, rng);
        for plane in delta.chunks_exact_mut(area) {
            let sign = coin(rng);
            let mut fresh = vec![0.0_f32; area];
            gains.zip(width, &bump, |i, b| fresh[i] = sign * b + plane[i] * had);
            let scale = (length / (self.length(self.spent(fresh.iter())) + 1e-12)) as f32;
            gives.each(width, |i| plane[i] = 0.0);
            gains.each(width, |i| plane[i] = fresh[i] * scale);
        }
        self.lay(image, centre, &delta);
    }

    /// `centre` plus `delta`, scaled to length ε.
    fn lay(&self, image: &mut [f32], centre: &[f32], delta: &[f32]) {
        let scale = (f64::from(self.eps) / self.length(self.spent(delta.iter())).max(1e-12)) as f32;
        for ((x, c), d) in image.iter_mut().zip(centre).zip(delta) {
            *x = c + d * scale;
        }
    }

    /// Two hills of opposite sign side by side, of length 1: rectangles about each half's middle,
    /// the `i`th adding 1 / i².
    fn bump(&self, side: usize, rng: &mut Rng) -> Vec<f32> {
        let half = side / 2;
        let mut bump = vec![0.0_f32; side * side];
        self.hill(&mut bump[..half * side], half, side, 1.0);
        self.hill(&mut bump[half * side..], side - half, side, -1.0);
        self.shorten(&mut bump);
        if rng.below(2) == 0 {
            return bump;
        }
        (0..side * side)
            .map(|i| bump[(i % side) * side + i / side])
            .collect()
    }

    fn hill(&self, values: &mut [f32], height: usize, width: usize, sign: f32) {
        let (middle_y, middle_x) = (height / 2, width / 2);
        for ring in 0..=middle_y.max(middle_x) {
            let weight = sign / ((ring + 1) * (ring + 1)) as f32;
            for y in middle_y.saturating_sub(ring)..(middle_y + ring + 1).min(height) {
                for x in middle_x.saturating_sub(ring)..(middle_x + ring + 1).min(width) {
                    values[y * width + x] += weight;
                }
            }
        }
        self.shorten(values);
    }

    /// To length 1.
    fn shorten(&self, values: &mut [f32]) {
        let length = self.length(self.spent(values.iter())).max(1e-12) as f32;
        values.iter_mut().for_each(|v| *v /= length);
    }
}

impl Method for Square {
    fn ball(&self) -> Option<(Norm, f32)> {
        Some((self.norm, self.eps))
    }

    /// `[n, c, h, w]` within `eps` of `pixels`: an image of the criterion where one was found, the one
    /// of the largest margin otherwise.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let shape = context.oracle.shape();
        let mut best = pixels.to_vec();
        let mut loss = vec![f64::NEG_INFINITY; criterion.classes.len()];
        let mut open: Vec<usize> = (0..criterion.classes.len()).collect();
        let mut rngs: Vec<Rng> = open.iter().map(|i| context.stream("square", *i)).collect();
        for query in 0..self.queries {
            if open.is_empty() {
                break;
            }
            let mut tried = pick(&best, length, &open);
            for (j, i) in open.iter().enumerate() {
                let centre = &pixels[i * length..][..length];
                let image = &mut tried[j * length..][..length];
                self.propose(image, centre, shape, query, &mut rngs[*i]);
            }
            let logits = context.oracle.logits(&tried).await?;
            let wanted = criterion.pick(&open);
            let losses = Loss::Margin.evaluate(&logits, classes, &wanted, &[]).values;
            let met = wanted.met(&logits, classes);
            for (j, i) in open.iter().copied().enumerate() {
                if losses[j] > loss[i] || met[j] {
                    loss[i] = losses[j];
                    best[i * length..][..length].copy_from_slice(&tried[j * length..][..length]);
                }
            }
            context.report_some(&open, [query + 1, self.queries], &logits, &tried);
            let still = open.iter().zip(&met).filter(|(_, met)| !**met);
            open = still.map(|(i, _)| *i).collect();
        }
        Ok(best)
    }
}

fn coin(rng: &mut Rng) -> f32 {
    if rng.below(2) == 0 { 1.0 } else { -1.0 }
}

/// A square of an image.
#[derive(Clone, Copy)]
struct Window {
    top: usize,
    left: usize,
    side: usize,
}

impl Window {
    fn draw(side: usize, height: usize, width: usize, rng: &mut Rng) -> Self {
        Self {
            top: rng.below(height - side + 1),
            left: rng.below(width - side + 1),
            side,
        }
    }

    /// Places inside the window, row by row.
    fn each(&self, width: usize, mut f: impl FnMut(usize)) {
        for y in self.top..self.top + self.side {
            (self.left..self.left + self.side).for_each(|x| f(y * width + x));
        }
    }

    fn zip(&self, width: usize, values: &[f32], mut f: impl FnMut(usize, f32)) {
        let mut values = values.iter();
        self.each(width, |i| {
            if let Some(value) = values.next() {
                f(i, *value);
            }
        });
    }
}
