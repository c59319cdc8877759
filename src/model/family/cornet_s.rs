//! CORnet-S (Kubilius, Schrimpf et al. 2019): V1, then three recurrent areas.

use serde::{Deserialize, Serialize};

use super::cornet::{AREAS, READOUT};
#[cfg(feature = "checkpoint")]
use super::reading::{Gap, Reading};
use super::stem::StemConfig;
use super::traits::Family;
use crate::model::bounds::{Bounds, STEPS, WIDTH};
use crate::model::taps::TapInfo;
use crate::model::trace::{Map, Trace};
#[cfg(feature = "compute")]
pub use layers::CornetS;

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

impl Family for CornetSConfig {
    fn name() -> &'static str {
        "CORnet-S"
    }

    fn official() -> Self {
        Self {
            stem: Some(StemConfig::OFFICIAL),
            widths: [64, 128, 256, 512],
            times: [2, 4, 2],
            scale: 4,
        }
    }

    fn behind_vone() -> Option<Self> {
        Some(Self {
            stem: None,
            ..Self::official()
        })
    }

    #[cfg(feature = "checkpoint")]
    fn read(file: &mut Reading) -> Result<(Self, usize), Gap> {
        let (stem, v1) = match file.behind {
            Some(width) => (None, width),
            None => {
                let [_, v1, kernel] = file.conv("V1.conv1")?;
                (Some(StemConfig::read(file, kernel)), v1)
            }
        };
        let width = |area: &str| {
            let [_, width, _] = file.conv(&format!("{area}.conv_input"))?;
            Ok(width)
        };
        let widths = [v1, width("V2")?, width("V4")?, width("IT")?];
        let [_, wide, _] = file.conv("V2.conv1")?;
        let times = |area: &str| file.count(&format!("{area}.norm1_")).max(1);
        let [_, classes] = file.linear(READOUT)?;
        let config = Self {
            stem,
            widths,
            // Where it is not a multiple, the shapes that follow from this will not fit.
            scale: wide / widths[1],
            times: [times("V2"), times("V4"), times("IT")],
        };
        Ok((config, classes))
    }

    fn label(&self) -> String {
        Self::name().to_owned()
    }

    fn check(&self, bounds: &mut Bounds) {
        bounds.check_all("widths", self.widths, WIDTH);
        bounds.check_all("times", self.times, STEPS);
        bounds.check("scale", self.scale, (1, 16));
        if let Some(stem) = &self.stem {
            stem.check(bounds);
        }
    }

    fn trace(&self, trace: &mut Trace, x: &Map, classes: usize) -> Map {
        let mut x = x.clone();
        if let Some(stem) = &self.stem {
            let v1 = self.widths[0];
            let conv1 = trace.conv("V1.conv1", [3, v1], stem.kernel);
            let norm1 = trace.batch_norm("V1.norm1", v1);
            let conv2 = trace.conv("V1.conv2", [v1, v1], 3);
            let norm2 = trace.batch_norm("V1.norm2", v1);
            x = stem.trace(trace, (&conv1, &norm1), &x);
            x = trace.normed_relu((&conv2, &norm2), &x);
        }
        for (area, times) in self.times.into_iter().enumerate() {
            x = self.trace_area(trace, area + 1, times, &x);
        }
        trace.read_out(READOUT, &x, classes)
    }

    fn taps(&self) -> Vec<TapInfo> {
        let mut taps = Vec::new();
        if self.stem.is_some() {
            taps.extend(["V1.conv1", "V1"].map(TapInfo::area));
        }
        for (area, times) in AREAS[1..].iter().zip(self.times) {
            taps.extend((0..times).map(|t| TapInfo::step(area, t)));
        }
        taps
    }
}

impl CornetSConfig {
    fn trace_area(&self, trace: &mut Trace, area: usize, times: usize, x: &Map) -> Map {
        let (name, from, to) = (AREAS[area], self.widths[area - 1], self.widths[area]);
        let wide = to.saturating_mul(self.scale);
        let conv_input = trace.conv(&format!("{name}.conv_input"), [from, to], 1);
        let skip = trace.conv(&format!("{name}.skip"), [to, to], 1).stride(2);
        let norm_skip = trace.batch_norm(&format!("{name}.norm_skip"), to);
        let convs = [(1, [to, wide], 1), (2, [wide, wide], 3), (3, [wide, to], 1)]
            .map(|(i, channels, k)| trace.conv(&format!("{name}.conv{i}"), channels, k));
        let norms = [(1, wide), (2, wide), (3, to)].map(|(i, width)| {
            let norm = |t| trace.batch_norm(&format!("{name}.norm{i}_{t}"), width);
            (0..times).map(norm).collect::<Vec<_>>()
        });
        let [conv1, conv2, conv3] = convs;
        let [norm1, norm2, norm3] = norms;
        let mut x = trace.convolve(&conv_input, x);
        for (t, norm1) in norm1.iter().enumerate() {
            let (residual, stride) = match t {
                0 => (trace.normed((&skip, &norm_skip), &x), 2),
                _ => (x.clone(), 1),
            };
            let conv2 = conv2.clone().stride(stride);
            x = trace.normed_relu((&conv1, norm1), &x);
            x = trace.normed_relu((&conv2, &norm2[t]), &x);
            x = trace.normed((&conv3, &norm3[t]), &x);
            x = trace.add_relu(&x, &residual);
        }
        x
    }
}

#[cfg(feature = "compute")]
mod layers {
    use burn::module::Module;
    use burn::nn::BatchNorm;
    use burn::tensor::{Device, Tensor};

    use super::{AREAS, CornetSConfig, StemConfig};
    use crate::model::family::cornet::Decoder;
    use crate::model::family::traits::Layers;
    use crate::model::layers::{Conv, Normed, batch_norm, normalise_relu, pool3};
    use crate::model::probe::{Cancelled, Probe};

    /// V1 of CORnet-S: two convolutions with a pooling between them.
    #[derive(Module, Debug)]
    pub struct StemS {
        pub conv1: Conv,
        pub norm1: BatchNorm,
        pub conv2: Conv,
        pub norm2: BatchNorm,
        #[module(skip)]
        pool: bool,
    }

    impl StemS {
        fn new(stem: StemConfig, width: usize, device: &Device) -> Self {
            Self {
                conv1: Conv::new([3, width], stem.kernel, stem.stride, device),
                norm1: batch_norm(width, device),
                conv2: Conv::new([width, width], 3, 1, device),
                norm2: batch_norm(width, device),
                pool: stem.pool,
            }
        }

        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<4>, Cancelled> {
            let x = self.conv1.forward(x);
            probe.record("V1.conv1", &x)?;
            let x = normalise_relu(&self.norm1, x);
            let x = if self.pool { pool3(x, 1) } else { x };
            probe.record_detail("V1.pool", &x)?;
            let x = Normed::new(&self.conv2, &self.norm2).relu(x);
            probe.record("V1", &x)?;
            Ok(x)
        }
    }

    /// A recurrent area of CORnet-S: one bottleneck block, applied `times` times to its own output
    /// with the same convolutions and batch norms of each step's own.
    #[derive(Module, Debug)]
    pub struct BlockS {
        pub conv_input: Conv,
        pub skip: Conv,
        pub norm_skip: BatchNorm,
        pub conv1: Conv,
        pub conv2: Conv,
        pub conv3: Conv,
        pub norm1: Vec<BatchNorm>,
        pub norm2: Vec<BatchNorm>,
        pub norm3: Vec<BatchNorm>,
    }

    impl BlockS {
        fn new(channels: [usize; 2], times: usize, scale: usize, device: &Device) -> Self {
            let [from, to] = channels;
            let wide = to * scale;
            let norms = |width| (0..times).map(|_| batch_norm(width, device)).collect();
            Self {
                conv_input: Conv::new([from, to], 1, 1, device),
                skip: Conv::new([to, to], 1, 2, device),
                norm_skip: batch_norm(to, device),
                conv1: Conv::new([to, wide], 1, 1, device),
                conv2: Conv::new([wide, wide], 3, 2, device),
                conv3: Conv::new([wide, to], 1, 1, device),
                norm1: norms(wide),
                norm2: norms(wide),
                norm3: norms(to),
            }
        }

        fn forward(
            &self,
            area: &str,
            x: Tensor<4>,
            probe: &mut Probe,
        ) -> Result<Tensor<4>, Cancelled> {
            let times = self.norm1.len();
            let mut x = self.conv_input.forward(x);
            for t in 0..times {
                x = self.step(x, t);
                probe.record_step(area, t, times, &x)?;
            }
            Ok(x)
        }

        /// The first step halves the map and has a learnt skip; the later ones skip by identity.
        fn step(&self, x: Tensor<4>, t: usize) -> Tensor<4> {
            let (skip, stride) = match t {
                0 => {
                    let skip = Normed::new(&self.skip, &self.norm_skip).forward(x.clone());
                    (skip, 2)
                }
                _ => (x.clone(), 1),
            };
            let first = Normed::new(&self.conv1, &self.norm1[t]);
            let second = Normed::new(&self.conv2, &self.norm2[t]).strided(stride);
            let third = Normed::new(&self.conv3, &self.norm3[t]);
            third.add_relu(second.relu(first.relu(x)), skip)
        }
    }

    /// CORnet-S, or what stands behind a VOneBlock when `v1` is absent.
    #[derive(Module, Debug)]
    pub struct CornetS {
        pub v1: Option<StemS>,
        pub v2: BlockS,
        pub v4: BlockS,
        pub it: BlockS,
        pub decoder: Decoder,
    }

    impl CornetS {
        pub fn new(config: &CornetSConfig, classes: usize, device: &Device) -> Self {
            let [v1, v2, v4, it] = config.widths;
            let [t2, t4, ti] = config.times;
            let block = |from, to, times| BlockS::new([from, to], times, config.scale, device);
            Self {
                v1: config.stem.map(|stem| StemS::new(stem, v1, device)),
                v2: block(v1, v2, t2),
                v4: block(v2, v4, t4),
                it: block(v4, it, ti),
                decoder: Decoder::new(it, classes, device),
            }
        }

        /// Runs the recurrent areas from number `first` on; `x` is the output of the area before.
        fn forward_from(
            &self,
            first: usize,
            mut x: Tensor<4>,
            probe: &mut Probe,
        ) -> Result<Tensor<2>, Cancelled> {
            let blocks = [&self.v2, &self.v4, &self.it];
            for (area, block) in AREAS[1..].iter().zip(blocks).skip(first) {
                x = block.forward(area, x, probe)?;
            }
            self.decoder.forward(x, probe)
        }
    }

    impl Layers for CornetS {
        fn forward(&self, x: Tensor<4>, probe: &mut Probe) -> Result<Tensor<2>, Cancelled> {
            let x = match &self.v1 {
                Some(v1) => v1.forward(x, probe)?,
                None => x,
            };
            self.forward_from(0, x, probe)
        }

        /// The areas behind `area` run in full.
        fn read_out(
            &self,
            area: &str,
            state: Tensor<4>,
            probe: &mut Probe,
        ) -> Option<Result<Tensor<2>, Cancelled>> {
            let index = AREAS[1..].iter().position(|a| *a == area)?;
            Some(self.forward_from(index + 1, state, probe))
        }
    }
}
