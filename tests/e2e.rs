//! The page as a person uses it, in Chromium.

mod common;

use std::path::{Path, PathBuf};

use common::browser::{Browser, DroppedFile, Gpu};
use serde_json::{Value, json};
use ventral::pack;

fn testid(id: &str) -> String {
    format!("[data-testid=\"{id}\"]")
}

/// The page with CORnet-S of 32 px, as an address may ask for it, and its first prediction.
fn open(gpu: Gpu) -> Option<Browser> {
    open_at(gpu, "#see?model=cornet-s-cifar10")
}

fn open_at(gpu: Gpu, address: &str) -> Option<Browser> {
    let mut browser = Browser::on_built_page(gpu)?;
    browser.goto(address);
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    Some(browser)
}

/// `(label, probability)` of every row of the top five.
fn top(browser: &mut Browser) -> Vec<String> {
    let rows = browser.run(
        "return [...document.querySelectorAll('[data-testid=top5] li')].map((li) => li.textContent)",
        &[],
    );
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter()
        .filter_map(|r| r.as_str().map(str::to_owned))
        .collect()
}

fn wait_for_text(browser: &mut Browser, id: &str, part: &str, seconds: u64) {
    let body = format!(
        "const e = document.querySelector({}); return !!e && e.textContent.includes({})",
        json!(testid(id)),
        json!(part)
    );
    browser.wait_for(&format!("{id} to hold {part:?}"), &body, seconds);
}

/// A 32x32 picture of the gallery, which lies in this repository.
fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("static/samples")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn fixture(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.parent()?.join("shared/fixtures").join(name);
    if !path.exists() {
        println!("skipped: ../shared/fixtures/{name} is not here");
        return None;
    }
    Some(path)
}

fn shot(browser: &mut Browser, name: &str) {
    let Some(folder) = std::env::var_os("VENTRAL_SCREENSHOTS") else {
        return;
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).expect("the folder of the screenshots can be made");
    browser.screenshot_of_all(&folder.join(format!("{name}.png")));
}

/// Without any word of its own the page shows a photograph, and a model that knows what is on it.
#[test]
fn the_first_visit_shows_a_photo_that_is_recognised() {
    let Some(mut browser) = open_at(Gpu::Absent, "") else {
        return;
    };
    let first = top(&mut browser);
    assert!(first[0].contains("koala"), "{first:?}");
    let name = browser.run(
        "return document.querySelector('[data-testid=model-name]').dataset.name",
        &[],
    );
    assert_eq!(name, "cornet-s-tiny40");
    if std::env::var_os("VENTRAL_SCREENSHOTS").is_some() {
        pictures_of(&mut browser, &["see"], "-first");
    }
    // The bench Test begins with this model, on images it knows.
    browser.click(&testid("nav-test"));
    browser.wait_for_element(
        &format!("{}:checked", testid("test-model-cornet-s-tiny40")),
        60,
    );
    browser.wait_for(
        "the images of these classes",
        "return /400 (Tiny ImageNet|images of 40 classes)/.test(document.body.textContent)",
        60,
    );
    browser.expect_no_errors(&[]);
}

#[test]
fn a_dropped_picture_is_seen_area_by_area() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    assert_eq!(top(&mut browser).len(), 5);
    let first = top(&mut browser);
    let picture = sample("fire-engine.jpg");
    let file = DroppedFile {
        name: "my-photo.jpg",
        kind: "image/jpeg",
        bytes: &picture,
    };
    browser.drop_files("body", &[file]);
    wait_for_text(&mut browser, "image-caption", "my-photo.jpg", 30);
    browser.wait_for(
        "another top five",
        &format!(
            "const now = [...document.querySelectorAll('[data-testid=top5] li')].map((li) => li.textContent);
             return now.length === 5 && JSON.stringify(now) !== {}",
            json!(serde_json::to_string(&first).expect("texts are JSON"))
        ),
        60,
    );
    // Every area of CORnet-S and every time step of the recurrent ones is there.
    let areas = browser.run(
        "return [...document.querySelectorAll('[data-testid=stream-cell]')].length",
        &[],
    );
    assert!(
        areas.as_u64().unwrap_or_default() >= 9,
        "{areas} cells of the stream"
    );
    let readouts = browser.run(
        "return document.querySelectorAll('[data-testid=readout]').length",
        &[],
    );
    assert_eq!(readouts, 8, "V2 2, V4 4, IT 2 time steps");
    browser.expect_no_errors(&[]);
}

#[test]
fn weights_are_dropped_good_and_bad() {
    let Some(good) = fixture("vonecornets_small.pth.tar") else {
        return;
    };
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let bytes = std::fs::read(&good).expect("a fixture reads");
    let file = DroppedFile {
        name: "vonecornets_small.pth.tar",
        kind: "",
        bytes: &bytes,
    };
    browser.drop_files("body", &[file]);
    let loaded = "return document.querySelector('[data-testid=model-name]')?.dataset.name";
    let loaded = format!("{loaded} === 'vonecornets_small.pth.tar'");
    browser.wait_for("the dropped VOneCORnet-S", &loaded, 60);
    browser.wait_for_element(&testid("filter"), 30);
    browser.wait_for_element(&format!("{} li", testid("top5")), 60);

    let cut = DroppedFile {
        name: "cut-off.pth",
        kind: "",
        bytes: &bytes[..bytes.len() / 2],
    };
    browser.drop_files("body", &[cut]);
    browser.wait_for_element(&testid("error-sentence"), 30);
    let sentence = browser.text(&testid("error-sentence"));
    assert!(
        sentence.len() > 20 && !sentence.contains("Error("),
        "{sentence}"
    );
    println!("a file cut in half: {sentence}");
    browser.click(&testid("error-dismiss"));
    // The page goes on with the model it had.
    browser.drop_files(
        "body",
        &[DroppedFile {
            name: "after.jpg",
            kind: "image/jpeg",
            bytes: &sample("fire-engine.jpg"),
        }],
    );
    wait_for_text(&mut browser, "image-caption", "after.jpg", 30);

    let html = DroppedFile {
        name: "page.pth",
        kind: "",
        bytes: b"<!doctype html><html><body>404</body></html>",
    };
    browser.drop_files("body", &[html]);
    browser.wait_for_element(&testid("error-sentence"), 30);
    println!("a web page: {}", browser.text(&testid("error-sentence")));
    browser.click(&testid("error-dismiss"));

    // Back to the shipped model by the picker.
    browser.click(&testid("model-open"));
    browser.wait_for_element(&testid("use-cornet-s-cifar10"), 10);
    browser.click(&testid("use-cornet-s-cifar10"));
    let shipped = "return document.querySelector('[data-testid=model-name]')?.dataset.name === 'cornet-s-cifar10'";
    browser.wait_for("the shipped model", shipped, 60);
    browser.wait_for_element(&format!("{} li", testid("top5")), 60);
}

#[test]
fn the_pgd_slider_changes_the_prediction() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    browser.click(&testid("nav-perturb"));
    browser.wait_for_element(&testid("pgd-eps"), 20);
    let highest = browser.run(
        "return document.querySelector('[data-testid=pgd-eps]').max",
        &[],
    );
    let highest = highest.as_str().unwrap_or_default().to_owned();
    browser.set_value(&testid("pgd-eps"), &highest);
    browser.wait_for(
        "a prediction that has changed",
        "return !!document.querySelector('[data-testid=verdict]')?.textContent.startsWith('Fooled')",
        120,
    );
    println!("{}", browser.text(&testid("verdict")));
    println!("{}", browser.text(&testid("norms")));
    for name in ["original", "perturbed", "difference"] {
        assert!(browser.has(&testid(&format!("picture-{name}"))), "{name}");
    }
    shot(&mut browser, "perturb");
    browser.expect_no_errors(&[]);
}

/// How many elements have this test id.
fn count(browser: &mut Browser, id: &str) -> u64 {
    let body = format!(
        "return document.querySelectorAll({}).length",
        json!(testid(id))
    );
    browser.run(&body, &[]).as_u64().unwrap_or_default()
}

fn wait_for_verdict(browser: &mut Browser, seconds: u64) -> String {
    browser.wait_for(
        "a verdict",
        "const v = document.querySelector('[data-testid=verdict]')?.textContent ?? '';
         const busy = document.querySelector('main').dataset.busy;
         return busy === 'false' && /^(Fooled|Not fooled|Reached|Not reached|Nothing left)/.test(v)",
        seconds,
    );
    browser.text(&testid("verdict"))
}

#[test]
fn a_photo_is_attacked_within_three_clicks() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    // One: the bench. It attacks at once, with its usual settings.
    browser.click(&testid("nav-perturb"));
    println!("after one click: {}", wait_for_verdict(&mut browser, 120));
    assert!(browser.has(&testid("picture-perturbed")));
    assert!(count(&mut browser, "area-change") >= 9);
    assert!(browser.text(&testid("norms")).contains("2/255"));
}

#[test]
fn perturbations_are_chained_taken_back_and_looked_into() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    browser.click(&testid("nav-perturb"));
    wait_for_verdict(&mut browser, 120);
    // The attack's way can be walked.
    let last = browser.run(
        "return +document.querySelector('[data-testid=frame]').max",
        &[],
    );
    assert_eq!(last, 9, "ten steps, ten pictures");
    browser.set_value(&testid("frame"), "2");
    wait_for_text(&mut browser, "playback", "step 3", 10);
    for (view, caption) in [("spectrum", "log amplitude"), ("signed", "difference")] {
        browser.click(&testid(&format!("difference-view-{view}")));
        wait_for_text(&mut browser, "picture-difference", caption, 10);
    }
    // The gradient of an undefended network tells the truth.
    // Where passes are slow it waits to be asked.
    browser.click(&testid("check-gradient"));
    browser.wait_for_element(&testid("trust-verdict"), 240);
    println!("{}", browser.text(&testid("trust")));
    assert_eq!(
        browser.text(&testid("trust-verdict")),
        "No sign of gradient masking."
    );
    // A corruption, kept, and an attack on top of it. (What lies under the bar at the top of the
    // window counts as visible to the driver, and cannot be clicked.)
    browser.run("scrollTo(0, 0); return true", &[]);
    browser.click(&testid("perturb-reset"));
    browser.set_value(&testid("corruption"), "fog");
    wait_for_verdict(&mut browser, 60);
    let foggy = browser.text(&testid("norms"));
    browser.click(&testid("keep-stage"));
    wait_for_text(&mut browser, "chain", "fog of severity 3", 10);
    browser.set_value(&testid("attack-family"), "deepfool");
    browser.wait_for_element(&testid("attack-on"), 10);
    let verdict = wait_for_verdict(&mut browser, 120);
    println!("{verdict}");
    assert!(verdict.contains("what was done first"), "{verdict}");
    let hash = browser.run("return location.hash", &[]);
    let hash = hash.as_str().unwrap_or_default().to_owned();
    assert!(
        hash.contains("attack=deepfool") && hash.contains("chain="),
        "{hash}"
    );
    // Back, step by step: the attack goes, then the keeping, then the fog.
    browser.run("scrollTo(0, 0); return true", &[]);
    browser.click(&testid("undo"));
    wait_for_verdict(&mut browser, 60);
    assert_eq!(count(&mut browser, "kept-stage"), 1);
    browser.click(&testid("undo"));
    wait_for_verdict(&mut browser, 60);
    assert_eq!(count(&mut browser, "kept-stage"), 0);
    let norms = |text: &str| text.split("Time").next().unwrap_or_default().to_owned();
    assert_eq!(norms(&browser.text(&testid("norms"))), norms(&foggy));
    browser.click(&testid("undo"));
    wait_for_text(&mut browser, "verdict", "Choose a corruption", 10);
    // The address holds the chain: whoever opens it sees the same.
    browser.goto(&hash);
    browser.reload();
    browser.wait_for_element(&testid("kept-stage"), 120);
    assert!(wait_for_verdict(&mut browser, 120).contains("what was done first"));
    browser.expect_no_errors(&[]);
}

#[test]
fn an_attack_is_shown_to_another_model() {
    let Some(other) = fixture("cornet_s_div8.pth") else {
        return;
    };
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    browser.click(&testid("nav-perturb"));
    wait_for_verdict(&mut browser, 120);
    browser.upload(&testid("transfer-file"), &[&other]);
    browser.wait_for_element(&testid("transfer-row"), 60);
    let row = browser.text(&testid("transfer-row"));
    println!("{row}");
    assert!(
        row.contains("cornet_s_div8.pth") && row.contains('%'),
        "{row}"
    );
    // The model in use is the one it was.
    let name = browser.run(
        "return document.querySelector('[data-testid=model-name]').dataset.name",
        &[],
    );
    assert_eq!(name, "cornet-s-cifar10");
    browser.expect_no_errors(&[]);
}

/// The bench Test with the shipped model chosen and few images.
fn open_test(browser: &mut Browser, images: &str) {
    browser.click(&testid("nav-test"));
    browser.wait_for_element(
        &format!("{}:checked", testid("test-model-cornet-s-cifar10")),
        60,
    );
    browser.set_value(&testid("test-images"), images);
}

/// How many answers the test has, and how many it will have.
fn answers(browser: &mut Browser) -> (u64, u64) {
    let body = "const e = document.querySelector('[data-testid=test-progress]');
        return e ? [Number(e.dataset.rows), Number(e.dataset.expected)] : [0, 0]";
    let found = browser.run(body, &[]);
    let number = |i: usize| found[i].as_u64().unwrap_or_default();
    (number(0), number(1))
}

fn wait_for_answers(browser: &mut Browser, condition: &str, seconds: u64) {
    let body = format!(
        "const e = document.querySelector('[data-testid=test-progress]');
         if (!e) return false;
         const [rows, expected] = [Number(e.dataset.rows), Number(e.dataset.expected)];
         return {condition}"
    );
    browser.wait_for(condition, &body, seconds);
}

/// Images of the test that loses its tab: so many that it cannot end between two looks at it.
const LOST: &str = "100";

/// The tab is killed in the middle of a test, which then goes on to the table of one that was not.
#[test]
fn a_test_survives_the_loss_of_its_tab() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    open_test(&mut browser, LOST);
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows > 0 && rows < expected", 120);
    browser.reload();
    browser.wait_for_element(
        &format!("{}:checked", testid("test-model-cornet-s-cifar10")),
        60,
    );
    assert_eq!(answers(&mut browser), (0, 0));
    browser.set_value(&testid("test-images"), LOST);
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows > 0", 120);
    let (found, expected) = answers(&mut browser);
    println!("after the reload {found} of {expected} answers were there");
    wait_for_answers(&mut browser, "rows === expected", 300);
    let table = browser.text(&testid("test-table"));
    println!("{table}");
    browser.expect_no_errors(&[]);

    // A profile of its own, without the journal.
    let Some(mut other) = open(Gpu::Absent) else {
        return;
    };
    open_test(&mut other, LOST);
    other.click(&testid("test-run"));
    // Another bench comes first; then the test goes on by itself.
    wait_for_answers(&mut other, "rows > 0 && rows < expected", 120);
    other.click(&testid("nav-perturb"));
    other.click(&testid("nav-test"));
    // A pause in between changes nothing either.
    wait_for_answers(&mut other, "rows > 0 && rows < expected", 120);
    other.click(&testid("test-pause"));
    other.wait_for_element(&testid("test-run"), 60);
    let (paused, _) = answers(&mut other);
    other.click(&testid("test-run"));
    wait_for_answers(&mut other, "rows === expected", 300);
    println!("paused at {paused}");
    assert_eq!(other.text(&testid("test-table")), table);
    // The documents come with the last report, which may follow the last answers.
    other.wait_for_element(&testid("save-summary.csv"), 20);
    // What lies under the bar at the top counts as visible and cannot be clicked.
    other.wait_for_element(&testid("answers-condition"), 20);
    other.run("scrollTo(0, 0); return true", &[]);
    other.click(&testid("save-summary.csv"));
    let saved = other.download("summary.csv", 20);
    let saved = std::fs::read_to_string(saved).expect("a download reads");
    assert!(
        saved.starts_with("model,overall,perturbation,white box,corruption,clean"),
        "{saved}"
    );
    // A saved report stands beside the one on show; figures and lost images are there.
    other.wait_for_element(&testid("figure"), 5);
    other.click(&testid("save-report.json"));
    let saved = other.download("report.json", 20);
    other.upload(&testid("test-compare"), &[&saved]);
    other.wait_for_element(&testid("test-other-table"), 20);
    assert_eq!(other.text(&testid("test-other-table")), table);
    // What images were taken for, in the hardest condition and in one of choice.
    let drawn = "return [...document.querySelectorAll('[data-testid=figure]')].map((f) => f.dataset.name).filter((n) => n.startsWith('confusion-')).join()";
    other.wait_for_element(&testid("answers-condition"), 20);
    other.set_value(&testid("answers-condition"), "fog 3");
    other.wait_for(
        "the answers in fog",
        &format!("{drawn} === 'confusion-cornet-s-cifar10-clean,confusion-cornet-s-cifar10-fog-3'"),
        20,
    );
    other.wait_for_element(&testid("lost-image"), 5);
    // One opens with what the test did to it: a corruption or an attack, and not the page's usual.
    let click = "const all = [...document.querySelectorAll('[data-testid=lost-image]')];
        const changed = all.find((one) => !one.title.endsWith(', clean'));
        changed?.click();
        return !!changed";
    assert_eq!(
        other.run(click, &[]),
        true,
        "some image is lost by what was done to it"
    );
    let set = "const value = (id) => document.querySelector(`[data-testid=${id}]`)?.value ?? '';
        return location.hash.startsWith('#perturb') && (value('corruption') !== '') !== (Number(value('pgd-eps')) > 0)";
    other.wait_for("what the test did", set, 20);
    other.expect_no_errors(&[]);
}

fn tar(files: &[(String, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        let length = bytes.len() as u64;
        archive.extend(pack::header(name, length));
        archive.extend(*bytes);
        archive.resize(archive.len() + pack::padding(length), 0);
    }
    archive.extend(pack::END);
    archive
}

/// Thirty of the visitor's files, six of which are no pictures.
#[test]
fn own_images_are_tested_and_bad_files_listed() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let (ship, cat) = (sample("cifar/ship.png"), sample("cifar/cat.png"));
    let mut files: Vec<(String, &[u8])> = Vec::new();
    for i in 0..12 {
        files.push((format!("mine/ship/{i}.png"), &ship));
        files.push((format!("mine/cat/{i}.png"), &cat));
    }
    for i in 0..6 {
        files.push((format!("mine/cat/bad {i}.png"), b"no picture"));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mine.tar");
    std::fs::write(&path, tar(&files)).expect("a fresh file");
    open_test(&mut browser, "24");
    browser.upload(&testid("test-set"), &[&path]);
    wait_for_text(&mut browser, "test-set-told", "24 images of 2 classes", 60);
    wait_for_text(&mut browser, "test-skipped", "6 files could not be read", 5);
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows === expected", 300);
    assert_eq!(answers(&mut browser), (24 * 7, 24 * 7));

    // A set of classes the model does not know is a sentence, and the page goes on.
    let files = [("dogs/poodle/1.png".to_owned(), &ship[..])];
    let path = folder.path().join("dogs.tar");
    std::fs::write(&path, tar(&files)).expect("a fresh file");
    browser.upload(&testid("test-set"), &[&path]);
    wait_for_text(&mut browser, "test-set-told", "1 images of 1 classes", 60);
    browser.click(&testid("test-run"));
    wait_for_text(&mut browser, "error-sentence", "no class for “poodle”", 60);

    // Once it is said what they are, they are tested.
    wait_for_text(
        &mut browser,
        "test-mapping",
        "1 of 1 folders have none of that name",
        10,
    );
    browser.set_value(&testid("map-poodle"), "dog");
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows === expected && expected === 7", 120);

    // A folder as it is: what the page packs, its worker reads.
    let root = folder.path().join("mine");
    for (class, picture) in [("ship", &ship), ("cat", &cat)] {
        std::fs::create_dir_all(root.join(class)).expect("a fresh folder");
        for i in 0..3 {
            let path = root.join(class).join(format!("{i}.png"));
            std::fs::write(path, picture).expect("a fresh file");
        }
    }
    browser.upload(&testid("test-folder"), &[&root]);
    wait_for_text(&mut browser, "test-set-told", "6 images of 2 classes", 60);
    wait_for_text(&mut browser, "test-set-told", "mine.tar", 5);
}

/// The bench Align with these settings.
fn open_align(browser: &mut Browser, settings: &[(&str, &str)]) {
    // A page loaded again counts as loaded before its program has made anything.
    browser.wait_for_element(&testid("nav-align"), 60);
    browser.click(&testid("nav-align"));
    // The model's stages are there once the worker has read it.
    browser.wait_for_element(&testid("align-details"), 60);
    let open = format!(
        "document.querySelector({}).open = true; return true",
        json!(testid("align-details"))
    );
    browser.run(&open, &[]);
    for (id, value) in settings {
        browser.set_value(&testid(id), value);
    }
}

fn wait_for_steps(browser: &mut Browser, condition: &str, seconds: u64) {
    let body = format!(
        "const e = document.querySelector('[data-testid=align-progress]');
         if (!e) return false;
         const [done, steps] = [Number(e.dataset.done), Number(e.dataset.steps)];
         return {condition}"
    );
    browser.wait_for(condition, &body, seconds);
}

/// A column of the table of runs, by the run: `before`, `aligned`, `shuffled`.
fn of_run(browser: &mut Browser, run: &str, column: usize) -> f64 {
    let body = format!(
        "const row = document.querySelector('[data-testid=align-row][data-run={run}]');
         return row ? row.children[{column}].textContent : ''"
    );
    let text = browser.run(&body, &[]);
    let text = text.as_str().unwrap_or_default();
    text.parse()
        .unwrap_or_else(|_| panic!("{run}, column {column}: {text:?}"))
}

/// An alignment in miniature, whose tab is lost on the way; the aligned model is then looked at.
#[test]
fn an_alignment_survives_its_tab_and_its_model_joins_the_others() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let settings = [
        ("align-stimuli", "150"),
        ("align-batch", "40"),
        ("align-steps", "12"),
        ("align-every", "3"),
        ("align-robustness", "4"),
    ];
    open_align(&mut browser, &settings);
    browser.click(&testid("align-run"));
    wait_for_steps(&mut browser, "done >= 4", 240);
    browser.reload();
    open_align(&mut browser, &settings);
    browser.click(&testid("align-run"));
    wait_for_steps(&mut browser, "done >= 3", 240);
    // Another bench comes first, and a pause in between changes nothing.
    browser.click(&testid("nav-see"));
    browser.click(&testid("nav-align"));
    wait_for_steps(&mut browser, "done >= 14", 300);
    browser.click(&testid("align-pause"));
    browser.wait_for_element(&testid("align-run"), 60);
    browser.click(&testid("align-run"));
    browser.wait_for_element(&testid("align-verdict"), 400);
    println!("{}", browser.text(&testid("align-verdict")));
    println!("{}", browser.text(&testid("align-table")));
    let [before, aligned, shuffled] =
        ["before", "aligned", "shuffled"].map(|run| of_run(&mut browser, run, 2));
    assert!(
        aligned > before && aligned > shuffled,
        "{before} {aligned} {shuffled}"
    );
    browser.click(&testid(
        "save-cornet-s-cifar10-to-resnet-at-cifar10.safetensors",
    ));
    let saved = browser.download("cornet-s-cifar10-to-resnet-at-cifar10.safetensors", 20);
    let saved = std::fs::read(saved).expect("a download reads");
    assert!(saved.len() > 1_000_000 && saved[8] == b'{');
    browser.click(&testid("align-use"));
    wait_for_text(
        &mut browser,
        "model-name",
        "cornet-s-cifar10-to-resnet-at-cifar10",
        60,
    );
    browser.wait_for_element(&format!("{} li", testid("top5")), 60);
    browser.expect_no_errors(&[]);
}

/// The fifteen corruptions at five severities, and clean: 10,108 predictions.
const LONG: &str = r#"
version = 1
name = "Ten thousand predictions"
images = 133
[[corruptions]]
"#;

/// What ten thousand predictions leave behind in the tab. Only where it is asked for: it takes
/// minutes.
#[test]
fn ten_thousand_predictions_leave_the_tab_as_large_as_the_first_thousand_did() {
    let Some(seconds) = long() else { return };
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, LONG).expect("a fresh file");
    open_test(&mut browser, "133");
    browser.upload(&testid("test-plan-file"), &[&plan]);
    wait_for_text(&mut browser, "test-plan-hint", "plan.toml", 10);
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows >= 1000", seconds);
    let (rows, _) = answers(&mut browser);
    let before = browser.resident().expect("Linux says how large it is");
    wait_for_answers(&mut browser, "rows === expected", seconds);
    let (all, _) = answers(&mut browser);
    let after = browser.resident().expect("Linux says how large it is");
    println!("{before} kB after {rows} predictions, {after} kB after {all}");
    assert!(all >= 10_000, "{all}");
    assert!(after as f64 <= 1.1 * before as f64);
}

/// Seconds to wait for what takes minutes, where the environment asks for it.
fn long() -> Option<u64> {
    let seconds = std::env::var("VENTRAL_LONG")
        .ok()
        .and_then(|s| s.parse().ok());
    if seconds.is_none() {
        println!("skipped: VENTRAL_LONG gives no number of seconds to wait");
    }
    seconds
}

/// A bitmap of 32 px with a grating of its own.
fn striped(number: usize) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let length = 54 + 3 * 32 * 32_u32;
    for word in [length, 0, 54, 40, 32, 32] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for at in 0..32 * 32 {
        let (x, y) = (at % 32, at / 32);
        let bright = (x * (number % 7 + 1) + y * (number / 7 + 1)) * 16 % 256;
        bytes.extend([bright as u8, (bright / 2) as u8, (255 - bright) as u8]);
    }
    bytes
}

/// Responses that are none, and then some, aligned on the CPU and on WebGPU alike.
#[test]
fn recorded_responses_are_understood_before_anything_runs() {
    let Some(mut browser) = open(Gpu::Software) else {
        return;
    };
    let pictures: Vec<Vec<u8>> = (0..40).map(striped).collect();
    let files: Vec<(String, &[u8])> = pictures
        .iter()
        .enumerate()
        .map(|(i, picture)| (format!("mine/ship/{i:02}.bmp"), &picture[..]))
        .collect();
    let mut table = "image,n1,n2,n3,n4,flat\n".to_owned();
    for i in 0..40 {
        table += &format!(
            "{i:02}.bmp,{},{},{},{},1\n",
            i % 3,
            i % 5,
            i % 7,
            i * i % 11
        );
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("mine.tar"), tar(&files)).expect("a fresh file");
    std::fs::write(path("mine.csv"), table).expect("a fresh file");
    std::fs::write(path("bad.csv"), "image,n1\n00.png,fast\n").expect("a fresh file");
    open_align(
        &mut browser,
        &[
            ("align-steps", "2"),
            ("align-batch", "10"),
            ("align-robustness", "0"),
        ],
    );
    browser.set_value(&testid("align-target"), "responses");
    browser.upload(&testid("test-set"), &[&path("mine.tar")]);
    wait_for_text(&mut browser, "test-set-told", "40 images of 1 classes", 60);
    browser.upload(&testid("align-responses"), &[&path("bad.csv")]);
    wait_for_text(&mut browser, "error-sentence", "no lines of numbers", 30);
    browser.upload(&testid("align-responses"), &[&path("mine.csv")]);
    wait_for_text(&mut browser, "align-understood", "40 stimuli", 30);
    wait_for_text(&mut browser, "align-understood", "4 neuroids", 5);
    browser.click(&testid("align-run"));
    browser.wait_for_element(&testid("align-verdict"), 240);
    wait_for_text(&mut browser, "align-remarks", "40 stimuli", 5);
    let on_cpu = of_run(&mut browser, "aligned", 2);
    browser.click(&testid("backend-webgpu"));
    wait_for_text(&mut browser, "backend-in-use", "WebGPU", 120);
    browser.click(&testid("align-fresh"));
    wait_for_steps(&mut browser, "done < steps", 120);
    wait_for_steps(&mut browser, "done === steps", 400);
    browser.wait_for_element(&testid("align-verdict"), 60);
    let on_gpu = of_run(&mut browser, "aligned", 2);
    assert_ne!(on_cpu, 0.0);
    println!("CKA {on_cpu} on the CPU, {on_gpu} on WebGPU (SwiftShader)");
    assert!((on_cpu - on_gpu).abs() < 0.01);
    browser.expect_no_errors(&["no lines of numbers"]);
}

/// Three minutes on 500 images, as long as a visitor waits. Only where it is asked for: what it says
/// depends on the machine.
#[test]
fn three_minutes_of_aligning_beat_the_shuffled_control() {
    let Some(seconds) = long() else { return };
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    open_align(&mut browser, &[("align-robustness", "0")]);
    let begun = std::time::Instant::now();
    browser.click(&testid("align-run"));
    wait_for_steps(&mut browser, "done >= 60", seconds);
    println!("60 steps in {:.0} s", begun.elapsed().as_secs_f32());
    browser.wait_for_element(&testid("align-verdict"), seconds);
    println!("{}", browser.text(&testid("align-verdict")));
    println!("{}", browser.text(&testid("align-table")));
    let [aligned, shuffled] = ["aligned", "shuffled"].map(|run| of_run(&mut browser, run, 2));
    let [before, after] = ["before", "aligned"].map(|run| of_run(&mut browser, run, 4));
    assert!(
        aligned >= shuffled + 0.1,
        "CKA {aligned} against {shuffled}"
    );
    assert!(after >= before - 2.0, "accuracy {before} to {after}");
}

/// VOneNet's protocol on the base and the model with the simulated V1, a hundred images in the tab:
/// the better part of an hour. What it says is saved where `VENTRAL_REPORT` names a file.
#[test]
fn vonenets_protocol_runs_in_the_tab() {
    let Some(seconds) = long() else { return };
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    open_test(&mut browser, "100");
    browser.set_value(&testid("test-plan"), "vonenet");
    for model in ["cornet-s-cifar10", "resnet-cifar10", "voneresnet-cifar10"] {
        browser.click(&testid(&format!("test-model-{model}")));
    }
    let begun = std::time::Instant::now();
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows > 0 && rows === expected", seconds);
    println!("{:.0} s", begun.elapsed().as_secs_f32());
    println!("{}", browser.text(&testid("test-table")));
    browser.wait_for_element(&testid("save-report.json"), 20);
    // What lies under the bar at the top counts as visible and cannot be clicked.
    browser.run("scrollTo(0, 0); return true", &[]);
    browser.click(&testid("save-report.json"));
    let saved = browser.download("report.json", 20);
    if let Some(file) = std::env::var_os("VENTRAL_REPORT") {
        std::fs::copy(saved, file).expect("a report is copied");
    }
    let mut mean = |model: &str, column: usize| {
        let row = format!("{}[data-model={model}] td", testid("test-row"));
        let body = format!("return document.querySelectorAll('{row}')[{column}].textContent");
        let text = browser.run(&body, &[]);
        let text = text.as_str().unwrap_or_default().to_owned();
        let number = text.split_whitespace().next().and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("no number begins {text:?}"))
    };
    // The paper's order, from the numbers of a tab alone.
    let [base, vone]: [f64; 2] = ["resnet-cifar10", "voneresnet-cifar10"].map(|m| mean(m, 2));
    assert!(vone > base, "white box: {vone} against {base}");
}

#[test]
fn the_backend_can_be_chosen_and_software_is_not_the_default() {
    let Some(mut browser) = open(Gpu::Software) else {
        return;
    };
    let in_use = browser.text(&testid("backend-in-use"));
    assert!(
        in_use.contains("CPU"),
        "a software adapter must not be the default: {in_use}"
    );
    let adapter = browser.text(&testid("adapter")).to_lowercase();
    assert!(adapter.contains("swiftshader"), "{adapter}");
    browser.click(&testid("backend-webgpu"));
    wait_for_text(&mut browser, "backend-in-use", "WebGPU", 120);
    let check = browser.text(&testid("self-check"));
    println!("WebGPU on SwiftShader: {check}");
    browser.wait_for_element(&format!("{} li", testid("top5")), 180);
    // This adapter reads no numbers of 16 bits, and the page says so.
    browser.click(&testid("backend-webgpu-f16"));
    wait_for_text(&mut browser, "backend-note", "shader-f16", 120);
    let in_use = browser.text(&testid("backend-in-use"));
    assert!(in_use.contains("WebGPU"), "{in_use}");
    assert!(!in_use.contains("f16"), "{in_use}");
    browser.wait_for_element(&format!("{} li", testid("top5")), 180);
    browser.expect_no_errors(&[]);
}

/// The cores the page may use, and whether it may share memory between them.
fn cores(browser: &mut Browser) -> (u64, bool) {
    let found = browser.run(
        "return [navigator.hardwareConcurrency, crossOriginIsolated]",
        &[],
    );
    (
        found[0].as_u64().expect("a number of cores"),
        found[1] == true,
    )
}

#[test]
fn all_cores_compute() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let (cores, is_isolated) = cores(&mut browser);
    assert!(is_isolated, "the server isolates the page");
    let in_use = browser.text(&testid("backend-in-use"));
    println!("{in_use} on {cores} cores");
    let wanted = format!("{} thread", cores.min(16));
    assert!(in_use.contains(&wanted), "{in_use} on {cores} cores");
    // Another device is another worker, which is given the picture and the model again.
    let before = top(&mut browser);
    browser.click(&testid("backend-cpu"));
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    wait_for_text(&mut browser, "backend-in-use", &wanted, 60);
    assert_eq!(top(&mut browser), before);
    browser.expect_no_errors(&[]);
}

/// A host of static files that sends no headers of its own; its address.
fn bare_host(folder: PathBuf) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port has an address");
    listener.set_nonblocking(true).expect("a socket's option");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let files = tower_http::services::ServeDir::new(folder);
            axum::serve(listener, axum::Router::new().fallback_service(files)).await
        })
    });
    format!("http://{address}/")
}

#[test]
fn a_host_without_headers_has_threads_too() {
    let Some(mut browser) = Browser::on_built_page(Gpu::Absent) else {
        return;
    };
    let dist = std::env::var_os("VENTRAL_DIST").expect("it was there");
    let host = bare_host(dist.into());
    browser.goto_elsewhere(&format!("{host}#see?model=cornet-s-cifar10"));
    browser.wait_for(
        "the service worker",
        "return !!navigator.serviceWorker.controller && crossOriginIsolated",
        30,
    );
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    let (cores, _) = cores(&mut browser);
    let in_use = browser.text(&testid("backend-in-use"));
    let wanted = format!("{} thread", cores.min(16));
    assert!(in_use.contains(&wanted), "{in_use} on {cores} cores");
    // The second visit begins with it.
    browser.goto_elsewhere("about:blank");
    browser.goto_elsewhere(&host);
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    browser.expect_no_errors(&[]);
}

const PICTURED: &str = r#"
version = 1
name = "Corruptions and PGD"
images = 10
[[corruptions]]
[[attacks]]
attack = "pgd"
norm = "linf"
eps = ["0.5/255", "1/255", "2/255", "4/255", "8/255"]
steps = 5
[[attacks]]
attack = "pgd"
norm = "l2"
eps = ["0.1", "0.2", "0.4", "0.8"]
steps = 5
[[attacks]]
attack = "deepfool"
steps = 10
"#;

#[test]
fn pictures_of_the_page() {
    if std::env::var_os("VENTRAL_SCREENSHOTS").is_none() {
        println!("skipped: VENTRAL_SCREENSHOTS names no folder");
        return;
    }
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    // A plan that has something of everything to show.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, PICTURED).expect("a fresh file");
    open_test(&mut browser, "10");
    browser.upload(&testid("test-plan-file"), &[&plan]);
    wait_for_text(&mut browser, "test-plan-hint", "plan.toml", 10);
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows === expected", 600);
    pictures_of(&mut browser, &["see", "perturb", "test"], "");
}

#[test]
fn pictures_of_the_bench_align() {
    if std::env::var_os("VENTRAL_SCREENSHOTS").is_none() {
        println!("skipped: VENTRAL_SCREENSHOTS names no folder");
        return;
    }
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let settings = [
        ("align-stimuli", "150"),
        ("align-batch", "40"),
        ("align-steps", "8"),
        ("align-every", "2"),
        ("align-robustness", "4"),
    ];
    open_align(&mut browser, &settings);
    pictures_of(&mut browser, &["align"], "-empty");
    browser.click(&testid("align-run"));
    browser.wait_for_element(&testid("align-verdict"), 600);
    let all =
        "document.querySelectorAll('details').forEach((d) => { d.open = false }); return true";
    browser.run(all, &[]);
    pictures_of(&mut browser, &["align"], "");
}

fn pictures_of(browser: &mut Browser, benches: &[&str], what: &str) {
    for (width, height) in [(1280, 900), (390, 844)] {
        for scheme in ["light", "dark"] {
            browser.viewport(width, height, width < 500);
            browser.colour_scheme(scheme);
            for bench in benches {
                browser.click(&testid(&format!("nav-{bench}")));
                let settle: Value = browser.run(
                    "await new Promise((done) => setTimeout(done, 1500)); return true",
                    &[],
                );
                assert_eq!(settle, true);
                shot(browser, &format!("{bench}{what}-{width}-{scheme}"));
            }
        }
    }
}
