//! A network as a list of operations, for programs that are not this one: ONNX runtimes, and the
//! peers of the benchmark.
//!
//! In evaluation: norms by their running statistics, no noise. The input is pixels
//! `[n, 3, side, side]` in [0, 1]; preprocessing is part of the graph.

use std::collections::BTreeMap;

use super::load::{HostTensor, Loaded};
use super::trace::{Constant, INPUT, Node};

/// The name of the graph's output.
pub const OUTPUT: &str = "logits";

/// Why a model has no graph. A sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("{family} cannot be exported: ONNX's opset 13 has no {layer}")]
    Layer { family: String, layer: &'static str },
    #[error("the weights lack the tensor {0}")]
    Missing(String),
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
    /// [`GraphError`]: a layer that ONNX lacks, or a tensor that the model lacks.
    pub fn of(model: &Loaded) -> Result<Self, GraphError> {
        let side = model.config.preprocessing.crop;
        let trace = model.config.trace(side);
        if let Some(layer) = trace.unsupported {
            let family = model.family.clone();
            return Err(GraphError::Layer { family, layer });
        }
        let mut weights = BTreeMap::new();
        let names = trace.nodes.iter().flat_map(|node| &node.inputs);
        let results: Vec<&String> = trace.nodes.iter().map(|node| &node.output).collect();
        // What is neither the input nor a result is a weight.
        for name in names.filter(|name| *name != INPUT && !results.contains(name)) {
            let tensor = match trace.constants.get(name) {
                Some(constant) => constant_tensor(constant, model)?,
                None => tensor(name, model)?.clone(),
            };
            weights.insert(name.clone(), tensor);
        }
        let mut nodes = trace.nodes;
        if let Some(last) = nodes.last_mut() {
            last.output = OUTPUT.to_owned();
        }
        Ok(Self {
            nodes,
            weights,
            side,
            classes: model.config.classes,
        })
    }
}

fn tensor<'a>(name: &str, model: &'a Loaded) -> Result<&'a HostTensor, GraphError> {
    let found = model.weights.get(name);
    found.ok_or_else(|| GraphError::Missing(name.to_owned()))
}

fn constant_tensor(constant: &Constant, model: &Loaded) -> Result<HostTensor, GraphError> {
    let (shape, values) = match constant {
        Constant::Values { shape, values } => (shape.clone(), values.clone()),
        Constant::Rows { of, rows } => {
            let whole = tensor(of, model)?;
            let row: usize = whole.shape[1..].iter().product();
            let values = whole.values[rows.start * row..rows.end * row].to_vec();
            let mut shape = whole.shape.clone();
            shape[0] = rows.len();
            (shape, values)
        }
    };
    Ok(HostTensor { shape, values })
}
