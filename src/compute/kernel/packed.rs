//! Weights as the kernels read them, kept for as long as the weights are in use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::winograd::Form;

/// Floats that are kept at most: those of CORnet-S, forward and back, 1.2 GB of the 4 GB that a
/// browser's memory is at most. What does not fit is made anew each time.
const MOST: usize = 300 << 20;

/// What weights are made ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    pub backward: bool,
    /// `None` for a sum over taps.
    pub tile: Option<Form>,
    /// In 16 bits a number, which a GPU's kernels can read.
    pub half: bool,
}

/// A device's weights, and what its kernels read in their place.
pub(super) trait Weight: Clone {
    type Made: Clone;

    /// Whether they lie in the same memory, in the same shape.
    fn is_same(&self, other: &Self) -> bool;

    /// Whether nobody else holds them.
    fn is_unheld(&self) -> bool;

    /// The memory it takes, in numbers of 32 bits.
    fn floats(made: &Self::Made) -> usize;
}

impl Weight for FlexTensor {
    type Made = Arc<Vec<f32>>;

    fn is_same(&self, other: &Self) -> bool {
        let start = |tensor: &FlexTensor| tensor.storage::<f32>().as_ptr();
        start(self) == start(other) && self.shape() == other.shape()
    }

    fn is_unheld(&self) -> bool {
        self.is_unique()
    }

    fn floats(made: &Self::Made) -> usize {
        made.len()
    }
}

/// Weights, and what was made of them. It holds the weights' own memory, so no others can come to
/// lie where they lie, and nobody writes to it.
struct Entry<W: Weight> {
    weight: W,
    made: Vec<(Kind, W::Made)>,
}

impl<W: Weight> Entry<W> {
    fn find(&self, kind: Kind) -> Option<W::Made> {
        let mut made = self.made.iter();
        made.find(|(k, _)| *k == kind).map(|(_, v)| v.clone())
    }

    fn floats(&self) -> usize {
        self.made.iter().map(|(_, v)| W::floats(v)).sum()
    }
}

/// What was made of weights that are in use, so many floats at most.
pub(super) struct Kept<W: Weight> {
    entries: Mutex<Vec<Entry<W>>>,
    most: usize,
}

impl<W: Weight> Kept<W> {
    pub const fn new(most: usize) -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
            most,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry<W>>> {
        // A panic elsewhere leaves whole entries behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `make` makes of `weight`, or made of it before.
    pub fn get(&self, weight: &W, kind: Kind, make: impl FnOnce() -> W::Made) -> W::Made {
        match self.find(weight, kind) {
            Some(known) => known,
            None => self.keep(weight, kind, make()),
        }
    }

    /// What was made of `weight` before.
    pub fn find(&self, weight: &W, kind: Kind) -> Option<W::Made> {
        find(&self.entries(), weight, kind)
    }

    /// Keeps what was made of `weight`, and returns it.
    pub fn keep(&self, weight: &W, kind: Kind, made: W::Made) -> W::Made {
        // Made for this call, and never seen again.
        if weight.is_unheld() {
            return made;
        }
        let mut entries = self.entries();
        // Another thread may have been faster.
        if let Some(known) = find(&entries, weight, kind) {
            return known;
        }
        retain_used(&mut entries);
        let floats: usize = entries.iter().map(Entry::floats).sum();
        if floats + W::floats(&made) > self.most {
            return made;
        }
        let new = (kind, made.clone());
        match entries
            .iter_mut()
            .find(|entry| entry.weight.is_same(weight))
        {
            Some(entry) => entry.made.push(new),
            None => entries.push(Entry {
                weight: weight.clone(),
                made: vec![new],
            }),
        }
        made
    }

    /// Drops what was made of weights that nobody else holds any more.
    pub fn forget_unused(&self) {
        retain_used(&mut self.entries());
    }
}

fn find<W: Weight>(entries: &[Entry<W>], weight: &W, kind: Kind) -> Option<W::Made> {
    let mut entries = entries.iter();
    entries
        .find(|entry| entry.weight.is_same(weight))?
        .find(kind)
}

fn retain_used<W: Weight>(entries: &mut Vec<Entry<W>>) {
    entries.retain(|entry| !entry.weight.is_unheld());
}

static KEPT: Kept<FlexTensor> = Kept::new(MOST);

/// What `make` makes of contiguous `weight`, or made of it before.
pub(super) fn packed(
    weight: &FlexTensor,
    kind: Kind,
    make: impl FnOnce(&[f32]) -> Vec<f32>,
) -> Arc<Vec<f32>> {
    KEPT.get(weight, kind, || Arc::new(make(weight.storage())))
}

/// Drops what was made of weights that nobody else holds any more.
pub fn forget_unused() {
    KEPT.forget_unused();
}
