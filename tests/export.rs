//! A model as a graph and as ONNX: the operations give the network's logits, and the file holds them.
#![cfg(feature = "compute")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, linear, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use ventral::model::checkpoint::Source;
use ventral::model::family::BodyConfig;
use ventral::model::family::alexnet::AlexNetConfig;
use ventral::model::family::cornet_rt::CornetRtConfig;
use ventral::model::family::cornet_z::CornetZConfig;
use ventral::model::family::small_cnn::SmallCnnConfig;
use ventral::model::family::traits::Family;
use ventral::model::graph::{Graph, OUTPUT};
use ventral::model::load::{HostTensor, Loaded, read};
use ventral::model::onnx;
use ventral::model::probe::CancelToken;
use ventral::model::trace::{INPUT, Node, TensorSpec};
use ventral::rng::Rng;

fn shipped(name: &str) -> Loaded {
    let file = format!("{name}.safetensors");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("static/models")
        .join(&file);
    let source: Box<dyn Source> = Box::new(BufReader::new(File::open(path).unwrap()));
    read(&file, vec![source], &CancelToken::default(), |_, _, _| {}).unwrap()
}

/// A weight of any number of axes as one of four.
fn of_four(tensor: &HostTensor, device: &Device) -> Tensor<4> {
    let mut shape = [1; 4];
    match tensor.shape.as_slice() {
        // A norm's numbers are a channel's each.
        [channels] if *channels > 1 => shape[1] = *channels,
        given => shape[..given.len()].copy_from_slice(given),
    }
    Tensor::from_data(TensorData::new(tensor.values.clone(), shape), device)
}

fn done(node: &Node, inputs: &[Tensor<4>]) -> Tensor<4> {
    let pair = |name: &str| [0, 1].map(|at| node.ints[name][at] as usize);
    let x = inputs[0].clone();
    let other = || inputs[1].clone();
    match node.op {
        "Add" => x + other(),
        "Sub" => x - other(),
        "Mul" => x * other(),
        "Div" => x / other(),
        "Sqrt" => x.sqrt(),
        "Relu" => relu(x),
        "Concat" => Tensor::cat(inputs.to_vec(), 1),
        "Conv" => {
            let options = ConvOptions::new(pair("strides"), pair("pads"), [1; 2], 1);
            let bias = inputs.get(2).map(|bias| bias.clone().flatten::<1>(0, 3));
            conv2d(x, other(), bias, options)
        }
        "BatchNormalization" => {
            let [gain, bias, mean, variance] = [1, 2, 3, 4].map(|at| inputs[at].clone());
            let scale = gain / (variance + node.floats["epsilon"]).sqrt();
            (x - mean) * scale + bias
        }
        "MaxPool" => {
            let options = MaxPoolOptions::new(pair("kernel_shape"))
                .with_stride(pair("strides"))
                .with_padding(pair("pads"));
            max_pool2d(x, options)
        }
        "GlobalAveragePool" => x.mean_dim(3).mean_dim(2),
        "Flatten" => {
            let [n, channels, height, width] = x.dims();
            x.reshape([n, channels * height * width, 1, 1])
        }
        "Gemm" => {
            let ([n, from, ..], [to, ..]) = (x.dims(), other().dims());
            let weight: Tensor<2> = other().reshape([to, from]).transpose();
            let bias: Tensor<1> = inputs[2].clone().reshape([to]);
            let y = linear(x.reshape([n, from]), weight, Some(bias));
            y.reshape([n, to, 1, 1])
        }
        other => panic!("an operation of no name here: {other}"),
    }
}

fn assert_same_logits(model: &Loaded) {
    let (device, name) = (Device::flex(), &model.name);
    let graph = Graph::of(model).unwrap();
    let side = graph.side;
    let mut rng = Rng::from_seed(1);
    let values: Vec<f32> = (0..2 * 3 * side * side)
        .map(|_| rng.uniform_f32())
        .collect();
    let pixels = Tensor::<4>::from_data(TensorData::new(values, [2, 3, side, side]), &device);
    let mut made = BTreeMap::from([(INPUT.to_owned(), pixels.clone())]);
    for (name, tensor) in &graph.weights {
        made.insert(name.clone(), of_four(tensor, &device));
    }
    for node in &graph.nodes {
        let inputs: Vec<_> = node.inputs.iter().map(|name| made[name].clone()).collect();
        made.insert(node.output.clone(), done(node, &inputs));
    }
    let network = model.to_network(&device);
    let expected: Vec<f32> = network
        .forward(pixels, None)
        .into_data()
        .try_to_vec()
        .unwrap();
    let found: Vec<f32> = made[OUTPUT].clone().into_data().try_to_vec().unwrap();
    assert_eq!(found.len(), 2 * graph.classes, "{name}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!(
            (found - expected).abs() < 1e-4,
            "{name}: {found} against {expected}"
        );
    }
}

#[test]
fn a_graph_gives_the_networks_logits() {
    for name in [
        "cornet-s-cifar10",
        "resnet-cifar10",
        "voneresnet-cifar10",
        "resnet-tiny40",
    ] {
        assert_same_logits(&shipped(name));
    }
}

/// Weights go to a network by their place and to a graph by their name.
#[test]
fn a_graph_of_any_family_gives_the_networks_logits() {
    let z = CornetZConfig {
        widths: [4, 5, 6, 7],
        ..CornetZConfig::official()
    };
    let mut alexnet = AlexNetConfig {
        pool_to: 1,
        hidden: [6, 7],
        ..AlexNetConfig::official()
    };
    for (i, conv) in alexnet.convs.iter_mut().enumerate() {
        conv.out = 4 + i;
    }
    let small = SmallCnnConfig {
        input: 64,
        ..SmallCnnConfig::official()
    };
    for body in [
        BodyConfig::CornetZ(z),
        BodyConfig::AlexNet(alexnet),
        BodyConfig::SmallCnn(small),
    ] {
        let mut model = shipped("resnet-tiny40");
        model.config.body = body;
        model.name = model.config.label();
        let mut rng = Rng::from_seed(2);
        let mut drawn = |spec: TensorSpec| {
            let values = (0..spec.elements()).map(|_| 0.2 * rng.uniform_f32() - 0.1);
            let (shape, values) = (spec.shape, values.collect());
            (spec.name, HostTensor { shape, values })
        };
        model.weights = model.config.tensors().into_iter().map(&mut drawn).collect();
        assert_same_logits(&model);
    }
}

#[test]
fn what_onnx_lacks_is_said() {
    let mut model = shipped("resnet-tiny40");
    model.config.body = BodyConfig::CornetRt(CornetRtConfig::official());
    model.family = model.config.label();
    let said = Graph::of(&model).unwrap_err().to_string();
    assert_eq!(
        said,
        "CORnet-RT cannot be exported: ONNX's opset 13 has no group norm"
    );
}

/// The fields of a message of protocol buffers: their numbers and, of the lengthy ones, their bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes);
                0
            }
            2 => varint(&mut bytes) as usize,
            5 => 4,
            kind => panic!("wire type {kind}"),
        };
        let (own, rest) = bytes.split_at(length);
        all.push((tag >> 3, own));
        bytes = rest;
    }
    all
}

#[test]
fn an_onnx_file_holds_the_graph() {
    let model = shipped("voneresnet-cifar10");
    let graph = Graph::of(&model).unwrap();
    let mut file = Vec::new();
    onnx::write(&graph, &mut file).unwrap();
    let of = |all: &[(u64, &[u8])], field: u64| all.iter().filter(|(f, _)| *f == field).count();
    let whole = fields(&file);
    assert_eq!(
        [of(&whole, 7), of(&whole, 8)],
        [1, 1],
        "a graph and an opset"
    );
    let inner = whole.iter().find(|(field, _)| *field == 7).unwrap().1;
    let inner = fields(inner);
    assert_eq!(of(&inner, 1), graph.nodes.len());
    assert_eq!(of(&inner, 5), graph.weights.len());
    assert_eq!(
        [of(&inner, 11), of(&inner, 12)],
        [1, 1],
        "an input and an output"
    );
    let first = inner.iter().find(|(field, _)| *field == 5).unwrap().1;
    let raw = fields(first)
        .into_iter()
        .find(|(field, _)| *field == 9)
        .unwrap()
        .1;
    let (_, tensor) = graph.weights.iter().next().unwrap();
    let values: Vec<f32> = raw
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_eq!(values, tensor.values);
}

#[test]
fn what_has_no_graph_is_said() {
    let mut model = shipped("cornet-s-cifar10");
    model.weights.remove("V4.conv2.weight");
    let said = Graph::of(&model).unwrap_err().to_string();
    assert_eq!(said, "the weights lack the tensor V4.conv2.weight");
}
