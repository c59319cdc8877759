//! Does a backend compute what the CPU computes?
//!
//! A GPU driver that gets a convolution wrong looks just like a broken model. So before a device
//! is used, the operations the networks are made of run on it and on the CPU, forward and
//! backward, at batch 1, where the known faults are (1x1 convolutions and linear layers).

use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use super::kernel::{
    Epilogue, apply_epilogue, convolution, convolution_epilogue, fold_batch_norm, max_pool,
    simple_and_complex, spiking,
};
use crate::rng::Rng;

/// A backend may differ from the CPU by this much, relative to the largest value.
pub const TOLERANCE: f32 = 1e-3;

/// The same where weights are in f16.
pub const F16_TOLERANCE: f32 = 5e-2;

/// Largest relative error of `device` against the CPU over all checked operations.
pub async fn max_relative_error(device: &Device) -> Result<f32, ExecutionError> {
    let ours = outputs(device).await?;
    let reference = outputs(&Device::flex()).await?;
    let errors = ours.iter().zip(&reference).map(|(a, b)| relative(a, b));
    Ok(errors.fold(0.0, f32::max))
}

/// max |a − b| / max |b|; infinite when anything is not a number.
pub fn relative(a: &[f32], b: &[f32]) -> f32 {
    let scale = b.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let mut worst = 0.0_f32;
    for (a, b) in a.iter().zip(b) {
        let error = (a - b).abs();
        if error.is_nan() {
            return f32::INFINITY;
        }
        worst = worst.max(error);
    }
    worst / scale
}

/// Logits and input gradient of a miniature network, of the kernels that the networks are made of.
async fn outputs(device: &Device) -> Result<[Vec<f32>; 2], ExecutionError> {
    let device = device.clone().autodiff();
    let mut rng = Rng::stream(7, "self-check");
    let x = Tensor::<4>::from_data(draw(&mut rng, [1, 3, 32, 32]), &device).require_grad();
    let w7 = Tensor::<4>::from_data(draw(&mut rng, [8, 3, 7, 7]), &device);
    let w1 = Tensor::<4>::from_data(draw(&mut rng, [16, 8, 1, 1]), &device);
    let w3 = Tensor::<4>::from_data(draw(&mut rng, [16, 16, 3, 3]), &device);
    let linear = Tensor::<2>::from_data(draw(&mut rng, [16, 10]), &device);
    let ones = Tensor::<1>::ones([16], &device);
    let scale_shift = || [ones.clone(), ones.clone() * 0.1];

    let y = convolution(x.clone(), w7, 2, 3).clamp_min(0.0);
    let y = max_pool(y, 3, 2, 1);
    let y = convolution_epilogue(y, w1, [1, 0], Epilogue::scale_shift(scale_shift(), true));
    let residual = Epilogue::residual(scale_shift(), y.clone());
    let y = convolution_epilogue(y, w3, [1, 1], residual);
    let [n, c, h, w] = y.dims();
    let y = (y.clone() * y + 1e-12).sqrt();
    let y = y.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]);
    let logits = y.matmul(linear);
    let gradients = (logits.clone() * logits.clone()).sum().backward();
    let gradient = x
        .grad(&gradients)
        .unwrap_or_else(|| x.clone().inner().zeros_like());
    Ok([read(logits.inner()).await?, read(gradient).await?])
}

/// The largest relative error of `device` against the CPU over every kernel, values and gradients,
/// on one shape drawn at random: odd sizes, single images, channels of any number among them.
pub async fn random_shape_error(device: &Device, number: u64) -> Result<f32, ExecutionError> {
    let ours = kernels(device, number).await?;
    let reference = kernels(&Device::flex(), number).await?;
    let errors = ours.iter().zip(&reference).map(|(a, b)| relative(a, b));
    Ok(errors.fold(0.0, f32::max))
}

/// Values and gradients of a convolution and of what may follow one.
async fn kernels(device: &Device, number: u64) -> Result<Vec<Vec<f32>>, ExecutionError> {
    let device = device.clone().autodiff();
    let mut rng = Rng::stream(number, "kernels");
    let mut among = |least: usize, most: usize| least + rng.below(most - least + 1);
    let (images, from, to) = (among(1, 3), among(1, 40), among(2, 70));
    let (kernel, stride) = ([1, 2, 3, 3, 5, 7][among(0, 5)], among(1, 3));
    let padding = among(0, kernel / 2);
    let sizes = [among(kernel, 21), among(kernel, 21)];
    let simple = among(1, to - 1);

    let x = [images, from, sizes[0], sizes[1]];
    let x = Tensor::<4>::from_data(draw(&mut rng, x), &device).require_grad();
    let weight = draw(&mut rng, [to, from, kernel, kernel]);
    let weight = Tensor::<4>::from_data(weight, &device).require_grad();
    let y = convolution(x.clone(), weight.clone(), stride, padding);
    let [_, _, height, width] = y.dims();
    let maps = |rng: &mut Rng, [images, channels]: [usize; 2]| {
        Tensor::<4>::from_data(coarse(rng, [images, channels, height, width]), &device)
    };
    let mut numbers = || Tensor::<1>::from_data(coarse(&mut rng, [to]), &device);
    let (first, second) = ([numbers(), numbers()], [numbers(), numbers()]);
    let z = maps(&mut rng, [images, to]).require_grad();
    let skip = maps(&mut rng, [images, to]).require_grad();
    let q1 = maps(&mut rng, [images, to - simple]).require_grad();
    let noise = maps(&mut rng, [1, to]);
    let upstream = maps(&mut rng, [images, to]);

    // No sum of the steps that these are drawn in lies nearer to a ReLU's kink than this.
    const OFF: f32 = 1.0 / 8192.0;
    let exact = coarse(&mut rng, [images, from, sizes[0], sizes[1]]);
    let exact = Tensor::<4>::from_data(exact, &device).require_grad();
    let kernels = coarse(&mut rng, [to, from, kernel, kernel]);
    let kernels = Tensor::<4>::from_data(kernels, &device).require_grad();
    let [scale, shift] = second.clone();
    let follows = || [scale.clone(), shift.clone() + OFF];
    let steps = [stride, padding];
    let scaled = |relu| {
        let epilogue = Epilogue::scale_shift(follows(), relu);
        convolution_epilogue(exact.clone(), kernels.clone(), steps, epilogue)
    };
    let (fused, passed) = (scaled(true), scaled(false));
    let pointwise = coarse(&mut rng, [to, to, 1, 1]);
    let pointwise = Tensor::<4>::from_data(pointwise, &device).require_grad();
    let residual = Epilogue::residual(follows(), skip.clone());
    let added = convolution_epilogue(z.clone(), pointwise.clone(), [1, 0], residual);
    let window = 2 + number as usize % 2;
    let pooled = max_pool(z.clone(), window, 1 + number as usize % 3, window / 2);
    let pooled_upstream = coarse(&mut rng, pooled.dims());
    let pooled_upstream = Tensor::<4>::from_data(pooled_upstream, &device);
    let [gain, bias] = first.clone();
    let running = fold_batch_norm([gain, bias, shift.clone(), scale.clone().abs()], 0.125);

    let normed = apply_epilogue(z.clone(), Epilogue::scale_shift(first, false));
    let normed = apply_epilogue(normed, Epilogue::residual(second, skip.clone()));
    let cells = simple_and_complex(z.clone(), q1.clone(), simple, 1.5);
    let noisy = spiking(cells, noise, 0.25, 0.125);
    let sum = y.clone() + normed.clone() + noisy.clone() + fused.clone() + passed.clone();
    let pooled_sum = (pooled.clone() * pooled_upstream).sum();
    let sum = ((sum + added.clone()) * upstream).sum() + pooled_sum;
    let gradients = sum.backward();
    let mut found = Vec::new();
    for value in [y, normed, noisy, fused, passed, added, pooled] {
        found.push(read(value.inner()).await?);
    }
    for numbers in running {
        found.push(read(numbers.inner()).await?);
    }
    for input in [x, weight, z, skip, q1, exact, kernels, pointwise] {
        found.push(match input.grad(&gradients) {
            Some(gradient) => read(gradient).await?,
            None => vec![f32::NAN],
        });
    }
    Ok(found)
}

/// Normal draws in steps so large that scaling and adding them rounds nothing: a value then is on
/// the same side of a ReLU's kink on every device.
fn coarse<const D: usize>(rng: &mut Rng, shape: [usize; D]) -> TensorData {
    const STEPS: f32 = 16.0;
    let mut values = vec![0.0_f32; shape.iter().product()];
    rng.fill_normal(&mut values);
    for value in &mut values {
        *value = (*value * STEPS).round() / STEPS;
    }
    TensorData::new(values, shape)
}

fn draw<const D: usize>(rng: &mut Rng, shape: [usize; D]) -> TensorData {
    let mut values = vec![0.0_f32; shape.iter().product()];
    rng.fill_normal(&mut values);
    TensorData::new(values, shape)
}

async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExecutionError> {
    let data = tensor.into_data_async().await?;
    // A dtype that is not f32 counts as disagreement.
    Ok(data.try_to_vec().unwrap_or_else(|_| vec![f32::NAN]))
}
