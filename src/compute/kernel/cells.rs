//! What a VOneBlock makes of its filters' responses (Dapello, Marques et al. 2020): simple and
//! complex cells, and neuronal noise.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::norm::{gate, positive};
use super::{flex, own};

/// Keeps the gradient of a complex cell finite where both quadratures are zero; far below what
/// f32 resolves in a response.
pub const COMPLEX_EPSILON: f64 = 1e-12;

/// Keeps the gradient of the neuronal noise finite at zero. The published block uses the same
/// value, 1e-4.
pub const NOISE_EPSILON: f64 = 1e-4;

/// Where a batch's channels lie.
#[derive(Clone, Copy)]
struct Cells {
    images: usize,
    /// Floats of an image's simple cells, and of its complex ones.
    simple: usize,
    complex: usize,
}

impl Cells {
    fn of(q0: &FlexTensor, simple: usize) -> Self {
        let [images, channels, height, width] = q0.shape().dims::<4>();
        Self {
            images,
            simple: simple * height * width,
            complex: (channels - simple) * height * width,
        }
    }

    fn size(&self) -> usize {
        self.simple + self.complex
    }
}

/// `gain` times the positive part of the first `simple` channels of `q0`, and the root mean square
/// of the others with `q1`.
pub fn forward(q0: FlexTensor, q1: FlexTensor, simple: usize, gain: f32) -> FlexTensor {
    let (cells, shape) = (Cells::of(&q0, simple), q0.shape().dims::<4>());
    let (q0, q1) = (own(q0), own(q1));
    let (first, second): (&[f32], &[f32]) = (q0.storage(), q1.storage());
    let mut y = Vec::with_capacity(cells.images * cells.size());
    for image in 0..cells.images {
        let first = &first[image * cells.size()..][..cells.size()];
        let second = &second[image * cells.complex..][..cells.complex];
        let (simple, complex) = first.split_at(cells.simple);
        y.extend(simple.iter().map(|v| positive(*v) * gain));
        let pairs = complex.iter().zip(second);
        y.extend(pairs.map(|(a, b)| amplitude(*a, *b) / std::f32::consts::SQRT_2 * gain));
    }
    flex(y, shape)
}

fn amplitude(a: f32, b: f32) -> f32 {
    (a * a + b * b + COMPLEX_EPSILON as f32).sqrt()
}

/// Gradients with respect to `q0` and `q1`.
pub fn backward(
    q0: FlexTensor,
    q1: FlexTensor,
    grad: FlexTensor,
    simple: usize,
    gain: f32,
) -> (FlexTensor, FlexTensor) {
    let cells = Cells::of(&q0, simple);
    let shapes = [&q0, &q1].map(|q| q.shape().dims::<4>());
    let [q0, q1, grad] = [q0, q1, grad].map(own);
    let [first, second, grad] = [&q0, &q1, &grad].map(|tensor| tensor.storage::<f32>());
    let gain_complex = gain * std::f32::consts::FRAC_1_SQRT_2;
    let mut to_first = Vec::with_capacity(cells.images * cells.size());
    let mut to_second = vec![0.0; cells.images * cells.complex];
    for image in 0..cells.images {
        let [first, grad] = [first, grad].map(|all| &all[image * cells.size()..][..cells.size()]);
        let second = &second[image * cells.complex..][..cells.complex];
        let to_second = &mut to_second[image * cells.complex..][..cells.complex];
        let (simple, complex) = first.split_at(cells.simple);
        let (grad_simple, grad_complex) = grad.split_at(cells.simple);
        let pairs = simple.iter().zip(grad_simple);
        to_first.extend(pairs.map(|(v, g)| gate(g * gain, *v > 0.0)));
        let pairs = complex.iter().zip(second).zip(grad_complex).zip(to_second);
        to_first.extend(pairs.map(|(((a, b), g), to_second)| {
            let steep = g * gain_complex / amplitude(*a, *b);
            *to_second = steep * b;
            steep * a
        }));
    }
    let [of_first, of_second] = shapes;
    (flex(to_first, of_first), flex(to_second, of_second))
}

/// The positive part of responses `x` whose spike counts, `x · scale + level`, have been given noise
/// of their own mean's variance: `noise` holds standard normal draws, for each image or for one.
pub fn spiking(x: FlexTensor, noise: FlexTensor, scale: f32, level: f32) -> FlexTensor {
    let [of_noise, of_x] = [&noise, &x].map(|t| t.shape().dims::<4>()[0]);
    assert!(
        of_noise == 1 || of_noise == of_x,
        "noise for one image or for each"
    );
    let noise = own(noise);
    let noise: &[f32] = noise.storage();
    let mut x = own(x);
    for image in x.storage_mut::<f32>().chunks_mut(noise.len().max(1)) {
        for (x, noise) in image.iter_mut().zip(noise) {
            let spikes = *x * scale + level;
            *x = positive((spikes + noise * spread(spikes) - level) / scale);
        }
    }
    x
}

fn spread(spikes: f32) -> f32 {
    (positive(spikes) + NOISE_EPSILON as f32).sqrt()
}

/// Gradient with respect to `x`, `y` being the result.
pub fn spiking_backward(
    x: FlexTensor,
    noise: FlexTensor,
    y: FlexTensor,
    grad: FlexTensor,
    scale: f32,
    level: f32,
) -> FlexTensor {
    let [x, noise, y] = [x, noise, y].map(own);
    let [x, noise, y] = [&x, &noise, &y].map(|tensor| tensor.storage::<f32>());
    let mut grad = own(grad);
    let size = noise.len().max(1);
    let images = grad.storage_mut::<f32>().chunks_mut(size);
    let images = images.zip(x.chunks(size).zip(y.chunks(size)));
    for (grad, (x, y)) in images {
        for (((g, x), y), noise) in grad.iter_mut().zip(x).zip(y).zip(noise) {
            let spikes = *x * scale + level;
            let steep = 1.0 + gate(0.5 * noise / spread(spikes), spikes > 0.0);
            *g = gate(*g * steep, *y > 0.0);
        }
    }
    grad
}
