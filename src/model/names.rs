//! The published name of every parameter.
//!
//! Our modules and the official ones are laid out alike; what differs is spelling. One walk over
//! a network gives `(published name, parameter)` for loading, saving, freezing and reporting.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::alexnet::AlexNet;
use super::config::{BodyConfig, ModelConfig};
use super::network::Network;

/// Spells module paths as the published checkpoints do.
#[derive(Clone, Debug)]
pub struct Speller {
    path: Vec<String>,
    /// VOneNets keep their body under `model.`.
    body_prefix: Option<&'static str>,
    alexnet_features: Vec<usize>,
}

impl Speller {
    pub fn new(config: &ModelConfig) -> Self {
        let alexnet_features = match &config.body {
            BodyConfig::AlexNet(c) => AlexNet::feature_indices(&c.convs),
            _ => Vec::new(),
        };
        Self {
            path: Vec::new(),
            body_prefix: config.front.as_ref().map(|_| "model"),
            alexnet_features,
        }
    }

    fn enter(&mut self, name: &str) {
        self.path.push(name.to_owned());
    }

    fn exit(&mut self) {
        self.path.pop();
    }

    /// `body.CornetS.v2.norm1.0.gamma` becomes `V2.norm1_0.weight`.
    fn spell(&self) -> String {
        let mut spelled: Vec<String> = Vec::with_capacity(self.path.len());
        let mut parts = self.path.iter().map(String::as_str);
        // "front" and "body" are ours alone, and so is the name of the body's variant.
        if parts.next() == Some("body") {
            parts.next();
            spelled.extend(self.body_prefix.map(str::to_owned));
        }
        for part in parts {
            self.push(&mut spelled, part);
        }
        spelled.join(".")
    }

    fn push(&self, spelled: &mut Vec<String>, part: &str) {
        let index: Option<usize> = part.parse().ok();
        let parent = spelled.last().map(String::as_str);
        match (parent, index) {
            // A norm of each time step's own: `norm1_0`.
            (Some("norm1" | "norm2" | "norm3"), Some(t)) => {
                let norm = spelled.pop().unwrap_or_default();
                spelled.push(format!("{norm}_{t}"));
            }
            (Some("features"), Some(i)) => {
                let place = self.alexnet_features.get(i).copied().unwrap_or(i);
                spelled.push(place.to_string());
            }
            // Dropout, linear, ReLU; dropout, linear, ReLU; linear.
            (Some("classifier"), Some(i)) => {
                let place = [1, 4, 6].get(i).copied().unwrap_or(i);
                spelled.push(place.to_string());
            }
            (Some("downsample"), _) => {
                let place = if part == "conv" { "0" } else { "1" };
                spelled.push(place.to_owned());
            }
            _ => spelled.push(respell(part).to_owned()),
        }
    }
}

fn respell(part: &str) -> &str {
    const SPELLINGS: [(&str, &str); 6] = [
        ("v1", "V1"),
        ("v2", "V2"),
        ("v4", "V4"),
        ("it", "IT"),
        ("gamma", "weight"),
        ("beta", "bias"),
    ];
    SPELLINGS
        .iter()
        .find(|(ours, _)| *ours == part)
        .map_or(part, |(_, theirs)| theirs)
}

/// A parameter or buffer as it is published.
#[derive(Clone, Debug)]
pub struct Named {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Named {
    /// Running statistics are state, not parameters.
    pub fn is_buffer(&self) -> bool {
        is_buffer(&self.name)
    }
}

fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// All parameters and buffers of a network.
pub fn list(network: &Network) -> Vec<Named> {
    let mut named = Vec::new();
    visit(network, |name, shape, _| {
        named.push(Named {
            name: name.to_owned(),
            shape: shape.to_vec(),
        });
    });
    named
}

/// The parameters of a network with their published names; what is a buffer in [`Named`]'s sense is
/// none.
pub fn parameters(network: &Network) -> Vec<(String, ParamId)> {
    let mut found = Vec::new();
    visit(network, |name, _, flat| {
        if !is_buffer(name) {
            found.push((name.to_owned(), flat.id));
        }
    });
    found
}

/// Calls `f(name, shape, tensor)` for all of them; the tensor comes flattened.
pub fn visit(network: &Network, f: impl FnMut(&str, &[usize], Flat)) {
    let speller = Speller::new(network.config());
    network.visit(&mut Walk { speller, f });
}

/// A tensor that has not been flattened yet: most callers of [`visit`] only want the shape.
pub struct Flat<'a> {
    make: &'a dyn Fn() -> Tensor<1>,
    /// What an optimiser knows it by.
    pub id: ParamId,
}

impl Flat<'_> {
    pub fn tensor(&self) -> Tensor<1> {
        (self.make)()
    }
}

struct Walk<F> {
    speller: Speller,
    f: F,
}

impl<F: FnMut(&str, &[usize], Flat)> ModuleVisitor for Walk<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.speller.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.speller.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.speller.spell();
        let shape = param.lazy_shape().to_vec();
        let flat = || {
            let tensor = param.val();
            let n = tensor.shape().num_elements();
            tensor.reshape([n])
        };
        (self.f)(
            &name,
            &shape,
            Flat {
                make: &flat,
                id: param.id,
            },
        );
    }
}

/// Replaces every parameter and buffer by `f(name, shape)`, flattened row-major values; `None`
/// keeps what is there.
pub fn replace(network: Network, f: impl FnMut(&str, &[usize]) -> Option<Vec<f32>>) -> Network {
    let speller = Speller::new(network.config());
    network.map(&mut Replace { speller, f })
}

struct Replace<F> {
    speller: Speller,
    f: F,
}

impl<F: FnMut(&str, &[usize]) -> Option<Vec<f32>>> ModuleMapper for Replace<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.speller.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.speller.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.speller.spell();
        let shape = param.lazy_shape();
        let Some(values) = (self.f)(&name, &shape.to_vec()) else {
            return param;
        };
        let device = param.lazy_device();
        let data = burn::tensor::TensorData::new(values, shape);
        // The old value is never made: before loading, parameters are lazy.
        let mut replaced = Param::from_tensor(Tensor::from_data(data, &device));
        replaced.id = param.id;
        replaced
    }
}
