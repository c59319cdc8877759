//! Plain pixel noise, seeded.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelNoise {
    pub kind: PixelNoiseKind,
    /// Standard deviation (Gaussian) or half-width (uniform), in units of the pixel range [0, 1].
    pub scale: f32,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelNoiseKind {
    Gaussian,
    Uniform,
}

/// Adds noise to pixels in [0, 1] and clips to that range, as the image-corruption benchmarks do.
pub fn add(pixels: &mut [f32], noise: &PixelNoise) {
    let mut rng = Rng::stream(noise.seed, "pixel noise");
    let mut draws = vec![0.0_f32; pixels.len()];
    match noise.kind {
        PixelNoiseKind::Gaussian => rng.fill_normal(&mut draws),
        PixelNoiseKind::Uniform => draws
            .iter_mut()
            .for_each(|d| *d = 2.0 * rng.uniform_f32() - 1.0),
    }
    for (pixel, draw) in pixels.iter_mut().zip(draws) {
        *pixel = (*pixel + noise.scale * draw).clamp(0.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(kind: PixelNoiseKind) -> f32 {
        let mut pixels = vec![0.5; 20_000];
        let noise = PixelNoise {
            kind,
            scale: 0.1,
            seed: 3,
        };
        add(&mut pixels, &noise);
        let squares: f32 = pixels.iter().map(|p| (p - 0.5).powi(2)).sum();
        (squares / pixels.len() as f32).sqrt()
    }

    #[test]
    fn the_scale_is_the_standard_deviation_or_the_half_width() {
        assert!((deviation(PixelNoiseKind::Gaussian) - 0.1).abs() < 0.002);
        assert!((deviation(PixelNoiseKind::Uniform) - 0.1 / 3f32.sqrt()).abs() < 0.002);
    }

    #[test]
    fn pixels_stay_in_range_and_the_seed_repeats() {
        let noise = PixelNoise {
            kind: PixelNoiseKind::Gaussian,
            scale: 2.0,
            seed: 9,
        };
        let mut first = vec![0.5; 1000];
        let mut second = first.clone();
        add(&mut first, &noise);
        add(&mut second, &noise);
        assert_eq!(first, second);
        assert!(first.iter().all(|p| (0.0..=1.0).contains(p)));
    }
}
