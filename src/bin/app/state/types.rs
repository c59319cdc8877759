//! The plain data behind the page's signals.

use std::sync::Arc;

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

/// The settings of the Perturb bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Knobs {
    /// L∞ radius in units of the pixel range; 0: no attack.
    pub eps: f32,
    pub steps: usize,
    /// Step length as a fraction of ε.
    pub rel_step: f32,
    pub random_start: bool,
    pub target: Option<usize>,
    pub seed: u64,
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
            eps: 2.0 / 255.0,
            steps: 10,
            rel_step: 0.25,
            random_start: false,
            target: None,
            seed: 0,
            noise_kind: PixelNoiseKind::Gaussian,
            noise_scale: 0.0,
            front_end_noise: false,
            eot: 4,
        }
    }
}

impl Knobs {
    /// Neither noise nor attack.
    pub fn at_rest(&self) -> bool {
        self.eps <= 0.0 && self.noise_scale <= 0.0
    }

    /// The request for these settings; `coarse` trades exactness for speed.
    pub fn options(&self, coarse: bool) -> PerturbOptions {
        let (steps, rel_step) = match coarse && self.steps > COARSE_STEPS {
            true => (COARSE_STEPS, self.rel_step.max(0.5)),
            false => (self.steps, self.rel_step),
        };
        let noise = PixelNoise {
            kind: self.noise_kind,
            scale: self.noise_scale,
            seed: self.seed,
        };
        let attack = Pgd {
            eps: self.eps,
            steps,
            rel_step,
            random_start: self.random_start,
            seed: self.seed,
            eot: if self.front_end_noise { self.eot } else { 1 },
            target: self.target,
        };
        PerturbOptions {
            pixel_noise: (self.noise_scale > 0.0).then_some(noise),
            attack: (self.eps > 0.0).then_some(attack),
            noise: front_end(self.front_end_noise, self.seed),
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
