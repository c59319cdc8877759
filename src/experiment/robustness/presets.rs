//! Plans that are asked for by name: the protocols the field reports.

use super::plan::{Attacks, Corruptions, Plan, Radius, VERSION};
use super::summary::{PRESETS, Preset};
use crate::perturb::attack::{Norm, Setting, Settings};
use crate::perturb::corruption::Corruption;

/// What fills the plan of each of [`PRESETS`], in their order.
const FILLED: [fn(&mut Plan); 6] = [quick, vonenet, corruptions, autoattack, curve, minimal];

/// The preset of this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// Its plan, for `models`.
    pub fn plan(&self, models: Vec<String>) -> Plan {
        let mut plan = Plan {
            version: VERSION,
            name: self.heading.to_owned(),
            models,
            data: None,
            images: 1000,
            seeds: vec![0],
            batch: 50,
            passes: 10,
            eot: 10,
            reference: None,
            classes: std::collections::BTreeMap::new(),
            corruptions: Vec::new(),
            attacks: Vec::new(),
        };
        let fill = PRESETS
            .iter()
            .zip(FILLED)
            .find(|(preset, _)| *preset == self);
        if let Some((_, fill)) = fill {
            fill(&mut plan);
        }
        plan
    }
}

fn quick(plan: &mut Plan) {
    plan.images = 100;
    plan.batch = 25;
    plan.eot = 4;
    plan.corruptions = vec![Corruptions {
        kinds: vec![
            Corruption::GaussianNoise,
            Corruption::DefocusBlur,
            Corruption::Fog,
            Corruption::JpegCompression,
        ],
        severities: vec![3],
    }];
    plan.attacks = vec![Attacks {
        settings: Settings::of([(Setting::Steps, 8.0)]),
        ..attacks("pgd", Some(Norm::Linf), &["1/255", "4/255"])
    }];
}

/// The radii are for 224 px; the headline is the mean over the two weakest in each norm.
fn vonenet(plan: &mut Plan) {
    plan.corruptions = benchmark();
    let radii = [
        (Norm::Linf, ["1/1020", "1/255", "4/255", "16/255"]),
        (Norm::L2, ["0.15", "0.6", "2.4", "9.6"]),
        (Norm::L1, ["40", "160", "640", "2560"]),
    ];
    let pgd = |(norm, eps): (Norm, [&str; 4])| Attacks {
        side: Some(224),
        in_mean: Some(2),
        settings: Settings::of([(Setting::Steps, 64.0), (Setting::RelStep, 1.0 / 32.0)]),
        ..attacks("pgd", Some(norm), &eps)
    };
    plan.attacks = radii.into_iter().map(pgd).collect();
}

fn corruptions(plan: &mut Plan) {
    plan.corruptions = benchmark();
}

fn benchmark() -> Vec<Corruptions> {
    vec![Corruptions {
        kinds: Vec::new(),
        severities: vec![1, 2, 3, 4, 5],
    }]
}

fn autoattack(plan: &mut Plan) {
    plan.attacks = vec![
        attacks("autoattack", Some(Norm::Linf), &["8/255"]),
        attacks("autoattack", Some(Norm::L2), &["0.5"]),
    ];
}

fn curve(plan: &mut Plan) {
    plan.images = 200;
    let linf = [
        "0.25/255", "0.5/255", "1/255", "2/255", "4/255", "8/255", "16/255", "32/255",
    ];
    let l2 = ["0.05", "0.1", "0.2", "0.4", "0.8", "1.6", "3.2"];
    plan.attacks = vec![
        attacks("pgd", Some(Norm::Linf), &linf),
        attacks("pgd", Some(Norm::L2), &l2),
    ];
}

fn minimal(plan: &mut Plan) {
    plan.images = 100;
    plan.attacks = vec![
        attacks("deepfool", Some(Norm::L2), &[]),
        Attacks {
            settings: Settings::of([(Setting::Steps, 100.0)]),
            ..attacks("fmn", Some(Norm::Linf), &[])
        },
        attacks("boundary", Some(Norm::L2), &[]),
    ];
}

fn attacks(attack: &str, norm: Option<Norm>, eps: &[&str]) -> Attacks {
    // Constants of ours, every one of them parsed by a test.
    let eps = eps.iter().filter_map(|text| text.parse::<Radius>().ok());
    Attacks {
        attack: attack.to_owned(),
        norm,
        eps: eps.collect(),
        side: None,
        in_mean: None,
        settings: Settings::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::summary::Group;
    use super::*;

    #[test]
    fn presets_are_plans_and_documents() {
        for preset in &PRESETS {
            let plan = preset.plan(vec!["a".into(), "b".into()]);
            plan.check().expect(preset.name);
            let json = serde_json::to_string(&plan).expect("a plan is a document");
            assert_eq!(Plan::parse(&json).as_ref(), Ok(&plan), "{}", preset.name);
            let mut mapped = plan;
            mapped.classes = [("kitten", "cat"), ("background", "")]
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .into();
            for seed in [1, u64::MAX] {
                mapped.seeds = vec![seed];
                assert_eq!(Plan::parse(&mapped.document()).as_ref(), Ok(&mapped));
            }
            assert_eq!(find(preset.name), Some(preset));
        }
        assert!(find("nothing").is_none());
    }

    #[test]
    fn vonenets_protocol_has_its_conditions() {
        let plan = find("vonenet").expect("it is there").plan(Vec::new());
        let conditions = plan.conditions().expect("it is sound");
        assert_eq!(conditions.len(), 1 + 75 + 12);
        let white: Vec<_> = conditions
            .iter()
            .filter(|c| c.group() == Group::WhiteBox && c.in_mean())
            .map(|c| c.name())
            .collect();
        assert_eq!(
            white,
            [
                "pgd linf 1/1020",
                "pgd linf 1/255",
                "pgd l2 0.15",
                "pgd l2 0.6",
                "pgd l1 40",
                "pgd l1 160"
            ]
        );
    }
}
