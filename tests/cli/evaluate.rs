//! `ventral evaluate` and `ventral report` as a user runs them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{command, fails, succeeds};

/// Two "models", so that they can be compared: the shipped one and its copy under another name.
const PLAN: &str = r#"
version = 1
name = "test"
models = ["cornet-s-cifar10", "copy.safetensors"]
images = 30
batch = 10

[[corruptions]]
kinds = ["gaussian_noise", "fog"]
severities = [1, 5]

[[attacks]]
attack = "pgd"
eps = ["1/255", "8/255"]
in-mean = 1
steps = 3

[[attacks]]
attack = "square"
eps = ["8/255"]
queries = 10

[[attacks]]
attack = "deepfool"
steps = 5
"#;

fn set_up(folder: &Path) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/models");
    let from = models.join("cornet-s-cifar10.safetensors");
    fs::copy(from, folder.join("copy.safetensors")).unwrap();
    fs::write(folder.join("plan.toml"), PLAN).unwrap();
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn four_shards_are_the_whole_row_for_row() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    set_up(folder.path());
    let said = succeeds(
        &["evaluate", "plan.toml", "--output", "whole"],
        folder.path(),
    );
    assert!(said.contains("| model | overall |"), "{said}");
    for shard in ["1/4", "2/4", "3/4", "4/4"] {
        // Two in the same folder, two in folders of their own, as on several machines.
        let output = match shard {
            "3/4" => "third",
            "4/4" => "fourth",
            _ => "parts",
        };
        let said = succeeds(
            &[
                "evaluate",
                "plan.toml",
                "--shard",
                shard,
                "--output",
                output,
            ],
            folder.path(),
        );
        assert!(said.contains("ventral report"), "{said}");
    }
    let said = succeeds(
        &[
            "report",
            "parts",
            "third",
            "fourth",
            "--output",
            "merged",
            "--html",
            "merged.html",
            "--svg",
            "charts",
        ],
        folder.path(),
    );
    assert!(!said.contains("leaves gaps"), "{said}");
    for table in [
        "summary.csv",
        "details.csv",
        "areas.csv",
        "summary.tex",
        "report.json",
    ] {
        let (whole, merged) = (at("whole").join(table), at("merged").join(table));
        assert_eq!(lines(&whole), lines(&merged), "{table}");
    }
    let html = fs::read_to_string(at("merged.html")).unwrap();
    for part in [
        "<h1>test</h1>",
        "id=\"confusion-copy-safetensors-clean\"",
        "airplane",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // The plan in it is the plan that was run.
    let plan = html
        .split_once("<pre>")
        .and_then(|(_, rest)| rest.split_once("</pre>"));
    let plan = plan.unwrap().0.replace("&quot;", "\"");
    fs::write(at("again.toml"), plan).unwrap();
    let said = succeeds(&["evaluate", "again.toml", "--dry-run"], folder.path());
    assert!(said.contains("9 conditions"), "{said}");
    let mut charts: Vec<String> = fs::read_dir(at("charts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    charts.sort();
    assert_eq!(
        charts.len(),
        7,
        "two curves, two maps, the categories, two maps of areas: {charts:?}"
    );
    let details = lines(&at("whole/details.csv"));
    // Clean, 4 corruptions, 2 radii, Square and DeepFool.
    assert_eq!(details.len(), 1 + 1 + 4 + 2 + 1 + 1, "{details:?}");
    for line in &details[1..] {
        // The two models are one.
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[1], cells[2], "{line}");
    }
    let json = fs::read_to_string(at("whole/report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let first = &json["report"]["models"][0];
    let clean = first["clean"]["value"].as_f64().unwrap();
    assert!(clean > 0.6, "{clean}");
    // Both count the same images, so a stronger attack cannot leave more.
    let accuracy = |name: &str| {
        let cells = first["cells"].as_array().unwrap();
        let cell = cells.iter().find(|c| c["condition"] == name).unwrap();
        cell["accuracy"]["value"].as_f64().unwrap()
    };
    assert!(accuracy("pgd linf 8/255") <= accuracy("pgd linf 1/255"));
    assert!(accuracy("pgd linf 1/255") < clean);
    assert!(accuracy("gaussian_noise 5") < clean);
    assert_eq!(first["mce"], 1.0);

    // Two of four leave gaps, and that is said; other weights are refused.
    let said = succeeds(&["report", "parts", "--output", "half"], folder.path());
    assert!(said.contains("leaves gaps"), "{said}");
    let said = fails(
        &[
            "evaluate",
            "plan.toml",
            "--images",
            "20",
            "--output",
            "whole",
        ],
        folder.path(),
    );
    assert!(said.contains("differs in its plan"), "{said}");
}

/// The shell's line of the Kubernetes manifest.
fn kubernetes_line() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes.yaml");
    let text = fs::read_to_string(path).unwrap();
    let count = |key: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key}"))
            .trim_matches([' ', '"'])
            .to_owned()
    };
    // Every index has its shard, and there is none without an index.
    let shards = text.split_once("name: SHARDS").unwrap().1;
    let shards = shards
        .lines()
        .nth(1)
        .unwrap()
        .trim()
        .strip_prefix("value:")
        .unwrap();
    assert_eq!(count("completions:"), shards.trim_matches([' ', '"']));
    let (_, args) = text.split_once("args:").unwrap();
    let line = args.lines().find_map(|l| l.trim().strip_prefix("- "));
    line.unwrap().to_owned()
}

/// A shell's script with what a scheduler sets, and this test's `ventral` first on the path.
fn as_scheduled(arguments: &[&str], variables: &[(&str, String)], folder: &Path) {
    let ventral = Path::new(env!("CARGO_BIN_EXE_ventral")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = std::process::Command::new("sh")
        .args(arguments)
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", ventral.display()))
        .env("VENTRAL_MODELS", folder.join("models"))
        .envs(variables.iter().map(|(k, v)| (*k, v.as_str())))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{variables:?}: {said}");
}

const TINY: &str = r#"
version = 1
name = "tiny"
models = ["cornet-s-cifar10"]
images = 8
batch = 2

[[corruptions]]
kinds = ["gaussian_noise"]
severities = [3]
"#;

#[cfg(unix)]
#[test]
fn what_schedulers_are_given_runs_and_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("plan.toml"), TINY).unwrap();
    succeeds(
        &["evaluate", "plan.toml", "--output", "whole"],
        folder.path(),
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/slurm.sh");
    let line = kubernetes_line();
    for index in 0..2 {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", index.to_string()),
            ("SLURM_ARRAY_TASK_COUNT", "2".to_owned()),
            ("SLURM_CPUS_PER_TASK", "1".to_owned()),
        ];
        let script = script.to_str().unwrap();
        as_scheduled(&[script, "plan.toml", "slurm"], &slurm, folder.path());
        let pod = [
            ("JOB_COMPLETION_INDEX", index.to_string()),
            ("SHARDS", "2".to_owned()),
            ("PLAN", "plan.toml".to_owned()),
            ("RESULTS", "pods".to_owned()),
        ];
        as_scheduled(&["-c", &line], &pod, folder.path());
    }
    for results in ["slurm", "pods"] {
        let parts = fs::read_dir(at(results)).unwrap().count();
        assert_eq!(parts, 2, "each shard is a file of {results}");
        let said = succeeds(&["report", results], folder.path());
        assert!(!said.contains("leaves gaps"), "{said}");
        for table in ["details.csv", "report.json"] {
            let (whole, merged) = (at("whole").join(table), at(results).join(table));
            assert_eq!(lines(&whole), lines(&merged), "{table} of {results}");
        }
    }
}

/// A set of the visitor's own: an archive with a file that is none, folders of other names.
#[test]
fn own_images_are_mapped_and_bad_files_listed() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples/cifar");
    let ship = fs::read(samples.join("ship.png")).unwrap();
    let mut archive = zip::ZipWriter::new(fs::File::create(folder.path().join("my.zip")).unwrap());
    let files: [(&str, &[u8]); 4] = [
        ("vessel/1.png", &ship),
        ("vessel/2.png", &ship),
        ("vessel/3.png", b"no picture"),
        ("background/1.png", &ship),
    ];
    for (name, bytes) in files {
        archive
            .start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        std::io::Write::write_all(&mut archive, bytes).unwrap();
    }
    archive.finish().unwrap();
    fs::write(folder.path().join("plan.toml"), TINY).unwrap();
    let arguments = [
        "evaluate",
        "plan.toml",
        "--data",
        "my.zip",
        "--output",
        "out",
    ];
    let said = fails(&arguments, folder.path());
    assert!(
        said.contains("no class for “background”, “vessel”"),
        "{said}"
    );
    assert!(said.contains("[classes]"), "{said}");
    let mapped = TINY.replace(
        "[[",
        "[classes]\nvessel = \"ship\"\nbackground = \"\"\n\n[[",
    );
    fs::write(folder.path().join("plan.toml"), mapped).unwrap();
    let output = crate::common::command::run(&arguments, folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("1 files could not be read") && said.contains("vessel/3.png"),
        "{said}"
    );
    let details = lines(&folder.path().join("out/details.csv"));
    assert!(details[1].starts_with("clean,100.0"), "{details:?}");
}

/// Waits until a file has so many lines.
fn wait_for(path: &Path, count: usize, child: &mut Child) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(300) {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count || child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} has no {count} lines", path.display());
}

#[test]
fn a_killed_run_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    set_up(folder.path());
    let arguments = |output| ["evaluate", "plan.toml", "--output", output];
    succeeds(&arguments("whole"), folder.path());
    let mut child = command(&arguments("killed"), folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = at("killed/shard-1-of-1.jsonl");
    wait_for(&journal, 4, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = lines(&journal).len();
    assert!(before >= 4, "it was finished before it was killed");
    succeeds(&arguments("killed"), folder.path());
    assert!(!journal.exists());
    for table in ["details.csv", "report.json"] {
        let (whole, killed) = (at("whole").join(table), at("killed").join(table));
        assert_eq!(lines(&whole), lines(&killed), "{table}");
    }
    // Again: nothing is left to do.
    let said = succeeds(&arguments("killed"), folder.path());
    assert!(said.contains("| model | overall |"), "{said}");
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    set_up(folder.path());
    let dogs = folder.path().join("dogs/poodle");
    fs::create_dir_all(&dogs).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples");
    let picture = fs::read_dir(sample)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "jpg"))
        .unwrap();
    fs::copy(picture, dogs.join("a.jpg")).unwrap();
    let table: &[(&[&str], &str)] = &[
        (&["nothing.toml"], "none of the presets quick, vonenet"),
        (&["quick"], "names no model"),
        (
            &["quick", "--models", "cornet-x"],
            "no model or file `cornet-x`",
        ),
        (
            &["quick", "--models", "cornet-s-cifar10", "--data", "nowhere"],
            "no set or path",
        ),
        (
            &["quick", "--models", "cornet-s-cifar10", "--data", "dogs"],
            "no class for “poodle”",
        ),
        (
            &["quick", "--models", "cornet-s-cifar10", "--images", "0"],
            "at least one image",
        ),
        (
            &["quick", "--models", "cornet-s-cifar10", "--shard", "5/4"],
            "is no shard",
        ),
    ];
    for (arguments, said) in table {
        let arguments = [&["evaluate"], *arguments, &["--output", "out"]].concat();
        let error = fails(&arguments, folder.path());
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    assert!(!folder.path().join("out").exists());
    let error = fails(&["report", "dogs"], folder.path());
    assert!(error.contains("run `ventral evaluate` first"), "{error}");
    let said = succeeds(
        &[
            "evaluate",
            "vonenet",
            "--models",
            "cornet-s-cifar10",
            "--dry-run",
        ],
        folder.path(),
    );
    assert!(said.contains("88 conditions"), "{said}");
}

/// The accuracy that the catalog and the cards give for each shipped model on the shipped images is
/// what these files come to.
#[test]
fn shipped_models_are_as_accurate_as_their_cards_say() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "version = 1\nname = \"clean\"\nimages = 1000\n";
    fs::write(folder.path().join("clean.toml"), plan).unwrap();
    let models = succeeds(&["models", "--json"], folder.path());
    let models: serde_json::Value = serde_json::from_str(&models).unwrap();
    let shipped = models.as_array().unwrap().iter();
    let shipped = shipped.filter(|m| m["file"].is_string());
    let mut count = BTreeMap::new();
    for model in shipped {
        let name = model["name"].as_str().unwrap();
        let known = &model["robustness"]["clean"];
        let classes = model["classes"].as_u64().unwrap();
        let images = if classes == 40 { 400 } else { 1000 };
        assert_eq!(
            known["images"], images,
            "{name} has no accuracy on all shipped images"
        );
        succeeds(
            &["evaluate", "clean.toml", "--models", name, "--output", name],
            folder.path(),
        );
        let report = fs::read_to_string(folder.path().join(name).join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let found = &report["report"]["models"][0]["clean"]["value"];
        let (known, found) = (known["value"].as_f64().unwrap(), found.as_f64().unwrap());
        assert!((known - found).abs() < 0.005, "{name}: {known} and {found}");
        *count.entry(classes).or_insert(0) += 1;
    }
    // Of 32 px and of 64 px.
    assert!(count[&10] >= 6 && count[&40] >= 3, "{count:?}");
}
