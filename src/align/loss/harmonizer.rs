//! The Neural Harmonizer (Fel et al. 2022): where the network looks is to be where people look.
//!
//! The saliency of an image is the gradient of its true class's logit, so the loss on it has a
//! second derivative. Autodiff here goes one level deep, and none deeper is needed: with `v` the
//! loss's gradient in the saliency, the gradient in the weights is that of
//! `Σ ⟨∇ₓ z, v⟩`, the slope of the logit `z` along `v`, and a slope is a difference of two passes.

use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor, TensorData};

use crate::compute::kernel;

/// Levels of the pyramid that are compared; the last, coarsest one is built and not used.
pub const LEVELS: usize = 5;

/// Keeps a flat map's deviation, and a map without any positive value, from dividing by zero; the
/// published values.
const EPSILON_DEVIATION: f64 = 1e-5;
const EPSILON_MAXIMUM: f64 = 1e-6;

/// Half the distance of the two passes, as a fraction of an image's own length (L2): small against
/// the pieces of a piecewise linear network, large against rounding.
const STEP: f64 = 1e-3;

/// Saliency `[n, 1, h, w]` of an input gradient `[n, 3, h, w]`: the signed mean over channels.
pub fn saliency(gradient: Tensor<4>) -> Tensor<4> {
    gradient.mean_dim(1)
}

/// The loss of saliency maps and human heat maps, both `[n, 1, h, w]`; `[1]`. `told` `[n]` is 1 for
/// an image that has a heat map and 0 for one without.
///
/// Both maps are standardised per image and rectified, the human one brought to the network's
/// maximum, and the squared difference averaged over a pyramid of [`LEVELS`]. The maximum is taken
/// for a constant.
pub fn loss(saliency: Tensor<4>, human: Tensor<4>, told: Tensor<1>) -> Tensor<1> {
    let largest = maximum(&standardise(saliency.clone()));
    loss_at(saliency, human, told, largest)
}

/// [`loss`] with the network's maximum given, `[n, 1, 1, 1]`.
pub fn loss_at(
    saliency: Tensor<4>,
    human: Tensor<4>,
    told: Tensor<1>,
    largest: Tensor<4>,
) -> Tensor<1> {
    let [n, ..] = saliency.dims();
    let ours = standardise(saliency);
    let theirs = standardise(human);
    let factor = (largest + EPSILON_MAXIMUM) / (maximum(&theirs) + EPSILON_MAXIMUM);
    let theirs = theirs * factor;
    let mut difference = ours - theirs;
    let told = told.reshape([n, 1, 1, 1]);
    let mut total: Option<Tensor<1>> = None;
    for level in 0..LEVELS {
        if level > 0 {
            difference = halve(difference);
        }
        // A pyramid is linear: that of the difference is the difference of the pyramids.
        let level = (difference.clone().powf_scalar(2.0) * told.clone()).mean();
        total = Some(match total {
            Some(sum) => sum + level,
            None => level,
        });
    }
    // There is at least one level.
    total.unwrap_or_else(|| Tensor::zeros([1], &difference.device())) / LEVELS as f64
}

/// Mean 0, deviation 1 per image, negative values cut. `[n, 1, h, w]`.
pub fn standardise(map: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = map.dims();
    let flat = map.reshape([n, c * h * w]);
    let centred = flat.clone() - flat.mean_dim(1);
    let deviation = centred.clone().powf_scalar(2.0).mean_dim(1).sqrt();
    relu(centred / (deviation + EPSILON_DEVIATION)).reshape([n, c, h, w])
}

/// The largest value of each map, a constant. `[n, 1, 1, 1]`.
pub fn maximum(map: &Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = map.dims();
    let flat = map.clone().detach().reshape([n, c * h * w]);
    flat.max_dim(1).reshape([n, 1, 1, 1])
}

/// Smoothed by a 5×5 binomial filter, zeros around the map, and every second pixel kept: the first,
/// third, … of an odd side and the second, fourth, … of an even one, as the published code's padding
/// has it. `[n, 1, h, w]` to `[n, 1, ⌈h/2⌉, ⌈w/2⌉]`.
pub fn halve(map: Tensor<4>) -> Tensor<4> {
    let device = map.device();
    let row = [1.0_f32, 4.0, 6.0, 4.0, 1.0];
    let values: Vec<f32> = row
        .iter()
        .flat_map(|a| row.map(|b| a * b / 256.0))
        .collect();
    let weight = Tensor::from_data(TensorData::new(values, [1, 1, 5, 5]), &device);
    let kept = |side: usize| {
        let first = usize::from(side.is_multiple_of(2));
        let places: Vec<i32> = (first..side).step_by(2).map(|i| i as i32).collect();
        let count = places.len();
        Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &device)
    };
    let [_, _, h, w] = map.dims();
    let smooth = kernel::convolution(map, weight, 1, 2);
    smooth.select(2, kept(h)).select(3, kept(w))
}

/// Which way, and how far, the two passes of a slope go.
pub struct Probe {
    /// `x + δ` and then `x − δ`: `[2n, 3, h, w]`.
    pub inputs: Vec<f32>,
    /// What the logit of each is multiplied by in the sum that has the wanted gradient: `[2n]`.
    pub factors: Vec<f32>,
}

/// The passes for images `[n, 3, h, w]` along the loss's gradient in their saliency, `[n, 1, h, w]`.
/// An image whose gradient is zero gets factors of zero.
pub fn probe(pixels: &[f32], gradient: &[f32], n: usize) -> Probe {
    let length = pixels.len() / n.max(1);
    let plane = length / 3;
    let mut inputs = vec![0.0_f32; 2 * pixels.len()];
    let mut factors = vec![0.0_f32; 2 * n];
    let (plus, minus) = inputs.split_at_mut(pixels.len());
    for i in 0..n {
        let image = &pixels[i * length..(i + 1) * length];
        let slope = &gradient[i * plane..(i + 1) * plane];
        // The saliency is a mean over three channels: each has a third of its gradient.
        let norm = slope
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt()
            / 3f64.sqrt();
        let size = image
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        let step = STEP * size.max(1.0);
        let scale = if norm > 0.0 { step / norm / 3.0 } else { 0.0 };
        for (at, pixel) in image.iter().enumerate() {
            let delta = (f64::from(slope[at % plane]) * scale) as f32;
            plus[i * length + at] = pixel + delta;
            minus[i * length + at] = pixel - delta;
        }
        let factor = (norm / (2.0 * step)) as f32;
        factors[i] = factor;
        factors[n + i] = -factor;
    }
    Probe { inputs, factors }
}
