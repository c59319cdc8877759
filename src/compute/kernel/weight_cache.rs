//! Weights in the layouts that kernels read, kept for as long as the weights are in use.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tiles::Tile;

/// What weights are packed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    pub backward: bool,
    /// `None` for a sum over taps.
    pub tile: Option<Tile>,
    /// In f16, which a GPU's kernels can read.
    pub f16: bool,
}

impl Packing {
    pub fn f32(backward: bool, tile: Option<Tile>) -> Self {
        Self {
            backward,
            tile,
            f16: false,
        }
    }
}

/// A device's weights.
pub trait Weight: Clone {
    /// What its kernels read in their place.
    type Packed: Clone;

    /// Whether they lie in the same memory, in the same shape.
    fn is_same(&self, other: &Self) -> bool;

    /// Whether nobody else holds them.
    fn is_unheld(&self) -> bool;

    /// The memory of packed weights, in f32s.
    fn floats(packed: &Self::Packed) -> usize;
}

/// Weights and their packed forms. It holds the weights' own memory, so no others can be allocated there, and
/// nobody writes to it.
struct Entry<W: Weight> {
    weight: W,
    forms: Vec<(Packing, W::Packed)>,
}

impl<W: Weight> Entry<W> {
    fn find(&self, packing: Packing) -> Option<W::Packed> {
        let mut forms = self.forms.iter();
        let found = forms.find(|(p, _)| *p == packing);
        found.map(|(_, packed)| packed.clone())
    }

    fn floats(&self) -> usize {
        self.forms.iter().map(|(_, packed)| W::floats(packed)).sum()
    }
}

/// Packed forms of the weights in use, up to a number of floats; what does not fit is packed each time.
pub struct WeightCache<W: Weight> {
    entries: Mutex<Vec<Entry<W>>>,
    most: usize,
}

impl<W: Weight> WeightCache<W> {
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

    /// The packed form of `weight`, from `pack` where it is not here yet.
    pub fn get(&self, weight: &W, packing: Packing, pack: impl FnOnce() -> W::Packed) -> W::Packed {
        match self.find(weight, packing) {
            Some(known) => known,
            None => self.insert(weight, packing, pack()),
        }
    }

    /// The packed form of `weight`, where it is here.
    pub fn find(&self, weight: &W, packing: Packing) -> Option<W::Packed> {
        find(&self.entries(), weight, packing)
    }

    /// Keeps a packed form of `weight`, and returns it.
    pub fn insert(&self, weight: &W, packing: Packing, packed: W::Packed) -> W::Packed {
        // Made for this call, and never seen again.
        if weight.is_unheld() {
            return packed;
        }
        let mut entries = self.entries();
        // Another thread may have been faster.
        if let Some(known) = find(&entries, weight, packing) {
            return known;
        }
        retain_used(&mut entries);
        let floats: usize = entries.iter().map(Entry::floats).sum();
        if floats + W::floats(&packed) > self.most {
            return packed;
        }
        let form = (packing, packed.clone());
        match entries
            .iter_mut()
            .find(|entry| entry.weight.is_same(weight))
        {
            Some(entry) => entry.forms.push(form),
            None => entries.push(Entry {
                weight: weight.clone(),
                forms: vec![form],
            }),
        }
        packed
    }

    /// Drops the forms of weights that nobody else holds any more.
    pub fn forget_unused(&self) {
        retain_used(&mut self.entries());
    }
}

fn find<W: Weight>(entries: &[Entry<W>], weight: &W, packing: Packing) -> Option<W::Packed> {
    let mut entries = entries.iter();
    entries
        .find(|entry| entry.weight.is_same(weight))?
        .find(packing)
}

fn retain_used<W: Weight>(entries: &mut Vec<Entry<W>>) {
    entries.retain(|entry| !entry.weight.is_unheld());
}
