//! Where a corruption's random numbers come from.

use crate::rng::Rng;

/// Random numbers in the order in which a corruption asks for them. Planes are asked for as the
/// pixels lie: channel by channel, row by row. Tests put stored numbers in its place.
pub trait Draws {
    /// Independent standard normals.
    fn normals(&mut self, out: &mut [f32]);
    /// Uniform in [0, 1).
    fn uniforms(&mut self, out: &mut [f32]);
    /// Puts a Poisson count in the place of each rate; rates are 0 or more.
    fn poisson(&mut self, rates: &mut [f32]);
    /// Uniform in 0..n; 0 for n of 0.
    fn below(&mut self, n: usize) -> usize;
}

/// One uniform number of an interval.
pub fn between(draws: &mut dyn Draws, low: f64, high: f64) -> f64 {
    let mut unit = [0.0];
    draws.uniforms(&mut unit);
    low + (high - low) * f64::from(unit[0])
}

impl Draws for Rng {
    fn normals(&mut self, out: &mut [f32]) {
        self.fill_normal(out);
    }

    fn uniforms(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|v| *v = self.uniform_f32());
    }

    fn poisson(&mut self, rates: &mut [f32]) {
        rates
            .iter_mut()
            .for_each(|v| *v = poisson(self, f64::from(*v)) as f32);
    }

    fn below(&mut self, n: usize) -> usize {
        Self::below(self, n)
    }
}

/// Below this rate counting up is faster than rejection, which needs a rate of 10 at least.
const SMALL_RATE: f64 = 10.0;

fn poisson(rng: &mut Rng, rate: f64) -> f64 {
    match rate {
        _ if rate <= 0.0 => 0.0,
        _ if rate < SMALL_RATE => poisson_by_inversion(rng, rate),
        _ => poisson_by_rejection(rng, rate),
    }
}

/// The count at which the cumulative distribution passes a uniform number.
fn poisson_by_inversion(rng: &mut Rng, rate: f64) -> f64 {
    let target = rng.uniform_f64();
    let mut probability = libm::exp(-rate);
    let mut cumulative = probability;
    let mut count = 0.0;
    // The sum of the rounded probabilities may end just below 1.
    while target > cumulative && probability > 0.0 {
        count += 1.0;
        probability *= rate / count;
        cumulative += probability;
    }
    count
}

/// Transformed rejection with squeeze (PTRS, Hörmann 1993).
fn poisson_by_rejection(rng: &mut Rng, rate: f64) -> f64 {
    let b = 0.931 + 2.53 * rate.sqrt();
    let a = -0.059 + 0.02483 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let squeeze = 0.9277 - 3.6224 / (b - 2.0);
    loop {
        let u = rng.uniform_f64() - 0.5;
        let v = rng.uniform_f64();
        let us = 0.5 - u.abs();
        let count = ((2.0 * a / us + b) * u + rate + 0.43).floor();
        if us >= 0.07 && v <= squeeze {
            return count;
        }
        if count < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let proposal = libm::log(v * inverse_alpha / (a / (us * us) + b));
        if proposal <= count * libm::log(rate) - rate - libm::lgamma(count + 1.0) {
            return count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_counts_have_the_mean_variance_and_skew_of_their_rate() {
        let mut rng = Rng::from_seed(4);
        for rate in [0.02, 0.7, 3.0, 9.9, 10.1, 25.0, 60.0, 500.0] {
            let n = 100_000.0;
            let draws: Vec<f64> = (0..100_000).map(|_| poisson(&mut rng, rate)).collect();
            assert!(draws.iter().all(|d| *d >= 0.0 && d.fract() == 0.0));
            let mean = draws.iter().sum::<f64>() / n;
            let moment = |k: i32| draws.iter().map(|d| (d - rate).powi(k)).sum::<f64>() / n;
            // Four deviations of each estimate.
            assert!(
                (mean - rate).abs() < 4.0 * (rate / n).sqrt(),
                "{rate}: {mean}"
            );
            let spread = ((rate + 2.0 * rate * rate) / n).sqrt();
            assert!(
                (moment(2) - rate).abs() < 4.0 * spread,
                "{rate}: {}",
                moment(2)
            );
            let spread = ((rate + 25.0 * rate.powi(2) + 15.0 * rate.powi(3)) / n).sqrt();
            assert!(
                (moment(3) - rate).abs() < 4.0 * spread,
                "{rate}: {}",
                moment(3)
            );
        }
        assert_eq!(poisson(&mut rng, 0.0), 0.0);
    }

    #[test]
    fn poisson_probabilities_are_right() {
        // P(k) of a rate of 12, by its definition, on both sides of the mode and in the tails.
        let mut rng = Rng::from_seed(5);
        let mut counts = [0_u32; 64];
        for _ in 0..200_000 {
            counts[(poisson(&mut rng, 12.0) as usize).min(63)] += 1;
        }
        let mut probability = (-12.0_f64).exp();
        for (k, count) in counts.iter().enumerate().take(30) {
            let expected = 200_000.0 * probability;
            let difference = (f64::from(*count) - expected).abs();
            assert!(
                difference < 4.5 * expected.sqrt() + 2.0,
                "{k}: {count} for {expected}"
            );
            probability *= 12.0 / (k + 1) as f64;
        }
    }
}
