//! Mixup and CutMix: images made of two images, with labels as probabilities.

use crate::rng::Rng;

/// The label of a mixed image: `weight` of the first class and the rest of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    pub classes: [u16; 2],
    /// 0 to 1.
    pub weight: f32,
}

impl Blend {
    /// One class.
    pub fn pure(class: u16) -> Self {
        Self {
            classes: [class; 2],
            weight: 1.0,
        }
    }
}

/// `[n, classes]`, every row summing to 1: `1 − smoothing` as the blend says, the rest evenly over
/// all classes (Szegedy et al. 2016).
pub fn targets(blends: &[Blend], classes: usize, smoothing: f64) -> Vec<f32> {
    let off = (smoothing / classes as f64) as f32;
    let mut targets = vec![off; blends.len() * classes];
    for (row, blend) in targets.chunks_exact_mut(classes).zip(blends) {
        let [first, second] = blend.classes.map(usize::from);
        row[first] += blend.weight * (1.0 - smoothing as f32);
        row[second] += (1.0 - blend.weight) * (1.0 - smoothing as f32);
    }
    targets
}

/// How a batch's images are mixed in pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixing {
    /// Weighted means (Zhang et al. 2018), with this α.
    Mixup(f64),
    /// A rectangle of the other (Yun et al. 2019), with this α.
    Cutmix(f64),
}

impl Mixing {
    /// The kind of mixing for a batch, given the recipe's two α; with both, each has the same chance.
    pub fn choose(mixup: Option<f64>, cutmix: Option<f64>, rng: &mut Rng) -> Option<Self> {
        let options = [mixup.map(Self::Mixup), cutmix.map(Self::Cutmix)];
        let given: Vec<Self> = options.into_iter().flatten().collect();
        given.get(rng.below(given.len())).copied()
    }

    /// Mixes each of `pixels`, `[n, 3, side, side]`, with the next one, the last with the first,
    /// and returns their labels. One weight, and one rectangle, serve all.
    pub fn mix(self, pixels: &mut [f32], labels: &[u16], side: usize, rng: &mut Rng) -> Vec<Blend> {
        let length = 3 * side * side;
        let before = pixels.to_vec();
        // A batch of one would be mixed with itself, which changes nothing.
        let next = |i: usize| (i + 1) % labels.len();
        let region = self.draw(side, rng);
        for (i, image) in pixels.chunks_exact_mut(length).enumerate() {
            region.blend(image, &before[next(i) * length..][..length], side);
        }
        let weight = region.weight(side);
        let pairs = labels.iter().enumerate();
        pairs
            .map(|(i, label)| Blend {
                classes: [*label, labels[next(i)]],
                weight,
            })
            .collect()
    }

    fn draw(self, side: usize, rng: &mut Rng) -> Region {
        match self {
            Self::Mixup(alpha) => Region::All(beta(alpha, rng) as f32),
            Self::Cutmix(alpha) => {
                let share = 1.0 - beta(alpha, rng);
                let half = 0.5 * side as f64 * share.sqrt();
                // Cut off at the border; the label's weight is by the area that is left.
                let mut span = || {
                    let centre = side as f64 * rng.uniform_f64();
                    let end = |v: f64| v.round().clamp(0.0, side as f64) as usize;
                    [end(centre - half), end(centre + half)]
                };
                Region::Rectangle([span(), span()])
            }
        }
    }
}

/// The part of an image that another replaces.
enum Region {
    /// All of it in part; this weight of the image stays.
    All(f32),
    /// Rows and columns, from and to, entirely.
    Rectangle([[usize; 2]; 2]),
}

impl Region {
    fn blend(&self, image: &mut [f32], other: &[f32], side: usize) {
        match self {
            Self::All(weight) => {
                let pairs = image.iter_mut().zip(other);
                pairs.for_each(|(v, o)| *v = weight * *v + (1.0 - weight) * o);
            }
            Self::Rectangle([rows, columns]) => {
                let planes = image
                    .chunks_exact_mut(side * side)
                    .zip(other.chunks_exact(side * side));
                for (plane, other) in planes {
                    for row in rows[0]..rows[1] {
                        let span = row * side + columns[0]..row * side + columns[1];
                        plane[span.clone()].copy_from_slice(&other[span]);
                    }
                }
            }
        }
    }

    /// The weight of the image that stays, 0 to 1.
    fn weight(&self, side: usize) -> f32 {
        match self {
            Self::All(weight) => *weight,
            Self::Rectangle([rows, columns]) => {
                let area = (rows[1] - rows[0]) * (columns[1] - columns[0]);
                1.0 - area as f32 / (side * side) as f32
            }
        }
    }
}

/// From the Beta distribution with both parameters `alpha`, above 0: a ratio of two Gammas.
fn beta(alpha: f64, rng: &mut Rng) -> f64 {
    let (a, b) = (gamma(alpha, rng), gamma(alpha, rng));
    // For a tiny α both may be 0 in floating point; either end is then as likely.
    if a + b > 0.0 {
        a / (a + b)
    } else {
        rng.below(2) as f64
    }
}

/// From the Gamma distribution of scale 1 (Marsaglia and Tsang 2000), shape above 0.
fn gamma(shape: f64, rng: &mut Rng) -> f64 {
    if shape < 1.0 {
        let boost = (1.0 - rng.uniform_f64()).powf(1.0 / shape);
        return boost * gamma(shape + 1.0, rng);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal_f64();
        let v = (1.0 + c * x).powi(3);
        // In (0, 1], where the logarithm is finite.
        let u = 1.0 - rng.uniform_f64();
        if v > 0.0 && libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_targets_sums_to_1() {
        let blends = [
            Blend::pure(2),
            Blend {
                classes: [0, 1],
                weight: 0.25,
            },
        ];
        let rows = targets(&blends, 4, 0.2);
        let expected = [0.05, 0.05, 0.85, 0.05, 0.25, 0.65, 0.05, 0.05];
        for (ours, wanted) in rows.iter().zip(expected) {
            assert!((ours - wanted).abs() < 1e-6, "{ours} {wanted}");
        }
        assert_eq!(targets(&[Blend::pure(1)], 3, 0.0), [0.0, 1.0, 0.0]);
    }

    /// Two uniform images: the mean of each gives the share of the other in it, and the label must
    /// agree.
    #[test]
    fn labels_weigh_what_the_pixels_do() {
        let side = 12;
        let length = 3 * side * side;
        let (mut weights, mut rng) = (Vec::new(), Rng::from_seed(3));
        for round in 0..200 {
            let alpha = [0.2, 1.0, 4.0][round % 3];
            let mixing = [Mixing::Mixup(alpha), Mixing::Cutmix(alpha)][round % 2];
            let mut pixels = [vec![0.0; length], vec![1.0; length]].concat();
            let blends = mixing.mix(&mut pixels, &[5, 7], side, &mut rng);
            let mean = |image: &[f32]| image.iter().sum::<f32>() / length as f32;
            let [zero, one] = [&pixels[..length], &pixels[length..]].map(mean);
            assert_eq!([blends[0].classes, blends[1].classes], [[5, 7], [7, 5]]);
            assert!((blends[0].weight - (1.0 - zero)).abs() < 1e-4);
            assert!((blends[1].weight - one).abs() < 1e-4);
            weights.push(blends[0].weight);
        }
        let mean = weights.iter().sum::<f32>() / 200.0;
        assert!((0.4..0.75).contains(&mean), "{mean}");
        assert!(weights.iter().any(|w| *w < 0.2) && weights.iter().any(|w| *w > 0.8));
    }

    #[test]
    fn an_image_alone_stays_as_it_is() {
        let mut pixels = vec![0.3; 27];
        let blends = Mixing::Cutmix(1.0).mix(&mut pixels, &[1], 3, &mut Rng::from_seed(0));
        assert_eq!((blends[0].classes, pixels), ([1, 1], vec![0.3; 27]));
    }

    /// Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1)).
    #[test]
    fn moments_of_beta() {
        for alpha in [0.2, 1.0, 3.0] {
            let mut rng = Rng::from_seed(11);
            let draws: Vec<f64> = (0..40_000).map(|_| beta(alpha, &mut rng)).collect();
            let mean = draws.iter().sum::<f64>() / 40_000.0;
            let spread = draws.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / 40_000.0;
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: {mean}");
            let wanted = 0.25 / (2.0 * alpha + 1.0);
            assert!((spread / wanted - 1.0).abs() < 0.03, "{alpha}: {spread}");
        }
    }

    #[test]
    fn with_both_either_is_taken() {
        let mut rng = Rng::from_seed(1);
        let mut count = 0;
        for _ in 0..1000 {
            if Mixing::choose(Some(0.2), Some(1.0), &mut rng) == Some(Mixing::Mixup(0.2)) {
                count += 1;
            }
        }
        assert!((430..570).contains(&count), "{count}");
        assert_eq!(Mixing::choose(None, None, &mut rng), None);
        let alone = Mixing::choose(None, Some(1.0), &mut rng);
        assert_eq!(alone, Some(Mixing::Cutmix(1.0)));
    }
}
