//! The weights that convolutions read on a GPU, in f32 or, where that was asked for, in f16; packed forms are
//! kept for as long as the weights are in use.
//!
//! Weights alone are in f16. Activations and gradients would leave its range, whose least is 6e-8, and every
//! sum is in f32. By tiles, what is rounded are the weights' values at the points.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, FloatKind};

use super::super::tiles::Tile;
use super::super::weight_cache::{Packing, Weight, WeightCache};
use super::tensor::dims;

/// Floats of packed weights that are kept at most.
const MOST: usize = 96 << 20;

static F16: AtomicBool = AtomicBool::new(false);

static CACHE: WeightCache<CubeTensor> = WeightCache::new(MOST);

/// Whether convolutions read weights in f16 from now on, on every GPU of this process.
pub fn use_f16_weights(f16: bool) {
    F16.store(f16, Ordering::Relaxed);
}

/// How weights are packed now.
pub fn packing(backward: bool, tile: Option<Tile>) -> Packing {
    Packing {
        backward,
        tile,
        f16: F16.load(Ordering::Relaxed),
    }
}

pub fn dtype(packing: Packing) -> DType {
    match packing.f16 {
        true => DType::F16,
        false => DType::F32,
    }
}

/// The weights' type, for which a kernel is compiled.
pub fn element(weight: &CubeTensor) -> ElemType {
    ElemType::Float(match weight.dtype {
        DType::F16 => FloatKind::F16,
        _ => FloatKind::F32,
    })
}

/// The packed form of contiguous `weight`, from `pack` where it is not cached.
pub fn packed(
    weight: &CubeTensor,
    packing: Packing,
    pack: impl FnOnce() -> CubeTensor,
) -> CubeTensor {
    CACHE.get(weight, packing, pack)
}

/// Contiguous weights as a sum over taps reads them.
pub fn stored(weight: CubeTensor) -> CubeTensor {
    let packing = packing(false, None);
    if !packing.f16 {
        return weight;
    }
    packed(&weight, packing, || cast(weight.clone(), dtype(packing)))
}

impl Weight for CubeTensor {
    type Packed = Self;

    fn is_same(&self, other: &Self) -> bool {
        let [ours, theirs] = [&self.handle, &other.handle];
        ours.memory.descriptor() == theirs.memory.descriptor()
            && ours.offset_start == theirs.offset_start
            && dims(self) == dims(other)
            && self.device == other.device
    }

    fn is_unheld(&self) -> bool {
        self.can_mut()
    }

    fn floats(packed: &Self) -> usize {
        dims(packed).iter().product::<usize>() * packed.dtype.size() / size_of::<f32>()
    }
}

/// Drops the packed forms of weights that nobody else holds any more.
pub fn forget_unused() {
    CACHE.forget_unused();
}
