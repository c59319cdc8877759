//! Batch norm by the batch's own statistics (Ioffe and Szegedy 2015) on the CPU, ReLU included.
//!
//! A channel of a batch is a run of floats an image; all passes over it go from run to run, so
//! nothing is transposed.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::epilogue::{gate, rectify};
use super::tensor::{contiguous, tensor};
use super::threads::{LEAST_SHARED, Shared, each};

/// Sums are taken in this many lanes, which the compiler keeps in vector registers.
const LANES: usize = 16;

/// The result, mean and biased variance.
pub fn forward(
    x: FlexTensor,
    gain: FlexTensor,
    bias: FlexTensor,
    epsilon: f32,
    relu: bool,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let shape: [usize; 4] = x.shape().dims();
    let (x, gain, bias) = (contiguous(x), contiguous(gain), contiguous(bias));
    let (values, gain, bias): (&[f32], &[f32], &[f32]) =
        (x.storage(), gain.storage(), bias.storage());
    let batch = Batch::new(shape);
    let channels = shape[1];
    let y = Shared::unwritten(values.len());
    let [means, variances] = [(); 2].map(|()| Shared::unwritten(channels));
    batch.each_channel(|c| {
        let mean = batch.mean(c, |run| sum(values, run, |v| v));
        let variance = batch.mean(c, |run| sum(values, run, |v| (v - mean) * (v - mean)));
        let scale = gain[c] / (variance + epsilon).sqrt();
        let shift = bias[c] - mean * scale;
        // SAFETY: every channel is one item, and writes to its own places only.
        let [y, means, variances] = [&y, &means, &variances].map(|all| unsafe { all.get() });
        for run in batch.runs(c) {
            let pairs = y[run.clone()].iter_mut().zip(&values[run]);
            match relu {
                true => pairs.for_each(|(y, x)| *y = rectify(x * scale + shift)),
                false => pairs.for_each(|(y, x)| *y = x * scale + shift),
            }
        }
        means[c] = mean;
        variances[c] = variance;
    });
    (
        tensor(y.into_inner(), shape),
        tensor(means.into_inner(), [channels]),
        tensor(variances.into_inner(), [channels]),
    )
}

/// Gradients with respect to the input, the gain and the bias.
pub fn backward(
    [x, y]: [FlexTensor; 2],
    gain: FlexTensor,
    [mean, variance]: [FlexTensor; 2],
    grad: FlexTensor,
    epsilon: f32,
    relu: bool,
) -> [FlexTensor; 3] {
    let shape: [usize; 4] = x.shape().dims();
    let all = [x, y, gain, mean, variance, grad].map(contiguous);
    let [x, y, gain, mean, variance, grad] = all.each_ref().map(|tensor| tensor.storage::<f32>());
    let batch = Batch::new(shape);
    // Where the ReLU was shut the gradient is zero.
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let channels = shape[1];
    let x_grad = Shared::unwritten(x.len());
    let [gain_grad, bias_grad] = [(); 2].map(|()| Shared::unwritten(channels));
    batch.each_channel(|c| {
        let inverse = 1.0 / (variance[c] + epsilon).sqrt();
        let (mut sum, mut weighted) = (0.0_f64, 0.0_f64);
        for run in batch.runs(c) {
            let slices = [&grad[run.clone()], &y[run.clone()], &x[run]];
            let (s, w) = two_sums(slices, floor, mean[c]);
            sum += s;
            weighted += w * f64::from(inverse);
        }
        let count = batch.count() as f64;
        let (drift, tilt) = ((sum / count) as f32, (weighted / count) as f32);
        let scale = gain[c] * inverse;
        // SAFETY: every channel is one item, and writes to its own places only.
        let [to_x, to_gain, to_bias] =
            [&x_grad, &gain_grad, &bias_grad].map(|all| unsafe { all.get() });
        for run in batch.runs(c) {
            let steep = inverse * tilt;
            let shift = mean[c] * steep - drift;
            let slices = [&grad[run.clone()], &y[run.clone()], &x[run.clone()]];
            input_gradient(slices, floor, [scale, shift, steep], &mut to_x[run]);
        }
        to_gain[c] = weighted as f32;
        to_bias[c] = sum as f32;
    });
    [
        tensor(x_grad.into_inner(), shape),
        tensor(gain_grad.into_inner(), [channels]),
        tensor(bias_grad.into_inner(), [channels]),
    ]
}

/// Where the channels of a batch lie.
struct Batch {
    images: usize,
    channels: usize,
    positions: usize,
}

impl Batch {
    fn new([images, channels, height, width]: [usize; 4]) -> Self {
        Self {
            images,
            channels,
            positions: height * width,
        }
    }

    /// `work` on each channel, some at a time where there is enough to do.
    fn each_channel(&self, work: impl Fn(usize) + Sync) {
        if self.channels * self.count() < LEAST_SHARED {
            return (0..self.channels).for_each(work);
        }
        let channels: Vec<usize> = (0..self.channels).collect();
        each(&channels, |channel, _| work(*channel));
    }

    /// Values of a channel.
    fn count(&self) -> usize {
        self.images * self.positions
    }

    fn runs(&self, channel: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        (0..self.images).map(move |image| {
            let start = (image * self.channels + channel) * self.positions;
            start..start + self.positions
        })
    }

    fn mean(&self, channel: usize, sum: impl Fn(std::ops::Range<usize>) -> f64) -> f32 {
        let total: f64 = self.runs(channel).map(sum).sum();
        (total / self.count() as f64) as f32
    }
}

/// `scale · (g + shift − x · steep)` with the gradient `g` where `y` is above `floor`.
fn input_gradient(
    [grad, y, x]: [&[f32]; 3],
    floor: f32,
    [scale, shift, steep]: [f32; 3],
    out: &mut [f32],
) {
    for (((out, g), y), x) in out.iter_mut().zip(grad).zip(y).zip(x) {
        let g = gate(*g, *y > floor);
        *out = scale * (g + shift - x * steep);
    }
}

/// Sum of `f` over a run.
fn sum(values: &[f32], run: std::ops::Range<usize>, f: impl Fn(f32) -> f32) -> f64 {
    let (chunks, rest) = values[run].as_chunks::<LANES>();
    let rest: f32 = rest.iter().map(|v| f(*v)).sum();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    f64::from(lanes.iter().sum::<f32>() + rest)
}

/// Sums of the gradient where `y` is above `floor`, and of it times the centred `x`.
fn two_sums(slices: [&[f32]; 3], floor: f32, centre: f32) -> (f64, f64) {
    let term = |g: f32, y: f32, x: f32| {
        let g = gate(g, y > floor);
        (g, g * (x - centre))
    };
    let (mut sums, mut products) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let [grad, y, x] = slices.map(|slice| slice.as_chunks::<LANES>());
    for (g, (y, x)) in grad.0.iter().zip(y.0.iter().zip(x.0)) {
        for lane in 0..LANES {
            let (sum, product) = term(g[lane], y[lane], x[lane]);
            sums[lane] += sum;
            products[lane] += product;
        }
    }
    for (g, (y, x)) in grad.1.iter().zip(y.1.iter().zip(x.1)) {
        let (sum, product) = term(*g, *y, *x);
        sums[0] += sum;
        products[0] += product;
    }
    (
        f64::from(sums.iter().sum::<f32>()),
        f64::from(products.iter().sum::<f32>()),
    )
}
