//! The Neural Harmonizer (Fel et al. 2022), which aligns the network's saliency with where people
//! look.
//!
//! The saliency of an image is the gradient of its true class's logit, so the loss on it has a
//! second derivative. Autodiff here goes one level deep, and none deeper is needed: with `v` the
//! loss's gradient in the saliency, the gradient in the weights is that of
//! `Σ ⟨∇ₓ z, v⟩`, the slope of the logit `z` along `v`, and a slope is a difference of two passes.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Context, Input, Loss};
use crate::align::error::AlignError;
use crate::compute::kernel;
use crate::train::accuracy::read;

/// The term of a part of a batch.
pub(super) fn term<'c>(context: &'c mut Context<'_>) -> Loss<'c> {
    Box::pin(async move {
        let network = context.network;
        let frozen = network.clone().freeze();
        let trained = |x| network.forward(x, None);
        let frozen = |x| frozen.forward(x, None);
        harmonize(trained, frozen, context.input, context.device).await
    })
}

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

/// The loss of saliency maps and human heat maps, both `[n, 1, h, w]`; `[1]`. `has_map` `[n]` is 1 for
/// an image that has a heat map and 0 for one without.
///
/// Both maps are standardised per image and rectified, the human one brought to the network's
/// maximum, and the squared difference averaged over a pyramid of [`LEVELS`]. The maximum counts
/// as a constant.
pub fn loss(saliency: Tensor<4>, human: Tensor<4>, has_map: Tensor<1>) -> Tensor<1> {
    let largest = maximum(&standardise(saliency.clone()));
    loss_at(saliency, human, has_map, largest)
}

/// [`loss`] with the network's maximum given, `[n, 1, 1, 1]`.
pub fn loss_at(
    saliency: Tensor<4>,
    human: Tensor<4>,
    has_map: Tensor<1>,
    largest: Tensor<4>,
) -> Tensor<1> {
    let [n, ..] = saliency.dims();
    let ours = standardise(saliency);
    let theirs = standardise(human);
    let factor = (largest + EPSILON_MAXIMUM) / (maximum(&theirs) + EPSILON_MAXIMUM);
    let theirs = theirs * factor;
    let mut difference = ours - theirs;
    let has_map = has_map.reshape([n, 1, 1, 1]);
    let mut total: Option<Tensor<1>> = None;
    for level in 0..LEVELS {
        if level > 0 {
            difference = halve(difference);
        }
        // A pyramid is linear: that of the difference is the difference of the pyramids.
        let level = (difference.clone().powf_scalar(2.0) * has_map.clone()).mean();
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

/// The two passes of a slope.
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

/// The harmonizer's loss, `[1]`: its value is that of [`loss`], and its gradient in the
/// weights is that of the value, second derivatives included, by the passes of [`probe`].
///
/// `trained` gives the logits of pixels on the training side of `device`; `frozen` gives the same
/// without a gradient in the weights. For a network of smooth units the gradient is exact to
/// rounding (within 1 %); that of rectified ones also includes units whose sign differs between the
/// two passes, which double autodiff leaves out.
///
/// # Errors
/// A device that failed.
pub async fn harmonize(
    trained: impl Fn(Tensor<4>) -> Tensor<2>,
    frozen: impl Fn(Tensor<4>) -> Tensor<2>,
    input: &Input,
    device: &Device,
) -> Result<Tensor<1>, AlignError> {
    let training = device.clone().autodiff();
    let (n, side) = (input.labels.len(), input.side);
    let tensor = |pixels: &[f32]| {
        let shape = [pixels.len() / (3 * side * side), 3, side, side];
        Tensor::<4>::from_data(TensorData::new(pixels.to_vec(), shape), &training)
    };
    let x = tensor(&input.pixels).require_grad();
    let logits = true_logits(frozen(x.clone()), &input.labels);
    let gradient = x.grad(&logits.sum().backward());
    let gradient = gradient
        .ok_or_else(|| AlignError::Model("the logits do not depend on the image".into()))?;
    let map = Tensor::from_inner(saliency(gradient)).require_grad();
    let human = TensorData::new(input.heat_maps.clone(), [n, 1, side, side]);
    let human = Tensor::from_data(human, &training);
    let maps = input.heat_maps.chunks_exact(side * side);
    let has_map: Vec<f32> = maps
        .map(|map| f32::from(u8::from(map.iter().any(|v| *v != 0.0))))
        .collect();
    let has_map = Tensor::from_data(TensorData::new(has_map, [n]), &training);
    let loss = loss(map.clone(), human, has_map);
    let slope = match map.grad(&loss.backward()) {
        Some(slope) => read(slope).await?,
        None => vec![0.0; n * side * side],
    };
    let probe = probe(&input.pixels, &slope, n);
    let both = [input.labels.as_slice(), input.labels.as_slice()].concat();
    let logits = true_logits(trained(tensor(&probe.inputs)), &both);
    let factors = Tensor::from_data(TensorData::new(probe.factors, [2 * n]), &training);
    let slope = (logits * factors).sum();
    // The slope gives the gradient and the loss the value; their difference is a constant.
    Ok(slope.clone() + (loss.detach() - slope.detach()))
}

/// The logit of each image's class, `[n]`.
fn true_logits(logits: Tensor<2>, labels: &[u16]) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let mut chosen = vec![0.0_f32; n * classes];
    for (i, label) in labels.iter().enumerate() {
        if let Some(one) = chosen.get_mut(i * classes + usize::from(*label)) {
            *one = 1.0;
        }
    }
    let chosen = Tensor::from_data(TensorData::new(chosen, [n, classes]), &logits.device());
    (logits * chosen).sum_dim(1).reshape([n])
}
