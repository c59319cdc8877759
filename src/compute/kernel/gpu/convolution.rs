//! Convolution on a GPU, forward or back to the input, with its epilogue.

use burn::backend::Cube;
use burn_cubecl::tensor::CubeTensor;

use super::super::epilogue::Epilogue;
use super::super::tiles::Convolution;
use super::tensor::{contiguous, dims};
use super::{direct, winograd};

/// `[n, in, h, w]` and `[out, in, k, k]` to `[n, out, h′, w′]`.
pub fn forward(
    x: CubeTensor,
    weight: CubeTensor,
    stride: usize,
    padding: usize,
    epilogue: Epilogue<Cube>,
) -> CubeTensor {
    let [_, _, height, width] = dims(&x);
    let [to, _, kernel, _] = dims(&weight);
    let out = |side: usize| (side + 2 * padding).saturating_sub(kernel) / stride + 1;
    let convolution = Convolution {
        kernel,
        stride,
        padding,
        backward: false,
    };
    let size = [out(height), out(width)];
    run(x, weight, to, size, convolution, epilogue)
}

/// Gradient with respect to the input, `size` its rows and columns.
pub fn backward_x(
    size: [usize; 2],
    weight: CubeTensor,
    grad: CubeTensor,
    stride: usize,
    padding: usize,
) -> CubeTensor {
    let [_, to, kernel, _] = dims(&weight);
    let convolution = Convolution {
        kernel,
        stride,
        padding,
        backward: true,
    };
    run(grad, weight, to, size, convolution, Epilogue::Identity)
}

/// By tiles where that promises more than a sum over taps.
fn run(
    x: CubeTensor,
    weight: CubeTensor,
    to: usize,
    size: [usize; 2],
    convolution: Convolution,
    epilogue: Epilogue<Cube>,
) -> CubeTensor {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let epilogue = epilogue.map(contiguous);
    winograd::run(&x, &weight, to, size, convolution, &epilogue)
        .unwrap_or_else(|| direct::run(&x, weight, to, size, convolution, &epilogue))
}
