//! VOneBlock (Dapello, Marques et al. 2020): a model of primary visual cortex made of a fixed
//! Gabor filter bank, simple and complex cells, and stochasticity.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::config::{NoiseConfig, NoiseMode, VOneConfig};
use super::layers::{Conv, convolve};
use crate::compute::kernel::{self, COMPLEX_EPSILON};

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
        let cells = self.cells(x);
        let NoiseConfig { mode, scale, level } = self.noise;
        match noise.map(|noise| (mode, noise)) {
            None => cells,
            Some((NoiseMode::None, _)) => relu(cells),
            Some((NoiseMode::Gaussian, noise)) => relu(cells + noise * scale),
            Some((NoiseMode::Neuronal, noise)) => kernel::spiking(cells, noise, scale, level),
        }
    }

    fn cells(&self, x: Tensor<4>) -> Tensor<4> {
        let conv = &self.simple_conv_q0;
        let q0 = conv.forward(x.clone());
        let [_, channels, ..] = q0.dims();
        let complex_channels = channels - self.simple_channels;
        if complex_channels == 0 {
            return relu(q0) * self.k_exc;
        }
        let second =
            self.simple_conv_q1
                .weight
                .val()
                .narrow(0, self.simple_channels, complex_channels);
        let q1 = convolve(x, second, None, conv.stride, conv.padding);
        if self.simple_channels == 0 {
            let energy = q0.clone() * q0 + q1.clone() * q1 + COMPLEX_EPSILON;
            return energy.sqrt() * (self.k_exc * std::f64::consts::FRAC_1_SQRT_2);
        }
        kernel::simple_and_complex(q0, q1, self.simple_channels, self.k_exc)
    }
}
