//! What every tab uses: opening the page, waiting, files, screenshots.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use ventral::pack;

use crate::common::browser::{Browser, Gpu};
use crate::common::skip;

pub fn testid(id: &str) -> String {
    format!("[data-testid=\"{id}\"]")
}

/// The page with CORnet-S of 32 px, as an address may ask for it, and its first prediction.
pub fn open(gpu: Gpu) -> Option<Browser> {
    open_at(gpu, "#see?model=cornet-s-cifar10")
}

pub fn open_at(gpu: Gpu, address: &str) -> Option<Browser> {
    let mut browser = Browser::on_built_page(gpu)?;
    browser.goto(address);
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    Some(browser)
}

/// `(label, probability)` of every row of the top five.
pub fn top(browser: &mut Browser) -> Vec<String> {
    let rows = browser.run(
        "return [...document.querySelectorAll('[data-testid=top5] li')].map((li) => li.textContent)",
        &[],
    );
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter()
        .filter_map(|r| r.as_str().map(str::to_owned))
        .collect()
}

pub fn wait_for_text(browser: &mut Browser, id: &str, part: &str, seconds: u64) {
    let body = format!(
        "const e = document.querySelector({}); return !!e && e.textContent.includes({})",
        json!(testid(id)),
        json!(part)
    );
    browser.wait_for(&format!("{id} to hold {part:?}"), &body, seconds);
}

/// A 32x32 picture of the gallery, which lies in this repository.
pub fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("static/samples")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Notes every value other than 0 that a number of an element's data takes from now on, once a change.
pub fn note_values(browser: &mut Browser, id: &str, name: &str) {
    let body = format!(
        "const values = [];
         const note = () => {{
           const value = Number(document.querySelector({})?.dataset.{name} ?? 0);
           if (value && value !== values.at(-1)) values.push(value);
         }};
         new MutationObserver(note).observe(document.body, {{ subtree: true, childList: true, attributes: true }});
         window.noted = values;
         return true",
        json!(testid(id))
    );
    browser.run(&body, &[]);
}

/// What [`note_values`] has noted since.
pub fn noted(browser: &mut Browser) -> Vec<u64> {
    let values = browser.run("return window.noted", &[]);
    let values = values.as_array().expect("a list of numbers");
    values.iter().filter_map(Value::as_u64).collect()
}

/// How many elements have this test id.
pub fn count(browser: &mut Browser, id: &str) -> u64 {
    let body = format!(
        "return document.querySelectorAll({}).length",
        json!(testid(id))
    );
    browser.run(&body, &[]).as_u64().unwrap_or_default()
}

pub fn wait_for_verdict(browser: &mut Browser, seconds: u64) -> String {
    browser.wait_for(
        "a verdict",
        "const v = document.querySelector('[data-testid=verdict]')?.textContent ?? '';
         const busy = document.querySelector('main').dataset.busy;
         return busy === 'false' && /^(Fooled|Not fooled|Reached|Not reached|Nothing left)/.test(v)",
        seconds,
    );
    browser.text(&testid("verdict"))
}

pub fn tar(files: &[(String, &[u8])]) -> Vec<u8> {
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

/// Seconds to wait for what takes minutes, where the environment asks for it.
#[track_caller]
pub fn long() -> Option<u64> {
    let seconds = std::env::var("VENTRAL_LONG")
        .ok()
        .and_then(|s| s.parse().ok());
    if seconds.is_none() {
        skip("VENTRAL_LONG gives no number of seconds to wait");
    }
    seconds
}

pub fn shot(browser: &mut Browser, name: &str) {
    let Some(folder) = std::env::var_os("VENTRAL_SCREENSHOTS") else {
        return;
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).expect("the folder of the screenshots can be made");
    browser.screenshot_of_all(&folder.join(format!("{name}.png")));
}

pub fn pictures_of(browser: &mut Browser, tabs: &[&str], what: &str) {
    for (width, height) in [(1280, 900), (390, 844)] {
        for scheme in ["light", "dark"] {
            browser.viewport(width, height, width < 500);
            browser.colour_scheme(scheme);
            for tab in tabs {
                browser.click(&testid(&format!("nav-{tab}")));
                let settle: Value = browser.run(
                    "await new Promise((done) => setTimeout(done, 1500)); return true",
                    &[],
                );
                assert_eq!(settle, true);
                shot(browser, &format!("{tab}{what}-{width}-{scheme}"));
            }
        }
    }
}
