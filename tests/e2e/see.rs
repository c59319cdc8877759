//! The tab See: pictures and weights.

use serde_json::json;

use crate::common::browser::{Browser, DroppedFile, Gpu};
use crate::common::host::{bare_host, open_host};
use crate::common::{self, reference};
use crate::page::{open, open_at, pictures_of, sample, testid, top, wait_for_text};

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
    // The tab Test begins with this model, on images it knows.
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
    let good = reference("vonecornets_small.pth.tar");
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

/// Weights at an address of another host, which lets pages of other sites read them or does not.
#[test]
fn weights_come_from_an_address() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let models = common::root().join("static/models");
    let download = |browser: &mut Browser, host: &str| {
        browser.click(&testid("model-open"));
        let address = testid("weights-url");
        browser.wait_for_element(&address, 20);
        browser.set_value(&address, &format!("{host}resnet-tiny40.safetensors"));
        browser.click(&testid("weights-url-load"));
    };
    let closed = bare_host(models.clone());
    download(&mut browser, &closed);
    wait_for_text(&mut browser, "error-banner", "drop it here", 60);
    let open = open_host(models);
    download(&mut browser, &open);
    browser.wait_for_element(
        &format!(
            "{}[data-name=\"resnet-tiny40.safetensors\"]",
            testid("model-name")
        ),
        120,
    );
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    browser.expect_no_errors(&["CORS", "Failed to load resource"]);
}
