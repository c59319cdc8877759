//! A picture on a shipped model: seen, perturbed and attacked, as the page asks for it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ventral::model::checkpoint::Source;
use ventral::perturb::attack::{Norm, Setting, Settings, registry};
use ventral::perturb::corruption::{self, Corruption};
use ventral::perturb::noise::{PixelNoise, PixelNoiseKind};
use ventral::session::Session;
use ventral::session::protocol::{
    Analysis, AttackOptions, Event, PerturbOptions, Perturbed, Request, SeeOptions, Stage,
};

use crate::common::native::NativeHost;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn weights(name: &str) -> Box<dyn Source> {
    let path = here(&format!("static/models/{name}.safetensors"));
    Box::new(BufReader::new(
        File::open(path).expect("the model is shipped"),
    ))
}

fn picture(name: &str) -> Request {
    let bytes = std::fs::read(here(&format!("static/samples/{name}"))).expect("a sample");
    Request::SetImage {
        name: name.to_owned(),
        bytes: bytes.into(),
    }
}

const MODEL: &str = "cornet-s-cifar10";
const PICTURE: &str = "cifar/ship.png";

/// A session with the shipped model and a picture in it.
fn ready() -> (Session, NativeHost) {
    let mut session = Session::default();
    let host = NativeHost::default();
    let load = Request::LoadModel {
        name: MODEL.to_owned(),
    };
    let end = host.answer(&mut session, load, Some(weights(MODEL)));
    assert!(matches!(end, Event::Done), "{end:?}");
    let end = host.answer(&mut session, picture(PICTURE), None);
    assert!(matches!(end, Event::Done), "{end:?}");
    (session, host)
}

fn see(session: &mut Session, host: &NativeHost) -> Analysis {
    let options = SeeOptions {
        channels: 4,
        ..SeeOptions::default()
    };
    let end = host.answer(session, Request::See(options), None);
    assert!(matches!(end, Event::Done), "{end:?}");
    match host.last() {
        Some(Event::Analysis(analysis)) => *analysis,
        other => panic!("no analysis came back but {other:?}"),
    }
}

fn perturb(session: &mut Session, host: &NativeHost, options: PerturbOptions) -> Perturbed {
    let end = host.answer(session, Request::Perturb(options), None);
    assert!(matches!(end, Event::Done), "{end:?}");
    match host.last() {
        Some(Event::Perturbed(result)) => *result,
        other => panic!("no perturbed image came back but {other:?}"),
    }
}

/// A chain of one stage, with everything that takes a while.
fn one(stage: Stage) -> PerturbOptions {
    PerturbOptions {
        stages: vec![stage],
        passes: 1,
        details: true,
        ..PerturbOptions::default()
    }
}

fn corrupted(corruption: Corruption, severity: u8) -> Stage {
    Stage {
        corruption: Some(corruption::Setting {
            corruption,
            severity,
            table: None,
            seed: 0,
            eight_bit: false,
        }),
        ..Stage::default()
    }
}

fn attack(eps: f32, target: Option<usize>) -> PerturbOptions {
    one(Stage {
        attack: Some(AttackOptions {
            name: "pgd".to_owned(),
            settings: Settings::of([(Setting::Eps, f64::from(eps)), (Setting::Steps, 10.0)]),
            seed: 0,
            eot: 1,
            fixed_noise: false,
            target,
            eight_bit: false,
        }),
        ..Stage::default()
    })
}

#[test]
fn every_area_and_time_step_is_seen() {
    let (mut session, host) = ready();
    let analysis = see(&mut session, &host);
    assert_eq!(analysis.top.len(), 5);
    let sum: f32 = analysis.probabilities.iter().sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    let taps: Vec<&str> = analysis
        .responses
        .iter()
        .map(|r| r.tap.name.as_str())
        .collect();
    let all = [
        "V1.conv1", "V1", "V2.t0", "V2.t1", "V4.t0", "V4.t1", "V4.t2", "V4.t3", "IT.t0", "IT.t1",
    ];
    assert_eq!(taps, all);
    for response in &analysis.responses {
        let [_, height, width] = response.shape;
        assert_eq!(response.mean_map.len(), 4 * height * width);
        assert_eq!(
            response.maps.len(),
            4 * height * width * response.channels.len()
        );
    }
    // Read out at its last time step, an area hands on what it always does.
    let last = analysis
        .readouts
        .iter()
        .find(|r| r.area == "V4" && r.time_step == 3);
    let last = last.expect("V4 has four time steps");
    assert_eq!(last.top[0].class, analysis.top[0].class);
    assert!((last.top[0].probability - analysis.top[0].probability).abs() < 1e-4);
}

#[test]
fn an_attack_stays_in_its_ball_and_works() {
    let (mut session, host) = ready();
    let eps = 8.0 / 255.0;
    let result = perturb(&mut session, &host, attack(eps, None));
    assert!(result.linf <= eps * (1.0 + 1e-5), "{}", result.linf);
    assert_eq!(result.trajectory.len(), 10);
    let first = &result.trajectory[0];
    let last = &result.trajectory[9];
    assert!(last.loss > first.loss, "{} to {}", first.loss, last.loss);
    assert!(result.success, "ε = 8/255 fools an undefended network");
    // What nobody sees grows on its way through the areas.
    let change = |name: &str| {
        let found = result.area_change.iter().find(|(tap, _)| tap == name);
        found.expect("a tap of the model").1
    };
    assert!(change("IT.t1") > change("V1"), "{:?}", result.area_change);
}

#[test]
fn every_family_and_every_corruption_runs() {
    let (mut session, host) = ready();
    let eps = (Setting::Eps, 8.0 / 255.0);
    for (name, settings) in [
        ("fgsm", Settings::of([eps])),
        ("mi-fgsm", Settings::of([eps])),
        ("sparse-l1", Settings::of([(Setting::Eps, 20.0)])),
        ("apgd-ce", Settings::of([eps, (Setting::Steps, 20.0)])),
        ("square", Settings::of([eps, (Setting::Queries, 200.0)])),
    ] {
        let attack = registry::by_name(name, &settings).expect("an attack's own settings");
        let options = one(Stage {
            attack: Some(AttackOptions {
                name: name.to_owned(),
                settings,
                seed: 1,
                eot: 1,
                fixed_noise: false,
                target: None,
                eight_bit: true,
            }),
            ..Stage::default()
        });
        let result = perturb(&mut session, &host, options);
        let (norm, radius) = attack.ball().unwrap();
        let length = match norm {
            Norm::Linf => result.linf,
            Norm::L2 => result.l2,
            Norm::L1 => result.l1,
        };
        assert!(length <= radius * (1.0 + 1e-5), "{attack:?}: {length}");
        assert!(!result.trajectory.is_empty(), "{attack:?}");
    }
    for corruption in Corruption::ALL {
        let result = perturb(&mut session, &host, one(corrupted(corruption, 5)));
        assert!(result.linf > 0.0, "{corruption:?} changed nothing");
        assert_eq!(result.textures.is_some(), corruption == Corruption::Frost);
    }
}

#[test]
fn a_target_is_reached_or_said_not_to_be() {
    let (mut session, host) = ready();
    let clean = see(&mut session, &host).top[0].class;
    let target = (clean + 3) % 10;
    let result = perturb(&mut session, &host, attack(16.0 / 255.0, Some(target)));
    assert_eq!(result.success, result.after[0].class == target);
    let before = result
        .before
        .iter()
        .find(|p| p.class == target)
        .map_or(0.0, |p| p.probability);
    let after = result
        .after
        .iter()
        .find(|p| p.class == target)
        .map_or(0.0, |p| p.probability);
    assert!(after > before, "{before} to {after}");
    let end = host.answer(&mut session, Request::Perturb(attack(0.1, Some(99))), None);
    assert!(matches!(end, Event::Failed(_)), "{end:?}");
}

#[test]
fn the_seed_repeats_bit_for_bit() {
    let (mut session, host) = ready();
    let mut options = attack(2.0 / 255.0, None);
    options.stages[0].pixel_noise = Some(PixelNoise {
        kind: PixelNoiseKind::Gaussian,
        scale: 0.05,
        seed: 5,
    });
    let first = perturb(&mut session, &host, options.clone());
    let second = perturb(&mut session, &host, options);
    assert_eq!(first.perturbed, second.perturbed);
    assert_eq!(first.after, second.after);
}

/// The pixels of an `.npy` file: what follows its header.
fn pixels(result: &Perturbed) -> Vec<u8> {
    let count = 4 * 3 * result.original.width * result.original.height;
    result.npy[result.npy.len() - count..].to_vec()
}

#[test]
fn a_chain_is_its_stages_one_after_the_other() {
    let (mut session, host) = ready();
    let fog = corrupted(Corruption::Fog, 2);
    let adversarial = attack(2.0 / 255.0, None).stages.remove(0);
    let chain = |stages: Vec<Stage>| PerturbOptions {
        stages,
        ..one(Stage::default())
    };
    let foggy = perturb(&mut session, &host, chain(vec![fog.clone()]));
    let kept = chain(vec![fog.clone(), adversarial.clone()]);
    let both = perturb(&mut session, &host, kept.clone());
    assert!(both.linf > foggy.linf * 0.9 && pixels(&both) != pixels(&foggy));
    // What was kept is remembered, and that changes nothing.
    let again = perturb(&mut session, &host, kept.clone());
    assert_eq!(pixels(&again), pixels(&both));
    let (mut other, fresh) = ready();
    assert_eq!(
        pixels(&perturb(&mut other, &fresh, kept.clone())),
        pixels(&both)
    );
    // The stages of another order are other stages.
    let turned = chain(vec![adversarial, fog]);
    assert_ne!(pixels(&perturb(&mut session, &host, turned)), pixels(&both));
    // And another image's are another image's.
    host.answer(&mut session, picture("cifar/cat.png"), None);
    let cat = perturb(&mut session, &host, kept);
    assert_ne!(pixels(&cat), pixels(&both));
    // An empty stage on top shows what was kept.
    host.answer(&mut session, picture(PICTURE), None);
    let rested = chain(vec![corrupted(Corruption::Fog, 2), Stage::default()]);
    assert_eq!(
        pixels(&perturb(&mut session, &host, rested)),
        pixels(&foggy)
    );
}

#[test]
fn the_way_of_an_attack_comes_back_and_is_not_longer_than_it_may_be() {
    let (mut session, host) = ready();
    let mut options = attack(1.0 / 255.0, None);
    let result = perturb(&mut session, &host, options.clone());
    let steps: Vec<usize> = result.frames.iter().map(|f| f.step).collect();
    assert_eq!(steps, (1..=10).collect::<Vec<_>>());
    assert_eq!(result.spectrum.len(), 4 * 32 * 32);
    if let Some(attack) = &mut options.stages[0].attack {
        attack.settings.set(Setting::Steps, 100.0);
    }
    let long = perturb(&mut session, &host, options.clone());
    let steps: Vec<usize> = long.frames.iter().map(|f| f.step).collect();
    assert!(steps.len() <= 24 && steps.len() >= 12, "{steps:?}");
    let gaps: Vec<usize> = steps.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps.iter().all(|g| *g == gaps[0]), "{steps:?}");
    options.details = false;
    let coarse = perturb(&mut session, &host, options);
    assert!(coarse.frames.is_empty() && coarse.spectrum.is_empty());
    assert_eq!(pixels(&coarse), pixels(&long));
}

#[test]
fn the_last_attack_can_be_checked_and_shown_to_another_model() {
    let (mut session, host) = ready();
    let end = host.answer(&mut session, Request::CheckGradient, None);
    assert!(matches!(end, Event::Failed(_)), "{end:?}");
    let result = perturb(&mut session, &host, attack(8.0 / 255.0, None));
    assert!(result.success);
    let end = host.answer(&mut session, Request::CheckGradient, None);
    assert!(matches!(end, Event::Done), "{end:?}");
    let Some(Event::Masking(found)) = host.last() else {
        panic!("no check came back");
    };
    assert!(found.flags.is_empty(), "{found:?}");
    assert_eq!(found.path.len(), 11);
    // The same model is another one of the same weights: it must be fooled the same way.
    let transfer = || Request::Transfer {
        name: MODEL.to_owned(),
    };
    let end = host.answer(&mut session, transfer(), Some(weights(MODEL)));
    assert!(matches!(end, Event::Done), "{end:?}");
    let Some(Event::Transferred(seen)) = host.last() else {
        panic!("no other model's view came back");
    };
    assert!(seen.fooled);
    assert_eq!(seen.after[0].class, result.after[0].class);
    // The session's own model is still there; another image forgets what was asked about.
    assert_eq!(see(&mut session, &host).top.len(), 5);
    host.answer(&mut session, picture("cifar/cat.png"), None);
    let end = host.answer(&mut session, transfer(), Some(weights(MODEL)));
    assert!(matches!(end, Event::Failed(_)), "{end:?}");
}

#[test]
fn a_cancelled_request_ends_so_and_the_session_goes_on() {
    let (mut session, host) = ready();
    host.token.cancel();
    let end = host.answer(&mut session, Request::See(SeeOptions::default()), None);
    assert!(matches!(end, Event::Cancelled), "{end:?}");
    let fresh = NativeHost::default();
    assert_eq!(see(&mut session, &fresh).top.len(), 5);
}

#[test]
fn what_is_missing_is_said() {
    let mut session = Session::default();
    let host = NativeHost::default();
    let end = host.answer(&mut session, Request::See(SeeOptions::default()), None);
    let Event::Failed(failure) = end else {
        panic!("there is nothing to see yet");
    };
    assert_eq!(failure.sentence, "Choose a model first.");
    let broken = Request::SetImage {
        name: "broken.jpg".to_owned(),
        bytes: b"\xff\xd8\xff\xe0 not a picture".to_vec().into(),
    };
    let end = host.answer(&mut session, broken, None);
    assert!(matches!(end, Event::Failed(_)), "{end:?}");
}

/// The accuracy in the card of the shipped model is that of its file, on the ten samples too few
/// to tell, so this asks only that most of them are right.
#[test]
fn the_shipped_model_knows_most_of_its_samples() {
    let (mut session, host) = ready();
    let names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ];
    let right = names
        .iter()
        .filter(|name| {
            let end = host.answer(&mut session, picture(&format!("cifar/{name}.png")), None);
            assert!(matches!(end, Event::Done), "{name}: {end:?}");
            see(&mut session, &host).top[0].label == **name
        })
        .count();
    println!("{right} of 10");
    assert!(right >= 6, "{right} of 10");
}
