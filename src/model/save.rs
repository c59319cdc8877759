//! From a network to files.

use std::collections::BTreeMap;
use std::io::{self, Write};

use burn::tensor::ExecutionError;

use super::checkpoint::write_safetensors;
use super::load::{CLASSES_KEY, HostTensor, Loaded};
use super::names;
use super::network::Network;
use super::recognise::CONFIG_KEY;

/// All parameters and buffers of a network, by published name.
///
/// # Errors
/// A device that failed.
///
/// # Panics
/// A network that is not f32 throughout; ours are.
pub async fn to_host(network: &Network) -> Result<BTreeMap<String, HostTensor>, ExecutionError> {
    let mut found = Vec::new();
    names::visit(network, |name, shape, flat| {
        found.push((name.to_owned(), shape.to_vec(), flat.tensor()));
    });
    let mut weights = BTreeMap::new();
    for (name, shape, tensor) in found {
        let values = tensor.into_data_async().await?.try_to_vec();
        let values = values.expect("the networks are f32 throughout");
        weights.insert(name, HostTensor { shape, values });
    }
    Ok(weights)
}

/// What a safetensors file of ours says beside its tensors.
pub fn metadata(loaded: &Loaded) -> Result<BTreeMap<String, String>, serde_json::Error> {
    Ok(BTreeMap::from([
        (
            CONFIG_KEY.to_owned(),
            serde_json::to_string(&loaded.config)?,
        ),
        (
            CLASSES_KEY.to_owned(),
            serde_json::to_string(&loaded.classes)?,
        ),
    ]))
}

/// Writes a model as one safetensors file that [`super::load::read`] and Python's `safetensors`
/// read alike.
///
/// # Errors
/// What `out` reports; with `f16`, a weight beyond its range.
pub fn write(loaded: &Loaded, f16: bool, out: impl Write) -> io::Result<()> {
    let tensors = loaded.weights.iter().map(as_written);
    write_safetensors(out, tensors, f16, &metadata(loaded)?)
}

fn as_written<'a>(
    (name, tensor): (&'a String, &'a HostTensor),
) -> (&'a str, &'a [usize], &'a [f32]) {
    (name, &tensor.shape, &tensor.values)
}

/// Splits a model's tensors into shards of at most `limit` bytes in f16; a tensor is never cut.
pub fn shards(loaded: &Loaded, limit: usize) -> Vec<Vec<&str>> {
    let mut shards: Vec<Vec<&str>> = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in &loaded.weights {
        let bytes = 2 * tensor.values.len();
        if filled > 0 && filled + bytes > limit {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(last) = shards.last_mut() {
            last.push(name);
        }
    }
    shards
}

/// Writes the tensors called `names` as one shard in f16. Every shard carries the description.
///
/// # Errors
/// As [`write`].
pub fn write_shard(loaded: &Loaded, names: &[&str], out: impl Write) -> io::Result<()> {
    let tensors = names
        .iter()
        .filter_map(|name| loaded.weights.get_key_value(*name))
        .map(as_written);
    write_safetensors(out, tensors, true, &metadata(loaded)?)
}
