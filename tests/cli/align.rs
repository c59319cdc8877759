//! `ventral responses` and `ventral align`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use ventral::image::{Picture, encode_png};
use ventral::rng::Rng;

use super::read_json;
use crate::common::command::{run, succeeds};

#[test]
fn responses_are_understood_and_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("it.csv"), "image,n1,n2\na,1,2\nb,3,5\nc,2,2\n").unwrap();
    fs::create_dir(at("pictures")).unwrap();
    for name in ["a.png", "b.png"] {
        fs::write(at("pictures").join(name), []).unwrap();
    }
    let arguments = ["responses", "it.csv", "--images", "pictures"];
    let said = succeeds(&arguments, folder.path());
    assert!(said.contains("Stimuli with a picture: 2"), "{said}");
    assert!(said.contains("Stimuli without a picture: 1 (c)"), "{said}");
    let json = succeeds(&["responses", "it.csv", "--json"], folder.path());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["kept"], serde_json::json!([3, 1, 2]));
    fs::write(at("it.csv"), "image,n1\na,1\nb,x\nc,3\n").unwrap();
    let output = run(&["responses", "it.csv"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("“x” in line 3, column 2"), "{said}");
}

/// An alignment of a few steps; `target` and what else the plan says.
fn write_plan(folder: &Path, target: &str, rest: &str) {
    let plan = format!(
        "name = \"small\"\nmodel = \"cornet-s-cifar10\"\nsteps = 3\nbatch = 8\n\
         target = {target}\n{rest}\n[validation]\nevery = 2\nstimuli = 0.25\nneuroids = 0.0\n"
    );
    fs::write(folder.join("plan.toml"), plan).unwrap();
}

#[test]
fn align_runs_a_plan_with_its_control_and_says_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let target = "{ kind = \"population\", model = \"resnet-cifar10\", tap = \"layer2\", \
                  neuroids = 20, repetitions = 4 }";
    write_plan(
        folder,
        target,
        "data = { images = \"cifar10-1000\", stimuli = 40 }",
    );
    let arguments = [
        "align",
        "plan.toml",
        "--controls",
        "shuffled",
        "--robustness",
        "none",
        "--seeds",
        "0,1",
        "--data",
        "cifar10-1000",
        "--output",
        "out",
    ];
    let said = succeeds(&arguments, folder);
    assert!(
        said.contains("| aligned | 2 |") && said.contains("| shuffled | 2 |"),
        "{said}"
    );
    assert!(said.contains("control"), "{said}");
    let document = read_json(&folder.join("out/small.json"));
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_eq!(run["steps"], 3);
        assert_eq!(run["after"]["images"], 960);
        let ceiling = run["ceiling"]["reliability"].as_f64().unwrap();
        assert!(ceiling > 0.1 && ceiling <= 1.0, "{ceiling}");
        assert_eq!(run["gain"].is_object(), run["control"] == "none", "{run}");
    }
    // What is written is a model like any other.
    let aligned = folder.join("out/small-aligned-seed1.safetensors");
    let plan = "version = 1\nname = \"clean\"\nimages = 960\n";
    fs::write(folder.join("clean.toml"), plan).unwrap();
    let arguments = [
        "evaluate",
        "clean.toml",
        "--models",
        aligned.to_str().unwrap(),
        "--output",
        "clean",
    ];
    succeeds(&arguments, folder);
}

#[test]
fn align_takes_recorded_responses_to_a_folder_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut table, mut rng) = (String::from("picture,a,b,c\n"), Rng::from_seed(4));
    for (number, class) in (0..48).zip(["cat", "dog", "ship"].into_iter().cycle()) {
        let below = folder.join("pictures").join(class);
        fs::create_dir_all(&below).unwrap();
        let pixels =
            (0..3 * 32 * 32).map(|at| (at * (number as usize + 1) / 7 + rng.below(40)) as u8);
        let picture = Picture::from_rgb(32, 32, pixels.collect()).unwrap();
        fs::write(
            below.join(format!("{number}.png")),
            encode_png(&picture).unwrap(),
        )
        .unwrap();
        let answers: Vec<String> = (0..3)
            .map(|i| format!("{:.2}", f64::from(number * i) + rng.normal_f64()))
            .collect();
        table += &format!("{number}.png,{}\n", answers.join(","));
    }
    fs::write(folder.join("it.csv"), &table).unwrap();
    let target = "{ kind = \"responses\", file = \"it.csv\" }";
    write_plan(folder, target, "data = { images = \"pictures\" }");
    let arguments = [
        "align",
        "plan.toml",
        "--robustness",
        "none",
        "--output",
        "out",
    ];
    let said = succeeds(&arguments, folder);
    assert!(said.contains("| aligned | 1 |"), "{said}");
    assert_eq!(
        read_json(&folder.join("out/small.json"))["runs"][0]["steps"],
        3
    );

    // Classes from a table, and heat maps from pictures of which some are missing.
    let classes: Vec<String> = (0..48_usize)
        .map(|number| format!("{number}.png,{}", ["frog", "horse"][number % 2]))
        .collect();
    let table = format!("image,class\n{}\n", classes.join("\n"));
    fs::write(folder.join("classes.csv"), table).unwrap();
    fs::create_dir_all(folder.join("maps")).unwrap();
    let mut grey = Vec::new();
    let encoder = ::image::codecs::png::PngEncoder::new(&mut grey);
    let levels: Vec<u8> = (0..64).collect();
    let kind = ::image::ExtendedColorType::L8;
    ::image::ImageEncoder::write_image(encoder, &levels, 8, 8, kind).unwrap();
    for number in 0..40 {
        fs::write(folder.join(format!("maps/{number}.png")), &grey).unwrap();
    }
    let with = ["--labels", "classes.csv", "--heat-maps", "maps"];
    let output = run(&[&arguments[..], &with].concat(), folder);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("40 of 48 stimuli have a heat map"), "{said}");
    fs::write(folder.join("classes.csv"), "image,class\n0.png,\n").unwrap();
    let said = String::from_utf8_lossy(&run(&[&arguments[..], &with].concat(), folder).stderr)
        .into_owned();
    assert!(
        said.contains("classes.csv") && said.contains("line 2"),
        "{said}"
    );

    // A response too few, and a place that is no folder.
    fs::write(folder.join("it.csv"), "a,b\n1,2\n3,4\n").unwrap();
    let output = run(&arguments, folder);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("it.csv") && said.contains("48"), "{said}");
    let arguments = ["align", "plan.toml", "--data", "nowhere", "--output", "out"];
    let said = String::from_utf8_lossy(&run(&arguments, folder).stderr).into_owned();
    assert!(said.contains("folder of the pictures"), "{said}");
}
