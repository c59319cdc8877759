//! Architectures as data: the official network and the compact one are the same code with
//! other numbers.

use serde::{Deserialize, Serialize};

/// A whole network: an optional simulated V1 in front, a body, a number of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    pub body: BodyConfig,
    /// The VOneBlock of a VOneNet (Dapello, Marques et al. 2020).
    #[serde(default)]
    pub front: Option<VOneConfig>,
    pub classes: usize,
    pub preprocessing: Preprocessing,
}

/// What happens to a picture before the first layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The short side is brought to this many pixels (bilinear, as PIL does) …
    pub resize: usize,
    /// … and the centre square of this side is kept.
    pub crop: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyConfig {
    CornetS(CornetSConfig),
    CornetZ(CornetZConfig),
    CornetRt(CornetRtConfig),
    ResNet(ResNetConfig),
    AlexNet(AlexNetConfig),
    SmallCnn(SmallCnnConfig),
}

/// The first convolution of a body and the pooling behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StemConfig {
    pub kernel: usize,
    pub stride: usize,
    /// 3x3 max-pooling with stride 2 behind it.
    pub pool: bool,
}

impl StemConfig {
    /// 7x7, stride 2, pooled: CORnet-S and ResNet at 224 px.
    pub const OFFICIAL: Self = Self {
        kernel: 7,
        stride: 2,
        pool: true,
    };
}

/// CORnet-S (Kubilius, Schrimpf et al. 2019).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CornetSConfig {
    /// `None` behind a VOneBlock, which is V1 itself.
    pub stem: Option<StemConfig>,
    /// Channels of V1, V2, V4, IT.
    pub widths: [usize; 4],
    /// Time steps of V2, V4, IT.
    pub times: [usize; 3],
    /// Widening of the bottleneck convolutions inside a block.
    pub scale: usize,
}

impl CornetSConfig {
    pub fn official() -> Self {
        Self {
            stem: Some(StemConfig::OFFICIAL),
            widths: [64, 128, 256, 512],
            times: [2, 4, 2],
            scale: 4,
        }
    }
}

/// CORnet-Z: one convolution and one pooling an area, feed-forward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CornetZConfig {
    pub widths: [usize; 4],
    pub v1_kernel: usize,
    pub v1_stride: usize,
}

impl CornetZConfig {
    pub fn official() -> Self {
        Self {
            widths: [64, 128, 256, 512],
            v1_kernel: 7,
            v1_stride: 2,
        }
    }
}

/// CORnet-RT and CORnet-R: the same blocks and weights, unrolled differently in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CornetRtConfig {
    pub widths: [usize; 4],
    pub v1_kernel: usize,
    pub v1_stride: usize,
    pub times: usize,
    /// Groups of every group norm.
    pub groups: usize,
    pub unrolling: Unrolling,
}

impl CornetRtConfig {
    pub fn official(unrolling: Unrolling) -> Self {
        Self {
            widths: [64, 128, 256, 512],
            v1_kernel: 7,
            v1_stride: 4,
            times: 5,
            groups: 32,
            unrolling,
        }
    }
}

/// How a signal travels through the areas of CORnet-RT and -R.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unrolling {
    /// RT: one area a time step, as in the brain; an area sees its input of the step before.
    Biological,
    /// R: all areas within one time step.
    Sequential,
}

/// ResNet (He et al. 2016) as torchvision lays it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// `None` behind a VOneBlock.
    pub stem: Option<StemConfig>,
    /// Channels that enter `layer1`.
    pub width: usize,
    pub block: ResBlock,
    /// Planes of the four stages; a bottleneck's output is four times that.
    pub planes: [usize; 4],
    /// Blocks in the four stages; a stage of 0 is left out (with all behind it).
    pub layers: [usize; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResBlock {
    Basic,
    Bottleneck,
}

impl ResBlock {
    /// Output channels over planes.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl ResNetConfig {
    pub fn resnet18() -> Self {
        Self {
            stem: Some(StemConfig::OFFICIAL),
            width: 64,
            block: ResBlock::Basic,
            planes: [64, 128, 256, 512],
            layers: [2, 2, 2, 2],
        }
    }

    pub fn resnet50() -> Self {
        Self {
            block: ResBlock::Bottleneck,
            layers: [3, 4, 6, 3],
            ..Self::resnet18()
        }
    }
}

/// AlexNet (Krizhevsky 2014) as torchvision lays it out, or what follows a VOneBlock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlexNetConfig {
    pub channels_in: usize,
    pub convs: Vec<AlexConv>,
    /// Side of the adaptive average pool before the classifier.
    pub pool_to: usize,
    pub hidden: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlexConv {
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Padding of the 3x3 stride-2 max-pool behind it, if there is one.
    pub pool_padding: Option<usize>,
}

const fn alex_conv(
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    pool_padding: Option<usize>,
) -> AlexConv {
    AlexConv {
        out,
        kernel,
        stride,
        padding,
        pool_padding,
    }
}

impl AlexNetConfig {
    pub fn official() -> Self {
        Self {
            channels_in: 3,
            convs: vec![
                alex_conv(64, 11, 4, 2, Some(0)),
                alex_conv(192, 5, 1, 2, Some(0)),
                alex_conv(384, 3, 1, 1, None),
                alex_conv(256, 3, 1, 1, None),
                alex_conv(256, 3, 1, 1, Some(0)),
            ],
            pool_to: 6,
            hidden: [4096, 4096],
        }
    }

    /// The back-end of VOneAlexNet, with the given channel counts of its four convolutions.
    pub fn behind_vone(channels_in: usize, out: [usize; 4], hidden: [usize; 2]) -> Self {
        Self {
            channels_in,
            convs: vec![
                alex_conv(out[0], 5, 2, 2, Some(1)),
                alex_conv(out[1], 3, 1, 1, None),
                alex_conv(out[2], 3, 1, 1, None),
                alex_conv(out[3], 3, 1, 1, Some(1)),
            ],
            pool_to: 7,
            hidden,
        }
    }
}

/// Two convolutions and a linear layer: the small network attacks are checked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmallCnnConfig {
    pub widths: [usize; 2],
    /// Side of the square input, px.
    pub input: usize,
}

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
    /// The same spread for all cells, whatever they do.
    Gaussian,
}

/// Which Gabor parameters are drawn, see [`super::gabor`].
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

/// What torchvision does before an ImageNet model: short side to 256, the centre 224 px.
pub fn imagenet_preprocessing() -> Preprocessing {
    Preprocessing {
        resize: 256,
        crop: 224,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

/// The same geometry with the VOneNets' mean and standard deviation of 0.5.
pub fn vonenet_preprocessing() -> Preprocessing {
    Preprocessing {
        mean: [0.5; 3],
        std: [0.5; 3],
        ..imagenet_preprocessing()
    }
}

/// A number of a configuration that no network can be built with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the architecture asks for {what} = {value}, which must be from {low} to {high}")]
pub struct ConfigError {
    pub what: &'static str,
    pub value: usize,
    pub low: usize,
    pub high: usize,
}

/// `(what, value, low, high)`.
type Bound = (&'static str, usize, usize, usize);

const WIDTH: (usize, usize) = (1, 16_384);
const KERNEL: (usize, usize) = (1, 127);
const STRIDE: (usize, usize) = (1, 16);
const STEPS: (usize, usize) = (1, 64);

fn bound(what: &'static str, value: usize, (low, high): (usize, usize)) -> Bound {
    (what, value, low, high)
}

impl ModelConfig {
    /// Checks every number before anything is allocated by it: a configuration may come from a
    /// file that anybody made.
    pub fn check(&self) -> Result<(), ConfigError> {
        let p = &self.preprocessing;
        let mut bounds = vec![
            bound("classes", self.classes, (1, 65_536)),
            bound("preprocessing.resize", p.resize, (8, 4096)),
            bound("preprocessing.crop", p.crop, (8, 2048)),
            // A deviation of 0 would make every pixel infinite.
            bound(
                "preprocessing.std > 0",
                usize::from(p.std.iter().all(|s| *s > 0.0)),
                (1, 1),
            ),
        ];
        self.body.push_bounds(&mut bounds);
        if let Some(front) = &self.front {
            front.push_bounds(&mut bounds);
        }
        let outside = bounds
            .into_iter()
            .find(|(_, value, low, high)| !(low..=high).contains(&value));
        match outside {
            Some((what, value, low, high)) => Err(ConfigError {
                what,
                value,
                low,
                high,
            }),
            None => Ok(()),
        }
    }
}

impl StemConfig {
    fn push_bounds(&self, bounds: &mut Vec<Bound>) {
        bounds.push(bound("stem.kernel", self.kernel, KERNEL));
        bounds.push(bound("stem.stride", self.stride, STRIDE));
    }
}

impl BodyConfig {
    fn push_bounds(&self, bounds: &mut Vec<Bound>) {
        match self {
            Self::CornetS(c) => {
                bounds.extend(c.widths.map(|w| bound("widths", w, WIDTH)));
                bounds.extend(c.times.map(|t| bound("times", t, STEPS)));
                bounds.push(bound("scale", c.scale, (1, 16)));
                c.stem.iter().for_each(|stem| stem.push_bounds(bounds));
            }
            Self::CornetZ(c) => {
                bounds.extend(c.widths.map(|w| bound("widths", w, WIDTH)));
                bounds.push(bound("v1_kernel", c.v1_kernel, KERNEL));
                bounds.push(bound("v1_stride", c.v1_stride, STRIDE));
            }
            Self::CornetRt(c) => {
                bounds.extend(c.widths.map(|w| bound("widths", w, WIDTH)));
                bounds.push(bound("v1_kernel", c.v1_kernel, KERNEL));
                bounds.push(bound("v1_stride", c.v1_stride, STRIDE));
                bounds.push(bound("times", c.times, STEPS));
                bounds.push(bound("groups", c.groups, WIDTH));
                let rest = |w: usize| w.checked_rem(c.groups).unwrap_or(0);
                bounds.extend(
                    c.widths
                        .map(|w| bound("widths modulo groups", rest(w), (0, 0))),
                );
            }
            Self::ResNet(c) => {
                bounds.push(bound("width", c.width, WIDTH));
                bounds.extend(c.planes.map(|w| bound("planes", w, WIDTH)));
                bounds.extend(c.layers.map(|n| bound("layers", n, (0, 256))));
                c.stem.iter().for_each(|stem| stem.push_bounds(bounds));
            }
            Self::AlexNet(c) => {
                bounds.push(bound("channels_in", c.channels_in, WIDTH));
                bounds.push(bound("convolutions", c.convs.len(), (1, 64)));
                for conv in &c.convs {
                    bounds.push(bound("convs.out", conv.out, WIDTH));
                    bounds.push(bound("convs.kernel", conv.kernel, KERNEL));
                    bounds.push(bound("convs.stride", conv.stride, STRIDE));
                    bounds.push(bound("convs.padding", conv.padding, (0, 64)));
                    let pool = conv.pool_padding.unwrap_or(0);
                    bounds.push(bound("convs.pool_padding", pool, (0, 1)));
                }
                bounds.push(bound("pool_to", c.pool_to, (1, 64)));
                bounds.extend(c.hidden.map(|w| bound("hidden", w, WIDTH)));
            }
            Self::SmallCnn(c) => {
                bounds.extend(c.widths.map(|w| bound("widths", w, WIDTH)));
                bounds.push(bound("input", c.input, (8, 1024)));
            }
        }
    }
}

impl VOneConfig {
    fn push_bounds(&self, bounds: &mut Vec<Bound>) {
        bounds.push(bound("front.kernel", self.kernel, KERNEL));
        // An even filter has no centre.
        bounds.push(bound("front.kernel modulo 2", self.kernel % 2, (1, 1)));
        bounds.push(bound("front.stride", self.stride, STRIDE));
        bounds.push(bound(
            "front.simple_channels",
            self.simple_channels,
            (0, 8192),
        ));
        bounds.push(bound(
            "front.complex_channels",
            self.complex_channels,
            (0, 8192),
        ));
        bounds.push(bound("front.channels", self.channels(), WIDTH));
        bounds.push(bound("front.bottleneck", self.bottleneck, WIDTH));
        bounds.push(bound("front.image_size", self.image_size, (8, 4096)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn official() -> ModelConfig {
        ModelConfig {
            body: BodyConfig::CornetS(CornetSConfig::official()),
            front: Some(VOneConfig::official()),
            classes: 1000,
            preprocessing: vonenet_preprocessing(),
        }
    }

    #[test]
    fn the_published_networks_are_possible() {
        assert_eq!(official().check(), Ok(()));
    }

    #[test]
    fn impossible_numbers_are_named() {
        let mut config = official();
        if let BodyConfig::CornetS(c) = &mut config.body {
            c.widths[2] = usize::MAX;
        }
        let error = config.check().expect_err("no network is that wide");
        assert!(error.to_string().contains("widths"), "{error}");

        let mut config = official();
        config.preprocessing.std[1] = 0.0;
        assert!(config.check().is_err());

        let mut config = official();
        if let Some(front) = &mut config.front {
            front.kernel = 24;
        }
        assert!(config.check().is_err());
    }
}
