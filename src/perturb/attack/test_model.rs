//! Models small enough to know the answer, for tests.

use super::context::{Context, Step};
use super::criterion::{Criterion, argmax};
use super::error::AttackError;
use super::oracle::{Oracle, Pullback};
use super::plane::Plane;
use super::registry::Attack;
use crate::rng::Rng;

/// `out · tanh(hidden · x)`, or `out · x` alone; a bias with each.
pub(super) struct TestModel {
    shape: [usize; 3],
    hidden: Option<Layer>,
    out: Layer,
    /// Images passed forward so far.
    pub forwards: usize,
    /// The gradient points the other way.
    pub masked: bool,
}

struct Layer {
    /// A row each output.
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

impl Layer {
    fn draw(rng: &mut Rng, [inputs, outputs]: [usize; 2]) -> Self {
        let scale = 2.0 / (inputs as f64).sqrt();
        let mut normals = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.normal_f64()).collect() };
        let weights: Vec<Vec<f64>> = (0..outputs).map(|_| normals(inputs)).collect();
        // Half-bright images are near the boundaries.
        let middle = |row: &Vec<f64>| -0.5 * scale * row.iter().sum::<f64>();
        let scaled = |row: &Vec<f64>| row.iter().map(|w| w * scale).collect();
        Self {
            bias: weights.iter().map(middle).collect(),
            weights: weights.iter().map(scaled).collect(),
        }
    }

    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.weights.iter().zip(&self.bias);
        rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
            .collect()
    }

    fn backward(&self, slope: &[f64]) -> Vec<f64> {
        let inputs = 0..self.weights[0].len();
        let column = |i: usize| self.weights.iter().zip(slope).map(|(w, s)| w[i] * s).sum();
        inputs.map(column).collect()
    }
}

impl TestModel {
    pub fn linear(rng: &mut Rng, shape: [usize; 3], classes: usize) -> Self {
        Self {
            shape,
            hidden: None,
            out: Layer::draw(rng, [shape.iter().product(), classes]),
            forwards: 0,
            masked: false,
        }
    }

    /// A linear model without a bias, of these weights, a row each class.
    pub fn of(shape: [usize; 3], weights: &[&[f64]]) -> Self {
        let weights: Vec<Vec<f64>> = weights.iter().map(|row| row.to_vec()).collect();
        let bias = vec![0.0; weights.len()];
        Self {
            shape,
            hidden: None,
            out: Layer { weights, bias },
            forwards: 0,
            masked: false,
        }
    }

    pub fn two_layer(rng: &mut Rng, shape: [usize; 3], units: usize, classes: usize) -> Self {
        let hidden = Layer::draw(rng, [shape.iter().product(), units]);
        let mut out = Layer::draw(rng, [units, classes]);
        out.bias = vec![0.0; classes];
        Self {
            shape,
            hidden: Some(hidden),
            out,
            forwards: 0,
            masked: false,
        }
    }

    fn features(&self, x: &[f32]) -> Vec<f64> {
        let x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        match &self.hidden {
            Some(hidden) => hidden.forward(&x).into_iter().map(f64::tanh).collect(),
            None => x,
        }
    }

    pub fn logits_of(&self, x: &[f32]) -> Vec<f32> {
        let logits = self.out.forward(&self.features(x));
        logits.into_iter().map(|l| l as f32).collect()
    }

    pub fn class_of(&self, x: &[f32]) -> usize {
        argmax(&self.logits_of(x))
    }

    fn gradient_of(&self, x: &[f32], slope: &[f32]) -> Vec<f32> {
        let slope: Vec<f64> = slope.iter().map(|s| f64::from(*s)).collect();
        let mut slope = self.out.backward(&slope);
        if let Some(hidden) = &self.hidden {
            let features = self.features(x);
            slope
                .iter_mut()
                .zip(features)
                .for_each(|(s, f)| *s *= 1.0 - f * f);
            slope = hidden.backward(&slope);
        }
        let sign = if self.masked { -1.0 } else { 1.0 };
        slope.into_iter().map(|s| (sign * s) as f32).collect()
    }

    /// The boundary at `x` between two classes.
    pub fn plane(&self, x: &[f32], up: usize, down: usize) -> Plane {
        let logits = self.logits_of(x);
        let mut slope = vec![0.0; logits.len()];
        (slope[up], slope[down]) = (1.0, -1.0);
        Plane {
            gap: f64::from(logits[up]) - f64::from(logits[down]),
            slope: self.gradient_of(x, &slope),
        }
    }
}

impl Oracle for TestModel {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn classes(&self) -> usize {
        self.out.bias.len()
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    async fn logits(&mut self, pixels: &[f32]) -> Result<Vec<f32>, AttackError> {
        let images = pixels.chunks_exact(self.image_len());
        self.forwards += images.len();
        Ok(images.flat_map(|x| self.logits_of(x)).collect())
    }

    async fn gradient(
        &mut self,
        pixels: &[f32],
        cotangent: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Pullback, AttackError> {
        let logits = self.logits(pixels).await?;
        let slopes = cotangent(&logits);
        let images = pixels.chunks_exact(self.image_len());
        let gradient = images
            .zip(slopes.chunks_exact(self.classes()))
            .flat_map(|(x, slope)| self.gradient_of(x, slope))
            .collect();
        Ok(Pullback { logits, gradient })
    }
}

/// Runs an attack on its own, without what the plan adds.
pub(super) fn attack(
    model: &mut TestModel,
    attack: &Attack,
    pixels: &[f32],
    criterion: &Criterion,
) -> Result<Vec<f32>, AttackError> {
    let mut watch = |step: Step<'_>| {
        assert!(step.pixels.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(step.step >= 1 && (step.steps == 0 || step.step <= step.steps));
    };
    let images = (0..criterion.classes.len()).collect();
    let mut context = Context::new(model, 1, &mut watch, images);
    pollster::block_on(attack.attack(&mut context, pixels, criterion))
}

/// 8-bit pixels.
pub(super) fn image(rng: &mut Rng, length: usize) -> Vec<f32> {
    (0..length).map(|_| rng.below(256) as f32 / 255.0).collect()
}
