//! A forward pass as plain data: which tensors a network has, which operations it does, what they
//! cost. One description of a network gives the published names of its weights, its multiply-adds
//! and its ONNX graph.
//!
//! Layers are declared once ([`Trace::conv`], [`Trace::batch_norm`], …), in the order of the fields
//! of the network's modules, and then applied, a recurrent one as often as there are time steps.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

/// Burn's and PyTorch's default for batch norm.
const NORM_EPSILON: f32 = 1e-5;

/// The name of a graph's input.
pub const INPUT: &str = "pixels";

/// A parameter or buffer, as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Running statistics are state, not parameters.
    pub fn is_buffer(&self) -> bool {
        is_buffer(&self.name)
    }

    /// Number of values.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|d| *d as u64).product()
    }
}

/// Whether a published name is that of a batch norm's running statistics.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
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

/// An input of an operation that is no tensor of the network.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Values {
        shape: Vec<usize>,
        values: Vec<f32>,
    },
    /// Some of the filters of a tensor, `[rows, …]`.
    Rows {
        of: String,
        rows: Range<usize>,
    },
}

/// The result of an operation: a square map, or features as a map of side 1.
#[derive(Clone, Debug)]
pub struct Map {
    name: String,
    pub channels: usize,
    /// px.
    pub side: usize,
}

/// A declared convolution.
#[derive(Clone, Debug)]
pub struct Conv {
    weight: String,
    bias: Option<String>,
    to: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Conv {
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Half the kernel where nothing else is said.
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// A map of the size that it makes of `x`, without making it.
    pub fn output(&self, x: &Map) -> Map {
        Map {
            name: x.name.clone(),
            channels: self.to,
            side: out(x.side, self.kernel, self.stride, self.padding),
        }
    }
}

/// A declared norm.
#[derive(Clone, Debug)]
pub enum Norm {
    /// Names of gain, bias, running mean, running variance.
    Batch([String; 4]),
    Group,
}

/// A declared linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: String,
    bias: String,
    to: usize,
}

/// A pass over one image.
#[derive(Default)]
pub struct Trace {
    /// Parameters and buffers, in the order of the modules' fields.
    pub tensors: Vec<TensorSpec>,
    pub nodes: Vec<Node>,
    pub constants: BTreeMap<String, Constant>,
    /// Of convolutions and linear layers. Norms, pools, additions and noise are not counted, as in
    /// the numbers the papers give.
    pub multiply_adds: u64,
    /// An operation that ONNX's opset 13 lacks.
    pub unsupported: Option<&'static str>,
    /// Before the names of all that is declared.
    pub prefix: &'static str,
}

// What is declared.
impl Trace {
    fn declare(&mut self, name: &str, part: &str, shape: &[usize]) -> String {
        let name = format!("{}{name}.{part}", self.prefix);
        self.tensors.push(TensorSpec {
            name: name.clone(),
            shape: shape.to_vec(),
        });
        name
    }

    /// A square convolution without bias: stride 1, padded by half its kernel.
    pub fn conv(&mut self, name: &str, [from, to]: [usize; 2], kernel: usize) -> Conv {
        Conv {
            weight: self.declare(name, "weight", &[to, from, kernel, kernel]),
            bias: None,
            to,
            kernel,
            stride: 1,
            padding: kernel / 2,
        }
    }

    pub fn conv_with_bias(&mut self, name: &str, channels: [usize; 2], kernel: usize) -> Conv {
        let mut conv = self.conv(name, channels, kernel);
        conv.bias = Some(self.declare(name, "bias", &channels[1..]));
        conv
    }

    pub fn batch_norm(&mut self, name: &str, channels: usize) -> Norm {
        let parts = ["weight", "bias", "running_mean", "running_var"];
        Norm::Batch(parts.map(|part| self.declare(name, part, &[channels])))
    }

    pub fn group_norm(&mut self, name: &str, channels: usize) -> Norm {
        for part in ["weight", "bias"] {
            self.declare(name, part, &[channels]);
        }
        Norm::Group
    }

    pub fn linear(&mut self, name: &str, [from, to]: [usize; 2]) -> Linear {
        Linear {
            weight: self.declare(name, "weight", &[to, from]),
            bias: self.declare(name, "bias", &[to]),
            to,
        }
    }

    /// A constant a channel, or one for all.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let constant = Constant::Values {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        self.constants.insert(name.to_owned(), constant);
        name.to_owned()
    }

    /// Some of a convolution's filters, as a convolution called `name`.
    pub fn rows(&mut self, name: &str, conv: &Conv, rows: Range<usize>) -> Conv {
        let (of, to) = (conv.weight.clone(), rows.len());
        let constant = Constant::Rows { of, rows };
        self.constants.insert(name.to_owned(), constant);
        Conv {
            weight: name.to_owned(),
            to,
            ..conv.clone()
        }
    }
}

// What is done.
impl Trace {
    /// The input image, `[n, 3, side, side]`.
    pub fn input(side: usize) -> Map {
        Map {
            name: INPUT.to_owned(),
            channels: 3,
            side,
        }
    }

    fn add_node(
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

    /// An operation on each value of `x`; `with` is another map or a constant.
    pub fn elementwise(&mut self, op: &'static str, x: &Map, with: &str) -> Map {
        let name = self.add_node(op, &[&x.name, with], &[], &[]);
        Map { name, ..*x }
    }

    pub fn add(&mut self, x: &Map, y: &Map) -> Map {
        self.elementwise("Add", x, &y.name)
    }

    pub fn square(&mut self, x: &Map) -> Map {
        self.elementwise("Mul", x, &x.name)
    }

    pub fn sqrt(&mut self, x: &Map) -> Map {
        let name = self.add_node("Sqrt", &[&x.name], &[], &[]);
        Map { name, ..*x }
    }

    pub fn relu(&mut self, x: &Map) -> Map {
        let name = self.add_node("Relu", &[&x.name], &[], &[]);
        Map { name, ..*x }
    }

    /// The channels of `x`, then those of `y`.
    pub fn concat(&mut self, x: &Map, y: &Map) -> Map {
        let name = self.add_node("Concat", &[&x.name, &y.name], &[("axis", &[1])], &[]);
        let channels = x.channels + y.channels;
        Map {
            name,
            channels,
            ..*x
        }
    }

    pub fn convolve(&mut self, conv: &Conv, x: &Map) -> Map {
        let [kernel, stride, padding] = [conv.kernel, conv.stride, conv.padding].map(|n| n as i64);
        let ints: [(&str, &[i64]); 3] = [
            ("kernel_shape", &[kernel; 2]),
            ("pads", &[padding; 4]),
            ("strides", &[stride; 2]),
        ];
        let mut inputs = vec![x.name.as_str(), &conv.weight];
        inputs.extend(conv.bias.as_deref());
        let name = self.add_node("Conv", &inputs, &ints, &[]);
        let y = conv.output(x);
        let filter = conv.kernel.saturating_mul(conv.kernel);
        self.count(&[filter, x.channels, y.channels, y.side, y.side]);
        Map { name, ..y }
    }

    fn count(&mut self, factors: &[usize]) {
        // A configuration that has not been checked may have any sizes.
        let product = factors
            .iter()
            .fold(1u64, |n, factor| n.saturating_mul(*factor as u64));
        self.multiply_adds = self.multiply_adds.saturating_add(product);
    }

    pub fn normalise(&mut self, norm: &Norm, x: &Map) -> Map {
        let Norm::Batch(parts) = norm else {
            self.unsupported = Some("group norm");
            return x.clone();
        };
        let [gain, bias, mean, variance] = parts;
        let inputs = [&x.name, gain, bias, mean, variance].map(String::as_str);
        let floats = [("epsilon", NORM_EPSILON)];
        let name = self.add_node("BatchNormalization", &inputs, &[], &floats);
        Map { name, ..*x }
    }

    /// Convolution and norm.
    pub fn normed(&mut self, (conv, norm): (&Conv, &Norm), x: &Map) -> Map {
        let x = self.convolve(conv, x);
        self.normalise(norm, &x)
    }

    /// Convolution, norm, ReLU.
    pub fn normed_relu(&mut self, layers: (&Conv, &Norm), x: &Map) -> Map {
        let x = self.normed(layers, x);
        self.relu(&x)
    }

    /// A skip connection and ReLU.
    pub fn add_relu(&mut self, x: &Map, skip: &Map) -> Map {
        let x = self.add(x, skip);
        self.relu(&x)
    }

    /// Max-pooling with stride 2.
    pub fn max_pool(&mut self, x: &Map, kernel: usize, padding: usize) -> Map {
        let ints: [(&str, &[i64]); 3] = [
            ("kernel_shape", &[kernel as i64; 2]),
            ("pads", &[padding as i64; 4]),
            ("strides", &[2; 2]),
        ];
        let name = self.add_node("MaxPool", &[&x.name], &ints, &[]);
        Map {
            name,
            side: out(x.side, kernel, 2, padding),
            ..*x
        }
    }

    /// Average pooling to a fixed side.
    pub fn average_to(&mut self, x: &Map, side: usize) -> Map {
        if x.side != side {
            self.unsupported = Some("adaptive average pooling");
        }
        Map { side, ..x.clone() }
    }

    /// Mean over height and width.
    pub fn global_mean(&mut self, x: &Map) -> Map {
        let name = self.add_node("GlobalAveragePool", &[&x.name], &[], &[]);
        Map {
            name,
            side: 1,
            ..*x
        }
    }

    /// All channels and places as features.
    pub fn flatten(&mut self, x: &Map) -> Map {
        let name = self.add_node("Flatten", &[&x.name], &[("axis", &[1])], &[]);
        let channels = x.channels.saturating_mul(x.side.saturating_mul(x.side));
        Map {
            name,
            channels,
            side: 1,
        }
    }

    pub fn project(&mut self, linear: &Linear, x: &Map) -> Map {
        let inputs = [&x.name, &linear.weight, &linear.bias].map(String::as_str);
        let name = self.add_node("Gemm", &inputs, &[("transB", &[1])], &[]);
        self.count(&[x.channels, linear.to]);
        Map {
            name,
            channels: linear.to,
            side: 1,
        }
    }

    /// The mean over a map and a linear layer called `name` of `classes` outputs.
    pub fn read_out(&mut self, name: &str, x: &Map, classes: usize) -> Map {
        let linear = self.linear(name, [x.channels, classes]);
        let x = self.global_mean(x);
        let x = self.flatten(&x);
        self.project(&linear, &x)
    }
}

/// Side of a convolution's or a pool's result, 0 where the input is smaller than the kernel.
fn out(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding)
        .checked_sub(kernel)
        .map_or(0, |rest| rest / stride.max(1) + 1)
}
