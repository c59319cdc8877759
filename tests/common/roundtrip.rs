//! Reduced checkpoints in their official format, written again as our safetensors. The native test
//! and the browser's both start from here: the same bytes, the same requests, the same reference.

use std::io::Read;

use ventral::model::checkpoint::Source;
use ventral::model::load::{self, Loaded};
use ventral::model::probe::CancelToken;
use ventral::model::save;
use ventral::session::protocol::{RawTensor, RunOptions};

use super::parity::{self, Case, Reference, absolute_error};

/// A type that weights are written in, and how far the logits may then be from the reference's,
/// max |ours − theirs|.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    pub f16: bool,
    pub bound: f32,
}

/// Single precision loses nothing: 4e-6 was measured at the most. Half precision moves a weight by
/// up to 5e-4 of itself, which came to 8.4e-3 in the logits of CORnet-S and less elsewhere.
pub const WIDTHS: [Width; 2] = [
    Width {
        f16: false,
        bound: 1e-4,
    },
    Width {
        f16: true,
        bound: 1e-2,
    },
];

/// A checkpoint's file, as it was published.
pub fn published(case: &Case) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = parity::weights(case).read_to_end(&mut bytes);
    read.expect("a fixture reads");
    bytes
}

/// A file of weights, as every part of the program reads it.
pub fn read(name: &str, file: Box<dyn Source>) -> Loaded {
    let loaded = load::read(name, vec![file], &CancelToken::default(), |_, _, _| {});
    loaded.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The checkpoint as a safetensors file of ours, under the name it then has.
pub fn rewritten(case: &Case, f16: bool) -> (String, Vec<u8>) {
    let loaded = read(case.weights, parity::weights(case));
    let mut bytes = Vec::new();
    let written = save::write(&loaded, f16, &mut bytes);
    written.unwrap_or_else(|e| panic!("{}: {e}", case.weights));
    let stem = case.weights.split('.').next().unwrap_or_default();
    (format!("{stem}.safetensors"), bytes)
}

/// The requests for a checkpoint's logits, under the stored noise too where there is some, with
/// what must come back; `None` as from [`parity::requests`].
pub fn logit_requests(case: &Case) -> Option<Vec<(RunOptions, Reference)>> {
    let mut requests = parity::requests(case)?;
    for (options, reference) in &mut requests {
        options.taps.clear();
        options.labels.clear();
        reference.retain(|name, _| name == "logits");
    }
    Some(requests)
}

/// max |ours − theirs| over the answers to all of a checkpoint's requests.
pub fn worst_logit(answers: &[Vec<RawTensor>], requests: &[(RunOptions, Reference)]) -> f32 {
    assert_eq!(answers.len(), requests.len(), "one answer a request");
    let pairs = answers.iter().zip(requests);
    let errors = pairs.map(|(tensors, (_, reference))| absolute_error(tensors, reference));
    errors.fold(0.0, f32::max)
}
