//! Where attacks that only see decisions begin: questions under a budget, a first image of the
//! criterion, and the way from it back to the boundary.

use super::best_so_far::{Clean, PORTION, to_pixel};
use super::context::Context;
use super::criterion::{Aim, Criterion};
use super::error::AttackError;
use super::norm::Norm;
use super::oracle::Oracle;

/// Halvings of a bracket at most: more than an f64 has bits.
const HALVINGS: usize = 60;

/// Questions to the model under a budget for each image.
pub(super) struct Questions<'a> {
    pub criterion: &'a Criterion,
    /// Passes that an image has been through, for the image with most of them.
    pub asked: usize,
    /// How many there may be.
    pub most: usize,
}

/// What the model says to a question.
pub(super) struct Answers {
    /// `[tried, classes]`.
    pub logits: Vec<f32>,
    /// Whether each meets the criterion.
    pub met: Vec<bool>,
}

impl Questions<'_> {
    pub fn left(&self) -> usize {
        self.most.saturating_sub(self.asked)
    }

    /// How far the attack is, as a step has it.
    pub fn at(&self) -> [usize; 2] {
        [self.asked, self.most]
    }

    /// Evaluates `[tried, ...]` pixels of the images `owners`, at most `each` of one image, in
    /// portions and without a report.
    pub async fn ask<O: Oracle>(
        &mut self,
        context: &mut Context<'_, O>,
        tried: &[f32],
        owners: &[usize],
        each: usize,
    ) -> Result<Answers, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let mut logits = Vec::with_capacity(owners.len() * classes);
        for portion in tried.chunks(PORTION * length) {
            logits.extend(context.oracle.logits(portion).await?);
        }
        self.asked += each;
        let met = self.criterion.pick(owners).met(&logits, classes);
        Ok(Answers { logits, met })
    }
}

/// A success of an image, `far` along some way from the original, and where on that way the
/// boundary is known to lie.
pub(super) struct Bracket {
    pub image: usize,
    /// The end of the way.
    pub far: Vec<f32>,
    /// An amount of the way that is no success.
    pub low: f64,
    /// One that is, and the smallest known.
    pub high: f64,
    /// The image at `high`, and what the model says of it.
    pub pixels: Vec<f32>,
    pub logits: Vec<f32>,
    /// How narrow is narrow enough.
    pub tolerance: f64,
}

impl Bracket {
    fn is_wide(&self) -> bool {
        self.high - self.low > self.tolerance
    }

    fn middle(&self) -> f64 {
        f64::midpoint(self.low, self.high)
    }
}

/// `amount` of the straight way from one image to another, 0 to 1.
pub(super) fn blend(from: &[f32], to: &[f32], amount: f64) -> Vec<f32> {
    let pairs = from.iter().zip(to);
    let between = |(a, b): (&f32, &f32)| (1.0 - amount) * f64::from(*a) + amount * f64::from(*b);
    pairs.map(|pair| to_pixel(between(pair))).collect()
}

/// Narrows every bracket to its tolerance, as far as the budget goes. `at` makes the image at an
/// amount of a bracket's way.
pub(super) async fn bisect<O: Oracle>(
    context: &mut Context<'_, O>,
    questions: &mut Questions<'_>,
    brackets: &mut [Bracket],
    at: &dyn Fn(&Bracket, f64) -> Vec<f32>,
) -> Result<(), AttackError> {
    let classes = context.oracle.classes();
    for _ in 0..HALVINGS {
        let mut wide: Vec<&mut Bracket> = brackets.iter_mut().filter(|b| b.is_wide()).collect();
        if wide.is_empty() || questions.left() == 0 {
            break;
        }
        let images: Vec<usize> = wide.iter().map(|b| b.image).collect();
        let before: Vec<f32> = wide.iter().flat_map(|b| b.logits.clone()).collect();
        let tried: Vec<f32> = wide.iter().flat_map(|b| at(b, b.middle())).collect();
        let answers = questions.ask(context, &tried, &images, 1).await?;
        let length = tried.len() / wide.len();
        for (j, bracket) in wide.iter_mut().enumerate() {
            let middle = bracket.middle();
            if !answers.met[j] {
                bracket.low = middle;
                continue;
            }
            bracket.high = middle;
            bracket.pixels = tried[j * length..][..length].to_vec();
            bracket.logits = answers.logits[j * classes..][..classes].to_vec();
        }
        let pixels: Vec<f32> = wide.iter().flat_map(|b| b.pixels.clone()).collect();
        context.report_some(&images, questions.at(), &before, &pixels);
    }
    Ok(())
}

/// Uniform noise blended into an image, more and more of it, then anew.
pub(super) struct Noise {
    /// Draws of the noise at most.
    pub draws: usize,
    /// Amounts of each, evenly up to nothing but noise.
    pub levels: usize,
}

impl Noise {
    /// For each of the images `open` for which some amount was a success, the smallest that was
    /// tried of that noise; in the order of the images.
    pub async fn search<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        pixels: &[f32],
        open: &[usize],
    ) -> Result<Vec<Bracket>, AttackError> {
        let length = context.oracle.image_len();
        let mut found = Vec::new();
        let mut left = open.to_vec();
        for _ in 0..self.draws {
            let mut noise: Vec<(usize, Vec<f32>)> = left
                .iter()
                .map(|image| {
                    let draw = (0..length).map(|_| context.rng.uniform_f32());
                    (*image, draw.collect())
                })
                .collect();
            self.grow(context, questions, pixels, &mut noise, &mut found)
                .await?;
            left = noise.into_iter().map(|(image, _)| image).collect();
        }
        found.sort_by_key(|bracket| bracket.image);
        Ok(found)
    }

    /// Goes through the amounts and moves what was a success from `noise` to `found`.
    async fn grow<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        questions: &mut Questions<'_>,
        pixels: &[f32],
        noise: &mut Vec<(usize, Vec<f32>)>,
        found: &mut Vec<Bracket>,
    ) -> Result<(), AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let amount = |level: usize| level as f64 / self.levels as f64;
        for level in 1..=self.levels {
            if noise.is_empty() || questions.left() == 0 {
                break;
            }
            let images: Vec<usize> = noise.iter().map(|(image, _)| *image).collect();
            let mix = |(image, noise): &(usize, Vec<f32>)| {
                blend(&pixels[image * length..][..length], noise, amount(level))
            };
            let tried: Vec<f32> = noise.iter().flat_map(mix).collect();
            let answers = questions.ask(context, &tried, &images, 1).await?;
            context.report_some(&images, questions.at(), &answers.logits, &tried);
            let mut still = Vec::new();
            for (j, (image, far)) in std::mem::take(noise).into_iter().enumerate() {
                if !answers.met[j] {
                    still.push((image, far));
                    continue;
                }
                found.push(Bracket {
                    image,
                    far,
                    low: amount(level - 1),
                    high: amount(level),
                    pixels: tried[j * length..][..length].to_vec(),
                    logits: answers.logits[j * classes..][..classes].to_vec(),
                    tolerance: 0.0,
                });
            }
            *noise = still;
        }
        Ok(())
    }
}

/// The noise of [`find`].
const NOISE: Noise = Noise {
    draws: 20,
    levels: 10,
};

/// A success for every open image that one was found for, in the order of the images: for a class
/// to reach, the nearest image of the batch that the model says is of it; else blended noise.
pub(super) async fn find<O: Oracle>(
    context: &mut Context<'_, O>,
    questions: &mut Questions<'_>,
    pixels: &[f32],
    clean: &Clean,
) -> Result<Vec<Bracket>, AttackError> {
    let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
    let lent = |image: &usize| lend(questions.criterion, pixels, clean, length, classes, *image);
    let mut found: Vec<Bracket> = clean.open.iter().filter_map(lent).collect();
    let has = |image: &usize| found.iter().any(|b| b.image == *image);
    let left: Vec<usize> = clean.open.iter().copied().filter(|i| !has(i)).collect();
    found.extend(NOISE.search(context, questions, pixels, &left).await?);
    found.sort_by_key(|bracket| bracket.image);
    Ok(found)
}

/// The nearest other image of the batch that would be a success for this one.
fn lend(
    criterion: &Criterion,
    pixels: &[f32],
    clean: &Clean,
    length: usize,
    classes: usize,
    image: usize,
) -> Option<Bracket> {
    // Noise is the usual start of an untargeted attack, and another image is no nearer.
    if criterion.aim != Aim::Targeted {
        return None;
    }
    let wanted = criterion.pick(&[image]);
    let original = &pixels[image * length..][..length];
    let all = pixels.chunks_exact(length);
    let all = all.zip(clean.logits.chunks_exact(classes)).enumerate();
    let others = all.filter(|(other, _)| *other != image).map(|(_, of)| of);
    let lenders = others.filter(|(_, row)| wanted.is_met(0, row));
    let distance = |other: &[f32]| Norm::L2.distance(other, original);
    let nearest = lenders.min_by(|(a, _), (b, _)| distance(a).total_cmp(&distance(b)));
    nearest.map(|(other, row)| Bracket {
        image,
        far: other.to_vec(),
        low: 0.0,
        high: 1.0,
        pixels: other.to_vec(),
        logits: row.to_vec(),
        tolerance: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::context::Step;
    use super::super::test_formula::Model;
    use super::*;

    const SHAPE: [usize; 3] = [1, 2, 2];

    /// Runs `f` with a context of a formula; says how many images were asked about.
    fn with<T>(
        formula: &dyn Fn(&[f32]) -> Vec<f32>,
        images: usize,
        f: impl AsyncFnOnce(&mut Context<'_, Model<'_>>) -> T,
    ) -> (T, usize) {
        let mut model = Model::new(SHAPE, 2, formula);
        let mut watch = |_: Step<'_>| {};
        let mut context = Context::new(&mut model, 1, &mut watch, (0..images).collect());
        let result = pollster::block_on(f(&mut context));
        (result, model.asked)
    }

    /// Class 1 when the first value is above 0.8.
    fn bright(image: &[f32]) -> Vec<f32> {
        vec![0.8, image[0]]
    }

    fn bracket(low: f64, high: f64, tolerance: f64) -> Bracket {
        Bracket {
            image: 0,
            far: vec![1.0; 4],
            low,
            high,
            pixels: vec![1.0; 4],
            logits: vec![0.8, 1.0],
            tolerance,
        }
    }

    fn questions(criterion: &Criterion, most: usize) -> Questions<'_> {
        Questions {
            criterion,
            asked: 0,
            most,
        }
    }

    #[test]
    fn bisection_ends_within_the_tolerance_on_the_side_of_success() {
        let criterion = Criterion::untargeted(vec![0]);
        // Tolerance, budget, questions taken.
        for (tolerance, most, taken) in
            [(1e-3, 100, 10), (0.3, 100, 2), (1e-3, 4, 4), (0.0, 100, 60)]
        {
            let mut brackets = [bracket(0.0, 1.0, tolerance)];
            let (found, asked) = with(&bright, 1, async |context| {
                let mut questions = questions(&criterion, most);
                let way = |b: &Bracket, amount: f64| blend(&[0.0; 4], &b.far, amount);
                bisect(context, &mut questions, &mut brackets, &way).await
            });
            assert_eq!(found, Ok(()));
            let [found] = brackets;
            assert!(asked <= taken, "{tolerance} {most}: {asked}");
            assert!(
                found.pixels[0] > 0.8 && found.low < 0.8 + 1e-6,
                "{tolerance} {most}"
            );
            assert!(most < 10 || found.high - found.low <= tolerance.max(1e-15));
            assert_eq!(f64::from(found.pixels[0]), f64::from(found.high as f32));
            assert_eq!(found.logits, bright(&found.pixels));
        }
    }

    #[test]
    fn noise_grows_until_it_is_a_success() {
        let criterion = Criterion::untargeted(vec![0; 2]);
        let originals = [0.7_f32; 8];
        let (found, _) = with(&bright, 2, async |context| {
            let noise = Noise {
                draws: 100,
                levels: 10,
            };
            let mut questions = questions(&criterion, 1000);
            noise
                .search(context, &mut questions, &originals, &[0, 1])
                .await
        });
        let found = found.unwrap();
        assert_eq!([found[0].image, found[1].image], [0, 1]);
        for bracket in found {
            assert!(bracket.pixels[0] > 0.8);
            assert_eq!(bracket.pixels, blend(&[0.7; 4], &bracket.far, bracket.high));
            assert!(blend(&[0.7; 4], &bracket.far, bracket.low)[0] <= 0.8);
            assert!((bracket.high - bracket.low - 0.1).abs() < 1e-9);
        }
    }

    #[test]
    fn a_search_in_vain_keeps_to_its_budget() {
        let criterion = Criterion::untargeted(vec![0]);
        for (most, expected) in [(7, 7), (1000, 200)] {
            let (found, asked) = with(&|_| vec![1.0, 0.0], 1, async |context| {
                let clean = Clean {
                    logits: vec![1.0, 0.0],
                    open: vec![0],
                };
                find(context, &mut questions(&criterion, most), &[0.5; 4], &clean).await
            });
            assert!(found.unwrap().is_empty());
            assert_eq!(asked, expected);
        }
    }

    #[test]
    fn a_class_is_reached_from_the_nearest_image_of_it() {
        let criterion = Criterion::targeted(vec![1; 4]);
        let values = [0.1_f32, 1.0, 0.85, 0.95];
        let batch: Vec<f32> = values.iter().flat_map(|v| [*v; 4]).collect();
        let (found, asked) = with(&bright, 4, async |context| {
            let clean = Clean::of(context, &batch, &criterion).await?;
            find(context, &mut questions(&criterion, 1000), &batch, &clean).await
        });
        let found = found.unwrap();
        assert_eq!((found.len(), found[0].image, asked), (1, 0, 4));
        assert_eq!(found[0].far, [0.85; 4]);
    }
}
