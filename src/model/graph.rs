//! A network as a list of operations, for programs that are not this one: ONNX runtimes, and the
//! peers of the benchmark.
//!
//! CORnet-S and ResNets, alone or behind a VOneBlock, in evaluation: norms by their running
//! statistics, no noise. The input is pixels `[n, 3, side, side]` in [0, 1]; preprocessing is part
//! of the graph.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::{
    BodyConfig, CornetSConfig, ModelConfig, ResBlock, ResNetConfig, StemConfig, VOneConfig,
};
use super::load::{HostTensor, Loaded};

/// Burn's and PyTorch's default for batch norm.
const NORM_EPSILON: f32 = 1e-5;

/// What the graph is given, and what it gives.
pub const INPUT: &str = "pixels";
pub const OUTPUT: &str = "logits";

/// Why a model has no graph. A sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("{0} cannot be exported: CORnet-S, ResNets and VOneNets with these can")]
    Family(String),
    #[error("the weights lack the tensor {0}")]
    Missing(String),
}

/// One operation, named and with attributes as ONNX has them (opset 13).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub op: &'static str,
    /// Results of earlier nodes, weights, or [`INPUT`].
    pub inputs: Vec<String>,
    pub output: String,
    pub ints: BTreeMap<&'static str, Vec<i64>>,
    pub floats: BTreeMap<&'static str, f32>,
}

/// Operations in an order in which they can be done, and what they need.
#[derive(Clone, Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub weights: BTreeMap<String, HostTensor>,
    /// Of the input, px.
    pub side: usize,
    pub classes: usize,
}

impl Graph {
    /// The graph of a model.
    ///
    /// # Errors
    /// [`GraphError`]: of another family, or incomplete.
    pub fn of(model: &Loaded) -> Result<Self, GraphError> {
        let ModelConfig {
            body,
            front,
            classes,
            preprocessing,
        } = &model.config;
        let mut building = Building {
            source: &model.weights,
            nodes: Vec::new(),
            weights: BTreeMap::new(),
            prefix: "",
        };
        let x = building.normalised(preprocessing.mean, preprocessing.std);
        let x = match front {
            Some(front) => building.front(front, x)?,
            None => x,
        };
        if front.is_some() {
            building.prefix = "model.";
        }
        match body {
            BodyConfig::CornetS(config) => building.cornet_s(config, x)?,
            BodyConfig::ResNet(config) => building.resnet(config, x)?,
            _ => return Err(GraphError::Family(model.family.clone())),
        }
        if let Some(last) = building.nodes.last_mut() {
            last.output = OUTPUT.to_owned();
        }
        Ok(Self {
            nodes: building.nodes,
            weights: building.weights,
            side: preprocessing.crop,
            classes: *classes,
        })
    }
}

struct Building<'a> {
    source: &'a BTreeMap<String, HostTensor>,
    nodes: Vec<Node>,
    weights: BTreeMap<String, HostTensor>,
    /// Of the body's published names.
    prefix: &'static str,
}

type Made = Result<String, GraphError>;

impl Building<'_> {
    fn add(
        &mut self,
        op: &'static str,
        inputs: &[&str],
        ints: &[(&'static str, &[i64])],
        floats: &[(&'static str, f32)],
    ) -> String {
        let output = format!("x{}", self.nodes.len());
        self.nodes.push(Node {
            op,
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.clone(),
            ints: ints
                .iter()
                .map(|(name, values)| (*name, values.to_vec()))
                .collect(),
            floats: floats.iter().copied().collect(),
        });
        output
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let tensor = HostTensor {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        self.weights.insert(name.to_owned(), tensor);
        name.to_owned()
    }

    /// A tensor of the model's.
    fn tensor(&self, name: &str) -> Result<&HostTensor, GraphError> {
        let found = self.source.get(name);
        found.ok_or_else(|| GraphError::Missing(name.to_owned()))
    }

    /// A tensor of the body's, taken over.
    fn weight(&mut self, name: &str) -> Made {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.tensor(&name)?.clone();
        self.weights.insert(name.clone(), tensor);
        Ok(name)
    }

    fn normalised(&mut self, mean: [f32; 3], std: [f32; 3]) -> String {
        let mean = self.constant("mean", &[1, 3, 1, 1], &mean);
        let std = self.constant("std", &[1, 3, 1, 1], &std);
        let x = self.add("Sub", &[INPUT, &mean], &[], &[]);
        self.add("Div", &[&x, &std], &[], &[])
    }

    fn convolved(&mut self, x: &str, weight: &str, stride: usize, kernel: usize) -> String {
        let (pad, stride, kernel) = ((kernel / 2) as i64, stride as i64, kernel as i64);
        let ints: [(&str, &[i64]); 3] = [
            ("kernel_shape", &[kernel; 2]),
            ("pads", &[pad; 4]),
            ("strides", &[stride; 2]),
        ];
        self.add("Conv", &[x, weight], &ints, &[])
    }

    /// `NAME.weight` on `x`.
    fn conv(&mut self, x: &str, name: &str, stride: usize) -> Made {
        let weight = self.weight(&format!("{name}.weight"))?;
        let kernel = self.weights[&weight].shape.last().copied().unwrap_or(1);
        Ok(self.convolved(x, &weight, stride, kernel))
    }

    fn norm(&mut self, x: &str, name: &str) -> Made {
        let mut inputs = vec![x.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.weight(&format!("{name}.{part}"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(self.add(
            "BatchNormalization",
            &inputs,
            &[],
            &[("epsilon", NORM_EPSILON)],
        ))
    }

    fn relu(&mut self, x: &str) -> String {
        self.add("Relu", &[x], &[], &[])
    }

    fn conv_norm_relu(&mut self, x: &str, conv: &str, norm: &str, stride: usize) -> Made {
        let x = self.conv(x, conv, stride)?;
        let x = self.norm(&x, norm)?;
        Ok(self.relu(&x))
    }

    fn add_relu(&mut self, x: &str, skip: &str) -> String {
        let x = self.add("Add", &[x, skip], &[], &[]);
        self.relu(&x)
    }

    fn pool(&mut self, x: &str) -> String {
        let ints: [(&str, &[i64]); 3] = [
            ("kernel_shape", &[3; 2]),
            ("pads", &[1; 4]),
            ("strides", &[2; 2]),
        ];
        self.add("MaxPool", &[x], &ints, &[])
    }

    fn read_out(&mut self, x: &str, name: &str) -> Result<(), GraphError> {
        let x = self.add("GlobalAveragePool", &[x], &[], &[]);
        let x = self.add("Flatten", &[&x], &[("axis", &[1])], &[]);
        let weight = self.weight(&format!("{name}.weight"))?;
        let bias = self.weight(&format!("{name}.bias"))?;
        self.add("Gemm", &[&x, &weight, &bias], &[("transB", &[1])], &[]);
        Ok(())
    }

    /// Simple and complex cells and the bottleneck behind them.
    fn front(&mut self, config: &VOneConfig, x: String) -> Made {
        let (simple, all, kernel) = (config.simple_channels, config.channels(), config.kernel);
        let bank =
            |this: &Self, name: &str, part: std::ops::Range<usize>| -> Result<_, GraphError> {
                let bank = this.tensor(&format!("vone_block.simple_conv_{name}.weight"))?;
                let filter = 3 * kernel * kernel;
                Ok(bank.values[part.start * filter..part.end * filter].to_vec())
            };
        let parts = [
            ("q0.simple", bank(self, "q0", 0..simple)?, simple),
            ("q0.complex", bank(self, "q0", simple..all)?, all - simple),
            ("q1.complex", bank(self, "q1", simple..all)?, all - simple),
        ];
        let responses = parts.map(|(name, values, count)| {
            (count > 0).then(|| {
                let weight = self.constant(name, &[count, 3, kernel, kernel], &values);
                self.convolved(&x, &weight, config.stride, kernel)
            })
        });
        let [cells, first, second] = responses;
        let cells = cells.map(|cells| self.relu(&cells));
        let complex = first.zip(second).map(|(first, second)| {
            let first = self.add("Mul", &[&first, &first], &[], &[]);
            let second = self.add("Mul", &[&second, &second], &[], &[]);
            let energy = self.add("Add", &[&first, &second], &[], &[]);
            let half = self.constant("half", &[1], &[0.5]);
            let energy = self.add("Mul", &[&energy, &half], &[], &[]);
            self.add("Sqrt", &[&energy], &[], &[])
        });
        let v1 = match (cells, complex) {
            (Some(cells), Some(complex)) => {
                self.add("Concat", &[&cells, &complex], &[("axis", &[1])], &[])
            }
            (cells, complex) => cells.or(complex).unwrap_or(x),
        };
        let gain = self.constant("k_exc", &[1], &[config.k_exc as f32]);
        let v1 = self.add("Mul", &[&v1, &gain], &[], &[]);
        self.conv(&v1, "bottleneck", 1)
    }

    fn stem(&mut self, config: &StemConfig, x: &str, conv: &str, norm: &str) -> Made {
        let x = self.conv_norm_relu(x, conv, norm, config.stride)?;
        Ok(if config.pool { self.pool(&x) } else { x })
    }

    fn cornet_s(&mut self, config: &CornetSConfig, x: String) -> Result<(), GraphError> {
        let mut x = x;
        if let Some(stem) = &config.stem {
            x = self.stem(stem, &x, "V1.conv1", "V1.norm1")?;
            x = self.conv_norm_relu(&x, "V1.conv2", "V1.norm2", 1)?;
        }
        for (area, times) in ["V2", "V4", "IT"].into_iter().zip(config.times) {
            x = self.conv(&x, &format!("{area}.conv_input"), 1)?;
            for t in 0..times {
                x = self.step(&x, area, t)?;
            }
        }
        self.read_out(&x, "decoder.linear")
    }

    /// A time step of an area of CORnet-S.
    fn step(&mut self, x: &str, area: &str, t: usize) -> Made {
        let (skip, stride) = match t {
            0 => {
                let skip = self.conv(x, &format!("{area}.skip"), 2)?;
                (self.norm(&skip, &format!("{area}.norm_skip"))?, 2)
            }
            _ => (x.to_owned(), 1),
        };
        let mut x = x.to_owned();
        for (layer, stride) in [(1, 1), (2, stride), (3, 1)] {
            x = self.conv(&x, &format!("{area}.conv{layer}"), stride)?;
            x = self.norm(&x, &format!("{area}.norm{layer}_{t}"))?;
            if layer < 3 {
                x = self.relu(&x);
            }
        }
        Ok(self.add_relu(&x, &skip))
    }

    fn resnet(&mut self, config: &ResNetConfig, x: String) -> Result<(), GraphError> {
        let mut x = x;
        if let Some(stem) = &config.stem {
            x = self.stem(stem, &x, "conv1", "bn1")?;
        }
        for (stage, blocks) in config.layers.into_iter().enumerate() {
            for block in 0..blocks {
                let name = format!("layer{}.{block}", stage + 1);
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                x = self.block(config.block, &x, &name, stride)?;
            }
        }
        self.read_out(&x, "fc")
    }

    fn block(&mut self, kind: ResBlock, x: &str, name: &str, stride: usize) -> Made {
        let strides: &[usize] = match kind {
            ResBlock::Basic => &[stride, 1],
            ResBlock::Bottleneck => &[1, stride, 1],
        };
        let down = format!("{name}.downsample.0");
        let has_skip = self
            .source
            .contains_key(&format!("{}{down}.weight", self.prefix));
        let skip = match has_skip {
            true => {
                let skip = self.conv(x, &down, stride)?;
                self.norm(&skip, &format!("{name}.downsample.1"))?
            }
            false => x.to_owned(),
        };
        let mut x = x.to_owned();
        for (layer, stride) in strides.iter().enumerate() {
            x = self.conv(&x, &format!("{name}.conv{}", layer + 1), *stride)?;
            x = self.norm(&x, &format!("{name}.bn{}", layer + 1))?;
            if layer + 1 < strides.len() {
                x = self.relu(&x);
            }
        }
        Ok(self.add_relu(&x, &skip))
    }
}
