//! The page in Firefox, with the numbers of Chromium on the same machine.
#![cfg(feature = "serve")]

mod common;

use common::browser::{Browser, Gpu};
use serde_json::Value;

/// What one browser shows: of a prediction, an attack and a small test.
#[derive(Debug)]
struct Shown {
    /// Label and share of the five most likely classes.
    top: Vec<(String, f64)>,
    verdict: String,
    /// The cells of the test's table.
    table: Vec<String>,
}

/// Images of the test.
const IMAGES: &str = "10";

fn look(browser: &mut Browser) -> Shown {
    browser.goto("#see?model=resnet-cifar10&backend=cpu");
    browser.wait_for_element("[data-testid=top5] li", 180);
    let rows = "return [...document.querySelectorAll('[data-testid=top5] li')].map((li) => li.textContent)";
    let rows = browser.run(rows, &[]);
    let top = texts(&rows)
        .iter()
        .map(|row| label_and_share(row))
        .collect();

    browser.click("[data-testid=nav-perturb]");
    let verdict = "const v = document.querySelector('[data-testid=verdict]')?.textContent ?? '';
        return document.querySelector('main').dataset.busy === 'false' && /^(Fooled|Not fooled)/.test(v) && v";
    let verdict = browser.wait_for("a verdict", verdict, 180);

    browser.click("[data-testid=nav-test]");
    browser.wait_for_element("[data-testid=test-model-resnet-cifar10]:checked", 60);
    browser.set_value("[data-testid=test-images]", IMAGES);
    browser.click("[data-testid=test-run]");
    let done = "const e = document.querySelector('[data-testid=test-progress]');
        return !!e && Number(e.dataset.rows) > 0 && e.dataset.rows === e.dataset.expected";
    browser.wait_for("the test's end", done, 600);
    browser.wait_for_element("[data-testid=test-table] td", 30);
    let cells = "return [...document.querySelectorAll('[data-testid=test-table] :is(td, th)')].map((c) => c.textContent.trim())";
    let table = texts(&browser.run(cells, &[]));
    Shown {
        top,
        verdict: verdict.as_str().unwrap_or_default().to_owned(),
        table,
    }
}

fn texts(values: &Value) -> Vec<String> {
    let values = values.as_array().cloned().unwrap_or_default();
    let texts = values.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// `cat87.5 %` as its parts.
fn label_and_share(row: &str) -> (String, f64) {
    let row = row.trim().trim_end_matches('%').trim_end();
    let at = row
        .rfind(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map_or(0, |at| {
            at + row[at..].chars().next().map_or(0, char::len_utf8)
        });
    let share = row[at..].parse();
    (
        row[..at].trim().to_owned(),
        share.unwrap_or_else(|_| panic!("no share in {row:?}")),
    )
}

#[test]
fn firefox_shows_the_numbers_of_chromium() {
    let Some(mut firefox) = Browser::firefox_on_built_page() else {
        return;
    };
    let ours = look(&mut firefox);
    println!("Firefox: {ours:#?}");
    let Some(mut chromium) = Browser::on_built_page(Gpu::Absent) else {
        return;
    };
    let theirs = look(&mut chromium);
    assert_eq!(ours.top.len(), 5, "{ours:?}");
    for ((ours, share), (theirs, other)) in ours.top.iter().zip(&theirs.top) {
        assert_eq!(ours, theirs);
        // One digit behind the point is shown; fused multiply-adds may turn the last one.
        assert!((share - other).abs() < 0.15, "{ours}: {share} and {other}");
    }
    assert_eq!(ours.verdict, theirs.verdict);
    assert_eq!(ours.table, theirs.table);
}
