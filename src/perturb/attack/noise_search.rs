//! Attacks by noise without any direction: salt and pepper, additive noise, blended noise. What
//! they find, chance finds.

use serde::{Deserialize, Serialize};

use super::best_so_far::{Clean, decide};
use super::context::{Context, pick};
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::method::Method;
use super::norm::{Ball, Norm, Projection};
use super::oracle::Oracle;
use super::start::{self, Bracket, Noise, Questions};
use crate::rng::Rng;

/// Pixels turned black or white, more and more of them until it is a success, then as few of them
/// as are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaltAndPepper {
    /// Shares of the image to try on the way to all of it, at least 1. Foolbox has 1000; here the
    /// last one is narrowed down to a single pixel anyway.
    pub levels: usize,
    /// Draws of the noise, of which the one that changes least is kept; at least 1.
    pub repeats: usize,
    /// Whether all channels of a pixel turn together; else each value by itself.
    pub across_channels: bool,
}

impl Default for SaltAndPepper {
    fn default() -> Self {
        Self {
            levels: 100,
            repeats: 1,
            across_channels: true,
        }
    }
}

/// For one image the order in which places turn, and into what.
struct Grains {
    image: usize,
    /// A number for each place: it turns when more places than that do.
    ranks: Vec<usize>,
    white: Vec<bool>,
}

impl Grains {
    fn draw(image: usize, places: usize, rng: &mut Rng) -> Self {
        let mut ranks: Vec<usize> = (0..places).collect();
        rng.shuffle(&mut ranks);
        Self {
            image,
            ranks,
            white: (0..places).map(|_| rng.below(2) == 0).collect(),
        }
    }

    /// The image with a share of its places turned.
    fn scatter(&self, original: &[f32], share: f64) -> Vec<f32> {
        let places = self.ranks.len();
        let turned = (share * places as f64).round() as usize;
        let mut image = original.to_vec();
        for (i, value) in image.iter_mut().enumerate() {
            let place = i % places;
            if self.ranks[place] < turned {
                *value = f32::from(u8::from(self.white[place]));
            }
        }
        image
    }
}

impl SaltAndPepper {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.levels > 0 && self.repeats > 0,
            "The salt-and-pepper attack needs at least one level and one repeat.",
        )
    }

    /// Turns more and more places; a bracket for every image with a success.
    async fn grow<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        pixels: &[f32],
        grains: &[Grains],
    ) -> Result<Vec<Bracket>, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let share = |level: usize| level as f64 / self.levels as f64;
        let mut found = Vec::new();
        let mut left: Vec<&Grains> = grains.iter().collect();
        for level in 1..=self.levels {
            if left.is_empty() {
                break;
            }
            let images: Vec<usize> = left.iter().map(|g| g.image).collect();
            let scatter =
                |g: &&Grains| g.scatter(&pixels[g.image * length..][..length], share(level));
            let tried: Vec<f32> = left.iter().flat_map(scatter).collect();
            let answers = questions.ask(context, &tried, &images, 1).await?;
            context.report_some(&images, questions.at(), &answers.logits, &tried);
            for (j, image) in images.iter().enumerate().filter(|(j, _)| answers.met[*j]) {
                found.push(Bracket {
                    image: *image,
                    far: Vec::new(),
                    low: share(level - 1),
                    high: share(level),
                    pixels: tried[j * length..][..length].to_vec(),
                    logits: answers.logits[j * classes..][..classes].to_vec(),
                    tolerance: 0.0,
                });
            }
            let mut met = answers.met.iter();
            left.retain(|_| !met.next().is_some_and(|met| *met));
        }
        Ok(found)
    }
}

impl Method for SaltAndPepper {
    /// `[n, c, h, w]`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let [channels, height, width] = context.oracle.shape();
        let places = height * width * if self.across_channels { 1 } else { channels };
        let length = context.oracle.image_len();
        let clean = Clean::of(context, pixels, criterion).await?;
        let mut questions = Questions {
            criterion,
            asked: 0,
            most: self.repeats
                * (self.levels + halvings(1.0 / self.levels as f64, 0.5 / places as f64)),
        };
        let mut found = pixels.to_vec();
        // The smallest share of every image.
        let mut shares = vec![f64::INFINITY; criterion.classes.len()];
        for _ in 0..self.repeats {
            let draw = |image: &usize| Grains::draw(*image, places, &mut context.rng);
            let grains: Vec<Grains> = clean.open.iter().map(draw).collect();
            let mut brackets = self.grow(context, &mut questions, pixels, &grains).await?;
            brackets
                .iter_mut()
                .for_each(|b| b.tolerance = 0.5 / places as f64);
            let scatter = |bracket: &Bracket, share: f64| {
                let of_image = grains.iter().find(|g| g.image == bracket.image);
                let original = &pixels[bracket.image * length..][..length];
                of_image.map_or_else(|| original.to_vec(), |g| g.scatter(original, share))
            };
            start::bisect(context, &mut questions, &mut brackets, &scatter).await?;
            for bracket in brackets {
                if bracket.high >= shares[bracket.image] {
                    continue;
                }
                shares[bracket.image] = bracket.high;
                found[bracket.image * length..][..length].copy_from_slice(&bracket.pixels);
            }
        }
        Ok(found)
    }
}

/// Halvings that make `width` at most `tolerance`.
fn halvings(mut width: f64, tolerance: f64) -> usize {
    let mut count = 0;
    while width > tolerance {
        width /= 2.0;
        count += 1;
    }
    count
}

/// What additive noise is drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseKind {
    Gaussian,
    #[default]
    Uniform,
}

/// Noise of a given size, drawn again and again until it is a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdditiveNoise {
    /// L2 or L∞.
    pub norm: Norm,
    /// Size of the noise, in the norm of pixels in [0, 1]; at least 0. Less of it is left where
    /// it is cut at the ends of the range.
    pub eps: f32,
    pub kind: NoiseKind,
    /// Draws at most, at least 1.
    pub repeats: usize,
}

impl Default for AdditiveNoise {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            kind: NoiseKind::Uniform,
            repeats: 100,
        }
    }
}

impl AdditiveNoise {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.norm != Norm::L1,
            "The additive-noise attack works in L2 and L∞.",
        )?;
        require(
            self.eps.is_finite() && self.eps >= 0.0,
            "The radius of the additive-noise attack must be a number of at least 0.",
        )?;
        require(
            self.repeats > 0,
            "The additive-noise attack needs at least one repeat.",
        )
    }

    fn add(&self, image: &mut [f32], centre: &[f32], rng: &mut Rng) {
        let draw = |rng: &mut Rng| match self.kind {
            NoiseKind::Gaussian => rng.normal_f64(),
            NoiseKind::Uniform => 2.0 * rng.uniform_f64() - 1.0,
        };
        let draws: Vec<f64> = image.iter().map(|_| draw(rng)).collect();
        let size = match (self.norm, self.kind) {
            // Within the radius as it is drawn.
            (Norm::Linf, NoiseKind::Uniform) => 1.0,
            _ => self.norm.of(draws.iter().copied()),
        };
        let scale = f64::from(self.eps) / size.max(f64::MIN_POSITIVE);
        for (value, draw) in image.iter_mut().zip(draws) {
            *value = (f64::from(*value) + scale * draw) as f32;
        }
        let ball = Ball {
            norm: self.norm,
            eps: self.eps,
            centre,
        };
        ball.project(image, Projection::Scale);
    }
}

impl Method for AdditiveNoise {
    fn ball(&self) -> Option<(Norm, f32)> {
        Some((self.norm, self.eps))
    }

    /// `[n, c, h, w]` within `eps` of `pixels`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let mut open = Clean::of(context, pixels, criterion).await?.open;
        let mut found = pixels.to_vec();
        for repeat in 1..=self.repeats {
            if open.is_empty() {
                break;
            }
            let mut tried = pick(pixels, length, &open);
            let images = tried.chunks_exact_mut(length).zip(&open);
            for (image, i) in images {
                self.add(image, &pixels[i * length..][..length], &mut context.rng);
            }
            let met = decide(context, &tried, &open, criterion, [repeat, self.repeats]).await?;
            for (j, i) in open.iter().enumerate().filter(|(j, _)| met[*j]) {
                found[i * length..][..length].copy_from_slice(&tried[j * length..][..length]);
            }
            let mut flags = met.iter();
            open.retain(|_| !flags.next().is_some_and(|met| *met));
        }
        Ok(found)
    }
}

/// Uniform noise blended into the image, more and more of it until it is a success, then as little
/// as is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlendedNoise {
    /// Draws of the noise at most, at least 1. The first that is a success is kept.
    pub draws: usize,
    /// Amounts of each to try on the way to nothing but noise, at least 1.
    pub levels: usize,
    /// Halvings of the way between the last two amounts.
    pub halvings: usize,
}

impl Default for BlendedNoise {
    fn default() -> Self {
        Self {
            draws: 20,
            levels: 20,
            halvings: 10,
        }
    }
}

impl BlendedNoise {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.draws > 0 && self.levels > 0,
            "The blended-noise attack needs at least one draw and one level.",
        )
    }
}

impl Method for BlendedNoise {
    /// `[n, c, h, w]`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let clean = Clean::of(context, pixels, criterion).await?;
        let noise = Noise {
            draws: self.draws,
            levels: self.levels,
        };
        let mut questions = Questions {
            criterion,
            asked: 0,
            most: self.draws * self.levels + self.halvings,
        };
        let mut brackets = noise
            .search(context, &mut questions, pixels, &clean.open)
            .await?;
        // Exact: a power of 2.
        let part = 0.5_f64.powi(i32::try_from(self.halvings).unwrap_or(i32::MAX));
        for bracket in &mut brackets {
            bracket.tolerance = (bracket.high - bracket.low) * part;
        }
        let way = |b: &Bracket, amount: f64| {
            start::blend(&pixels[b.image * length..][..length], &b.far, amount)
        };
        start::bisect(context, &mut questions, &mut brackets, &way).await?;
        let mut found = pixels.to_vec();
        for bracket in brackets {
            found[bracket.image * length..][..length].copy_from_slice(&bracket.pixels);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_formula::{Linear, Model, Rules, attack, follows_the_rules};
    use super::*;

    const SHAPE: [usize; 3] = [3, 6, 6];

    fn extremes(image: &[f32]) -> usize {
        image.iter().filter(|v| **v == 0.0 || **v == 1.0).count()
    }

    /// Class 1 from `least` black or white values on.
    fn counter(least: usize) -> impl Fn(&[f32]) -> Vec<f32> {
        move |image| vec![least as f32 - 0.5, extremes(image) as f32]
    }

    fn rules(formula: impl Fn(&[f32]) -> Vec<f32> + 'static) -> Rules {
        Rules {
            shape: SHAPE,
            formula: Box::new(formula),
            open: vec![0.25; 108],
            met: vec![1.0; 108],
            random: true,
        }
    }

    #[test]
    fn they_follow_the_rules() {
        for across_channels in [true, false] {
            let attack = Attack::SaltAndPepper(SaltAndPepper {
                across_channels,
                repeats: 2,
                ..SaltAndPepper::default()
            });
            follows_the_rules(&attack, &rules(counter(30)));
        }
        let attack = Attack::BlendedNoise(BlendedNoise::default());
        follows_the_rules(&attack, &Linear::default().rules());
        for kind in [NoiseKind::Gaussian, NoiseKind::Uniform] {
            for (norm, eps) in [(Norm::L2, 2.0), (Norm::Linf, 0.4)] {
                let attack = Attack::AdditiveNoise(AdditiveNoise {
                    norm,
                    eps,
                    kind,
                    ..AdditiveNoise::default()
                });
                follows_the_rules(&attack, &Linear::default().rules());
            }
        }
    }

    #[test]
    fn salt_and_pepper_turns_as_few_as_needed() {
        for (across_channels, least, expected) in [(true, 31, 33), (false, 31, 31)] {
            let formula = counter(least);
            let mut model = Model::new(SHAPE, 2, &formula);
            let plan = Attack::SaltAndPepper(SaltAndPepper {
                levels: 5,
                across_channels,
                ..SaltAndPepper::default()
            });
            let found = attack(
                &plan,
                &mut model,
                &[0.25; 108],
                &Criterion::untargeted(vec![0]),
            );
            assert_eq!(extremes(&found), expected, "{across_channels}");
            let kept = found.iter().filter(|v| **v == 0.25).count();
            assert_eq!(kept, 108 - expected);
            let black = found.iter().filter(|v| **v == 0.0).count();
            assert!(black > 0 && black < expected, "salt and pepper: {black}");
            let together = (0..36).all(|i| found[i] == found[36 + i] && found[i] == found[72 + i]);
            assert_eq!(together, across_channels);
        }
    }

    #[test]
    fn repeats_find_a_smaller_share() {
        // Only one place matters: how many turn before it does is chance.
        let formula = |image: &[f32]| vec![0.5, f32::from(u8::from(image[20] != 0.25))];
        let turned = |repeats| {
            let mut model = Model::new(SHAPE, 2, &formula);
            let plan = Attack::SaltAndPepper(SaltAndPepper {
                repeats,
                ..SaltAndPepper::default()
            });
            let found = attack(
                &plan,
                &mut model,
                &[0.25; 108],
                &Criterion::untargeted(vec![0]),
            );
            extremes(&found)
        };
        assert!(turned(30) < turned(1), "{} {}", turned(30), turned(1));
    }

    #[test]
    fn additive_noise_is_of_its_size() {
        let centre = vec![0.5_f32; 5000];
        let mut rng = Rng::from_seed(8);
        for kind in [NoiseKind::Gaussian, NoiseKind::Uniform] {
            for (norm, eps) in [(Norm::L2, 1.5), (Norm::Linf, 0.1)] {
                let noise = AdditiveNoise {
                    norm,
                    eps,
                    kind,
                    repeats: 1,
                };
                let mut image = centre.clone();
                noise.add(&mut image, &centre, &mut rng);
                let share = norm.distance(&image, &centre) / f64::from(eps);
                assert!((0.999..=1.0).contains(&share), "{noise:?} {share}");
            }
        }
    }

    #[test]
    fn additive_noise_draws_until_it_succeeds() {
        let linear = Linear::default();
        // 0.3 to the plane: about a thirtieth of the draws get there.
        let plan = Attack::AdditiveNoise(AdditiveNoise {
            norm: Norm::L2,
            eps: 1.1,
            kind: NoiseKind::Gaussian,
            repeats: 500,
        });
        for (distance, queries) in linear.distances(&plan, Norm::L2) {
            assert!(distance >= 1.0, "{distance}");
            assert!((3..400).contains(&queries), "{queries}");
        }
    }

    #[test]
    fn blended_noise_ends_at_the_boundary() {
        let linear = Linear::default();
        let formula = |image: &[f32]| vec![0.0, Linear::default().rise(image)];
        let mut model = Model::new(linear.shape, 2, &formula);
        let plan = Attack::BlendedNoise(BlendedNoise::default());
        let image = &linear.images[0];
        let found = attack(&plan, &mut model, image, &Criterion::untargeted(vec![0]));
        // Straight back a little, and it is no success any more.
        let back = start::blend(&found, image, 1e-3);
        assert!(linear.rise(&found) > 0.0 && linear.rise(&back) <= 0.0);
        assert!(model.asked < 400, "{}", model.asked);
    }

    #[test]
    fn bad_settings_are_refused() {
        let salt = SaltAndPepper {
            levels: 0,
            ..SaltAndPepper::default()
        };
        let additive = |norm, eps, repeats| AdditiveNoise {
            norm,
            eps,
            repeats,
            ..AdditiveNoise::default()
        };
        let blended = BlendedNoise {
            draws: 0,
            ..BlendedNoise::default()
        };
        for bad in [
            salt.check(),
            additive(Norm::L1, 0.1, 1).check(),
            additive(Norm::L2, f32::NAN, 1).check(),
            additive(Norm::L2, 0.1, 0).check(),
            blended.check(),
        ] {
            assert!(matches!(bad, Err(AttackError::Setting(_))), "{bad:?}");
        }
        assert_eq!(additive(Norm::L2, 0.0, 1).check(), Ok(()));
    }
}
