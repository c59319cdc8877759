//! The tab Align.

use serde_json::json;

use crate::common::browser::{Browser, Gpu};
use crate::page::{long, note_values, noted, open, pictures_of, tar, testid, wait_for_text};

/// The tab Align with these settings.
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
    wait_for_steps(&mut browser, "done >= 7", 240);
    browser.reload();
    open_align(&mut browser, &settings);
    note_values(&mut browser, "align-progress", "done");
    browser.click(&testid("align-run"));
    wait_for_steps(&mut browser, "done >= 7", 240);
    let steps = noted(&mut browser);
    println!("steps after the reload: {steps:?}");
    // The state is kept at every third step: no step before the last of those is taken again.
    assert!(steps[0] >= 6 && steps.is_sorted(), "{steps:?}");
    // Another tab comes first, and a pause in between changes nothing.
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

/// Recordings as people have them, dropped on the page: each is read, or refused, as on the command
/// line (`tests/field.rs`), and says so.
#[test]
fn recordings_from_the_field_are_read_or_refused() {
    let Some(folder) = crate::common::shared("field-cases/neural") else {
        return;
    };
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(folder.join("pictures")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a file").to_string_lossy();
        let bytes = std::fs::read(&path).expect("a picture");
        pictures.push((format!("mine/{name}"), bytes));
    }
    let files: Vec<(String, &[u8])> = pictures
        .iter()
        .map(|(name, bytes)| (name.clone(), &bytes[..]))
        .collect();
    let archive = tempfile::tempdir().expect("a temporary folder");
    let archive = archive.path().join("mine.tar");
    std::fs::write(&archive, tar(&files)).expect("a fresh file");
    open_align(&mut browser, &[]);
    browser.set_value(&testid("align-target"), "responses");
    browser.upload(&testid("test-set"), &[&archive]);
    wait_for_text(&mut browser, "test-set-told", "40 images", 60);
    let table = [
        (
            "matlab73.mat",
            "align-understood",
            "MATLAB writes the last axis",
        ),
        ("group.h5", "error-sentence", "session1/responses"),
        ("pandas.h5", "align-understood", "The table `df` was taken"),
        ("matlab5.mat", "error-sentence", "-v7.3"),
        ("packed.nc", "align-understood", "unpacked"),
        ("latest-unlimited2.h5", "error-sentence", "libver"),
        (
            "compound.h5",
            "align-understood",
            "The table `responses` was",
        ),
        ("crlf-word.csv", "error-sentence", "line 5, column 3"),
        ("decimal-comma.csv", "align-understood", "decimal commas"),
        ("utf16.csv", "align-understood", "UTF-16"),
    ];
    for (name, place, part) in table {
        browser.upload(&testid("align-responses"), &[&folder.join(name)]);
        // Sentences of files before it may still be shown.
        let shown = format!(
            "return [...document.querySelectorAll({})].some((e) => e.textContent.includes({}))",
            json!(testid(place)),
            json!(part)
        );
        browser.wait_for(&format!("{name}: {part}"), &shown, 30);
        if place == "align-understood" {
            wait_for_text(&mut browser, place, "40 without their folders", 5);
        }
    }
    let refused = ["session1/responses", "-v7.3", "libver", "line 5, column 3"];
    browser.expect_no_errors(&refused);
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

#[test]
fn pictures_of_the_tab_align() {
    if std::env::var_os("VENTRAL_SCREENSHOTS").is_none() {
        crate::common::skip("VENTRAL_SCREENSHOTS names no folder");
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
