//! The settings of the tab Perturb, and the request they make.

use ventral::experiment::robustness::summary::{Action, Lost};
use ventral::perturb::attack::Norm;
use ventral::perturb::attack::names::{self, ATTACKS, Kind, Named, Options, Takes};
use ventral::perturb::corruption::{Corruption, Setting};
use ventral::perturb::noise::{PixelNoise, PixelNoiseKind};
use ventral::session::protocol::*;

/// Steps of an attack while its slider is being dragged; the rest follow on release.
const COARSE_STEPS: usize = 3;

/// Steps or queries that can be asked for.
pub const MOST_STEPS: usize = 20_000;

/// A family of attacks, as the picker offers it.
pub type Family = &'static Named;

/// Families that are no use on a single image: they look for one perturbation of many.
const NOT_OFFERED: [&str; 1] = ["universal"];

/// Steps or queries to begin with, where the published number is more than one waits for.
const BEGIN_WITH: [(&str, usize); 12] = [
    ("pgd", 10),
    ("apgd-ce", 20),
    ("apgd-dlr", 20),
    ("apgd-t", 10),
    ("autoattack", 20),
    ("fab", 20),
    ("square", 500),
    ("cw", 100),
    ("boundary", 1000),
    ("hop-skip-jump", 10),
    ("one-pixel", 20),
    ("jsma", 50),
];

/// Families too long to follow a slider.
const LENGTHY: [&str; 12] = [
    "apgd-t",
    "autoattack",
    "fab",
    "square",
    "cw",
    "boundary",
    "hop-skip-jump",
    "one-pixel",
    "jsma",
    "salt-and-pepper",
    "additive-noise",
    "spatial",
];

/// The families of one kind.
pub fn families(kind: Kind) -> impl Iterator<Item = Family> {
    ATTACKS
        .iter()
        .filter(move |f| f.kind == kind && !NOT_OFFERED.contains(&f.name))
}

/// The family of this name; projected gradient descent where there is none.
pub fn family(name: &str) -> Family {
    names::find(name).unwrap_or(&ATTACKS[0])
}

/// Steps or queries that a family begins with; `None` where it counts neither.
pub fn usual_steps(family: Family) -> Option<usize> {
    let published = family.takes.iter().find_map(|taken| match taken {
        Takes::Steps(n) | Takes::Queries(n) => Some(*n),
        _ => None,
    })?;
    let found = BEGIN_WITH.iter().find(|(name, _)| *name == family.name);
    Some(found.map_or(published, |(_, steps)| *steps))
}

/// The radius in `norm` that goes with `eps` in L∞ on images of `side` px: the VOneNet paper's
/// pairs (1/255, 0.6, 160 at 224 px), scaled by the root of the number of pixels in L2 and by the
/// number itself in L1.
pub fn radius(norm: Norm, eps: f32, side: usize) -> f32 {
    let scale = side as f32 / 224.0;
    match norm {
        Norm::Linf => eps,
        Norm::L2 => eps * 255.0 * 0.6 * scale,
        Norm::L1 => eps * 255.0 * 160.0 * scale * scale,
    }
}

/// The settings of the Perturb bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// Perturbations that were kept: they come first. None of them has kept ones of its own.
    pub kept: Vec<Knobs>,
    pub family: Family,
    pub norm: Norm,
    /// Radius in L∞, in units of the pixel range; 0: no attack. Other norms go by [`radius`].
    pub eps: f32,
    /// Steps, or queries.
    pub steps: usize,
    /// Step length as a fraction of ε.
    pub rel_step: f32,
    pub random_start: bool,
    pub target: Option<usize>,
    /// The attacked image keeps to 8 bits a channel, as a saved one would.
    pub eight_bit: bool,
    pub seed: u64,
    pub corruption: Option<Corruption>,
    /// 1 to 5.
    pub severity: u8,
    pub noise_kind: PixelNoiseKind,
    /// Standard deviation or half-width in units of the pixel range; 0: no noise.
    pub noise_scale: f32,
    pub front_end_noise: bool,
    /// Gradient samples a step on a stochastic model.
    pub eot: usize,
    /// One sample of the model's noise for all passes.
    pub fixed_noise: bool,
    /// Fresh passes by which the success against a stochastic model is judged.
    pub passes: usize,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            kept: Vec::new(),
            family: family("pgd"),
            norm: Norm::Linf,
            eps: 2.0 / 255.0,
            steps: 10,
            rel_step: 0.25,
            random_start: false,
            target: None,
            eight_bit: false,
            seed: 0,
            corruption: None,
            severity: 3,
            noise_kind: PixelNoiseKind::Gaussian,
            noise_scale: 0.0,
            front_end_noise: false,
            eot: 10,
            fixed_noise: false,
            passes: 10,
        }
    }
}

impl Knobs {
    /// What a test did to an image that was lost, on images of `side` px.
    pub fn of_lost(lost: &Lost, seed: u64, side: usize) -> Knobs {
        let usual = Knobs::default();
        let corruption = match lost.action {
            Action::Corruption(corruption, severity) => Some((corruption, severity)),
            _ => None,
        };
        let (corruption, severity) = corruption.unzip();
        let mut knobs = Knobs {
            eps: 0.0,
            seed,
            corruption,
            severity: severity.unwrap_or(usual.severity),
            ..usual.clone()
        };
        if let Action::Attack(name, options) = &lost.action {
            knobs.family = family(name);
            knobs.norm = options.norm.unwrap_or(usual.norm);
            let unit = radius(knobs.norm, 1.0, side);
            // An attack without a radius is on or off.
            knobs.eps = options.eps.map_or(usual.eps, |eps| eps / unit);
            let steps = options.steps.or(options.queries);
            knobs.steps = steps.or(usual_steps(knobs.family)).unwrap_or(usual.steps);
            knobs.rel_step = options.rel_step.unwrap_or(usual.rel_step);
            knobs.random_start = options.random_start;
        }
        knobs
    }

    /// Nothing is done to the image.
    pub fn at_rest(&self) -> bool {
        self.kept.is_empty() && self.stage_at_rest()
    }

    /// The stage being set does nothing.
    pub fn stage_at_rest(&self) -> bool {
        self.eps <= 0.0 && self.noise_scale <= 0.0 && self.corruption.is_none()
    }

    /// The same settings with the stage being set doing nothing.
    pub fn rested(self) -> Knobs {
        Knobs {
            eps: 0.0,
            noise_scale: 0.0,
            corruption: None,
            ..self
        }
    }

    /// Takes another family, with a norm that it knows and a length that suits it.
    pub fn choose(&mut self, family: Family) {
        if !family.norms.is_empty() && !family.norms.contains(&self.norm) {
            self.norm = family.norms[0];
        }
        if let Some(steps) = usual_steps(family) {
            self.steps = steps;
        }
        if !family.takes("eps") && self.eps <= 0.0 {
            // Without a radius the slider is a switch; choosing the attack switches it on.
            self.eps = Knobs::default().eps;
        }
        self.family = family;
    }

    /// Too long to follow a slider.
    pub fn is_lengthy(&self) -> bool {
        self.eps > 0.0 && LENGTHY.contains(&self.family.name)
    }

    /// The request for these settings on images of `side` px; `coarse` trades exactness for speed.
    pub fn options(&self, coarse: bool, side: usize) -> PerturbOptions {
        let stage = self.stage(coarse, side);
        let mut stages: Vec<Stage> = self.kept.iter().map(|k| k.stage(false, side)).collect();
        // Even an empty one: what the page shows of an attack is the last stage's.
        stages.push(stage);
        PerturbOptions {
            stages,
            noise: front_end(self.front_end_noise, self.seed),
            passes: self.passes,
            details: !coarse,
        }
    }

    /// The stage being set.
    pub fn stage(&self, coarse: bool, side: usize) -> Stage {
        let noise = PixelNoise {
            kind: self.noise_kind,
            scale: self.noise_scale,
            seed: self.seed,
        };
        let corruption = self.corruption.map(|corruption| Setting {
            corruption,
            severity: self.severity,
            table: None,
            seed: self.seed,
            eight_bit: false,
        });
        let attack = (self.eps > 0.0).then(|| AttackOptions {
            attack: self.attack(coarse, side),
            seed: self.seed,
            eot: if self.front_end_noise { self.eot } else { 1 },
            fixed_noise: self.fixed_noise,
            target: self.target.filter(|_| self.family.targeted),
            eight_bit: self.eight_bit,
        });
        Stage {
            corruption,
            pixel_noise: (self.noise_scale > 0.0).then_some(noise),
            attack,
        }
    }

    fn attack(&self, coarse: bool, side: usize) -> AttackChoice {
        let takes = |name| self.family.takes(name);
        let short = coarse && self.steps > COARSE_STEPS;
        let steps = if short { COARSE_STEPS } else { self.steps };
        let rel_step = if short {
            self.rel_step.max(0.5)
        } else {
            self.rel_step
        };
        let published = matches!(self.family.name, "bim" | "mi-fgsm" | "sparse-l1");
        let options = Options {
            norm: (!self.family.norms.is_empty()).then_some(self.norm),
            eps: takes("eps").then(|| radius(self.norm, self.eps, side)),
            steps: takes("steps").then_some(steps),
            rel_step: (takes("rel-step") && !published).then_some(rel_step),
            random_start: takes("random-start") && self.random_start,
            restarts: None,
            // Where there are both, steps are what is set.
            queries: (takes("queries") && !takes("steps")).then_some(self.steps),
        };
        AttackChoice::Named {
            name: self.family.name.to_owned(),
            options,
        }
    }
}

pub(super) fn front_end(on: bool, seed: u64) -> FrontEndNoise {
    if on {
        FrontEndNoise::Seed(seed)
    } else {
        FrontEndNoise::Off
    }
}
