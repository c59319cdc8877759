//! A stochastic model whose share of right passes is known, to test robust accuracy on.

use super::error::AttackError;
use super::oracle::{Oracle, Pullback};

/// Class 0 while `2 · mean(pixels) − 1 + noise` is above 0, class 1 below. The noise is even in
/// [−1, 1], so a pass gives class 0 for an image of mean m in a share m of them: an attack of radius
/// ε in L∞ takes exactly ε of it away.
pub(super) struct NoisyMean {
    pub length: usize,
    /// Passes so far: each has the next number of a sequence that fills [−1, 1] evenly.
    passes: u32,
}

/// The fractional part of the golden ratio, whose multiples lie evenly in [0, 1].
const GOLDEN: f64 = 0.618_033_988_749_894_9;

impl NoisyMean {
    pub fn new(length: usize) -> Self {
        Self { length, passes: 0 }
    }

    fn next(&mut self) -> f32 {
        self.passes += 1;
        (2.0 * (f64::from(self.passes) * GOLDEN).fract() - 1.0) as f32
    }
}

impl Oracle for NoisyMean {
    fn shape(&self) -> [usize; 3] {
        [1, 1, self.length]
    }

    fn classes(&self) -> usize {
        2
    }

    fn is_stochastic(&self) -> bool {
        true
    }

    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, AttackError> {
        let noise = self.next();
        let row = |image: &[f32]| {
            let mean = image.iter().sum::<f32>() / image.len() as f32;
            let rise = 2.0 * mean - 1.0 + noise;
            [rise, -rise]
        };
        Ok(pixels.chunks_exact(self.length).flat_map(row).collect())
    }

    async fn gradient(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError> {
        let logits = self.logits(pixels).await?;
        let each = |slope: &[f32]| (slope[0] - slope[1]) * 2.0 / self.length as f32;
        let slopes = cotangent(&logits);
        let gradient = slopes
            .chunks_exact(2)
            .flat_map(|slope| vec![each(slope); self.length])
            .collect();
        Ok(Pullback { logits, gradient })
    }
}
