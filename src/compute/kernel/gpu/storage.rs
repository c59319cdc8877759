//! How convolutions read weights on a GPU: in 32 bits a number, or in 16 where that was asked for; and what
//! was made of them, for as long as they are in use.
//!
//! Weights alone take 16 bits. Maps and gradients would leave the range of such a number, whose least is
//! 6e-8, and every sum is in 32 bits. By tiles, what is rounded are the weights' values at the points.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::DType;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, FloatKind};

use super::super::packed::{self, Kind};
use super::super::winograd::Form;
use super::dims;

/// Floats of what is made of weights that are kept at most.
const MOST_KEPT: usize = 96 << 20;

static HALF: AtomicBool = AtomicBool::new(false);

static KEPT: packed::Kept<CubeTensor> = packed::Kept::new(MOST_KEPT);

/// Whether convolutions read weights in 16 bits a number from now on, on every GPU of this process.
pub fn halve_weights(half: bool) {
    HALF.store(half, Ordering::Relaxed);
}

fn halves() -> bool {
    HALF.load(Ordering::Relaxed)
}

/// What weights are made ready as.
pub(super) fn kind(backward: bool, tile: Option<Form>) -> Kind {
    Kind {
        backward,
        tile,
        half: halves(),
    }
}

/// The numbers of weights of this kind.
pub(super) fn dtype(kind: Kind) -> DType {
    match kind.half {
        true => DType::F16,
        false => DType::F32,
    }
}

/// What a kernel is compiled for.
pub(super) fn element(weight: &CubeTensor) -> ElemType {
    ElemType::Float(match weight.dtype {
        DType::F16 => FloatKind::F16,
        _ => FloatKind::F32,
    })
}

/// What `make` makes of contiguous `weight`, or made of it before.
pub(super) fn kept(
    weight: &CubeTensor,
    kind: Kind,
    make: impl FnOnce() -> CubeTensor,
) -> CubeTensor {
    KEPT.get(weight, kind, make)
}

/// Contiguous weights as a sum over taps reads them.
pub(super) fn stored(weight: CubeTensor) -> CubeTensor {
    let kind = kind(false, None);
    if !kind.half {
        return weight;
    }
    kept(&weight, kind, || cast(weight.clone(), dtype(kind)))
}

impl packed::Weight for CubeTensor {
    type Made = Self;

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

    fn floats(made: &Self) -> usize {
        dims(made).iter().product::<usize>() * made.dtype.size() / size_of::<f32>()
    }
}

/// Drops what was made of weights that nobody else holds any more.
pub fn forget_unused() {
    KEPT.forget_unused();
}
