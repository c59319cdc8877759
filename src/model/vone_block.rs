//! VOneBlock (Dapello, Marques et al. 2020): a model of primary visual cortex made of a fixed
//! Gabor filter bank, simple and complex cells, and stochasticity.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::config::{NoiseConfig, NoiseMode, VOneConfig};
use super::layers::{Conv, convolve};

/// Keeps the gradient of a complex cell finite where both quadratures are zero; far below what
/// f32 resolves in a response.
const COMPLEX_EPSILON: f64 = 1e-12;

/// Keeps the gradient of the neuronal noise finite at zero. The published block uses the same
/// value, 1e-4.
const NOISE_EPSILON: f64 = 1e-4;

#[derive(Module, Debug)]
pub struct VOneBlock {
    /// First quadrature, all channels: `[simple + complex, 3, k, k]`.
    pub simple_conv_q0: Conv,
    /// Second quadrature. Only the complex channels are used.
    pub simple_conv_q1: Conv,
    #[module(skip)]
    simple_channels: usize,
    #[module(skip)]
    k_exc: f64,
    #[module(skip)]
    noise: NoiseConfig,
}

impl VOneBlock {
    pub fn new(config: &VOneConfig, device: &Device) -> Self {
        let bank = || Conv::new([3, config.channels()], config.kernel, config.stride, device);
        Self {
            simple_conv_q0: bank(),
            simple_conv_q1: bank(),
            simple_channels: config.simple_channels,
            k_exc: config.k_exc,
            noise: config.noise,
        }
    }

    /// Is the response stochastic when it is given noise?
    pub fn is_stochastic(&self) -> bool {
        self.noise.mode != NoiseMode::None
    }

    /// Shape of the response (and of its noise) to a batch of `n` images of side `side`.
    pub fn response_shape(&self, n: usize, side: usize) -> [usize; 4] {
        let [channels, _, kernel, _] = self.simple_conv_q0.weight.lazy_shape().dims::<4>();
        let conv = &self.simple_conv_q0;
        let out = (side + 2 * conv.padding - kernel) / conv.stride + 1;
        [n, channels, out, out]
    }

    /// `[n, 3, h, w]`, normalised, to `[n, simple + complex, h / stride, w / stride]`.
    ///
    /// `noise` holds standard normal draws of the response's shape, or of one image of it, which
    /// then serve the whole batch. Without it the block is deterministic.
    pub fn forward(&self, x: Tensor<4>, noise: Option<Tensor<4>>) -> Tensor<4> {
        let cells = self.cells(x) * self.k_exc;
        match noise {
            Some(noise) => relu(self.perturb(cells, noise)),
            None => cells,
        }
    }

    fn cells(&self, x: Tensor<4>) -> Tensor<4> {
        let conv = &self.simple_conv_q0;
        let q0 = conv.forward(x.clone());
        let [_, channels, ..] = q0.dims();
        let complex_channels = channels - self.simple_channels;
        if complex_channels == 0 {
            return relu(q0);
        }
        let second =
            self.simple_conv_q1
                .weight
                .val()
                .narrow(0, self.simple_channels, complex_channels);
        let q1 = convolve(x, second, None, conv.stride, conv.padding);
        let q0_complex = q0.clone().narrow(1, self.simple_channels, complex_channels);
        let energy = q0_complex.clone() * q0_complex + q1.clone() * q1;
        let complex = (energy + COMPLEX_EPSILON).sqrt() / std::f64::consts::SQRT_2;
        if self.simple_channels == 0 {
            return complex;
        }
        let simple = relu(q0.narrow(1, 0, self.simple_channels));
        Tensor::cat(vec![simple, complex], 1)
    }

    fn perturb(&self, x: Tensor<4>, noise: Tensor<4>) -> Tensor<4> {
        let NoiseConfig { mode, scale, level } = self.noise;
        match mode {
            NoiseMode::None => x,
            NoiseMode::Gaussian => x + noise * scale,
            NoiseMode::Neuronal => {
                // To spike counts, where the variance of a cell equals its mean, and back.
                let spikes = x * scale + level;
                let spread = (relu(spikes.clone()) + NOISE_EPSILON).sqrt();
                (spikes + noise * spread - level) / scale
            }
        }
    }
}
