//! The plain data behind the page's signals.

use std::sync::Arc;

use ventral::perturb::attack::apgd::Apgd;
use ventral::perturb::attack::descent::Descent;
use ventral::perturb::attack::plan::Attack;
use ventral::perturb::attack::square::Square;
use ventral::perturb::attack::{Loss, Norm};
use ventral::perturb::corruption::{Corruption, Setting};
use ventral::session::protocol::*;
use web_sys::File;

use crate::dom;

/// Steps of an attack while its slider is being dragged; the rest follow on release.
const COARSE_STEPS: usize = 3;

/// A bench of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bench {
    #[default]
    See,
    Perturb,
}

impl Bench {
    /// Every bench that works, in the order of the navigation: word in the address, title, hint.
    pub const ALL: [(Bench, &'static str, &'static str, &'static str); 2] = [
        (Bench::See, "see", "See", "What each area makes of an image"),
        (
            Bench::Perturb,
            "perturb",
            "Perturb",
            "Noise and adversarial attacks, side by side",
        ),
    ];

    /// The word in the address.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|b| b.0 == self)
            .map_or("see", |b| b.1)
    }

    /// The bench of a word in the address.
    pub fn from_word(word: &str) -> Option<Bench> {
        Self::ALL.iter().find(|b| b.1 == word).map(|b| b.0)
    }
}

/// A family of attacks, as the picker offers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    Fgsm,
    #[default]
    Pgd,
    Bim,
    MiFgsm,
    Sparse,
    ApgdCe,
    ApgdDlr,
    Square,
}

/// What the page has to know of a family.
pub struct FamilyFacts {
    pub family: Family,
    /// In the address and in test ids.
    pub word: &'static str,
    pub title: &'static str,
    pub paper: &'static str,
    pub norms: &'static [Norm],
    /// Most steps (or queries) it may be given; 0 when it has no such setting.
    pub steps: usize,
    /// What its steps are called.
    pub step_word: &'static str,
    /// The visitor chooses the step's length.
    pub has_step: bool,
    pub has_target: bool,
}

const BOTH: &[Norm] = &[Norm::Linf, Norm::L2];

#[rustfmt::skip]
static FAMILIES: [FamilyFacts; 8] = [
    facts(Family::Fgsm, "fgsm", "FGSM", "Goodfellow et al. 2015", &Norm::ALL, 0, false),
    facts(Family::Pgd, "pgd", "PGD", "Madry et al. 2018", &Norm::ALL, 200, true),
    facts(Family::Bim, "bim", "BIM", "Kurakin et al. 2017", &Norm::ALL, 0, false),
    facts(Family::MiFgsm, "mi-fgsm", "MI-FGSM", "Dong et al. 2018", BOTH, 0, false),
    facts(Family::Sparse, "sparse-l1", "Sparse descent", "Tramèr and Boneh 2019", &[Norm::L1], 0, false),
    facts(Family::ApgdCe, "apgd-ce", "Auto-PGD, cross-entropy", "Croce and Hein 2020", BOTH, 200, false),
    FamilyFacts { has_target: false, ..facts(Family::ApgdDlr, "apgd-dlr", "Auto-PGD, logits ratio", "Croce and Hein 2020", BOTH, 200, false) },
    FamilyFacts { step_word: "Queries", ..facts(Family::Square, "square", "Square, by scores alone", "Andriushchenko et al. 2020", BOTH, 5000, false) },
];

impl Family {
    /// All of them, in the order of the picker.
    pub fn every() -> impl Iterator<Item = &'static FamilyFacts> {
        FAMILIES.iter()
    }

    pub fn facts(self) -> &'static FamilyFacts {
        let found = FAMILIES.iter().find(|f| f.family == self);
        found.unwrap_or(&FAMILIES[0])
    }

    pub fn from_word(word: &str) -> Option<Family> {
        let found = FAMILIES.iter().find(|f| f.word == word);
        found.map(|f| f.family)
    }
}

const fn facts(
    family: Family,
    word: &'static str,
    title: &'static str,
    paper: &'static str,
    norms: &'static [Norm],
    steps: usize,
    has_step: bool,
) -> FamilyFacts {
    FamilyFacts {
        family,
        word,
        title,
        paper,
        norms,
        steps,
        step_word: "Steps",
        has_step,
        has_target: true,
    }
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
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            family: Family::Pgd,
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
            eot: 4,
        }
    }
}

impl Knobs {
    /// Nothing is done to the image.
    pub fn at_rest(&self) -> bool {
        self.eps <= 0.0 && self.noise_scale <= 0.0 && self.corruption.is_none()
    }

    /// Takes another family, with a norm that it knows and a length that suits it.
    pub fn choose(&mut self, family: Family) {
        let facts = family.facts();
        if !facts.norms.contains(&self.norm) {
            self.norm = facts.norms[0];
        }
        self.steps = match family {
            Family::Square => 500,
            Family::ApgdCe | Family::ApgdDlr => 20,
            _ => 10,
        };
        self.family = family;
    }

    /// The request for these settings on images of `side` px; `coarse` trades exactness for speed.
    pub fn options(&self, coarse: bool, side: usize) -> PerturbOptions {
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
        let attack = AttackOptions {
            attack: self.attack(coarse, side),
            seed: self.seed,
            eot: if self.front_end_noise { self.eot } else { 1 },
            target: self.target.filter(|_| self.family.facts().has_target),
            eight_bit: self.eight_bit,
        };
        PerturbOptions {
            corruption,
            pixel_noise: (self.noise_scale > 0.0).then_some(noise),
            attack: (self.eps > 0.0).then_some(attack),
            noise: front_end(self.front_end_noise, self.seed),
        }
    }

    fn attack(&self, coarse: bool, side: usize) -> Attack {
        let (norm, eps) = (self.norm, radius(self.norm, self.eps, side));
        let few = |steps: usize, few: usize| if coarse { steps.min(few) } else { steps };
        let apgd = |loss| {
            Attack::Apgd(Apgd {
                norm,
                eps,
                steps: few(self.steps, 2 * COARSE_STEPS),
                restarts: 1,
                loss,
                target_classes: 0,
            })
        };
        let iterated = |momentum| Descent {
            momentum,
            random_start: self.random_start,
            ..Descent::bim(norm, eps)
        };
        match self.family {
            Family::Fgsm => Attack::Descent(Descent {
                random_start: self.random_start,
                ..Descent::fgsm(norm, eps)
            }),
            Family::Pgd => {
                let short = coarse && self.steps > COARSE_STEPS;
                Attack::Descent(Descent {
                    norm,
                    eps,
                    steps: few(self.steps, COARSE_STEPS),
                    rel_step: if short {
                        self.rel_step.max(0.5)
                    } else {
                        self.rel_step
                    },
                    random_start: self.random_start,
                    ..Descent::default()
                })
            }
            Family::Bim => Attack::Descent(iterated(0.0)),
            Family::MiFgsm => Attack::Descent(iterated(1.0)),
            Family::Sparse => Attack::Descent(Descent::sparse(eps)),
            Family::ApgdCe => apgd(Loss::CrossEntropy),
            Family::ApgdDlr => apgd(Loss::Dlr),
            Family::Square => Attack::Square(Square {
                norm,
                eps,
                queries: few(self.steps, 50),
                ..Square::default()
            }),
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

/// Where the model's weights come from.
#[derive(Clone, Debug)]
pub enum Source {
    Catalog(String),
    File(File),
    Url(String),
}

/// The picture in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub name: String,
    /// Its path, when it is one of the page's own samples.
    pub sample: Option<String>,
    pub alt: String,
    /// An address the browser can show.
    pub url: String,
    /// The encoded file, kept for a worker that has to be restarted.
    pub bytes: Arc<Vec<u8>>,
    /// Known once the worker has decoded it.
    pub info: Option<ImageInfo>,
}

/// The worker's condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Engine {
    Loading { done: f64, total: f64 },
    Ready,
    Crashed,
}

/// A request under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: u32,
    pub label: String,
    pub progress: Option<Progress>,
    pub cancelling: bool,
}

/// Something that went wrong, until the visitor dismisses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub id: u32,
    pub sentence: String,
    pub cause: String,
    /// Restarting the worker is the way on.
    pub restart: bool,
}

/// A map or filter in the lightbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Spot {
    /// The mean map (`None`) or the n-th channel shown of a tap.
    Map {
        tap: String,
        place: Option<usize>,
    },
    Filter(usize),
}

/// A dialog over the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialog {
    Models,
    Camera,
}

/// Light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    /// The word kept in the browser's storage and in the document's `data-theme`.
    pub fn word(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    pub(super) fn next(self) -> Theme {
        match self {
            Theme::Auto => Theme::Light,
            Theme::Light => Theme::Dark,
            Theme::Dark => Theme::Auto,
        }
    }

    pub(super) fn read() -> Theme {
        match dom::stored("theme").as_deref() {
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            _ => Theme::Auto,
        }
    }
}
