//! Picks the shipped test sets from the published archives. The same archive gives the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell::Shell;

/// A set and the rule by which it is picked.
#[derive(Debug)]
struct Set {
    /// Its name; its file is `static/testset/NAME.tar.gz`.
    name: &'static str,
    /// The folder of the held-out pictures.
    held_out: &'static str,
    /// Pictures of each class, evenly spread over those there are, in the order of their names.
    each: usize,
    /// The recipe that names the classes; all of the archive's without one.
    recipe: Option<&'static str>,
}

const SETS: [Set; 2] = [
    Set {
        name: "cifar10-1000",
        held_out: "test",
        each: 100,
        recipe: None,
    },
    Set {
        name: "tiny40-400",
        held_out: "val",
        each: 10,
        recipe: Some("recipes/resnet-tiny40.toml"),
    },
];

/// Picks the set called `name` from the published `archive`, a `.tar.xz`.
///
/// # Errors
/// A name that is none, an archive that cannot be read, a class with too few pictures.
pub fn write(shell: &Shell, name: &str, archive: &Path) -> Result<()> {
    let Some(set) = SETS.iter().find(|set| set.name == name) else {
        let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        bail!("there is no test set `{name}` but {}", names.join(" and "));
    };
    let wanted = match set.recipe {
        Some(recipe) => classes(&fs::read_to_string(shell.root.join(recipe))?)?,
        None => Vec::new(),
    };
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let unpacked = lzma_rust2::XzReader::new(BufReader::new(file), true);
    let found = Found::read(unpacked, set.held_out)?;
    let packed = pack(&found.pick(&wanted, set.each)?)?;
    let path = shell.root.join(format!("static/testset/{name}.tar.gz"));
    fs::write(&path, &packed)?;
    println!("{}: {} bytes", path.display(), packed.len());
    Ok(())
}

/// The `data.classes` of a recipe.
fn classes(recipe: &str) -> Result<Vec<String>> {
    let recipe: toml::Table = recipe.parse()?;
    let classes = recipe.get("data").and_then(|data| data.get("classes"));
    let classes = classes.context("the recipe names no classes")?;
    Ok(classes.clone().try_into()?)
}

/// The held-out part of an archive.
#[derive(Default)]
struct Found {
    /// By path.
    pictures: BTreeMap<String, Vec<u8>>,
    /// File name to class, where the class is not the picture's folder.
    annotations: HashMap<String, String>,
    /// WordNet id to its first word.
    words: HashMap<String, String>,
}

impl Found {
    fn read(unpacked: impl Read, held_out: &str) -> Result<Self> {
        let mut found = Self::default();
        for entry in tar::Archive::new(unpacked).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let name = file_name(&path).to_ascii_lowercase();
            let is_jpeg = name.ends_with(".jpg") || name.ends_with(".jpeg");
            let is_picture = is_jpeg && !name.starts_with('.');
            let is_held_out = path.split('/').any(|folder| folder == held_out);
            let is_note = ["val_annotations.txt", "words.txt"].contains(&name.as_str());
            if !(is_note || is_picture && is_held_out) {
                continue;
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            match name.as_str() {
                "words.txt" => found.words = pairs(&bytes, first_word),
                "val_annotations.txt" => found.annotations = pairs(&bytes, |class| class),
                _ => {
                    found.pictures.insert(path, bytes);
                }
            }
        }
        Ok(found)
    }

    fn class<'a>(&'a self, path: &'a str) -> &'a str {
        let folder = path.rsplit('/').nth(1).unwrap_or_default();
        let annotated = self.annotations.get(file_name(path));
        annotated.map_or(folder, String::as_str)
    }

    /// `each` pictures of every class, or of the `wanted` ones: `CLASS/FILE` and content, in the
    /// order of these names. A class is called as a model that is trained on it calls it.
    fn pick(&self, wanted: &[String], each: usize) -> Result<BTreeMap<String, &[u8]>> {
        let mut classes: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        for path in self.pictures.keys() {
            classes.entry(self.class(path)).or_default().push(path);
        }
        if let Some(missing) = wanted.iter().find(|id| !classes.contains_key(id.as_str())) {
            bail!("the archive has no class {missing}");
        }
        classes.retain(|id, _| wanted.is_empty() || wanted.iter().any(|wanted| wanted == id));
        let mut picked = BTreeMap::new();
        for (id, paths) in classes {
            if paths.len() < each {
                bail!("the archive has {} pictures of {id}", paths.len());
            }
            let class = self.words.get(id).map_or(id, String::as_str);
            for place in (0..each).map(|i| i * paths.len() / each) {
                let path = paths[place];
                let name = format!("{class}/{}", file_name(path));
                picked.insert(name, self.pictures[path].as_slice());
            }
        }
        Ok(picked)
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn first_word(words: &str) -> &str {
    words.split(',').next().unwrap_or(words).trim()
}

/// The first two fields of every line.
fn pairs(bytes: &[u8], value: impl Fn(&str) -> &str) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let pair = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), value(fields.next()?).to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// A `.tar.gz` without dates or owners.
fn pack(files: &BTreeMap<String, &[u8]>) -> Result<Vec<u8>> {
    let packer = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    let mut archive = tar::Builder::new(packer);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes)?;
    }
    let mut packer = archive.into_inner()?;
    packer.flush()?;
    Ok(packer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Found {
        let files: BTreeMap<String, &[u8]> = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes()))
            .collect();
        let packed = pack(&files).unwrap();
        assert_eq!(packed, pack(&files).unwrap());
        Found::read(flate2::read::GzDecoder::new(packed.as_slice()), "val").unwrap()
    }

    fn names(picked: &BTreeMap<String, &[u8]>) -> Vec<String> {
        picked.keys().cloned().collect()
    }

    #[test]
    fn annotated_pictures_are_picked_evenly_and_named_by_words() {
        let found = found(&[
            ("t/val/images/val_0.JPEG", "a"),
            ("t/val/images/val_1.JPEG", "b"),
            ("t/val/images/val_2.JPEG", "c"),
            ("t/val/images/val_3.JPEG", "d"),
            ("t/val/images/val_4.JPEG", "e"),
            ("t/val/images/._val_4.JPEG", "no picture"),
            ("t/train/n02/images/n02_0.JPEG", "not held out"),
            (
                "t/val/val_annotations.txt",
                "val_0.JPEG\tn02\t0\nval_1.JPEG\tn02\t0\nval_2.JPEG\tn02\t0\nval_3.JPEG\tn02\t0\n\
                 val_4.JPEG\tn01\t0\n",
            ),
            (
                "t/words.txt",
                "n02\tking penguin, Aptenodytes\nn01\ttench\n",
            ),
        ]);
        let wanted = ["n02".to_owned()];
        let picked = found.pick(&wanted, 2).unwrap();
        assert_eq!(
            names(&picked),
            ["king penguin/val_0.JPEG", "king penguin/val_2.JPEG"]
        );
        assert_eq!(picked["king penguin/val_2.JPEG"], b"c");
        let all = found.pick(&[], 1).unwrap();
        assert_eq!(names(&all), ["king penguin/val_0.JPEG", "tench/val_4.JPEG"]);
        let refusals = [
            (vec!["n03".to_owned()], 1, "no class n03"),
            (vec!["n01".to_owned()], 2, "1 pictures of n01"),
        ];
        for (wanted, each, said) in refusals {
            let error = found.pick(&wanted, each).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn class_folders_are_classes() {
        let found = found(&[("val/cat/1.jpg", "a"), ("val/dog/1.jpg", "b")]);
        let picked = found.pick(&[], 1).unwrap();
        assert_eq!(names(&picked), ["cat/1.jpg", "dog/1.jpg"]);
    }

    #[test]
    fn the_recipes_of_the_sets_name_their_classes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for set in SETS {
            let Some(recipe) = set.recipe else { continue };
            let text = fs::read_to_string(root.join(recipe)).unwrap();
            let named = classes(&text).unwrap();
            assert_eq!((set.name, named.len() * set.each), ("tiny40-400", 400));
        }
    }
}
