//! The rooms of the library and the arrows between them, read off the sources: an import that
//! points upward, files of different folders that import each other in a circle, and a room that
//! `lib.rs` and `ARCHITECTURE.md` do not name alike fail here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, from the ground up. A room imports rooms of lower floors only.
const FLOORS: &[&[&str]] = &[
    &[
        "appended", "archive", "clock", "fetch", "pack", "rng", "serve",
    ],
    &["image"],
    &["compute"],
    &["model"],
    &["neural", "perturb"],
    &["measure"],
    &["train"],
    &["align"],
    &["experiment"],
    &["session"],
];

/// A source file with the paths that it takes from its own crate, as segments from the crate's root.
struct Source {
    /// From the repository's root.
    file: PathBuf,
    imports: Vec<Vec<String>>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap();
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => rust_files(&path, found),
            false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Where the crate that a file belongs to begins: the library's sources, or a program's.
fn crate_root(file: &Path) -> PathBuf {
    let parts: Vec<_> = file.iter().collect();
    match parts.get(1).is_some_and(|part| *part == "bin") {
        true => parts[..3].iter().collect(),
        false => PathBuf::from("src"),
    }
}

/// The module path of a file from its crate's root.
fn module(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(crate_root(file)).unwrap();
    let mut segments: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(
        segments.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        segments.pop();
    }
    segments
}

/// Without comments, and without the test modules at the end of a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Reads a tree of paths as it stands behind `use`, and adds each path to `found`. Returns what is
/// left of the text.
fn read_tree<'t>(text: &'t str, before: &[String], found: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if rest.is_empty() {
                return rest;
            }
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            rest = read_tree(rest, before, found);
        }
    }
    let length = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(length);
    let mut path = before.to_vec();
    if name == "super" {
        path.pop();
    } else if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    if let Some(deeper) = rest.strip_prefix("::") {
        return read_tree(deeper, &path, found);
    }
    found.push(path);
    if name.is_empty() {
        // A glob, or something that is no path: past its first letter.
        let mut letters = rest.chars();
        letters.next();
        rest = letters.as_str();
    }
    if let Some(renamed) = rest.trim_start().strip_prefix("as ") {
        rest = renamed.trim_start().trim_start_matches(is_name);
    }
    rest
}

fn imports(file: &Path, text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let own = module(file);
    for (prefix, base) in [
        ("crate::", &[][..]),
        ("super::", &own[..own.len().saturating_sub(1)]),
    ] {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|letter| is_name(letter) || letter == ':') {
                continue;
            }
            read_tree(&text[at + prefix.len()..], base, &mut found);
        }
    }
    found
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let file = path.strip_prefix(root()).unwrap().to_owned();
        let text = code(&fs::read_to_string(&path).unwrap());
        let imports = imports(&file, &text);
        Source { file, imports }
    };
    files.into_iter().map(read).collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Arrows of the library that do not point to a lower floor, as sentences.
fn upward(sources: &[Source]) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for source in sources {
        let own = module(&source.file);
        let [room, ..] = own.as_slice() else { continue };
        if crate_root(&source.file) != Path::new("src") {
            continue;
        }
        let Some(here) = floor(room) else {
            wrong.insert(format!("{} is in no room of FLOORS", source.file.display()));
            continue;
        };
        for import in &source.imports {
            let Some(other) = import.first().filter(|other| *other != room) else {
                continue;
            };
            if floor(other).is_some_and(|there| there >= here) {
                let path = import.join("::");
                wrong.insert(format!("{} imports {path}", source.file.display()));
            }
        }
    }
    wrong
}

/// The folder whose module a file belongs to: `a/b.rs` beside a folder `a/b` is that folder's.
fn folder(file: &Path) -> PathBuf {
    let own = file.with_extension("");
    match root().join(&own).is_dir() {
        true => own,
        false => file.parent().unwrap().to_owned(),
    }
}

/// The file of the deepest module that a path names, by its number.
fn target(path: &[String], modules: &BTreeMap<Vec<String>, usize>) -> Option<usize> {
    (1..=path.len())
        .rev()
        .find_map(|length| modules.get(&path[..length]).copied())
}

/// Which files each file imports, by number.
fn arrows(sources: &[Source]) -> Vec<BTreeSet<usize>> {
    let mut modules: BTreeMap<PathBuf, BTreeMap<Vec<String>, usize>> = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let of_crate = modules.entry(crate_root(&source.file)).or_default();
        of_crate.insert(module(&source.file), number);
    }
    let of = |(number, source): (usize, &Source)| {
        let known = &modules[&crate_root(&source.file)];
        let targets = source.imports.iter().filter_map(|path| target(path, known));
        targets.filter(|other| *other != number).collect()
    };
    sources.iter().enumerate().map(of).collect()
}

fn reachable(from: usize, arrows: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        open.extend(arrows[next].iter().filter(|other| seen.insert(**other)));
    }
    seen
}

/// Pairs of files of different folders that reach each other, as sentences.
fn circles(sources: &[Source]) -> BTreeSet<String> {
    let arrows = arrows(sources);
    let reached: Vec<_> = (0..sources.len())
        .map(|one| reachable(one, &arrows))
        .collect();
    let mut wrong = BTreeSet::new();
    for (one, others) in arrows.iter().enumerate() {
        for other in others {
            let (here, there) = (&sources[one].file, &sources[*other].file);
            if reached[*other].contains(&one) && folder(here) != folder(there) {
                wrong.insert(format!("{} -> {}", here.display(), there.display()));
            }
        }
    }
    wrong
}

#[test]
fn imports_point_down() {
    let wrong = upward(&sources());
    assert!(wrong.is_empty(), "upward imports:\n{wrong:#?}");
}

#[test]
fn files_of_different_folders_import_each_other_in_no_circle() {
    let wrong = circles(&sources());
    assert!(wrong.is_empty(), "arrows of circles:\n{wrong:#?}");
}

#[test]
fn the_rooms_are_named_alike_everywhere() {
    let rooms: BTreeSet<&str> = FLOORS
        .iter()
        .flat_map(|rooms| rooms.iter().copied())
        .collect();
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod "));
    let declared: BTreeSet<&str> = modules.map(|name| name.trim_end_matches(';')).collect();
    assert_eq!(
        declared, rooms,
        "src/lib.rs against the floors of this test"
    );
    let described = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for room in rooms {
        let named = format!("`{room}`");
        assert!(
            described.contains(&named),
            "ARCHITECTURE.md does not name {named}"
        );
        assert!(library.contains(room), "lib.rs does not name {room}");
    }
}

#[test]
fn an_upward_import_and_a_circle_are_found() {
    let source = |file: &str, text: &str| Source {
        file: PathBuf::from(file),
        imports: imports(Path::new(file), &code(text)),
    };
    let below = source(
        "src/model/a.rs",
        "use crate::{rng::Rng, session::protocol::{Event, Done as D}};",
    );
    let above = source(
        "src/session/protocol.rs",
        "use crate::model::a::A; // crate::bin",
    );
    let found = upward(&[below, above]);
    let expected =
        ["Event", "Done"].map(|name| format!("src/model/a.rs imports session::protocol::{name}"));
    assert_eq!(found, BTreeSet::from(expected));
    let inner = source("src/image/set/tar.rs", "use super::super::decode;");
    let outer = source(
        "src/image/decode.rs",
        "fn f() { crate::image::set::tar::read() }",
    );
    assert_eq!(circles(&[inner, outer]).len(), 2);
}
