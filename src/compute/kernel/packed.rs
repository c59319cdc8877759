//! Weights as the kernels read them, kept for as long as the weights are in use.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::winograd::Form;

/// Floats that are kept at most: those of CORnet-S, forward and back, 1.2 GB of the 4 GB that a
/// browser's memory is at most. What does not fit is made anew each time.
const MOST: usize = 300 << 20;

/// What weights are laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub backward: bool,
    /// `None` for a sum over taps.
    pub tile: Option<Form>,
}

/// Weights, and what was made of them. It holds the weights' own memory, so no others can come to
/// lie where they lie.
struct Entry {
    weight: FlexTensor,
    made: Vec<(Kind, Arc<Vec<f32>>)>,
}

impl Entry {
    fn is_of(&self, weight: &FlexTensor) -> bool {
        let start = |tensor: &FlexTensor| tensor.storage::<f32>().as_ptr();
        start(&self.weight) == start(weight) && self.weight.shape() == weight.shape()
    }

    fn find(&self, kind: Kind) -> Option<Arc<Vec<f32>>> {
        let mut made = self.made.iter();
        made.find(|(k, _)| *k == kind).map(|(_, v)| v.clone())
    }

    fn floats(&self) -> usize {
        self.made.iter().map(|(_, v)| v.len()).sum()
    }
}

static KEPT: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// What `make` makes of contiguous `weight`, or made of it before.
pub(super) fn packed(
    weight: &FlexTensor,
    kind: Kind,
    make: impl FnOnce(&[f32]) -> Vec<f32>,
) -> Arc<Vec<f32>> {
    // Made for this call, and never seen again.
    if weight.is_unique() {
        return Arc::new(make(weight.storage()));
    }
    // A panic elsewhere leaves whole entries behind.
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = |kept: &[Entry]| kept.iter().find(|e| e.is_of(weight))?.find(kind);
    if let Some(known) = known(&kept()) {
        return known;
    }
    let made = Arc::new(make(weight.storage()));
    let mut kept = kept();
    // Another thread may have been faster.
    if let Some(known) = known(&kept) {
        return known;
    }
    retain_used(&mut kept);
    let floats: usize = kept.iter().map(Entry::floats).sum();
    if floats + made.len() > MOST {
        return made;
    }
    match kept.iter_mut().find(|entry| entry.is_of(weight)) {
        Some(entry) => entry.made.push((kind, made.clone())),
        None => kept.push(Entry {
            weight: weight.clone(),
            made: vec![(kind, made.clone())],
        }),
    }
    made
}

/// Drops what was made of weights that nobody else holds any more.
pub fn forget_unused() {
    retain_used(&mut KEPT.lock().unwrap_or_else(PoisonError::into_inner));
}

fn retain_used(kept: &mut Vec<Entry>) {
    kept.retain(|entry| !entry.weight.is_unique());
}
