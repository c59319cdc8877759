//! The one-pixel attack (Su et al. 2019): differential evolution (Storn and Price 1997) of a few
//! pixels' places and colours, from scores alone.

use serde::{Deserialize, Serialize};

use super::best_so_far::{Clean, PORTION};
use super::context::Context;
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::oracle::Oracle;
use crate::rng::Rng;

/// Members that a child is made of, and the one it has to beat.
const LEAST_POPULATION: usize = 4;

/// First colours are drawn about the middle of the range with half of it as deviation; the paper's
/// 128 and 127 of 255.
const COLOUR: [f64; 2] = [128.0 / 255.0, 127.0 / 255.0];

/// Changes a few pixels, in all channels, as far as need be.
///
/// A child of evolution takes a member's place when its class (the one to leave) is less likely,
/// or the one to reach more likely. Places that evolve out of the image are drawn anew, and colours
/// are cut at the ends of the range: the paper leaves both open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnePixel {
    /// Pixels to change, at least 1. The paper has 1, 3 and 5.
    pub pixels: usize,
    /// Candidates for each image, at least 4.
    pub population: usize,
    /// How often they may have children; an image is done earlier when one of them is a success.
    pub generations: usize,
    /// Weight of a difference of two members in a child, above 0 and at most 2.
    pub scale: f32,
}

impl Default for OnePixel {
    fn default() -> Self {
        Self {
            pixels: 1,
            population: 400,
            generations: 100,
            scale: 0.5,
        }
    }
}

/// For each changed pixel its place in px, down and to the right, then its colour.
type Genes = Vec<f64>;

#[derive(Clone)]
struct Member {
    genes: Genes,
    score: f64,
}

/// The candidates of one image.
struct Swarm {
    image: usize,
    members: Vec<Member>,
}

/// A generation's children, swarm by swarm, and what the model says.
struct Brood {
    children: Vec<Member>,
    met: Vec<bool>,
    logits: Vec<f32>,
}

impl OnePixel {
    fn check(&self) -> Result<(), AttackError> {
        require(
            self.pixels > 0,
            "The one-pixel attack needs at least one pixel to change.",
        )?;
        require(
            self.population >= LEAST_POPULATION,
            "The one-pixel attack needs a population of at least 4.",
        )?;
        require(
            self.scale > 0.0 && self.scale <= 2.0,
            "The scale of the one-pixel attack must be above 0 and at most 2.",
        )
    }

    /// The first members, or a child for each.
    fn offspring(&self, swarms: &[Swarm], shape: [usize; 3], rng: &mut Rng) -> Vec<Genes> {
        let mut genes = Vec::with_capacity(swarms.len() * self.population);
        for swarm in swarms {
            for member in 0..self.population {
                genes.push(match swarm.members.is_empty() {
                    true => self.draw(shape, rng),
                    false => self.child(&swarm.members, member, shape, rng),
                });
            }
        }
        genes
    }

    fn draw(&self, [channels, height, width]: [usize; 3], rng: &mut Rng) -> Genes {
        let [middle, deviation] = COLOUR;
        let mut genes = Vec::with_capacity(self.pixels * (2 + channels));
        for _ in 0..self.pixels {
            genes.push(rng.uniform_f64() * height as f64);
            genes.push(rng.uniform_f64() * width as f64);
            let colour =
                (0..channels).map(|_| (middle + deviation * rng.normal_f64()).clamp(0.0, 1.0));
            genes.extend(colour);
        }
        genes
    }

    /// One member plus the weighted difference of two others, none of them the one to beat.
    fn child(
        &self,
        members: &[Member],
        father: usize,
        [channels, height, width]: [usize; 3],
        rng: &mut Rng,
    ) -> Genes {
        let [a, b, c] = three_others(members.len(), father, rng).map(|i| &members[i].genes);
        let scale = f64::from(self.scale);
        let mut genes: Genes = (0..a.len()).map(|i| a[i] + scale * (b[i] - c[i])).collect();
        for pixel in genes.chunks_exact_mut(2 + channels) {
            let (place, colour) = pixel.split_at_mut(2);
            for (at, side) in place.iter_mut().zip([height, width]) {
                if !(0.0..side as f64).contains(at) {
                    *at = rng.uniform_f64() * side as f64;
                }
            }
            colour.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        }
        genes
    }

    /// Asks about all children.
    async fn judge<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        swarms: &[Swarm],
        genes: Vec<Genes>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Brood, AttackError> {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let shape = context.oracle.shape();
        let mut brood = Brood {
            children: Vec::with_capacity(genes.len()),
            met: Vec::with_capacity(genes.len()),
            logits: Vec::with_capacity(genes.len() * classes),
        };
        let owners: Vec<usize> = swarms
            .iter()
            .flat_map(|s| std::iter::repeat_n(s.image, self.population))
            .collect();
        for (genes, owners) in genes.chunks(PORTION).zip(owners.chunks(PORTION)) {
            let mut tried = super::context::pick(pixels, length, owners);
            let images = tried.chunks_exact_mut(length).zip(genes);
            images.for_each(|(image, genes)| paint(image, shape, genes));
            let logits = context.oracle.logits(&tried).await?;
            let wanted = criterion.pick(owners);
            // The logarithm of the probability, which orders as the probability does and does not
            // run out of digits.
            let scores = Loss::CrossEntropy.evaluate(&logits, classes, &wanted, &[]);
            brood.met.extend(wanted.met(&logits, classes));
            let children = genes.iter().zip(scores.values);
            brood.children.extend(children.map(|(genes, score)| Member {
                genes: genes.clone(),
                score,
            }));
            brood.logits.extend(logits);
        }
        Ok(brood)
    }

    /// Lets children take the places of members they beat. For each swarm, the best child that is
    /// a success.
    fn select(&self, swarms: &mut [Swarm], brood: &Brood) -> Vec<Option<usize>> {
        let mut winners = Vec::with_capacity(swarms.len());
        for (s, swarm) in swarms.iter_mut().enumerate() {
            let range = s * self.population..(s + 1) * self.population;
            let children = &brood.children[range.clone()];
            if swarm.members.is_empty() {
                swarm.members = children.to_vec();
            }
            for (member, child) in swarm.members.iter_mut().zip(children) {
                // A score that is no number loses against any other.
                if child.score >= member.score || member.score.is_nan() {
                    member.clone_from(child);
                }
            }
            winners.push(best(&brood.children, range.filter(|i| brood.met[*i])));
        }
        winners
    }

    /// Tells of the best child of each swarm.
    fn report<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        swarms: &[Swarm],
        brood: &Brood,
        pixels: &[f32],
        step: usize,
    ) {
        let (length, classes) = (context.oracle.image_len(), context.oracle.classes());
        let shape = context.oracle.shape();
        let images: Vec<usize> = swarms.iter().map(|s| s.image).collect();
        let bests: Vec<usize> = (0..swarms.len())
            .filter_map(|s| {
                let range = s * self.population..(s + 1) * self.population;
                best(&brood.children, range)
            })
            .collect();
        let mut shown = super::context::pick(pixels, length, &images);
        let places = shown.chunks_exact_mut(length).zip(&bests);
        places.for_each(|(image, i)| paint(image, shape, &brood.children[*i].genes));
        let logits = super::context::pick(&brood.logits, classes, &bests);
        context.report_some(&images, [step, self.generations + 1], &logits, &shown);
    }
}

impl Method for OnePixel {
    /// `[n, c, h, w]`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let (length, shape) = (context.oracle.image_len(), context.oracle.shape());
        let clean = Clean::of(context, pixels, criterion).await?;
        let mut found = pixels.to_vec();
        let mut swarms: Vec<Swarm> = clean
            .open
            .into_iter()
            .map(|image| Swarm {
                image,
                members: Vec::new(),
            })
            .collect();
        for generation in 0..=self.generations {
            if swarms.is_empty() {
                break;
            }
            let genes = self.offspring(&swarms, shape, &mut context.rng);
            let brood = self
                .judge(context, &swarms, genes, pixels, criterion)
                .await?;
            let done = self.select(&mut swarms, &brood);
            self.report(context, &swarms, &brood, pixels, generation + 1);
            for (swarm, winner) in swarms.iter().zip(&done) {
                if let Some(winner) = winner {
                    let place = &mut found[swarm.image * length..][..length];
                    paint(place, shape, &brood.children[*winner].genes);
                }
            }
            let mut flags = done.iter();
            swarms.retain(|_| flags.next().is_some_and(Option::is_none));
        }
        Ok(found)
    }
}

/// The member of the highest score, of those at `places`.
fn best(members: &[Member], places: impl Iterator<Item = usize>) -> Option<usize> {
    let rank = |i: &usize| {
        let score = members[*i].score;
        if score.is_nan() {
            f64::NEG_INFINITY
        } else {
            score
        }
    };
    places.max_by(|a, b| rank(a).total_cmp(&rank(b)))
}

/// Three different numbers below `n` that are not `not`.
fn three_others(n: usize, not: usize, rng: &mut Rng) -> [usize; 3] {
    let mut drawn = [not; 3];
    for i in 0..3 {
        while drawn[..i].contains(&drawn[i]) || drawn[i] == not {
            drawn[i] = rng.below(n);
        }
    }
    drawn
}

/// Puts the pixels of `genes` into an image.
fn paint(image: &mut [f32], [channels, height, width]: [usize; 3], genes: &[f64]) {
    for pixel in genes.chunks_exact(2 + channels) {
        // Positive, so that the cast rounds down; rounding in a sum could end at the side itself.
        let y = (pixel[0] as usize).min(height - 1);
        let x = (pixel[1] as usize).min(width - 1);
        for (channel, value) in pixel[2..].iter().enumerate() {
            image[(channel * height + y) * width + x] = *value as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_formula::{Model, Rules, attack, follows_the_rules};
    use super::*;

    const SHAPE: [usize; 3] = [3, 8, 8];

    /// The place the model looks at: channel 1, row 5, column 2.
    const SEEN: usize = 64 + 5 * 8 + 2;

    /// Looks at one pixel's green, and is led there by its neighbours.
    fn look(image: &[f32]) -> Vec<f32> {
        vec![
            0.6,
            image[SEEN] + 0.05 * image[64..128].iter().sum::<f32>() / 64.0,
        ]
    }

    fn rules() -> Rules {
        let mut met = vec![0.25; 192];
        met[SEEN] = 1.0;
        Rules {
            shape: SHAPE,
            formula: Box::new(look),
            open: vec![0.25; 192],
            met,
            random: true,
        }
    }

    fn small() -> OnePixel {
        OnePixel {
            population: 60,
            generations: 40,
            ..OnePixel::default()
        }
    }

    #[test]
    fn it_follows_the_rules() {
        follows_the_rules(&Attack::OnePixel(small()), &rules());
    }

    fn changed(image: &[f32], original: &[f32]) -> Vec<usize> {
        let places = (0..64).filter(|i| (0..3).any(|c| image[c * 64 + i] != original[c * 64 + i]));
        places.collect()
    }

    #[test]
    fn it_finds_the_one_pixel_that_counts() {
        let rules = rules();
        let mut model = Model::new(SHAPE, 2, &look);
        let plan = Attack::OnePixel(small());
        let found = attack(
            &plan,
            &mut model,
            &rules.open,
            &Criterion::untargeted(vec![0]),
        );
        assert_eq!(changed(&found, &rules.open), [SEEN - 64]);
        assert!(found[SEEN] > 0.5, "{}", found[SEEN]);
        assert!(model.asked <= 1 + 41 * 60, "{}", model.asked);
    }

    #[test]
    fn several_pixels_are_changed_when_one_does_not_do() {
        let other = 128 + 9;
        let both = move |image: &[f32]| vec![1.7, image[SEEN] + image[other]];
        let open = vec![0.25; 192];
        for (pixels, expected) in [(1, 0), (2, 2)] {
            let plan = Attack::OnePixel(OnePixel {
                pixels,
                population: 200,
                ..small()
            });
            let mut model = Model::new(SHAPE, 2, &both);
            let found = attack(&plan, &mut model, &open, &Criterion::untargeted(vec![0]));
            assert_eq!(changed(&found, &open).len(), expected, "{pixels} pixels");
        }
    }

    #[test]
    fn it_stops_at_the_first_success() {
        let mut model = Model::new(SHAPE, 2, &|image| {
            vec![
                0.0,
                if image.iter().all(|v| *v == 0.25) {
                    -1.0
                } else {
                    1.0
                },
            ]
        });
        let plan = Attack::OnePixel(small());
        attack(
            &plan,
            &mut model,
            &[0.25; 192],
            &Criterion::untargeted(vec![0]),
        );
        assert_eq!(model.asked, 1 + 60);
    }

    #[test]
    fn children_stay_in_the_image_and_its_colours() {
        let mut rng = Rng::from_seed(6);
        // At the corners, so that half of the sums lie outside.
        let corner = |i: usize| Member {
            genes: vec![[0.0, 7.99][i % 2], [0.0, 7.99][i / 2 % 2], 0.0, 0.5, 1.0],
            score: 0.0,
        };
        let members: Vec<Member> = (0..8).map(corner).collect();
        let mut inner = 0;
        for _ in 0..200 {
            let genes = small().child(&members, 0, SHAPE, &mut rng);
            assert!(genes[..2].iter().all(|at| (0.0..8.0).contains(at)));
            assert_eq!(genes[2..], [0.0, 0.5, 1.0]);
            // Half of a difference leads to the corners, their middle, or outside.
            let is_sum = |at: &f64| [0.0, 3.995, 7.99].iter().any(|sum| (at - sum).abs() < 1e-9);
            inner += usize::from(!genes[..2].iter().all(is_sum));
        }
        assert!(inner > 20, "places outside are drawn anew: {inner}");
    }

    #[test]
    fn parents_are_three_others() {
        let mut rng = Rng::from_seed(2);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let [a, b, c] = three_others(5, 3, &mut rng);
            assert!(a != b && b != c && a != c);
            [a, b, c].into_iter().for_each(|i| seen[i] = true);
        }
        assert_eq!(seen, [true, true, true, false, true]);
    }

    #[test]
    fn bad_settings_are_refused() {
        let fine = OnePixel::default();
        assert_eq!(fine.check(), Ok(()));
        for bad in [
            OnePixel {
                pixels: 0,
                ..fine.clone()
            },
            OnePixel {
                population: 3,
                ..fine.clone()
            },
            OnePixel {
                scale: f32::NAN,
                ..fine
            },
        ] {
            assert!(
                matches!(bad.check(), Err(AttackError::Setting(_))),
                "{bad:?}"
            );
        }
    }
}
