//! The registry of attacks: one row each, from which the command line's flags and its help, the
//! page's controls and their starting values, and the attacks of plans come.
//!
//! A new attack is a file that implements [`Method`] and an entry in [`registry!`].

use serde::{Deserialize, Serialize};

use super::apgd::Apgd;
use super::autoattack::AutoAttack;
use super::boundary::Boundary;
use super::carlini_wagner::CarliniWagner;
use super::context::Context;
use super::criterion::{Aim, Criterion};
use super::deepfool::DeepFool;
use super::descent::Descent;
use super::error::AttackError;
use super::fab::Fab;
use super::fmn::Fmn;
use super::hop_skip_jump::HopSkipJump;
use super::jsma::Jsma;
use super::loss::Loss;
use super::method::Method;
use super::noise_search::{AdditiveNoise, BlendedNoise, SaltAndPepper};
use super::norm::Norm;
use super::one_pixel::OnePixel;
use super::oracle::Oracle;
use super::settings::{Setting, Settings};
use super::spatial::Spatial;
use super::square::Square;
use super::universal::Universal;

/// What an attack goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Gradients, within a radius.
    Bounded,
    /// Gradients, for the smallest perturbation.
    Minimal,
    /// Scores or decisions alone.
    BlackBox,
    /// Noise and geometry, whatever the model.
    Blind,
}

impl Family {
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

/// A setting that an attack has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttackSetting {
    pub setting: Setting,
    /// The value when none is given; `None` where it must be given.
    pub usual: Option<f64>,
    /// Where the page's control starts: less than the usual value where that takes longer than one
    /// waits for. `None` where the page has no control for it.
    pub start: Option<f64>,
}

/// An attack that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct AttackInfo {
    /// In kebab case: `mi-fgsm`.
    pub name: &'static str,
    /// Other names it is found by.
    pub aliases: &'static [&'static str],
    /// For people.
    pub title: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    pub family: Family,
    /// Whether it can push towards a given class.
    pub targeted: bool,
    /// The norms it works in, the usual one first; none where it goes by no norm.
    pub norms: &'static [Norm],
    pub settings: &'static [AttackSetting],
    /// It looks for one perturbation of many images and is no use on a single one.
    pub universal: bool,
    /// Too long to follow a slider.
    pub lengthy: bool,
    /// Not in the page, which asks for attacks by name and links none of them.
    #[cfg(feature = "compute")]
    build: fn(&Settings) -> Attack,
}

/// Why there is no such attack. Every message is a sentence for the user.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RegistryError {
    #[error("there is no attack `{}`; there are {}", .0, list(ATTACKS.iter().map(|row| row.name), ", "))]
    Unknown(String),
    #[error(
        "the attack `{}` needs a radius (eps), such as 8/255 in L∞ or 0.5 in L2 of pixels from 0 \
         to 1", .0.name
    )]
    NoRadius(&'static AttackInfo),
    #[error("the attack `{}` works in {}, not in {}", .0.name, list(.0.norms.iter().map(|n| n.title()), " and "), .1.title())]
    Norm(&'static AttackInfo, Norm),
    #[error("the attack `{}` takes no {}; it takes {}", .0.name, .1, .0.setting_names())]
    NotTaken(&'static AttackInfo, &'static str),
}

impl RegistryError {
    /// For a name that nobody has to read to its end.
    pub fn unknown(name: &str) -> Self {
        Self::Unknown(name.chars().take(40).collect())
    }
}

impl PartialEq for AttackInfo {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Lists the algorithms, each with the attacks it is known as: makes [`Attack`] and [`ATTACKS`].
macro_rules! registry {
    ($($method:ident: [$($row:expr),+ $(,)?],)+) => {
        /// An attack with all its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Attack { $($method($method),)+ }

        $(impl From<$method> for Attack {
            fn from(method: $method) -> Self {
                Self::$method(method)
            }
        })+

        impl Attack {
            /// The ball the result stays in; `None` for attacks that look for the smallest
            /// perturbation.
            pub fn ball(&self) -> Option<(Norm, f32)> {
                match self { $(Self::$method(method) => method.ball(),)+ }
            }

            /// The fewest classes that a model must have for it.
            pub fn least_classes(&self, aim: Aim) -> usize {
                match self { $(Self::$method(method) => method.least_classes(aim),)+ }
            }

            /// Whether the attack starts from other images of the batch, those among them that
            /// need no attack.
            pub(super) fn borrows(&self, aim: Aim) -> bool {
                let borrows = match self { $(Self::$method(method) => method.borrows(),)+ };
                borrows && aim == Aim::Targeted
            }

            /// Runs the attack and nothing else: [`plan::run`](super::plan::run) adds what holds
            /// for all of them.
            ///
            /// # Errors
            /// As [`Method::attack`].
            pub async fn attack<O: Oracle>(
                &self,
                context: &mut Context<'_, O>,
                pixels: &[f32],
                criterion: &Criterion,
            ) -> Result<Vec<f32>, AttackError> {
                match self {
                    $(Self::$method(method) => method.attack(context, pixels, criterion).await,)+
                }
            }
        }

        /// All attacks that have a name, the most used first.
        pub const ATTACKS: &[AttackInfo] = &[$($($row,)+)+];
    };
}

use Family::{BlackBox, Blind, Bounded, Minimal};
use Norm::{L1, L2, Linf};
use Setting::{Eps, Queries, RandomStart, RelStep, Restarts, Steps};

#[rustfmt::skip]
registry! {
    // FGSM, PGD, BIM, MI-FGSM and sparse descent are settings of one loop.
    Descent: [
        row("fgsm", "Fast gradient (sign) method", "Goodfellow et al. 2015", Bounded, &[Linf, L2, L1],
            &[EPS, RANDOM_START],
            |s| Descent { random_start: s.is_on(RandomStart), ..Descent::fgsm(s.norm(), s.number(Eps)) }.into()),
        row("pgd", "Projected gradient descent", "Madry et al. 2018", Bounded, &[Linf, L2, L1],
            &[EPS, shown(Steps, 64.0, 10.0), shown(RelStep, 0.25, 0.25), RANDOM_START],
            |s| descent(s, Descent::default())),
        row("bim", "Basic iterative method", "Kurakin et al. 2017", Bounded, &[Linf, L2, L1],
            &[EPS, shown(Steps, 10.0, 10.0), hidden(RelStep, TENTHS_2), RANDOM_START],
            |s| descent(s, Descent::bim(s.norm(), s.number(Eps)))),
        row("mi-fgsm", "Momentum iterative FGSM", "Dong et al. 2018", Bounded, &[Linf],
            &[EPS, shown(Steps, 10.0, 10.0), hidden(RelStep, TENTHS_2), RANDOM_START],
            |s| descent(s, Descent::mi_fgsm(s.number(Eps)))),
        row("sparse-l1", "Sparse descent", "Tramèr and Boneh 2019", Bounded, &[L1],
            &[EPS, shown(Steps, 10.0, 10.0), hidden(RelStep, TENTHS_2), RANDOM_START],
            |s| descent(s, Descent::sparse(s.number(Eps)))),
    ],
    Apgd: [
        row("apgd-ce", "Auto-PGD on the cross-entropy", "Croce and Hein 2020, 2021", Bounded, &[Linf, L2, L1],
            &[EPS, shown(Steps, 100.0, 20.0), hidden(Restarts, 1.0)],
            |s| apgd(s, Loss::CrossEntropy, 0)),
        row("apgd-dlr", "Auto-PGD on the difference of logits ratio", "Croce and Hein 2020, 2021", Bounded, &[Linf, L2, L1],
            &[EPS, shown(Steps, 100.0, 20.0), hidden(Restarts, 1.0)],
            |s| apgd(s, Loss::Dlr, 0)),
        row("apgd-t", "Auto-PGD towards nine classes in turn", "Croce and Hein 2020, 2021", Bounded, &[Linf, L2, L1],
            &[EPS, shown(Steps, 100.0, 10.0), hidden(Restarts, 1.0)],
            |s| apgd(s, Loss::Dlr, 9)).untargeted().lengthy(),
    ],
    Square: [
        row("square", "Square attack", "Andriushchenko et al. 2020", BlackBox, &[Linf, L2, L1],
            &[EPS, shown(Queries, 5000.0, 500.0)],
            |s| Square { norm: s.norm(), eps: s.number(Eps), queries: s.count(Queries), ..Square::default() }.into()).lengthy(),
    ],
    DeepFool: [
        row("deepfool", "DeepFool", "Moosavi-Dezfooli et al. 2016", Minimal, &[L2, Linf],
            &[shown(Steps, 50.0, 50.0)],
            |s| DeepFool { norm: s.norm(), steps: s.count(Steps), ..DeepFool::default() }.into()).or(&["deep-fool"]),
    ],
    Fab: [
        row("fab", "Fast adaptive boundary", "Croce and Hein 2020", Minimal, &[Linf, L2, L1],
            &[shown(Steps, 100.0, 20.0), hidden(Restarts, 1.0)],
            |s| Fab { norm: s.norm(), steps: s.count(Steps), restarts: s.count(Restarts), ..Fab::default() }.into()).lengthy(),
    ],
    Fmn: [
        row("fmn", "Fast minimum norm", "Pintor et al. 2021", Minimal, &[Linf, L2, L1],
            &[shown(Steps, 1000.0, 1000.0)],
            |s| Fmn { norm: s.norm(), steps: s.count(Steps), ..Fmn::default() }.into()),
    ],
    Jsma: [
        row("jsma", "Jacobian saliency map", "Papernot et al. 2016", Minimal, &[], &[],
            |_| Jsma::default().into()).lengthy(),
    ],
    AutoAttack: [
        row("autoattack", "AutoAttack, standard", "Croce and Hein 2020, 2021", Bounded, &[Linf, L2, L1],
            &[EPS, shown(Steps, 100.0, 20.0), hidden(Queries, 5000.0)],
            |s| AutoAttack { norm: s.norm(), eps: s.number(Eps), steps: s.count(Steps), queries: s.count(Queries), ..AutoAttack::default() }.into())
            .or(&["auto-attack"]).untargeted().lengthy(),
    ],
    Universal: [
        row("universal", "Universal perturbation", "Moosavi-Dezfooli et al. 2017; Shafahi et al. 2020", Bounded, &[Linf, L2],
            &[EPS, shown(Steps, 20.0, 20.0)],
            |s| Universal { norm: s.norm(), eps: s.number(Eps), epochs: s.count(Steps), ..Universal::default() }.into()).universal(),
    ],
    Boundary: [
        row("boundary", "Boundary attack", "Brendel et al. 2018", BlackBox, &[L2],
            &[shown(Queries, 5000.0, 1000.0)],
            |s| Boundary { queries: s.count(Queries), ..Boundary::default() }.into()).lengthy(),
    ],
    HopSkipJump: [
        row("hop-skip-jump", "HopSkipJump", "Chen et al. 2020", BlackBox, &[L2, Linf],
            &[shown(Steps, 64.0, 10.0), hidden(Queries, 10_000.0)],
            |s| HopSkipJump { norm: s.norm(), steps: s.count(Steps), queries: s.count(Queries), ..HopSkipJump::default() }.into())
            .or(&["hsja"]).lengthy(),
    ],
    OnePixel: [
        row("one-pixel", "One pixel", "Su et al. 2019", BlackBox, &[],
            &[shown(Steps, 100.0, 20.0)],
            |s| OnePixel { generations: s.count(Steps), ..OnePixel::default() }.into()).lengthy(),
    ],
    SaltAndPepper: [
        row("salt-and-pepper", "Salt and pepper", "Rauber et al. 2017", Blind, &[],
            &[hidden(Restarts, 1.0)],
            |s| SaltAndPepper { repeats: s.count(Restarts), ..SaltAndPepper::default() }.into()).lengthy(),
    ],
    AdditiveNoise: [
        row("additive-noise", "Uniform noise, many draws", "Rauber et al. 2017", Blind, &[Linf, L2],
            &[EPS, shown(Queries, 100.0, 100.0)],
            |s| AdditiveNoise { norm: s.norm(), eps: s.number(Eps), repeats: s.count(Queries), ..AdditiveNoise::default() }.into()).lengthy(),
    ],
    BlendedNoise: [
        row("blended-noise", "Blending into noise", "Rauber et al. 2017", Blind, &[], &[],
            |_| BlendedNoise::default().into()),
    ],
    Spatial: [
        row("spatial", "Rotation and translation", "Engstrom et al. 2019", Blind, &[], &[],
            |_| Spatial::default().into()).lengthy(),
    ],
    CarliniWagner: [
        row("cw", "Carlini-Wagner", "Carlini and Wagner 2017", Minimal, &[L2],
            &[shown(Steps, 10_000.0, 100.0)],
            |s| CarliniWagner { steps: s.count(Steps), ..CarliniWagner::default() }.into()).or(&["carlini-wagner"]).lengthy(),
    ],
}

const EPS: AttackSetting = AttackSetting {
    setting: Eps,
    usual: None,
    start: Some(2.0 / 255.0),
};

const RANDOM_START: AttackSetting = shown(RandomStart, 0.0, 0.0);

/// 0.2 as the attacks have it, in f32.
const TENTHS_2: f64 = 0.2_f32 as f64;

/// A setting with a control in the page.
const fn shown(setting: Setting, usual: f64, start: f64) -> AttackSetting {
    AttackSetting {
        setting,
        usual: Some(usual),
        start: Some(start),
    }
}

/// A setting without one.
const fn hidden(setting: Setting, usual: f64) -> AttackSetting {
    AttackSetting {
        setting,
        usual: Some(usual),
        start: None,
    }
}

const fn row(
    name: &'static str,
    title: &'static str,
    paper: &'static str,
    family: Family,
    norms: &'static [Norm],
    settings: &'static [AttackSetting],
    #[cfg_attr(
        not(feature = "compute"),
        expect(unused_variables, reason = "the page links no attack")
    )]
    build: fn(&Settings) -> Attack,
) -> AttackInfo {
    AttackInfo {
        name,
        aliases: &[],
        title,
        paper,
        family,
        targeted: true,
        norms,
        settings,
        universal: false,
        lengthy: false,
        #[cfg(feature = "compute")]
        build,
    }
}

/// A published attack with the settings asked for.
fn descent(s: &Settings, published: Descent) -> Attack {
    Attack::Descent(Descent {
        norm: s.norm(),
        eps: s.number(Eps),
        steps: s.count(Steps),
        rel_step: s.number(RelStep),
        random_start: s.is_on(RandomStart),
        ..published
    })
}

fn apgd(s: &Settings, loss: Loss, target_classes: usize) -> Attack {
    Attack::Apgd(Apgd {
        norm: s.norm(),
        eps: s.number(Eps),
        steps: s.count(Steps),
        restarts: s.count(Restarts),
        loss,
        target_classes,
        ..Apgd::default()
    })
}

/// The row of this name or alias, in kebab or snake case.
pub fn find(name: &str) -> Option<&'static AttackInfo> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    let named = |row: &&AttackInfo| row.name == wanted || row.aliases.contains(&wanted.as_str());
    ATTACKS.iter().find(named)
}

#[cfg(feature = "compute")]
/// The attack of this name, in kebab or snake case, with these settings.
///
/// The values themselves are checked when the attack runs.
///
/// # Errors
/// A [`RegistryError`]: an unknown name, a missing radius, a norm the attack does not work in, a
/// setting it does not take.
pub fn by_name(name: &str, settings: &Settings) -> Result<Attack, RegistryError> {
    let row = find(name).ok_or_else(|| RegistryError::unknown(name))?;
    row.attack(settings)
}

impl AttackInfo {
    const fn untargeted(self) -> Self {
        Self {
            targeted: false,
            ..self
        }
    }

    const fn lengthy(self) -> Self {
        Self {
            lengthy: true,
            ..self
        }
    }

    const fn universal(self) -> Self {
        Self {
            universal: true,
            ..self
        }
    }

    /// With other names.
    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub fn takes(&self, setting: Setting) -> bool {
        self.settings.iter().any(|taken| taken.setting == setting)
    }

    /// A setting's value when none is given; `None` where it is not taken or must be given.
    pub fn usual(&self, setting: Setting) -> Option<f64> {
        let taken = self.settings.iter().find(|taken| taken.setting == setting);
        taken.and_then(|taken| taken.usual)
    }

    /// Its steps when none are given; `None` where it does not count any.
    pub fn steps(&self) -> Option<usize> {
        self.usual(Steps).map(|steps| steps as usize)
    }

    /// The names of its settings, for a sentence.
    pub fn setting_names(&self) -> String {
        match self.settings.is_empty() {
            true => "no setting".to_owned(),
            false => list(self.settings.iter().map(|taken| taken.setting.name()), ", "),
        }
    }

    #[cfg(feature = "compute")]
    /// The attack with these settings. The values themselves are checked when it runs.
    ///
    /// # Errors
    /// As [`by_name`].
    pub fn attack(&'static self, settings: &Settings) -> Result<Attack, RegistryError> {
        Ok((self.build)(&self.complete(settings)?))
    }

    #[cfg(feature = "compute")]
    /// The settings with every gap filled. One that would be ignored is a misunderstanding.
    fn complete(&'static self, settings: &Settings) -> Result<Settings, RegistryError> {
        let mut given = settings.given();
        if let Some((info, _)) = given.find(|(info, _)| !self.takes(info.setting)) {
            return Err(RegistryError::NotTaken(self, info.name));
        }
        let usual = self.norms.first().copied();
        if let Some(norm) = settings.norm.filter(|norm| !self.norms.contains(norm)) {
            return Err(match usual {
                Some(_) => RegistryError::Norm(self, norm),
                None => RegistryError::NotTaken(self, "norm"),
            });
        }
        let mut complete = settings.clone();
        complete.norm = settings.norm.or(usual);
        for taken in self.settings {
            let value = settings.get(taken.setting).or(taken.usual);
            complete.set(taken.setting, value.ok_or(RegistryError::NoRadius(self))?);
        }
        Ok(complete)
    }
}

/// Words of a sentence.
fn list(words: impl Iterator<Item = &'static str>, between: &str) -> String {
    words.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, eps: f32) -> Attack {
        let settings = Settings::of([(Eps, f64::from(eps))]);
        by_name(name, &settings).expect("it takes a radius")
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
        let minimal = |name| by_name(name, &Settings::default());
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
            let bounded = row.takes(Eps);
            for norm in row.norms.iter().copied() {
                let usual = match bounded {
                    true => Settings::of([(Eps, 0.125)]).in_norm(norm),
                    false => Settings::default().in_norm(norm),
                };
                let mut settings = usual.clone();
                if let Some(steps) = row.usual(Steps) {
                    settings.set(Steps, steps + 1.0);
                }
                let attack = by_name(row.name, &settings).expect("a row's own settings");
                assert_eq!(attack.ball(), bounded.then_some((norm, 0.125)), "{row:?}");
                let differs = by_name(row.name, &usual).expect("fewer settings") != attack;
                assert_eq!(differs, row.steps().is_some(), "{row:?}");
            }
            let others = Norm::ALL.into_iter().filter(|n| !row.norms.contains(n));
            for norm in others {
                let settings = match bounded {
                    true => Settings::of([(Eps, 0.125)]).in_norm(norm),
                    false => Settings::default().in_norm(norm),
                };
                let refused = by_name(row.name, &settings).expect_err("not its norm");
                let expected = match row.norms.is_empty() {
                    true => RegistryError::NotTaken(row, "norm"),
                    false => RegistryError::Norm(row, norm),
                };
                assert_eq!(refused, expected);
            }
        }
        let names = ATTACKS.iter().map(|row| row.name);
        let mut names: Vec<&str> = names
            .chain(ATTACKS.iter().flat_map(|row| row.aliases.iter().copied()))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |name: &str, settings: Settings| {
            let refused = by_name(name, &settings);
            refused.expect_err("it makes no sense").to_string()
        };
        let unknown = said("pdg", Settings::default());
        assert!(unknown.contains("`pdg`") && unknown.contains("pgd, bim"));
        assert!(said("pgd", Settings::default()).contains("8/255"));
        let eps = Settings::of([(Eps, 1.0)]);
        assert_eq!(
            said("deepfool", eps.clone()),
            "the attack `deepfool` takes no eps; it takes steps"
        );
        assert_eq!(
            said("square", Settings::of([(Eps, 1.0), (Steps, 9.0)])),
            "the attack `square` takes no steps; it takes eps, queries"
        );
        assert_eq!(
            said("universal", eps.in_norm(L1)),
            "the attack `universal` works in L∞ and L2, not in L1"
        );
    }
}
