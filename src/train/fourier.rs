//! Amplitude mixing in the Fourier domain (Xu et al. 2021): an image keeps its phase spectrum,
//! which carries shape, and takes part of another's amplitude spectrum, which carries colour and
//! texture.

/// Below this an amplitude has no phase worth keeping.
const NO_PHASE: f32 = 1e-9;

/// `content` with an amplitude that has moved by `weight`, 0 to 1, towards that of `style`. All
/// are `[planes, side, side]` in [0, 1]; values beyond that are clipped.
pub fn mix_amplitude(content: &[f32], style: &[f32], side: usize, weight: f32) -> Vec<f32> {
    let dft = Dft::new(side);
    let area = side * side;
    let planes = content
        .chunks_exact(area)
        .zip(style.chunks_exact(area))
        .map(|(content, style)| mix_plane(&dft, content, style, weight));
    planes.flatten().collect()
}

fn mix_plane(dft: &Dft, content: &[f32], style: &[f32], weight: f32) -> Vec<f32> {
    let real = |plane: &[f32]| plane.iter().map(|v| [*v, 0.0]).collect();
    let style = dft.plane(real(style), false);
    let mut mixed = dft.plane(real(content), false);
    for (value, other) in mixed.iter_mut().zip(style) {
        let (own, other) = (length(*value), length(other));
        let wanted = own + weight * (other - own);
        *value = if own > NO_PHASE {
            value.map(|v| v * wanted / own)
        } else {
            [wanted, 0.0]
        };
    }
    // Both spectra are symmetric, so the remaining imaginary part is rounding.
    let back = dft.plane(mixed, true);
    let scale = 1.0 / content.len() as f32;
    back.into_iter()
        .map(|[re, _]| (re * scale).clamp(0.0, 1.0))
        .collect()
}

/// Real and imaginary part.
type Complex = [f32; 2];

fn length([re, im]: Complex) -> f32 {
    (re * re + im * im).sqrt()
}

/// The discrete Fourier transform by its definition, a row and a column at a time: at the sides
/// of training images that costs less than a hundredth of a training step.
struct Dft {
    side: usize,
    /// exp(−2πi · k / side).
    roots: Vec<Complex>,
}

impl Dft {
    fn new(side: usize) -> Self {
        let angle = |k: usize| -std::f64::consts::TAU * k as f64 / side as f64;
        let roots = (0..side).map(|k| [libm::cos(angle(k)) as f32, libm::sin(angle(k)) as f32]);
        Self {
            side,
            roots: roots.collect(),
        }
    }

    /// `[side, side]`, not scaled either way.
    fn plane(&self, plane: Vec<Complex>, inverse: bool) -> Vec<Complex> {
        let once = self.rows_turned(&plane, inverse);
        self.rows_turned(&once, inverse)
    }

    /// Every row transformed, the result transposed.
    fn rows_turned(&self, plane: &[Complex], inverse: bool) -> Vec<Complex> {
        let side = self.side;
        let sign = if inverse { -1.0 } else { 1.0 };
        let mut turned = vec![[0.0; 2]; plane.len()];
        for (r, row) in plane.chunks_exact(side).enumerate() {
            for k in 0..side {
                let (mut re, mut im) = (0.0, 0.0);
                for (n, [a, b]) in row.iter().enumerate() {
                    let [c, s] = self.roots[k * n % side];
                    let s = sign * s;
                    re += a * c - b * s;
                    im += a * s + b * c;
                }
                turned[k * side + r] = [re, im];
            }
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn image(seed: u64, side: usize) -> Vec<f32> {
        let mut rng = Rng::from_seed(seed);
        // Away from the ends of the range, where the clipping would be seen.
        (0..3 * side * side)
            .map(|_| 0.4 + 0.2 * rng.uniform_f32())
            .collect()
    }

    fn assert_near(a: &[f32], b: &[f32]) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn an_image_keeps_itself_at_weight_0_and_beside_itself() {
        for side in [8, 12, 15] {
            let (one, other) = (image(1, side), image(2, side));
            assert_near(&mix_amplitude(&one, &other, side, 0.0), &one);
            assert_near(&mix_amplitude(&one, &one, side, 0.7), &one);
        }
    }

    /// The amplitude at zero frequency is the sum, the one thing that is easy to foresee.
    #[test]
    fn the_mean_moves_by_the_weight() {
        let side = 8;
        let (dark, bright) = (vec![0.25; 3 * 64], vec![0.75; 3 * 64]);
        let mixed = mix_amplitude(&dark, &bright, side, 0.5);
        assert_near(&mixed, &[0.5; 3 * 64]);
    }

    #[test]
    fn a_wave_has_its_place_in_the_spectrum() {
        let side = 8;
        let wave = |i: usize| (std::f64::consts::TAU * 2.0 * (i % side) as f64 / 8.0).cos() as f32;
        let plane: Vec<Complex> = (0..64).map(|i| [wave(i), 0.0]).collect();
        let spectrum = Dft::new(side).plane(plane, false);
        let loud: Vec<usize> = (0..64).filter(|i| length(spectrum[*i]) > 1e-3).collect();
        // Transposed twice: frequency 2 and 6 along the rows.
        assert_eq!(loud, [2, 6]);
        assert!((length(spectrum[2]) - 32.0).abs() < 1e-3);
    }
}
