//! VOneBlock (Dapello, Marques et al. 2020): a model of primary visual cortex made of a fixed Gabor
//! filter bank, simple and complex cells, and stochasticity. It stands before the body of a VOneNet.

use serde::{Deserialize, Serialize};

#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use crate::model::bounds::{Bounds, KERNEL, STRIDE, SettingError, WIDTH, check_setting};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::{FrontEnd, VOneBlock};

/// Before the published names of a VOneNet's body.
pub const BODY_PREFIX: &str = "model.";

/// The published names of the filter bank, by quadrature: `.weight` follows.
pub const BANK: [&str; 2] = ["vone_block.simple_conv_q0", "vone_block.simple_conv_q1"];

const BOTTLENECK: &str = "bottleneck";

/// VOneBlock (Dapello, Marques et al. 2020): a fixed Gabor filter bank, simple and complex cells,
/// stochasticity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VOneConfig {
    /// Side of the image, px; with `visual_degrees` it fixes pixels a degree.
    pub image_size: usize,
    pub visual_degrees: f64,
    /// Side of a filter, px, odd.
    pub kernel: usize,
    pub stride: usize,
    pub simple_channels: usize,
    pub complex_channels: usize,
    /// Gain of the simulated cells.
    pub k_exc: f64,
    pub noise: NoiseConfig,
    pub gabor: GaborConfig,
    /// Channels of the 1x1 bottleneck between V1 and the body.
    pub bottleneck: usize,
}

/// The stochasticity of a VOneBlock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseConfig {
    pub mode: NoiseMode,
    /// Neuronal: from model units to spike counts. Gaussian: the standard deviation.
    pub scale: f64,
    /// Neuronal only: the baseline spike count.
    pub level: f64,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            mode: NoiseMode::Neuronal,
            scale: 0.35,
            level: 0.07,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseMode {
    /// No stochasticity (the published `_ns` models).
    None,
    /// Variance equal to the mean, as in V1 spike counts.
    Neuronal,
    /// The same standard deviation for all cells, whatever their response.
    Gaussian,
}

/// The distributions that Gabor parameters are drawn from, see [`crate::model::gabor`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaborConfig {
    pub seed: u64,
    /// Correlation between spatial frequency and receptive-field size (Schiller 1976).
    pub sf_corr: f64,
    /// Cycles per degree.
    pub sf_max: f64,
    pub sf_min: f64,
    /// Uniform instead of neuronal distributions.
    pub rand_param: bool,
}

impl Default for GaborConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            sf_corr: 0.75,
            sf_max: 9.0,
            sf_min: 0.0,
            rand_param: false,
        }
    }
}

impl VOneConfig {
    /// Simple and complex channels together.
    pub fn channels(&self) -> usize {
        self.simple_channels + self.complex_channels
    }

    /// The published block: 256 + 256 channels, 8 degrees at 224 px.
    pub fn official() -> Self {
        Self {
            image_size: 224,
            visual_degrees: 8.0,
            kernel: 25,
            stride: 4,
            simple_channels: 256,
            complex_channels: 256,
            k_exc: 25.0,
            noise: NoiseConfig::default(),
            gabor: GaborConfig::default(),
            bottleneck: 64,
        }
    }

    /// From the shapes of a file and the settings of its training script, else as published.
    ///
    /// # Errors
    /// A tensor that is missing or has an impossible shape.
    #[cfg(feature = "checkpoint")]
    pub fn read(file: &Reading) -> Result<Self, Gap> {
        let official = Self::official();
        let [_, cells, kernel] = file.conv(BANK[0])?;
        let [_, bottleneck, _] = file.conv(BOTTLENECK)?;
        let simple = file.size("simple_channels");
        let complex = file.size("complex_channels");
        let (simple_channels, complex_channels) = match (simple, complex) {
            (Some(s), Some(c)) => (s, c),
            (Some(s), None) => (s, cells.saturating_sub(s)),
            (None, Some(c)) => (cells.saturating_sub(c), c),
            (None, None) => (cells - cells / 2, cells / 2),
        };
        Ok(Self {
            image_size: file.size("image_size").unwrap_or(official.image_size),
            visual_degrees: file.number("visual_degrees", official.visual_degrees),
            kernel,
            stride: file.size("stride").unwrap_or(official.stride),
            simple_channels,
            complex_channels,
            k_exc: file.number("k_exc", official.k_exc),
            noise: NoiseConfig::read(file),
            gabor: GaborConfig::read(file),
            bottleneck,
        })
    }

    pub fn check(&self, bounds: &mut Bounds) {
        bounds.check("front.kernel", self.kernel, KERNEL);
        // An even filter has no centre.
        bounds.check("front.kernel modulo 2", self.kernel % 2, (1, 1));
        bounds.check("front.stride", self.stride, STRIDE);
        bounds.check("front.simple_channels", self.simple_channels, (0, 8192));
        bounds.check("front.complex_channels", self.complex_channels, (0, 8192));
        let channels = self.simple_channels.saturating_add(self.complex_channels);
        bounds.check("front.channels", channels, WIDTH);
        bounds.check("front.bottleneck", self.bottleneck, WIDTH);
        bounds.check("front.image_size", self.image_size, (8, 4096));
    }

    /// Checks what a file's settings say in real numbers.
    ///
    /// # Errors
    /// The first that no network can have.
    pub fn check_settings(&self) -> Result<(), SettingError> {
        // Their sum is taken before their range is checked.
        check_setting("simple_channels", self.simple_channels as f64, 0.0, 1e6)?;
        check_setting("complex_channels", self.complex_channels as f64, 0.0, 1e6)?;
        check_setting("visual_degrees", self.visual_degrees, 1e-3, 360.0)?;
        check_setting("k_exc", self.k_exc, -1e6, 1e6)?;
        // Neuronal noise is divided by its scale.
        let least = match self.noise.mode {
            NoiseMode::Neuronal => 1e-9,
            _ => 0.0,
        };
        check_setting("noise_scale", self.noise.scale, least, 1e6)?;
        check_setting("noise_level", self.noise.level, 0.0, 1e6)?;
        check_setting("sf_corr", self.gabor.sf_corr, -1.0, 1.0)?;
        check_setting("sf_max", self.gabor.sf_max, 0.0, 1e3)?;
        check_setting("sf_min", self.gabor.sf_min, 0.0, 1e3)
    }

    /// Simple and complex cells without noise, and the bottleneck behind them.
    pub fn trace(&self, trace: &mut Trace, x: &Map) -> Map {
        let (simple, all) = (self.simple_channels, self.channels());
        let [q0, q1] = BANK.map(|name| {
            let conv = trace.conv(name, [3, all], self.kernel);
            conv.stride(self.stride)
        });
        let bottleneck = trace.conv(BOTTLENECK, [all, self.bottleneck], 1);
        let parts = [
            ("q0.simple", &q0, 0..simple),
            ("q0.complex", &q0, simple..all),
            ("q1.complex", &q1, simple..all),
        ];
        let [cells, first, second] = parts.map(|(name, bank, rows)| {
            (!rows.is_empty()).then(|| {
                let conv = trace.rows(name, bank, rows);
                trace.convolve(&conv, x)
            })
        });
        let cells = cells.map(|cells| trace.relu(&cells));
        let complex = first.zip(second).map(|(first, second)| {
            let (first, second) = (trace.square(&first), trace.square(&second));
            let energy = trace.add(&first, &second);
            let half = trace.constant("half", &[1], &[0.5]);
            let energy = trace.elementwise("Mul", &energy, &half);
            trace.sqrt(&energy)
        });
        let v1 = match (cells, complex) {
            (Some(cells), Some(complex)) => trace.concat(&cells, &complex),
            (cells, complex) => cells.or(complex).unwrap_or(x.clone()),
        };
        let gain = trace.constant("k_exc", &[1], &[self.k_exc as f32]);
        let v1 = trace.elementwise("Mul", &v1, &gain);
        trace.convolve(&bottleneck, &v1)
    }

    pub fn taps(&self) -> Vec<TapInfo> {
        ["V1", BOTTLENECK].map(TapInfo::area).into()
    }
}

#[cfg(feature = "checkpoint")]
impl NoiseConfig {
    fn read(file: &Reading) -> Self {
        let default = Self::default();
        // `voneresnet50_ns_e70` is the published model without stochasticity.
        let is_without = file.name.contains("_ns_") || file.name.contains("_ns.");
        let mode = match file.text("noise_mode") {
            Some("neuronal") => NoiseMode::Neuronal,
            Some("gaussian") => NoiseMode::Gaussian,
            None if !file.has("noise_mode") && !is_without => default.mode,
            _ => NoiseMode::None,
        };
        Self {
            mode,
            scale: file.number("noise_scale", default.scale),
            level: file.number("noise_level", default.level),
        }
    }
}

#[cfg(feature = "checkpoint")]
impl GaborConfig {
    fn read(file: &Reading) -> Self {
        let default = Self::default();
        Self {
            seed: file.size("gabor_seed").map_or(default.seed, |n| n as u64),
            sf_corr: file.number("sf_corr", default.sf_corr),
            sf_max: file.number("sf_max", default.sf_max),
            sf_min: file.number("sf_min", default.sf_min),
            rand_param: file.truth("rand_param").unwrap_or(default.rand_param),
        }
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    use super::{BOTTLENECK, NoiseConfig, NoiseMode, VOneConfig};
    use crate::compute::kernel::{self, COMPLEX_EPSILON};
    use crate::model::layers::{Conv, convolve};
    use crate::model::probe::{Cancelled, Probe};

    /// The simulated V1 of a VOneNet and the 1x1 convolution that narrows it for the body.
    #[derive(Module, Debug)]
    pub struct FrontEnd {
        pub vone_block: VOneBlock,
        pub bottleneck: Conv,
    }

    impl FrontEnd {
        pub fn new(config: &VOneConfig, device: &Device) -> Self {
            Self {
                vone_block: VOneBlock::new(config, device),
                bottleneck: Conv::new([config.channels(), config.bottleneck], 1, 1, device),
            }
        }

        /// Normalised images `[n, 3, h, w]` and the noise of [`VOneBlock::forward`] to
        /// `[n, bottleneck, h / stride, w / stride]`.
        ///
        /// # Errors
        /// A pass that its user cancelled.
        pub fn forward(
            &self,
            x: Tensor<4>,
            noise: Option<Tensor<4>>,
            probe: &mut Probe,
        ) -> Result<Tensor<4>, Cancelled> {
            let v1 = self.vone_block.forward(x, noise);
            probe.record("V1", &v1)?;
            let x = self.bottleneck.forward(v1);
            probe.record(BOTTLENECK, &x)?;
            Ok(x)
        }
    }

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
}
