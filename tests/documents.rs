//! What the documents say is what the files hold.
#![cfg(feature = "compute")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ventral::measure::interval::wilson;
use ventral::perturb::attack::registry::ATTACKS;
use ventral::perturb::corruption::Corruption;

fn root() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
        .into()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// All Markdown of the repository that describes the program.
fn documents() -> Vec<(String, String)> {
    let mut names = vec![
        "README.md".to_owned(),
        "docs/numbers.md".to_owned(),
        "docs/performance.md".to_owned(),
    ];
    let models = fs::read_dir(root().join("static/models")).expect("the shipped models");
    for entry in models {
        let name = entry.expect("a file").file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".md") {
            names.push(format!("static/models/{name}"));
        }
    }
    let texts = names.iter().map(|name| read(name)).collect::<Vec<_>>();
    names.into_iter().zip(texts).collect()
}

/// The shipped models of the catalog.
fn shipped() -> Vec<Value> {
    let all = json("static/models/catalog.json");
    let all = all.as_array().expect("a list").clone();
    all.into_iter()
        .filter(|entry| entry["file"].is_string())
        .collect()
}

/// `75.3 (71.6 to 79.1)` with so many digits behind the point.
fn percent([value, low, high]: [f64; 3], digits: usize) -> String {
    let [value, low, high] = [value, low, high].map(|v| 100.0 * v);
    format!("{value:.digits$} ({low:.digits$} to {high:.digits$})")
}

fn measured(entry: &Value) -> [f64; 3] {
    ["value", "low", "high"].map(|key| entry[key].as_f64().expect("a measured number"))
}

/// The cells of a model's row in a table of results.
fn row<'t>(document: &'t str, model: &str) -> Vec<&'t str> {
    let begin = format!("| `{model}` | ");
    let is_row = |line: &&str| line.starts_with(&begin) && line.contains(" to ");
    let line = document.lines().find(is_row);
    let line = line.unwrap_or_else(|| panic!("no row of {model}"));
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// Accuracy on the whole test set from the catalog, means from the file that the page's picker reads.
#[test]
fn tables_of_robustness_hold_what_the_files_hold() {
    let robustness = json("static/models/robustness.json");
    let (readme, numbers) = (read("README.md"), read("docs/numbers.md"));
    let models = shipped();
    assert_eq!(models.len(), 11);
    for entry in &models {
        let name = entry["name"].as_str().expect("a name");
        let clean = entry["accuracy"].as_f64().expect("an accuracy");
        let images = match entry["classes"].as_u64() {
            Some(40) => 2_000,
            _ => 10_000,
        };
        let (low, high) = wilson(clean, images);
        let found = &robustness[name];
        let [white_box, corruption] =
            ["white_box", "corruption"].map(|mean| measured(&found[mean]));
        let perturbation = (white_box[0] + corruption[0]) / 2.0;
        let expected = [
            percent([clean, low, high], 2),
            percent(white_box, 1),
            percent(corruption, 1),
            format!("{:.1}", 100.0 * perturbation),
            format!("{:.1}", 100.0 * (perturbation + clean) / 2.0),
        ];
        assert_eq!(row(&readme, name)[1..], expected, "README, {name}");
        let mut in_numbers = row(&numbers, name);
        // The target lies between.
        in_numbers.remove(2);
        assert_eq!(in_numbers[1..], expected, "docs/numbers.md, {name}");
    }
}

#[test]
fn cards_hold_what_the_catalog_and_the_recipes_hold() {
    let robustness = json("static/models/robustness.json");
    for entry in shipped() {
        let name = entry["name"].as_str().expect("a name");
        let file = entry["card"].as_str().expect("a card");
        let card = read(&format!("static/models/{file}"));
        let cell = |what: &str| {
            let begin = format!("| {what} | ");
            let line = card.lines().find(|line| line.starts_with(&begin));
            let line = line.unwrap_or_else(|| panic!("{name}: the card has no {what}"));
            line[begin.len()..].trim_end_matches(" |").to_owned()
        };
        let accuracy = 100.0 * entry["accuracy"].as_f64().expect("an accuracy");
        let said = cell("test accuracy (the f16 file, top-1)");
        assert!(
            said.starts_with(&format!("{accuracy:.2} %")),
            "{name}: {said}"
        );
        let hash = entry["sha256"].as_str().expect("a hash");
        assert_eq!(
            cell("SHA-256 (first 16 digits)"),
            format!("`{}`", &hash[..16])
        );
        assert_eq!(cell("parameters"), entry["parameters"].to_string());
        for (mean, key) in [
            ("clean", "clean"),
            ("white box", "white_box"),
            ("corruption", "corruption"),
        ] {
            let found = &robustness[name][key];
            let said = cell(mean);
            let expected = percent(measured(found), 1);
            assert!(
                said.starts_with(&expected),
                "{name}, {mean}: {said} for {expected}"
            );
        }
        let recipe = read(&format!("recipes/{name}.toml"));
        let recipe: toml::Table = recipe.parse().expect("a recipe");
        let training = recipe.get("training").and_then(toml::Value::as_table);
        let training = training.unwrap_or(&recipe);
        let epochs = training["epochs"].as_integer().expect("epochs");
        let said = cell("training");
        assert!(
            said.starts_with(&format!("{epochs} epochs")),
            "{name}: {said}"
        );
    }
}

/// As a word, from twenty on.
fn word(number: usize) -> String {
    const UNITS: [&str; 10] = [
        "", "-one", "-two", "-three", "-four", "-five", "-six", "-seven", "-eight", "-nine",
    ];
    let tens = match number / 10 {
        1 if number == 19 => return "nineteen".to_owned(),
        2 => "twenty",
        3 => "thirty",
        _ => panic!("{number} attacks"),
    };
    format!("{tens}{}", UNITS[number % 10])
}

#[test]
fn attacks_and_corruptions_are_as_many_as_is_said() {
    let attacks = word(ATTACKS.len());
    let corruptions = word(Corruption::ALL.len());
    let readme = read("README.md");
    let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        readme.contains(&format!("and {attacks} attacks in")),
        "{attacks}"
    );
    assert!(readme.contains(&format!("the {corruptions} common corruptions")));
}

/// A mean over corruptions has frost in it, whose published photographs are not ours to give away.
#[test]
fn synthetic_frost_is_named_where_means_over_corruptions_stand() {
    let mut told = 0;
    for (name, text) in documents() {
        if text.contains("corruption |") {
            let text = text.replace('\n', " ");
            assert!(text.contains("textures of our own for frost"), "{name}");
            told += 1;
        }
    }
    assert!(told >= 13, "{told} documents");
}

#[test]
fn published_files_have_the_hashes_that_the_readme_says() {
    let all = json("static/models/catalog.json");
    let all = all.as_array().expect("a list");
    for entry in all.iter().filter(|entry| entry["file"].is_null()) {
        let name = entry["name"].as_str().expect("a name");
        let is_vone = name.starts_with("vone");
        assert_eq!(entry["sha256"].is_null(), is_vone, "{name}");
    }
}

#[test]
fn files_that_documents_link_to_are_there() {
    for (name, text) in documents() {
        let folder = Path::new(&name).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let link = link.split('#').next().unwrap_or_default();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            assert!(root().join(&folder).join(link).exists(), "{name}: {link}");
        }
    }
}
