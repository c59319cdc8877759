//! The CPU's packed weights.

use std::sync::Arc;

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::super::weight_cache::{Packing, Weight, WeightCache};

/// Floats that are kept at most: those of CORnet-S, forward and back, 1.2 GB of the 4 GB that a
/// browser's memory is at most.
const MOST: usize = 300 << 20;

static CACHE: WeightCache<FlexTensor> = WeightCache::new(MOST);

impl Weight for FlexTensor {
    type Packed = Arc<Vec<f32>>;

    fn is_same(&self, other: &Self) -> bool {
        let start = |tensor: &FlexTensor| tensor.storage::<f32>().as_ptr();
        start(self) == start(other) && self.shape() == other.shape()
    }

    fn is_unheld(&self) -> bool {
        self.is_unique()
    }

    fn floats(packed: &Self::Packed) -> usize {
        packed.len()
    }
}

/// The packed form of contiguous `weight`, from `pack` where it is not cached.
pub fn packed(
    weight: &FlexTensor,
    packing: Packing,
    pack: impl FnOnce(&[f32]) -> Vec<f32>,
) -> Arc<Vec<f32>> {
    CACHE.get(weight, packing, || Arc::new(pack(weight.storage())))
}

/// Drops the packed forms of weights that nobody else holds any more.
pub fn forget_unused() {
    CACHE.forget_unused();
}
