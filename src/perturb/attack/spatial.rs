//! The spatial attack (Engstrom et al. 2019): the image turned and shifted a little.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::best_so_far::{Clean, PORTION, to_pixel};
use super::context::Context;
use super::criterion::Criterion;
use super::error::{AttackError, require};
use super::loss::Loss;
use super::method::Method;
use super::oracle::Oracle;
use crate::rng::Rng;

/// Which transformations are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Search {
    /// All combinations of evenly spaced values, from the identity outwards. A number of 1 stands
    /// for no movement of that sort.
    Grid {
        /// Values for the shift down and as many for the one to the right, at least 1.
        translations: usize,
        /// Values for the angle, at least 1.
        rotations: usize,
    },
    /// So many even draws for each image, at least 1.
    Random { draws: usize },
}

/// What there is beyond the edge of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    #[default]
    Black,
    /// The image again, mirrored at its edge.
    Mirror,
}

/// Which of several successes is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The first; no more transformations are tried.
    First,
    /// The one of the largest margin, of all transformations.
    #[default]
    Worst,
}

/// Rotates about the image's middle, shifts, and resamples bilinearly. No norm bounds what changes.
///
/// The paper's grid has 775 transformations; its choice by random draws has 10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spatial {
    /// Largest angle, both ways round, in degrees; 0 to 180.
    pub max_rotation: f32,
    /// Largest shift, each way, as a part of the side; 0 to 1. The paper has 3 px of 32.
    pub max_translation: f32,
    pub search: Search,
    pub border: Border,
    pub choice: Choice,
}

impl Default for Spatial {
    fn default() -> Self {
        Self {
            max_rotation: 30.0,
            max_translation: 0.1,
            search: Search::Grid {
                translations: 5,
                rotations: 31,
            },
            border: Border::Black,
            choice: Choice::Worst,
        }
    }
}

/// A movement, its parts as parts of the largest allowed, −1 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Move {
    /// Counter-clockwise as one looks at the image.
    turn: f64,
    down: f64,
    right: f64,
}

impl Move {
    fn is_none(self) -> bool {
        self.size() == 0.0
    }

    fn size(self) -> f64 {
        self.turn * self.turn + self.down * self.down + self.right * self.right
    }
}

/// What is tried with one image, and the best success: its margin and its pixels.
struct Way {
    moves: Vec<Move>,
    best: Option<(f64, Vec<f32>)>,
}

impl Way {
    fn new(moves: Vec<Move>) -> Self {
        Self { moves, best: None }
    }
}

impl Spatial {
    fn check(&self) -> Result<(), AttackError> {
        require(
            (0.0..=180.0).contains(&self.max_rotation),
            "The largest rotation of the spatial attack must be from 0 to 180 degrees.",
        )?;
        require(
            (0.0..=1.0).contains(&self.max_translation),
            "The largest shift of the spatial attack must be from 0 to 1 side of the image.",
        )?;
        let counts = match self.search {
            Search::Grid {
                translations,
                rotations,
            } => [translations, rotations],
            Search::Random { draws } => [draws; 2],
        };
        require(
            !counts.contains(&0),
            "The spatial attack needs at least one transformation to try.",
        )
    }

    /// The open images after the movements numbered `range`, and which image each is of.
    fn next(
        &self,
        ways: &[Way],
        open: &[usize],
        pixels: &[f32],
        shape: [usize; 3],
        range: Range<usize>,
    ) -> (Vec<f32>, Vec<usize>) {
        let length: usize = shape.iter().product();
        let mut tried = Vec::with_capacity(open.len() * range.len() * length);
        let mut owners = Vec::with_capacity(open.len() * range.len());
        for image in open {
            let original = &pixels[image * length..][..length];
            for how in &ways[*image].moves[range.clone()] {
                tried.extend(self.transform(original, shape, *how));
                owners.push(*image);
            }
        }
        (tried, owners)
    }

    fn offer(&self, way: &mut Way, margin: f64, success: &[f32]) {
        let better = match &way.best {
            None => true,
            Some((best, _)) => self.choice == Choice::Worst && margin > *best,
        };
        if better {
            way.best = Some((margin, success.to_vec()));
        }
    }

    /// What to try, in order.
    fn moves(&self, rng: &mut Rng) -> Vec<Move> {
        let (translations, rotations) = match self.search {
            Search::Grid {
                translations,
                rotations,
            } => (translations, rotations),
            Search::Random { draws } => {
                let mut even = || 2.0 * rng.uniform_f64() - 1.0;
                let draw = |_| Move {
                    turn: even(),
                    down: even(),
                    right: even(),
                };
                return (0..draws).map(draw).collect();
            }
        };
        let mut moves = Vec::with_capacity(rotations * translations * translations);
        for turn in spaced(rotations) {
            for down in spaced(translations) {
                moves.extend(spaced(translations).map(|right| Move { turn, down, right }));
            }
        }
        // The image itself has been asked about.
        moves.retain(|m| !m.is_none());
        moves.sort_by(|a, b| a.size().total_cmp(&b.size()));
        moves
    }

    /// A moved image.
    fn transform(&self, image: &[f32], [_, height, width]: [usize; 3], how: Move) -> Vec<f32> {
        let angle = how.turn * f64::from(self.max_rotation).to_radians();
        // The same on every platform, which the standard library's are not.
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let reach = f64::from(self.max_translation);
        let (down, right) = (
            how.down * reach * height as f64,
            how.right * reach * width as f64,
        );
        let middle = [height, width].map(|side| (side as f64 - 1.0) / 2.0);
        let mut moved = Vec::with_capacity(image.len());
        for plane in image.chunks_exact(height * width) {
            let plane = Plane {
                pixels: plane,
                height,
                width,
                border: self.border,
            };
            for y in 0..height {
                for x in 0..width {
                    // Where the pixel came from: the way back, shift first.
                    let dy = y as f64 - middle[0] - down;
                    let dx = x as f64 - middle[1] - right;
                    let from_y = middle[0] + cos * dy + sin * dx;
                    let from_x = middle[1] - sin * dy + cos * dx;
                    moved.push(plane.sample(from_y, from_x));
                }
            }
        }
        moved
    }
}

impl Method for Spatial {
    /// `[n, c, h, w]`; an image without a success is returned as it was.
    async fn attack<O: Oracle>(
        &self,
        context: &mut Context<'_, O>,
        pixels: &[f32],
        criterion: &Criterion,
    ) -> Result<Vec<f32>, AttackError> {
        self.check()?;
        let length = context.oracle.image_len();
        let mut open = Clean::of(context, pixels, criterion).await?.open;
        let mut draw = || self.moves(&mut context.rng);
        let mut ways: Vec<Way> = (0..criterion.classes.len())
            .map(|_| Way::new(draw()))
            .collect();
        let steps = ways.first().map_or(0, |way| way.moves.len());
        let mut step = 0;
        while step < steps && !open.is_empty() {
            let each = (PORTION / open.len()).clamp(1, steps - step);
            step += each;
            let (tried, owners) = self.next(
                &ways,
                &open,
                pixels,
                context.oracle.shape(),
                step - each..step,
            );
            let logits = context.oracle.logits(&tried).await?;
            context.report_some(&owners, [step, steps], &logits, &tried);
            let wanted = criterion.pick(&owners);
            let classes = context.oracle.classes();
            let margins = Loss::Margin.evaluate(&logits, classes, &wanted, &[]).values;
            let met = wanted.met(&logits, classes);
            for (j, i) in owners.iter().enumerate().filter(|(j, _)| met[*j]) {
                self.offer(&mut ways[*i], margins[j], &tried[j * length..][..length]);
            }
            open.retain(|i| self.choice == Choice::Worst || ways[*i].best.is_none());
        }
        let mut found = pixels.to_vec();
        for (image, way) in found.chunks_exact_mut(length).zip(&ways) {
            if let Some((_, best)) = &way.best {
                image.copy_from_slice(best);
            }
        }
        Ok(found)
    }
}

/// `count` values from −1 to 1; 0 alone for one.
fn spaced(count: usize) -> impl Iterator<Item = f64> {
    let last = count.saturating_sub(1);
    (0..count).map(move |i| match last {
        0 => 0.0,
        // Symmetric to the bit, and 0 in the middle.
        _ => (2.0 * i as f64 - last as f64) / last as f64,
    })
}

/// One channel of an image.
struct Plane<'a> {
    pixels: &'a [f32],
    height: usize,
    width: usize,
    border: Border,
}

impl Plane<'_> {
    /// Between the four pixels about a point.
    fn sample(&self, y: f64, x: f64) -> f32 {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let (top, left) = (top as isize, left as isize);
        let mut sum = 0.0;
        for (row, weight_y) in [(top, 1.0 - down), (top + 1, down)] {
            for (column, weight_x) in [(left, 1.0 - right), (left + 1, right)] {
                sum += weight_y * weight_x * self.at(row, column);
            }
        }
        to_pixel(sum)
    }

    fn at(&self, row: isize, column: isize) -> f64 {
        let place = (self.index(row, self.height), self.index(column, self.width));
        match place {
            (Some(row), Some(column)) => f64::from(self.pixels[row * self.width + column]),
            _ => 0.0,
        }
    }

    /// The row or column that stands at `place`.
    fn index(&self, place: isize, side: usize) -> Option<usize> {
        let inside = usize::try_from(place).ok().filter(|p| *p < side);
        match self.border {
            Border::Black => inside,
            Border::Mirror => {
                let period = place.rem_euclid(2 * side as isize) as usize;
                Some(period.min(2 * side - 1 - period))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Attack;
    use super::super::test_formula::{Model, Rules, attack, follows_the_rules};
    use super::*;

    const SHAPE: [usize; 3] = [1, 10, 10];

    /// A dot at a row and a column.
    fn dot(row: usize, column: usize) -> Vec<f32> {
        let mut image = vec![0.0; 100];
        image[row * 10 + column] = 1.0;
        image
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    /// Class 1 when the light is more than half a pixel to the right of column 4.
    fn side(image: &[f32]) -> Vec<f32> {
        let light: f32 = image.iter().sum();
        let moment: f32 = (0..100).map(|i| (i % 10) as f32 * image[i]).sum();
        vec![4.5, moment / light.max(0.1)]
    }

    fn rules(random: bool) -> Rules {
        Rules {
            shape: SHAPE,
            formula: Box::new(side),
            open: dot(4, 4),
            met: dot(4, 6),
            random,
        }
    }

    fn draws(draws: usize, choice: Choice) -> Spatial {
        Spatial {
            search: Search::Random { draws },
            choice,
            ..Spatial::default()
        }
    }

    #[test]
    fn it_follows_the_rules() {
        for choice in [Choice::First, Choice::Worst] {
            for border in [Border::Black, Border::Mirror] {
                let grid = Spatial {
                    border,
                    choice,
                    ..Spatial::default()
                };
                follows_the_rules(&Attack::Spatial(grid), &rules(false));
                let random = Spatial {
                    border,
                    ..draws(40, choice)
                };
                follows_the_rules(&Attack::Spatial(random), &rules(true));
            }
        }
    }

    #[test]
    fn the_grid_goes_from_the_identity_outwards() {
        let moves = Spatial::default().moves(&mut Rng::from_seed(1));
        assert_eq!(moves.len(), 774, "the paper's 775, without the identity");
        assert!(moves.windows(2).all(|w| w[0].size() <= w[1].size()));
        let smallest = Move {
            turn: -1.0 / 15.0,
            down: 0.0,
            right: 0.0,
        };
        assert_eq!(moves[0], smallest);
    }

    #[test]
    fn the_first_success_is_the_smallest_and_the_worst_the_farthest() {
        let grid = |choice| Spatial {
            max_rotation: 0.0,
            max_translation: 0.2,
            choice,
            search: Search::Grid {
                translations: 5,
                rotations: 1,
            },
            ..Spatial::default()
        };
        for (choice, column) in [(Choice::First, 5), (Choice::Worst, 6)] {
            let mut model = Model::new(SHAPE, 2, &side);
            let plan = Attack::Spatial(grid(choice));
            let found = attack(
                &plan,
                &mut model,
                &dot(4, 4),
                &Criterion::untargeted(vec![0]),
            );
            let light: f32 = found.iter().skip(column).step_by(10).sum();
            assert!(light > 0.999, "{choice:?}: {found:?}");
            assert_eq!(model.asked, 1 + 24);
        }
    }

    #[test]
    fn after_the_first_success_nothing_is_asked() {
        for (choice, asked) in [(Choice::First, 1 + 64), (Choice::Worst, 1 + 300)] {
            let mut model = Model::new(SHAPE, 2, &side);
            let plan = Attack::Spatial(draws(300, choice));
            attack(
                &plan,
                &mut model,
                &dot(4, 4),
                &Criterion::untargeted(vec![0]),
            );
            assert_eq!(model.asked, asked, "{choice:?}");
        }
    }

    #[test]
    fn whole_turns_and_shifts_are_exact() {
        let spatial = Spatial {
            max_rotation: 90.0,
            max_translation: 0.5,
            ..Spatial::default()
        };
        let none = Move {
            turn: 0.0,
            down: 0.0,
            right: 0.0,
        };
        let table = [
            (none, dot(1, 2)),
            (
                Move {
                    down: 0.4,
                    right: -0.2,
                    ..none
                },
                dot(3, 1),
            ),
            // Counter-clockwise: what was to the left of the top goes down the left side.
            (Move { turn: 1.0, ..none }, dot(7, 1)),
            (Move { turn: -1.0, ..none }, dot(2, 8)),
            // Turned first, shifted after.
            (
                Move {
                    turn: 1.0,
                    right: 0.2,
                    ..none
                },
                dot(7, 2),
            ),
            // Out of sight.
            (Move { down: -1.0, ..none }, vec![0.0; 100]),
        ];
        for (how, expected) in table {
            let moved = spatial.transform(&dot(1, 2), SHAPE, how);
            assert!(close(&moved, &expected), "{how:?}: {moved:?}");
        }
    }

    #[test]
    fn half_a_pixel_is_shared_by_two() {
        let spatial = Spatial::default();
        let how = Move {
            turn: 0.0,
            down: 0.0,
            right: 0.5,
        };
        let moved = spatial.transform(&dot(4, 4), SHAPE, how);
        assert_eq!((moved[44], moved[45]), (0.5, 0.5));
    }

    #[test]
    fn borders_are_black_or_mirrored() {
        let white = vec![1.0; 100];
        let how = Move {
            turn: 1.0,
            down: 1.0,
            right: 1.0,
        };
        let with = |border| {
            Spatial {
                border,
                ..Spatial::default()
            }
            .transform(&white, SHAPE, how)
        };
        assert!(with(Border::Black).contains(&0.0));
        assert!(with(Border::Mirror).iter().all(|v| (*v - 1.0).abs() < 1e-6));
        let plane = Plane {
            pixels: &white,
            height: 10,
            width: 10,
            border: Border::Mirror,
        };
        let places = [-2, -1, 0, 9, 10, 11, 19, 20, -11];
        let found = places.map(|p| plane.index(p, 10).unwrap());
        assert_eq!(found, [1, 0, 0, 9, 9, 8, 0, 0, 9]);
    }

    #[test]
    fn nothing_goes_further_than_allowed() {
        let moves = draws(500, Choice::First).moves(&mut Rng::from_seed(2));
        let parts = moves.iter().flat_map(|m| [m.turn, m.down, m.right]);
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for part in parts {
            (low, high) = (low.min(part), high.max(part));
        }
        assert!((-1.0..-0.97).contains(&low) && (0.97..=1.0).contains(&high));
    }

    #[test]
    fn bad_settings_are_refused() {
        let fine = Spatial::default();
        assert_eq!(fine.check(), Ok(()));
        for bad in [
            Spatial {
                max_rotation: f32::NAN,
                ..fine.clone()
            },
            Spatial {
                max_translation: 1.5,
                ..fine.clone()
            },
            draws(0, Choice::First),
            Spatial {
                search: Search::Grid {
                    translations: 0,
                    rotations: 3,
                },
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
