//! Does a backend compute what the CPU computes?
//!
//! A GPU driver that gets a convolution wrong looks just like a broken model. So before a device
//! is used, the operations the networks are made of run on it and on the CPU, forward and
//! backward, at batch 1, where the known faults are (1x1 convolutions and linear layers).

use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use crate::rng::Rng;

/// A backend may differ from the CPU by this much, relative to the largest value.
pub const TOLERANCE: f32 = 1e-3;

/// Largest relative error of `device` against the CPU over all checked operations.
pub async fn max_relative_error(device: &Device) -> Result<f32, ExecutionError> {
    let ours = outputs(device).await?;
    let reference = outputs(&Device::flex()).await?;
    let errors = ours.iter().zip(&reference).map(|(a, b)| relative(a, b));
    Ok(errors.fold(0.0, f32::max))
}

/// max |a − b| / max |b|; infinite when anything is not a number.
fn relative(a: &[f32], b: &[f32]) -> f32 {
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

/// Logits and input gradient of a miniature network.
async fn outputs(device: &Device) -> Result<[Vec<f32>; 2], ExecutionError> {
    let device = device.clone().autodiff();
    let mut rng = Rng::stream(7, "self-check");
    let x = Tensor::<4>::from_data(draw(&mut rng, [1, 3, 32, 32]), &device).require_grad();
    let w7 = Tensor::<4>::from_data(draw(&mut rng, [8, 3, 7, 7]), &device);
    let w1 = Tensor::<4>::from_data(draw(&mut rng, [16, 8, 1, 1]), &device);
    let w3 = Tensor::<4>::from_data(draw(&mut rng, [16, 16, 3, 3]), &device);
    let linear = Tensor::<2>::from_data(draw(&mut rng, [16, 10]), &device);
    let ones = Tensor::<1>::ones([16], &device);

    let y = conv2d(x.clone(), w7, None, conv(2, 3));
    let y = max_pool2d(relu(y), pool());
    let y = conv2d(y, w1, None, conv(1, 0));
    let y = batch_norm(
        y,
        ones.clone(),
        ones.clone() * 0.1,
        ones.clone() * 0.2,
        ones,
        1e-5,
    );
    let y = conv2d(relu(y), w3, None, conv(1, 1));
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

fn conv(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1)
}

fn pool() -> MaxPoolOptions<2> {
    MaxPoolOptions::new([3; 2])
        .with_stride([2; 2])
        .with_padding([1; 2])
}
