//! How Auto-PGD steps in L1 (Croce and Hein 2021): along the signs of the largest entries of the
//! gradient, as many as the best point so far suggests.

use super::norm::{Ball, Projection, sign};

/// Share of the entries a step goes along before anything is known.
const FIRST_SHARE: f64 = 0.2;

/// A step goes along fewer entries than the best point has moved, by this factor.
const THINNER: f64 = 1.5;

/// A best point that has moved fewer than this part of the entries moved before is thinner.
const THINNED: f64 = 0.95;

/// What a step shrinks by where the best point is not thinner, and how far down at most.
const SHRINK: f32 = 1.5;
const LEAST: f32 = 0.1;

/// One image's steps.
pub(super) struct Sparse {
    /// Share of the entries that a step goes along.
    share: f64,
    /// Entries that the best point at the check before had moved.
    moved: usize,
}

impl Sparse {
    /// For a climb that begins at `from`, or at a random point.
    pub fn new(from: Option<&[f32]>, centre: &[f32]) -> Self {
        match from {
            None => Self {
                share: FIRST_SHARE,
                moved: centre.len(),
            },
            Some(x) => {
                let moved = moved(x, centre);
                Self {
                    share: share_of(moved, centre.len()),
                    moved,
                }
            }
        }
    }

    /// At the end of a stretch. Where the best point became thinner the step is whole again and the
    /// climb goes back to that point, which this says; else the step shrinks.
    pub fn check(&mut self, best: &[f32], step: &mut f32, ball: &Ball) -> bool {
        let moved = moved(best, ball.centre);
        let thinner = (moved as f64) < THINNED * self.moved as f64;
        self.share = share_of(moved, best.len());
        self.moved = moved;
        *step = match thinner {
            true => ball.eps,
            false => (*step / SHRINK).clamp(LEAST * ball.eps, ball.eps),
        };
        thinner
    }

    /// A step of length `step` in L1, and back into ball and box.
    pub fn advance(&self, x: &mut [f32], gradient: &[f32], ball: &Ball, step: f32) {
        let least = self.least(gradient);
        let direction = |g: &f32| if g.abs() >= least { sign(*g) } else { 0.0 };
        let chosen = gradient.iter().filter(|g| direction(g) != 0.0).count();
        let each = step / chosen.max(1) as f32;
        let pairs = x.iter_mut().zip(gradient);
        pairs.for_each(|(x, g)| *x += each * direction(g));
        ball.project(x, Projection::NearestImage);
    }

    /// The size of the smallest entry of a gradient that is among the largest.
    fn least(&self, gradient: &[f32]) -> f32 {
        let mut sizes: Vec<f32> = gradient.iter().map(|g| g.abs()).collect();
        let below = ((1.0 - self.share) * sizes.len() as f64) as usize;
        let Some(last) = sizes.len().checked_sub(1) else {
            return 0.0;
        };
        *sizes
            .select_nth_unstable_by(below.min(last), f32::total_cmp)
            .1
    }
}

fn share_of(moved: usize, length: usize) -> f64 {
    moved as f64 / length as f64 / THINNER
}

/// Entries in which two images differ.
fn moved(x: &[f32], centre: &[f32]) -> usize {
    let pairs = x.iter().zip(centre);
    pairs.filter(|(x, centre)| x != centre).count()
}

#[cfg(test)]
mod tests {
    use super::super::norm::Norm;
    use super::*;

    const CENTRE: [f32; 10] = [0.5; 10];

    fn ball(eps: f32) -> Ball<'static> {
        Ball {
            norm: Norm::L1,
            eps,
            centre: &CENTRE,
        }
    }

    #[test]
    fn a_step_goes_along_the_largest_entries_by_as_much_each() {
        let sparse = Sparse::new(None, &CENTRE);
        let gradient = [0.1, -3.0, 0.2, 0.0, 2.0, 0.3, -0.4, 0.5, -0.6, 0.7];
        let mut x = CENTRE;
        sparse.advance(&mut x, &gradient, &ball(0.4), 0.4);
        // A fifth of ten entries, each by half of the step.
        let expected = [0.5, 0.3, 0.5, 0.5, 0.7, 0.5, 0.5, 0.5, 0.5, 0.5];
        for (x, e) in x.iter().zip(expected) {
            assert!((x - e).abs() < 1e-6, "{x} {e}");
        }
        // No gradient, no step.
        let mut x = CENTRE;
        sparse.advance(&mut x, &[0.0; 10], &ball(0.4), 0.4);
        assert_eq!(x, CENTRE);
    }

    #[test]
    fn the_share_follows_the_best_point_and_the_step_shrinks_where_it_is_no_thinner() {
        let mut sparse = Sparse::new(None, &CENTRE);
        let (ball, mut step) = (ball(1.0), 0.25);
        let mut best = CENTRE;
        best[..6].fill(0.6);
        // Thinner than all ten: begin anew from there, along 6 / 1.5 of ten.
        assert!(sparse.check(&best, &mut step, &ball));
        assert_eq!(step, 1.0);
        assert!((sparse.share - 0.4).abs() < 1e-12);
        // As thick as before: on with a smaller step, but never below a tenth.
        let mut steps = Vec::new();
        for _ in 0..7 {
            assert!(!sparse.check(&best, &mut step, &ball));
            steps.push(step);
        }
        assert!((steps[0] - 2.0 / 3.0).abs() < 1e-6 && (steps[1] - 4.0 / 9.0).abs() < 1e-6);
        assert_eq!(steps[6], 0.1);
        // From a given point the share is its own.
        let from = Sparse::new(Some(&best), &CENTRE);
        assert!((from.share - 0.4).abs() < 1e-12 && from.moved == 6);
    }
}
