//! Attacks by name: what each takes, its settings when none are given, and its paper.
//!
//! One table, [`ATTACKS`], for the command line and the page: a new attack is a new row.

use serde::{Deserialize, Serialize};

use super::apgd::Apgd;
use super::autoattack::AutoAttack;
use super::boundary::Boundary;
use super::carlini_wagner::CarliniWagner;
use super::deepfool::DeepFool;
use super::descent::Descent;
use super::fab::Fab;
use super::fmn::Fmn;
use super::goal::Loss;
use super::hop_skip_jump::HopSkipJump;
use super::jsma::Jsma;
use super::noise_search::{AdditiveNoise, BlendedNoise, SaltAndPepper};
use super::norm::Norm;
use super::one_pixel::OnePixel;
use super::plan::Attack;
use super::spatial::Spatial;
use super::square::Square;
use super::universal::Universal;

/// Settings to choose an attack's from; what is `None` is left to [`ATTACKS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The first of [`Named::norms`] unless given.
    pub norm: Option<Norm>,
    /// Radius, in the norm of pixels in [0, 1]; at least 0.
    pub eps: Option<f32>,
    /// At least 1.
    pub steps: Option<usize>,
    /// Step length as a fraction of `eps`.
    pub rel_step: Option<f32>,
    /// Start from a random point of the ball.
    pub random_start: bool,
    /// Runs from different random points, at least 1.
    pub restarts: Option<usize>,
    /// Passes an image may take, at least 1.
    pub queries: Option<usize>,
}

/// A setting that an attack takes, with its value when none is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Takes {
    /// A radius. It has no value of its own: it must be given.
    Eps,
    Steps(usize),
    RelStep(f32),
    RandomStart,
    Restarts(usize),
    Queries(usize),
}

impl Takes {
    /// As the field of [`Options`] is called, in kebab case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eps => "eps",
            Self::Steps(_) => "steps",
            Self::RelStep(_) => "rel-step",
            Self::RandomStart => "random-start",
            Self::Restarts(_) => "restarts",
            Self::Queries(_) => "queries",
        }
    }
}

/// What an attack goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Gradients, within a radius.
    Bounded,
    /// Gradients, for the smallest perturbation.
    Minimal,
    /// Scores or decisions alone.
    BlackBox,
    /// Noise and geometry, without looking where they lead.
    Blind,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Bounded, Self::Minimal, Self::BlackBox, Self::Blind];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Bounded => "Gradient, within a radius",
            Self::Minimal => "Gradient, smallest perturbation",
            Self::BlackBox => "Scores or decisions alone",
            Self::Blind => "Noise and geometry",
        }
    }
}

/// An attack that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// In kebab case: `mi-fgsm`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    pub kind: Kind,
    /// Whether it can push towards a given class.
    pub targeted: bool,
    /// The norms it works in, the usual one first; none where it goes by no norm.
    pub norms: &'static [Norm],
    pub takes: &'static [Takes],
    /// Not in the page, which asks for attacks by name and links none of them.
    #[cfg(feature = "compute")]
    build: fn(&Settings) -> Attack,
}

/// [`Options`] with every gap filled. What an attack does not take is 0 and is not looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    norm: Norm,
    eps: f32,
    steps: usize,
    rel_step: f32,
    random_start: bool,
    restarts: usize,
    queries: usize,
}

/// Why there is no such attack. Every message is a sentence for the user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NameError {
    #[error("there is no attack `{}`; there are {}", .0, list())]
    Unknown(String),
    #[error(
        "the attack `{}` needs a radius (eps), such as 8/255 in L∞ or 0.5 in L2 of pixels from 0 \
         to 1", .0.name
    )]
    NoRadius(&'static Named),
    #[error("the attack `{}` works in {}, not in {}", .0.name, titles(.0.norms), .1.title())]
    Norm(&'static Named, Norm),
    #[error("the attack `{}` takes no {}; it takes {}", .0.name, .1, takings(.0))]
    NotTaken(&'static Named, &'static str),
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

use Kind::{BlackBox, Blind, Bounded, Minimal};
use Norm::{L1, L2, Linf};
use Takes::{Eps, Queries, RandomStart, RelStep, Restarts, Steps};

/// All attacks that have a name, the most used first.
#[rustfmt::skip]
pub const ATTACKS: &[Named] = &[
    row("fgsm", "Fast gradient (sign) method", "Goodfellow et al. 2015", Bounded, &[Linf, L2, L1], &[Eps, RandomStart], |s| Attack::Descent(Descent { random_start: s.random_start, ..Descent::fgsm(s.norm, s.eps) })),
    row("pgd", "Projected gradient descent", "Madry et al. 2018", Bounded, &[Linf, L2, L1], &[Eps, Steps(64), RelStep(0.25), RandomStart], |s| descent(s, Descent::default())),
    row("bim", "Basic iterative method", "Kurakin et al. 2017", Bounded, &[Linf, L2, L1], &[Eps, Steps(10), RelStep(0.2), RandomStart], |s| descent(s, Descent::bim(s.norm, s.eps))),
    row("mi-fgsm", "Momentum iterative FGSM", "Dong et al. 2018", Bounded, &[Linf], &[Eps, Steps(10), RelStep(0.2), RandomStart], |s| descent(s, Descent::mi_fgsm(s.eps))),
    row("sparse-l1", "Sparse descent", "Tramèr and Boneh 2019", Bounded, &[L1], &[Eps, Steps(10), RelStep(0.2), RandomStart], |s| descent(s, Descent::sparse(s.eps))),
    row("apgd-ce", "Auto-PGD on the cross-entropy", "Croce and Hein 2020", Bounded, &[Linf, L2], &[Eps, Steps(100), Restarts(1)], |s| apgd(s, Loss::CrossEntropy, 0)),
    row("apgd-dlr", "Auto-PGD on the difference of logits ratio", "Croce and Hein 2020", Bounded, &[Linf, L2], &[Eps, Steps(100), Restarts(1)], |s| apgd(s, Loss::Dlr, 0)),
    row("apgd-t", "Auto-PGD towards nine classes in turn", "Croce and Hein 2020", Bounded, &[Linf, L2], &[Eps, Steps(100), Restarts(1)], |s| apgd(s, Loss::Dlr, 9)).untargeted(),
    row("square", "Square attack", "Andriushchenko et al. 2020", BlackBox, &[Linf, L2], &[Eps, Queries(5000)], |s| Attack::Square(Square { norm: s.norm, eps: s.eps, queries: s.queries, ..Square::default() })),
    row("deepfool", "DeepFool", "Moosavi-Dezfooli et al. 2016", Minimal, &[L2, Linf], &[Steps(50)], |s| Attack::DeepFool(DeepFool { norm: s.norm, steps: s.steps, ..DeepFool::default() })),
    row("fab", "Fast adaptive boundary", "Croce and Hein 2020", Minimal, &[Linf, L2, L1], &[Steps(100), Restarts(1)], |s| Attack::Fab(Fab { norm: s.norm, steps: s.steps, restarts: s.restarts, ..Fab::default() })),
    row("fmn", "Fast minimum norm", "Pintor et al. 2021", Minimal, &[Linf, L2, L1], &[Steps(1000)], |s| Attack::Fmn(Fmn { norm: s.norm, steps: s.steps, ..Fmn::default() })),
    row("jsma", "Jacobian saliency map", "Papernot et al. 2016", Minimal, &[], &[], |_| Attack::Jsma(Jsma::default())),
    row("autoattack", "AutoAttack, standard", "Croce and Hein 2020", Bounded, &[Linf, L2], &[Eps, Steps(100), Queries(5000)], |s| Attack::AutoAttack(AutoAttack { norm: s.norm, eps: s.eps, steps: s.steps, queries: s.queries, ..AutoAttack::default() })).untargeted(),
    row("universal", "Universal perturbation", "Moosavi-Dezfooli et al. 2017; Shafahi et al. 2020", Bounded, &[Linf, L2], &[Eps, Steps(20)], |s| Attack::Universal(Universal { norm: s.norm, eps: s.eps, epochs: s.steps, ..Universal::default() })),
    row("boundary", "Boundary attack", "Brendel et al. 2018", BlackBox, &[L2], &[Queries(5000)], |s| Attack::Boundary(Boundary { queries: s.queries, ..Boundary::default() })),
    row("hop-skip-jump", "HopSkipJump", "Chen et al. 2020", BlackBox, &[L2, Linf], &[Steps(64), Queries(10_000)], |s| Attack::HopSkipJump(HopSkipJump { norm: s.norm, steps: s.steps, queries: s.queries, ..HopSkipJump::default() })),
    row("one-pixel", "One pixel", "Su et al. 2019", BlackBox, &[], &[Steps(100)], |s| Attack::OnePixel(OnePixel { generations: s.steps, ..OnePixel::default() })),
    row("salt-and-pepper", "Salt and pepper", "Rauber et al. 2017", Blind, &[], &[Restarts(1)], |s| Attack::SaltAndPepper(SaltAndPepper { repeats: s.restarts, ..SaltAndPepper::default() })),
    row("additive-noise", "Uniform noise, many draws", "Rauber et al. 2017", Blind, &[Linf, L2], &[Eps, Queries(100)], |s| Attack::AdditiveNoise(AdditiveNoise { norm: s.norm, eps: s.eps, repeats: s.queries, ..AdditiveNoise::default() })),
    row("blended-noise", "Blending into noise", "Rauber et al. 2017", Blind, &[], &[], |_| Attack::BlendedNoise(BlendedNoise::default())),
    row("spatial", "Rotation and translation", "Engstrom et al. 2019", Blind, &[], &[], |_| Attack::Spatial(Spatial::default())),
    row("cw", "Carlini-Wagner", "Carlini and Wagner 2017", Minimal, &[L2], &[Steps(10_000)], |s| Attack::CarliniWagner(CarliniWagner { steps: s.steps, ..CarliniWagner::default() })),
];

const fn row(
    name: &'static str,
    title: &'static str,
    paper: &'static str,
    kind: Kind,
    norms: &'static [Norm],
    takes: &'static [Takes],
    #[cfg_attr(
        not(feature = "compute"),
        expect(unused_variables, reason = "the page links no attack")
    )]
    build: fn(&Settings) -> Attack,
) -> Named {
    Named {
        name,
        title,
        paper,
        kind,
        targeted: true,
        norms,
        takes,
        #[cfg(feature = "compute")]
        build,
    }
}

/// A published attack with the settings asked for.
fn descent(s: &Settings, published: Descent) -> Attack {
    Attack::Descent(Descent {
        norm: s.norm,
        eps: s.eps,
        steps: s.steps,
        rel_step: s.rel_step,
        random_start: s.random_start,
        ..published
    })
}

fn apgd(s: &Settings, loss: Loss, target_classes: usize) -> Attack {
    Attack::Apgd(Apgd {
        norm: s.norm,
        eps: s.eps,
        steps: s.steps,
        restarts: s.restarts,
        loss,
        target_classes,
    })
}

/// The row of this name, in kebab or snake case.
pub fn find(name: &str) -> Option<&'static Named> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    ATTACKS.iter().find(|row| row.name == wanted)
}

#[cfg(feature = "compute")]
/// The attack of this name, in kebab or snake case, with these settings.
///
/// The values themselves are checked when the attack runs.
///
/// # Errors
/// A [`NameError`]: an unknown name, a missing radius, a norm the attack does not work in, a
/// setting it does not take.
pub fn by_name(name: &str, options: &Options) -> Result<Attack, NameError> {
    let row = find(name).ok_or_else(|| NameError::Unknown(name.chars().take(40).collect()))?;
    row.attack(options)
}

impl Named {
    const fn untargeted(self) -> Self {
        Self {
            targeted: false,
            ..self
        }
    }

    /// Whether it takes a setting of this name.
    pub fn takes(&self, name: &str) -> bool {
        self.takes.iter().any(|taken| taken.name() == name)
    }

    /// Its steps when none are given; `None` where it does not count any.
    pub fn steps(&self) -> Option<usize> {
        self.takes.iter().find_map(|taken| match taken {
            Steps(steps) => Some(*steps),
            _ => None,
        })
    }

    #[cfg(feature = "compute")]
    /// The attack with these settings. The values themselves are checked when it runs.
    ///
    /// # Errors
    /// As [`by_name`].
    pub fn attack(&'static self, options: &Options) -> Result<Attack, NameError> {
        self.refuse_others(options)?;
        Ok((self.build)(&self.settle(options)?))
    }

    #[cfg(feature = "compute")]
    /// A setting that would be ignored is a misunderstanding.
    fn refuse_others(&'static self, options: &Options) -> Result<(), NameError> {
        let given = [
            (Eps.name(), options.eps.is_some()),
            (Steps(0).name(), options.steps.is_some()),
            (RelStep(0.0).name(), options.rel_step.is_some()),
            (RandomStart.name(), options.random_start),
            (Restarts(0).name(), options.restarts.is_some()),
            (Queries(0).name(), options.queries.is_some()),
        ];
        match given
            .into_iter()
            .find(|(name, given)| *given && !self.takes(name))
        {
            Some((name, _)) => Err(NameError::NotTaken(self, name)),
            None => Ok(()),
        }
    }

    #[cfg(feature = "compute")]
    fn settle(&'static self, options: &Options) -> Result<Settings, NameError> {
        let usual = self.norms.first().copied();
        let norm = options.norm.or(usual).unwrap_or_default();
        if options.norm.is_some_and(|norm| !self.norms.contains(&norm)) {
            return Err(match usual {
                Some(_) => NameError::Norm(self, norm),
                None => NameError::NotTaken(self, "norm"),
            });
        }
        let mut settings = Settings {
            norm,
            random_start: options.random_start,
            ..Settings::default()
        };
        for taken in self.takes {
            match *taken {
                Eps => settings.eps = options.eps.ok_or(NameError::NoRadius(self))?,
                Steps(usual) => settings.steps = options.steps.unwrap_or(usual),
                RelStep(usual) => settings.rel_step = options.rel_step.unwrap_or(usual),
                RandomStart => {}
                Restarts(usual) => settings.restarts = options.restarts.unwrap_or(usual),
                Queries(usual) => settings.queries = options.queries.unwrap_or(usual),
            }
        }
        Ok(settings)
    }
}

/// The names, for a sentence.
fn list() -> String {
    let names: Vec<&str> = ATTACKS.iter().map(|row| row.name).collect();
    names.join(", ")
}

fn titles(norms: &[Norm]) -> String {
    let titles: Vec<&str> = norms.iter().map(|norm| norm.title()).collect();
    titles.join(" and ")
}

fn takings(row: &Named) -> String {
    let names: Vec<&str> = row.takes.iter().map(|taken| taken.name()).collect();
    match names.is_empty() {
        true => "no setting".to_owned(),
        false => names.join(", "),
    }
}

/// A radius as people write it: `0.5` or `8/255`.
///
/// # Errors
/// A sentence, for what is neither or is no number of at least 0.
pub fn parse_radius(text: &str) -> Result<f32, String> {
    let number = |text: &str| text.trim().parse::<f32>().ok();
    let radius = match text.split_once('/') {
        Some((above, below)) => number(above).zip(number(below)).map(|(a, b)| a / b),
        None => number(text),
    };
    radius
        .filter(|r| r.is_finite() && *r >= 0.0)
        .ok_or_else(|| {
            format!("`{text}` is no radius; write a number such as 0.5 or a fraction such as 8/255")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, eps: f32) -> Attack {
        let options = Options {
            eps: Some(eps),
            ..Options::default()
        };
        by_name(name, &options).expect("it takes a radius")
    }

    #[test]
    fn names_are_the_published_settings() {
        let eps = 4.0 / 255.0;
        let table = [
            ("fgsm", Descent::fgsm(Linf, eps)),
            (
                "pgd",
                Descent {
                    eps,
                    ..Descent::default()
                },
            ),
            ("BIM", Descent::bim(Linf, eps)),
            ("mi_fgsm", Descent::mi_fgsm(eps)),
            ("sparse-l1", Descent::sparse(eps)),
        ];
        for (name, expected) in table {
            assert_eq!(ask(name, eps), Attack::Descent(expected), "{name}");
        }
        let expected = Apgd {
            eps,
            ..Apgd::default()
        };
        assert_eq!(ask("apgd-ce", eps), Attack::Apgd(expected));
        let expected = Square {
            eps,
            ..Square::default()
        };
        assert_eq!(ask("square", eps), Attack::Square(expected));
        let minimal = |name| by_name(name, &Options::default());
        assert_eq!(
            minimal("deepfool"),
            Ok(Attack::DeepFool(DeepFool::default()))
        );
        let expected = CarliniWagner::default();
        assert_eq!(minimal("cw"), Ok(Attack::CarliniWagner(expected)));
    }

    #[test]
    fn every_row_takes_what_it_says() {
        for row in ATTACKS {
            let bounded = row.takes.contains(&Eps);
            for norm in row.norms.iter().copied() {
                let options = Options {
                    norm: Some(norm),
                    eps: bounded.then_some(0.125),
                    steps: row.steps().map(|steps| steps + 1),
                    ..Options::default()
                };
                let attack = by_name(row.name, &options).expect("a row's own settings");
                assert_eq!(attack.ball(), bounded.then_some((norm, 0.125)), "{row:?}");
                let usual = Options {
                    steps: None,
                    ..options.clone()
                };
                let differs = by_name(row.name, &usual).expect("fewer settings") != attack;
                assert_eq!(differs, row.steps().is_some(), "{row:?}");
            }
            let others = Norm::ALL.into_iter().filter(|n| !row.norms.contains(n));
            for norm in others {
                let options = Options {
                    norm: Some(norm),
                    eps: bounded.then_some(0.125),
                    ..Options::default()
                };
                let refused = by_name(row.name, &options).expect_err("not its norm");
                let expected = match row.norms.is_empty() {
                    true => NameError::NotTaken(row, "norm"),
                    false => NameError::Norm(row, norm),
                };
                assert_eq!(refused, expected);
            }
        }
        let mut names: Vec<&str> = ATTACKS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTACKS.len());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |name: &str, options: Options| {
            let refused = by_name(name, &options);
            refused.expect_err("it makes no sense").to_string()
        };
        let unknown = said("pdg", Options::default());
        assert!(unknown.contains("`pdg`") && unknown.contains("pgd, bim"));
        assert!(said("pgd", Options::default()).contains("8/255"));
        let eps = Options {
            eps: Some(1.0),
            ..Options::default()
        };
        assert_eq!(
            said("deepfool", eps.clone()),
            "the attack `deepfool` takes no eps; it takes steps"
        );
        let steps = Options {
            steps: Some(9),
            ..eps.clone()
        };
        assert_eq!(
            said("square", steps),
            "the attack `square` takes no steps; it takes eps, queries"
        );
        let norm = Options {
            norm: Some(L1),
            ..eps
        };
        assert_eq!(
            said("square", norm),
            "the attack `square` works in L∞ and L2, not in L1"
        );
    }

    #[test]
    fn radii_are_numbers_or_fractions() {
        assert_eq!(parse_radius("8/255"), Ok(8.0 / 255.0));
        assert_eq!(parse_radius("0.5"), Ok(0.5));
        assert_eq!(parse_radius(" 1 / 4 "), Ok(0.25));
        for text in ["", "eight", "8/0", "-1", "nan", "1/2/3"] {
            assert!(parse_radius(text).is_err(), "{text}");
        }
    }
}
