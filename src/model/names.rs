//! The published name of every parameter.
//!
//! One walk over a network gives `(published name, parameter)` for loading, saving, freezing and
//! reporting. The names are those of [`super::config::ModelConfig::tensors`], which has them in the
//! order of the modules.

use std::vec::IntoIter;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::network::Network;
use super::trace::{TensorSpec, is_buffer};

/// The published names of tensors that a training script has given others: with `_orig_mod.` in them,
/// as `torch.compile` of a part leaves it, with one prefix before all (`model.`, `encoder.`), or with
/// `shortcut` and `linear` for torchvision's `downsample` and `fc`, as the CIFAR ResNets of the attack
/// literature are written. `None` where nothing changes, and where two names would become one.
pub fn published(names: &[String]) -> Option<Vec<String>> {
    let mut found: Vec<String> = names
        .iter()
        .map(|name| name.replace("_orig_mod.", ""))
        .collect();
    while let Some(prefix) = shared_prefix(&found) {
        for name in &mut found {
            name.replace_range(..prefix, "");
        }
    }
    if found.iter().any(|name| name.starts_with("layer1.")) {
        for name in &mut found {
            *name = name.replace(".shortcut.", ".downsample.");
            if let Some(rest) = name.strip_prefix("linear.") {
                *name = format!("fc.{rest}");
            }
        }
    }
    let different: std::collections::BTreeSet<&String> = found.iter().collect();
    (different.len() == found.len() && found != names).then_some(found)
}

/// Bytes of the part, up to a point, that all names begin with.
fn shared_prefix(names: &[String]) -> Option<usize> {
    let (first, rest) = names.split_first()?;
    let end = first.find('.')? + 1;
    let is_shared = |name: &String| name.starts_with(&first[..end]) && name.len() > end;
    (!rest.is_empty() && rest.iter().all(is_shared)).then_some(end)
}

/// The parameters of a network with their published names; buffers are left out.
pub fn parameters(network: &Network) -> Vec<(String, ParamId)> {
    let mut found = Vec::new();
    visit(network, |name, _, flat| {
        if !is_buffer(name) {
            found.push((name.to_owned(), flat.id));
        }
    });
    found
}

/// The name of the module's tensor that is visited next.
fn next(names: &mut IntoIter<TensorSpec>, shape: &[usize]) -> String {
    let tensor = names.next();
    let tensor = tensor.expect("a family declares every tensor of its layers");
    assert_eq!(tensor.shape, shape, "{}", tensor.name);
    tensor.name
}

/// Calls `f(name, shape, tensor)` for all of them; the tensor comes flattened.
pub fn visit(network: &Network, f: impl FnMut(&str, &[usize], Flat)) {
    let names = network.config().tensors().into_iter();
    network.visit(&mut Walk { names, f });
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
    names: IntoIter<TensorSpec>,
    f: F,
}

impl<F: FnMut(&str, &[usize], Flat)> ModuleVisitor for Walk<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().to_vec();
        let name = next(&mut self.names, &shape);
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
    let names = network.config().tensors().into_iter();
    network.map(&mut Replace { names, f })
}

struct Replace<F> {
    names: IntoIter<TensorSpec>,
    f: F,
}

impl<F: FnMut(&str, &[usize]) -> Option<Vec<f32>>> ModuleMapper for Replace<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let name = next(&mut self.names, &shape.to_vec());
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::config::{ModelConfig, Preprocessing};
    use super::super::family::FAMILIES;
    use super::super::family::vone::VOneConfig;
    use super::*;

    /// The walk compares the shapes.
    #[test]
    fn every_family_declares_the_tensors_of_its_layers() {
        for row in FAMILIES {
            let plain = Some(((row.official)(), None));
            let behind_vone = (row.behind_vone)().map(|body| (body, Some(VOneConfig::official())));
            for (body, front) in plain.into_iter().chain(behind_vone) {
                let config = ModelConfig {
                    body,
                    front,
                    classes: 10,
                    preprocessing: Preprocessing::imagenet(),
                };
                let mut found = Vec::new();
                let network = Network::new(&config, &Device::flex());
                visit(&network, |name, _, _| found.push(name.to_owned()));
                let tensors = config.tensors().into_iter();
                assert_eq!(found, tensors.map(|t| t.name).collect::<Vec<_>>());
            }
        }
    }
}
