//! The tab Perturb.

use crate::common::browser::Gpu;
use crate::common::reference;
use crate::page::{count, open, shot, testid, wait_for_text, wait_for_verdict};

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

#[test]
fn a_photo_is_attacked_within_three_clicks() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    // One: the tab. It attacks at once, with its usual settings.
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
    let other = reference("cornet_s_div32.pth");
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
        row.contains("cornet_s_div32.pth") && row.contains('%'),
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
