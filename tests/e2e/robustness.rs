//! The tab Test.

use crate::common::browser::{Browser, Gpu};
use crate::page::{
    long, note_values, noted, open, pictures_of, sample, tar, testid, wait_for_text,
};

/// The tab Test with the shipped model chosen and few images.
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
    // More than one unit, so that what comes first after the reload cannot be a first unit run again.
    wait_for_answers(&mut browser, "rows > expected / 4 && rows < expected", 120);
    let (before, expected) = answers(&mut browser);
    browser.reload();
    browser.wait_for_element(
        &format!("{}:checked", testid("test-model-cornet-s-cifar10")),
        60,
    );
    assert_eq!(answers(&mut browser), (0, 0));
    browser.set_value(&testid("test-images"), LOST);
    note_values(&mut browser, "test-progress", "rows");
    browser.click(&testid("test-run"));
    wait_for_answers(&mut browser, "rows === expected", 300);
    let counts = noted(&mut browser);
    println!("{before} of {expected} answers before the reload, after it {counts:?}");
    // Every unit that was finished is there at once, and from there they only grow in number, to as
    // many as there are: none was run again.
    assert!(counts[0] >= before, "{before} before, then {counts:?}");
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!(counts.last(), Some(&expected));
    let table = browser.text(&testid("test-table"));
    println!("{table}");
    browser.expect_no_errors(&[]);

    // A profile of its own, without the journal.
    let Some(mut other) = open(Gpu::Absent) else {
        return;
    };
    open_test(&mut other, LOST);
    other.click(&testid("test-run"));
    // Another tab comes first; then the test goes on by itself.
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
        crate::common::skip("VENTRAL_SCREENSHOTS names no folder");
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
