//! `ventral attack`.

use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;
use ventral::archive::npy::{Data, write_npy};
use ventral::perturb::attack::Setting;
use ventral::perturb::attack::registry::ATTACKS;

use super::{
    CLASSES, interrupted, listing, read_array, read_json, read_picture, write_array, write_set,
};
use crate::common::arrays::{Named, all_close, array, f32s, fixture, open};
use crate::common::command::{fails, succeeds};
use crate::common::reference;

/// The small network of the fixtures, with its images and labels as `x.npy` and `y.npy`.
fn write_small(folder: &Path) -> String {
    let weights = reference("small_cnn.safetensors");
    let mut inputs = fixture("attack_inputs.npz");
    for (key, name) in [("x_small", "x.npy"), ("y_small", "y.npy")] {
        let array = array(&mut inputs, key);
        write_npy(File::create(folder.join(name)).unwrap(), &array).unwrap();
    }
    weights.to_str().unwrap().to_owned()
}

/// The command that attacks what [`write_small`] has written.
fn on_small(weights: &str) -> [&str; 7] {
    [
        "attack",
        "--weights",
        weights,
        "--input",
        "x.npy",
        "--labels",
        "y.npy",
    ]
}

fn flags(npz: &mut impl Named, name: &str) -> Vec<bool> {
    match npz.take(name).data {
        Data::Bool(flags) => flags,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn attack_finds_what_the_reference_finds() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write_small(folder.path());
    let small = on_small(&weights);
    let pgd: &[&str] = &["--steps", "10", "--rel-step", "0.033333333"];
    let mut theirs = fixture("attacks_small_cnn.npz");
    for (key, attack, eps, more) in [
        ("fgsm/eps0", "fgsm", "4/255", &[][..]),
        ("fgsm/eps1", "fgsm", "16/255", &[]),
        ("linf_pgd/eps0", "pgd", "4/255", pgd),
        ("linf_pgd/eps1", "pgd", "16/255", pgd),
        ("l2_bim/eps0", "bim", "1", &["--norm", "l2"]),
    ] {
        if !theirs.has(&format!("{key}/adv")) {
            continue;
        }
        let asked = ["--attack", attack, "--eps", eps, "--output", "out.npz"];
        let said = succeeds(&[&small[..], &asked, more].concat(), folder.path());
        let mut ours = open(&folder.path().join("out.npz"));
        let adv = ours.read("adv").unwrap();
        assert_eq!(adv.shape, [4, 3, 32, 32]);
        let expected = f32s(&mut theirs, &format!("{key}/adv"));
        let pairs = adv.data.to_f32();
        let pairs = pairs.iter().zip(&expected);
        let close = pairs.filter(|(a, b)| (**a - **b).abs() <= 1e-4).count();
        assert!(
            close * 100 >= expected.len() * 99,
            "{key}: {close} pixels agree"
        );
        let expected = flags(&mut theirs, &format!("{key}/success"));
        assert_eq!(flags(&mut ours, "success"), expected, "{key}");
        let expected = f32s(&mut theirs, &format!("{key}/logits"));
        all_close(&f32s(&mut ours, "logits"), &expected, 1e-2);
        let norms = f32s(&mut theirs, &format!("{key}/norms_l1_l2_linf"));
        for (column, name) in ["l1", "l2", "linf"].into_iter().enumerate() {
            let expected: Vec<f32> = norms.iter().skip(column).step_by(3).copied().collect();
            all_close(&f32s(&mut ours, name), &expected, 1e-2);
        }
        let labels = ours.read("labels").unwrap();
        assert_eq!(labels, read_array(&folder.path().join("y.npy")));

        let recipe = read_json(&folder.path().join("out.json"));
        let fell = flags(&mut ours, "success").iter().filter(|s| **s).count();
        assert_eq!(recipe["summary"]["success"], fell as f64 / 4.0);
        assert_eq!(
            recipe["summary"]["robust_accuracy"],
            1.0 - fell as f64 / 4.0
        );
        assert!(
            said.contains("y.npy") && said.contains("robust accuracy"),
            "{said}"
        );
        assert_eq!(recipe["inputs"][0]["name"], "x.npy");
        assert_eq!(recipe["model"]["hash"].as_str().unwrap().len(), 16);
    }
}

#[test]
fn every_attack_with_a_name_runs_and_stays_in_its_ball() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write_small(folder.path());
    let small = on_small(&weights);
    for attack in ATTACKS {
        let asked = ["--attack", attack.name, "--output", "out.npz"];
        let mut arguments = [&small[..], &asked].concat();
        // Draws without a direction need more room to fool anything in a few queries.
        let blind = attack.takes(Setting::Queries);
        let (eps, radius) = if blind { ("0.9", 0.9) } else { ("0.1", 0.1) };
        for taken in attack.settings {
            match taken.setting {
                Setting::Eps => arguments.extend(["--eps", eps]),
                Setting::Steps => arguments.extend(["--steps", "3"]),
                Setting::Queries => arguments.extend(["--queries", "5"]),
                _ => {}
            }
        }
        succeeds(&arguments, folder.path());
        if attack.takes(Setting::Eps) {
            let norm = read_json(&folder.path().join("out.json"));
            let (_, settings) = norm["plan"]["attack"]
                .as_object()
                .unwrap()
                .iter()
                .next()
                .unwrap();
            let norm = settings["norm"].as_str().unwrap();
            let mut ours = open(&folder.path().join("out.npz"));
            let norms = f32s(&mut ours, norm);
            assert!(
                norms.iter().all(|v| *v <= radius),
                "{}: {norms:?}",
                attack.name
            );
            assert!(norms.iter().any(|v| *v > 0.0), "{}: {norms:?}", attack.name);
        }
    }
}

/// The attack that most tests of the shipped model ask for.
const SHIPPED: [&str; 9] = [
    "attack",
    "--model",
    "cornet-s-cifar10",
    "--attack",
    "pgd",
    "--steps",
    "3",
    "--input",
    "set",
];

#[test]
fn attack_takes_folders_and_writes_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    let run = |more: &[&str]| succeeds(&[&SHIPPED[..], more].concat(), folder.path());
    let said = run(&[
        "--eps",
        "8/255",
        "--eight-bit",
        "--images",
        "pictures",
        "--output",
        "labelled.npz",
    ]);
    assert!(said.contains("the folders' names"), "{said}");
    let mut labelled = open(&at("labelled.npz"));
    let labels = labelled.read("labels").unwrap();
    assert_eq!(labels.data, Data::I64(vec![0, 3, 9]));
    // Rounded before they are judged: the pictures are the images.
    let adv = labelled.read("adv").unwrap();
    assert_eq!(adv.shape, [3, 3, 32, 32]);
    let pictures: Vec<f32> = CLASSES
        .iter()
        .flat_map(|class| read_picture(&at(&format!("pictures/{class}/0.png"))).data)
        .collect();
    assert_eq!(adv.data.to_f32(), pictures);
    let norms = f32s(&mut labelled, "linf");
    assert!(norms.iter().all(|v| *v <= 8.0 / 255.0), "{norms:?}");
    assert!(flags(&mut labelled, "success").contains(&true));
    // The model's own word for it, on the same images.
    let logits = labelled.read("logits").unwrap();
    fs::rename(at("pictures/cat/0.png"), at("cat.png")).unwrap();
    let infer = [
        "infer",
        "--model",
        "cornet-s-cifar10",
        "--input",
        "cat.png",
        "--output",
        "o.npz",
    ];
    succeeds(&infer, folder.path());
    let seen = f32s(&mut open(&at("o.npz")), "logits");
    all_close(&seen, &logits.data.to_f32()[10..20], 1e-4);

    // Without folders nobody knows the labels: the model is asked, and that is said.
    fs::create_dir(at("flat")).unwrap();
    for class in CLASSES {
        let name = format!("flat/{class}.png");
        fs::copy(at(&format!("set/{class}/0.png")), at(&name)).unwrap();
    }
    let mut arguments = SHIPPED.to_vec();
    *arguments.last_mut().unwrap() = "flat";
    arguments.extend(["--eps", "8/255", "--eight-bit", "--output", "flat.npz"]);
    let said = succeeds(&arguments, folder.path());
    assert!(
        said.contains("what the model says of the clean images"),
        "{said}"
    );
    let recipe = read_json(&at("flat.json"));
    assert_eq!(recipe["summary"]["clean_accuracy"], 1.0);
    assert_eq!(recipe["summary"]["met_before"], 0);
}

#[test]
fn attack_repeats_itself_from_its_seed_its_plan_and_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    let adv = |more: &[&str], output: &str| {
        let asked = [&SHIPPED[..], more, &["--output", output]].concat();
        succeeds(&asked, folder.path());
        f32s(&mut open(&at(output)), "adv")
    };
    let drawn = ["--eps", "8/255", "--random-start"];
    let first = adv(&[&drawn[..], &["--seed", "5"]].concat(), "first.npz");
    let other = adv(&[&drawn[..], &["--seed", "6"]].concat(), "other.npz");
    assert_ne!(first, other);

    let recipe = read_json(&at("first.json"));
    let command = recipe["command"].as_array().unwrap();
    let command: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    let bytes = fs::read(at("first.npz")).unwrap();
    fs::remove_file(at("first.npz")).unwrap();
    succeeds(&command[1..], folder.path());
    assert_eq!(fs::read(at("first.npz")).unwrap(), bytes);

    // A recipe is a plan, and so is what it holds.
    let plan = serde_json::to_vec(&recipe["plan"]).unwrap();
    fs::write(at("plan.json"), plan).unwrap();
    for plan in ["first.json", "plan.json"] {
        let asked = [
            "attack",
            "--model",
            "cornet-s-cifar10",
            "--input",
            "set",
            "--plan",
            plan,
            "--output",
            "again.npz",
        ];
        succeeds(&asked, folder.path());
        assert_eq!(f32s(&mut open(&at("again.npz")), "adv"), first, "{plan}");
    }

    // What draws nothing is the same in any batches, to rounding; what draws is a seed's own.
    let whole = adv(&["--eps", "8/255"], "whole.npz");
    let parts = adv(&["--eps", "8/255", "--batch", "2"], "parts.npz");
    let close = whole
        .iter()
        .zip(&parts)
        .filter(|(a, b)| (**a - **b).abs() <= 1e-4);
    assert!(close.count() * 100 >= whole.len() * 95);
    let batches = [&drawn[..], &["--seed", "5", "--batch", "2"]].concat();
    let parts = adv(&batches, "parts.npz");
    assert_eq!(parts, adv(&batches, "parts.npz"));
    // The first batch keeps the seed, the next has another.
    let length = 2 * 3 * 32 * 32;
    let moved = |values: &[f32]| values.iter().zip(&first).filter(|(a, b)| a != b).count();
    assert!(moved(&parts[..length]) * 20 < length);
    let last: Vec<f32> = first[length..].to_vec();
    let differs = parts[length..]
        .iter()
        .zip(&last)
        .filter(|(a, b)| a != b)
        .count();
    assert!(differs * 2 > last.len(), "{differs}");
}

#[test]
fn attack_reaches_targets_and_checks_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write_small(folder.path());
    let small = on_small(&weights);
    let run = |more: &[&str]| {
        let asked = [&small[..], more, &["--output", "out.npz"]].concat();
        let said = succeeds(&asked, folder.path());
        (said, open(&folder.path().join("out.npz")))
    };
    for attack in ["bim", "apgd-ce", "apgd-dlr"] {
        let target = ["--attack", attack, "--eps", "0.3", "--target", "4"];
        let (_, mut reached) = run(&target);
        assert_eq!(flags(&mut reached, "success"), [true; 4], "{attack}");
        for row in f32s(&mut reached, "logits").chunks(10) {
            assert!(row.iter().all(|v| *v <= row[4]), "{attack}: {row:?}");
        }
    }
    // More than the largest probability: a larger one.
    let sure = ["--attack", "bim", "--eps", "0.3", "--confidence", "0.9"];
    let (_, mut reached) = run(&sure);
    let logits = f32s(&mut reached, "logits");
    for (row, success) in logits.chunks(10).zip(flags(&mut reached, "success")) {
        let sum: f32 = row.iter().map(|v| v.exp()).sum();
        let best = row.iter().fold(0.0_f32, |m, v| m.max(v.exp() / sum));
        assert!(!success || best >= 0.9, "{row:?}");
    }
    let (said, _) = run(&["--attack", "bim", "--eps", "16/255", "--check"]);
    assert!(said.contains("no sign of a masked gradient"), "{said}");
    let recipe = read_json(&folder.path().join("out.json"));
    assert_eq!(recipe["check"]["large_radius"], 1.0);
    assert_eq!(recipe["check"]["flags"], serde_json::json!([]));
}

/// A VOneNet draws noise: fresh at every pass, the same at every pass, or none.
#[test]
fn attack_knows_the_noise_of_a_stochastic_model() {
    let folder = tempfile::tempdir().unwrap();
    let weights = reference("voneresnet50_small.pth.tar");
    let pixels = (0..2 * 3 * 64 * 64).map(|i| (i * 7919 % 256) as f32 / 255.0);
    let shape = [2, 3, 64, 64];
    write_array(
        &folder.path().join("x.npy"),
        &shape,
        Data::F32(pixels.collect()),
    );
    let run = |noise: &str, passes: &str, batch: &str| {
        let arguments = [
            "attack",
            "--weights",
            weights.to_str().unwrap(),
            "--input",
            "x.npy",
            "--attack",
            "bim",
            "--steps",
            "2",
            "--eps",
            "4/255",
            "--eot",
            "2",
            "--noise",
            noise,
            "--passes",
            passes,
            "--batch",
            batch,
            "--output",
            "out.npz",
        ];
        succeeds(&arguments, folder.path());
        let recipe = read_json(&folder.path().join("out.json"));
        let adv = f32s(&mut open(&folder.path().join("out.npz")), "adv");
        (adv, recipe["summary"]["passes"].as_u64().unwrap(), recipe)
    };
    let (off, passes, recipe) = run("off", "3", "2");
    assert_eq!((passes, &recipe["noise"]), (1, &Value::from("off")));
    let backwards = |recipe: &Value| recipe["summary"]["backwards"].as_u64().unwrap();
    assert_eq!(backwards(&recipe), 2 * 2);
    let (fresh, passes, recipe) = run("fresh", "3", "2");
    assert_eq!(passes, 3);
    // Images that most passes call otherwise at the start are not attacked.
    let attacked = 2 - recipe["summary"]["met_before"].as_u64().unwrap();
    assert_eq!(backwards(&recipe), 2 * 2 * attacked);
    assert_eq!(run("fresh", "3", "2").0, fresh);
    assert_ne!(fresh, off);
    let (fixed, passes, recipe) = run("7", "3", "2");
    assert_eq!((passes, &recipe["noise"]["seed"]), (1, &Value::from(7)));
    assert_ne!(fixed, off);
    // One sample for all: it does not matter which images go together.
    let (alone, ..) = run("7", "3", "1");
    let close = fixed
        .iter()
        .zip(&alone)
        .filter(|(a, b)| (**a - **b).abs() <= 1e-4);
    assert!(close.count() * 100 >= fixed.len() * 95);
}

#[test]
fn attack_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let weights = write_small(folder.path());
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    write_array(&at("three.npy"), &[3], Data::I64(vec![1; 3]));
    write_array(&at("far.npy"), &[4], Data::I64(vec![0, 1, 2, 10]));
    write_array(&at("wide.npy"), &[1, 3, 32, 40], Data::F32(vec![0.5; 3840]));
    write_array(
        &at("large.npy"),
        &[1, 3, 64, 64],
        Data::F32(vec![0.5; 12288]),
    );
    fs::write(
        at("plan.json"),
        br#"{"attack":{"descent":{"epsilon":1}},"seed":0}"#,
    )
    .unwrap();
    let eps = ["--attack", "pgd", "--eps", "8/255"];
    let with = |more: &[&'static str]| [&eps[..], more].concat();
    let table: [(&str, Vec<&str>, &str); 21] = [
        (
            "x.npy",
            vec!["--attack", "pdg", "--eps", "1"],
            "fgsm, pgd, bim",
        ),
        ("x.npy", vec!["--attack", "pgd"], "8/255"),
        (
            "x.npy",
            vec!["--attack", "pgd", "--eps", "big"],
            "`big` is no radius",
        ),
        (
            "x.npy",
            vec!["--attack", "universal", "--eps", "9", "--norm", "l1"],
            "not in L1",
        ),
        (
            "x.npy",
            vec!["--attack", "cw", "--eps", "1"],
            "takes no eps",
        ),
        ("x.npy", with(&["--norm", "l7"]), "linf, l2, l1"),
        ("x.npy", with(&["--steps", "0"]), "at least one step"),
        (
            "x.npy",
            with(&["--labels", "three.npy"]),
            "3 labels for 4 images",
        ),
        (
            "x.npy",
            with(&["--labels", "far.npy"]),
            "label 10 of image 3",
        ),
        ("x.npy", with(&["--labels", "x.npy"]), "integers"),
        ("x.npy", with(&["--target", "10"]), "`10` is no class"),
        ("x.npy", with(&["--confidence", "2"]), "from 0 to 1"),
        ("x.npy", with(&["--batch", "0"]), "at least 1"),
        ("x.npy", with(&["--noise", "loud"]), "`loud`"),
        ("x.npy", with(&["--plan", "plan.json"]), "--plan"),
        ("x.npy", vec!["--plan", "plan.json"], "epsilon"),
        ("x.npy", with(&["--output", "out.npy"]), ".npz"),
        (
            "x.npy",
            with(&["--output", "gone/out.npz"]),
            "does not exist",
        ),
        ("wide.npy", eps.to_vec(), "square"),
        ("large.npy", eps.to_vec(), "32 px a side"),
        ("set", eps.to_vec(), "`airplane`"),
    ];
    for (input, more, expected) in table {
        let mut arguments = vec!["attack", "--weights", &weights, "--input", input];
        arguments.extend(&more);
        if !more.contains(&"--output") {
            arguments.extend(["--output", "out.npz"]);
        }
        let said = fails(&arguments, folder.path());
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(
            said.lines()
                .filter(|line| line.starts_with("error"))
                .count()
                == 1,
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        assert!(!at("out.npz").exists() && !at("out.json").exists());
    }
    let help = succeeds(&["attack", "--help"], folder.path());
    for attack in ATTACKS {
        assert!(
            help.contains(attack.name) && help.contains(attack.paper),
            "{help}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_attack_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    write_set(folder.path());
    let before = listing(folder.path());
    let mut arguments = SHIPPED.to_vec();
    arguments[6] = "1000000";
    arguments.extend(["--eps", "8/255", "--output", "out.npz"]);
    let said = interrupted(&arguments, folder.path());
    assert!(said.contains("nothing was written"), "{said}");
    assert_eq!(listing(folder.path()), before);
}
