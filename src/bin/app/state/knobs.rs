//! The settings of the tab Perturb, and the request they make.

use ventral::experiment::robustness::summary::{Action, FragileImage};
use ventral::perturb::attack::registry::{self, ATTACKS, AttackInfo, Family};
use ventral::perturb::attack::settings::Unit;
use ventral::perturb::attack::{Norm, Setting, Settings};
use ventral::perturb::corruption::{self, Corruption};
use ventral::perturb::noise::{PixelNoise, PixelNoiseKind};
use ventral::session::protocol::*;

/// Steps of an attack while its slider is being dragged; the rest follow on release.
const COARSE_STEPS: f64 = 3.0;

/// The attacks of one family that are of use on a single image.
pub fn attacks(family: Family) -> impl Iterator<Item = &'static AttackInfo> {
    ATTACKS
        .iter()
        .filter(move |attack| attack.family == family && !attack.universal)
}

/// The attack of this name; the first one where there is none.
pub fn attack(name: &str) -> &'static AttackInfo {
    registry::find(name).unwrap_or(&ATTACKS[0])
}

/// The settings the page has controls for.
pub fn controls(attack: &AttackInfo) -> impl Iterator<Item = (Setting, f64)> {
    let shown = attack.settings.iter();
    shown.filter_map(|taken| Some((taken.setting, taken.start?)))
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
    pub attack: &'static AttackInfo,
    pub norm: Norm,
    /// Radius in L∞, in units of the pixel range; 0: no attack. Other norms go by [`radius`].
    pub eps: f32,
    /// What else attacks have, be it taken by this one or not.
    pub settings: Settings,
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
            attack: attack("pgd"),
            norm: Norm::Linf,
            eps: 2.0 / 255.0,
            settings: Settings::of([
                (Setting::Steps, 10.0),
                (Setting::Queries, 10.0),
                (Setting::RelStep, 0.25),
            ]),
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
    pub fn of_fragile(lost: &FragileImage, seed: u64, side: usize) -> Knobs {
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
        if let Action::Attack(name, given) = &lost.action {
            knobs.choose(attack(name));
            knobs.norm = given.norm.unwrap_or(usual.norm);
            let unit = radius(knobs.norm, 1.0, side);
            // An attack without a radius is on or off.
            let eps = given.get(Setting::Eps);
            knobs.eps = eps.map_or(usual.eps, |eps| eps as f32 / unit);
            for (info, value) in given.given() {
                knobs.settings.set(info.setting, value);
            }
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

    /// Takes another attack, with a norm that it works in and a length that suits it.
    pub fn choose(&mut self, attack: &'static AttackInfo) {
        if !attack.norms.is_empty() && !attack.norms.contains(&self.norm) {
            self.norm = attack.norms[0];
        }
        for (setting, start) in controls(attack) {
            if setting.info().unit == Unit::Count {
                self.settings.set(setting, start);
            }
        }
        if !attack.takes(Setting::Eps) && self.eps <= 0.0 {
            // Without a radius the slider is a switch; choosing the attack switches it on.
            self.eps = Knobs::default().eps;
        }
        self.attack = attack;
    }

    /// A setting's value; 0 for none.
    pub fn value(&self, setting: Setting) -> f64 {
        self.settings.get(setting).unwrap_or_default()
    }

    /// Steps or queries, whichever the attack has a control for.
    pub fn count(&self) -> f64 {
        let counts = |(setting, _): &(Setting, f64)| setting.info().unit == Unit::Count;
        let counted = controls(self.attack).find(counts);
        self.value(counted.map_or(Setting::Steps, |(setting, _)| setting))
    }

    /// Too long to follow a slider.
    pub fn is_lengthy(&self) -> bool {
        self.eps > 0.0 && self.attack.lengthy
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
        let corruption = self.corruption.map(|corruption| corruption::Setting {
            corruption,
            severity: self.severity,
            table: None,
            seed: self.seed,
            eight_bit: false,
        });
        let attack = (self.eps > 0.0).then(|| AttackOptions {
            name: self.attack.name.to_owned(),
            settings: self.sent(coarse, side),
            seed: self.seed,
            eot: if self.front_end_noise { self.eot } else { 1 },
            fixed_noise: self.fixed_noise,
            target: self.target.filter(|_| self.attack.targeted),
            eight_bit: self.eight_bit,
        });
        Stage {
            corruption,
            pixel_noise: (self.noise_scale > 0.0).then_some(noise),
            attack,
        }
    }

    /// The settings with a control, as the request has them.
    fn sent(&self, coarse: bool, side: usize) -> Settings {
        let short = coarse && self.value(Setting::Steps) > COARSE_STEPS;
        let mut sent = Settings::default();
        sent.norm = (!self.attack.norms.is_empty()).then_some(self.norm);
        for (setting, _) in controls(self.attack) {
            let value = match setting {
                Setting::Eps => f64::from(radius(self.norm, self.eps, side)),
                Setting::Steps if short => COARSE_STEPS,
                Setting::RelStep if short => self.value(setting).max(0.5),
                setting => self.value(setting),
            };
            sent.set(setting, value);
        }
        sent
    }
}

pub(super) fn front_end(on: bool, seed: u64) -> FrontEndNoise {
    if on {
        FrontEndNoise::Seed(seed)
    } else {
        FrontEndNoise::Off
    }
}
