//! Which file of an archive or a folder is a picture, of which split and class.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::DatasetError;
use super::split::Split;

/// A file of a set: its path inside it, with `/`, and its content.
pub(super) struct File {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// The role of a file in a set, by its path alone, so that other files are never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A picture of the split that is being read.
    Picture,
    /// A binary batch of CIFAR-10 or CIFAR-100, of that split.
    CifarBatch,
    /// `val_annotations.txt`, `words.txt`: names and labels.
    Notes,
    Other,
}

/// Endings of the formats that are decoded.
const PICTURES: [&str; 9] = [
    "jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jfif",
];

/// Folder names, in any case, and the split they stand for.
const SPLITS: [(&str, Split); 7] = [
    ("train", Split::Train),
    ("training", Split::Train),
    ("test", Split::Test),
    ("testing", Split::Test),
    ("val", Split::Test),
    ("valid", Split::Test),
    ("validation", Split::Test),
];

const ANNOTATIONS: &str = "val_annotations.txt";
const WORDS: &str = "words.txt";

/// Which classes of a set are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// By WordNet id, folder name or, whatever its case, class name; all when empty.
    pub only: Vec<String>,
    /// Left out unless `only` names them, by folder name.
    pub without: Vec<String>,
}

impl Classes {
    /// All of them.
    pub(super) fn is_all(&self) -> bool {
        self.only.is_empty() && self.without.is_empty()
    }

    /// Whether each of the classes, given by folder and name, is taken.
    ///
    /// # Errors
    /// [`DatasetError::NoClass`] for a name that is not there, [`DatasetError::ManyClasses`] for
    /// one that several have.
    pub(super) fn choose<'a>(
        &self,
        classes: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<bool>, DatasetError> {
        let classes: Vec<(&str, &str)> = classes.collect();
        if self.only.is_empty() {
            let is_left_out = |folder: &str| self.without.iter().any(|name| name == folder);
            return Ok(classes
                .iter()
                .map(|(folder, _)| !is_left_out(folder))
                .collect());
        }
        let mut taken = vec![false; classes.len()];
        for wanted in &self.only {
            taken[place(wanted, &classes)?] = true;
        }
        Ok(taken)
    }
}

/// A folder is one class; a name may be that of several.
fn place(wanted: &str, classes: &[(&str, &str)]) -> Result<usize, DatasetError> {
    if let Some(found) = classes.iter().position(|(folder, _)| *folder == wanted) {
        return Ok(found);
    }
    let is_named = |i: &usize| classes[*i].1.eq_ignore_ascii_case(wanted);
    let mut found = (0..classes.len()).filter(is_named);
    let name = wanted.to_owned();
    match (found.next(), found.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err(DatasetError::NoClass { name }),
        (Some(_), Some(_)) => Err(DatasetError::ManyClasses { name }),
    }
}

pub(super) fn role(name: &str, split: Split) -> Role {
    let file = file_name(name);
    // Hidden files, and the "._" twins one system puts beside every file of an archive.
    if file.starts_with('.') {
        return Role::Other;
    }
    if file == ANNOTATIONS || file == WORDS {
        return Role::Notes;
    }
    if cifar_split(file) == Some(split) {
        return Role::CifarBatch;
    }
    if is_picture(file) && split_of(name).is_none_or(|(found, _)| found == split) {
        return Role::Picture;
    }
    Role::Other
}

/// The last part of a path inside a set.
pub(super) fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

pub(super) fn is_picture(file: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(_, ending)| {
        let ending = ending.to_ascii_lowercase();
        PICTURES.contains(&ending.as_str())
    })
}

/// `data_batch_1.bin` to `data_batch_5.bin` are for training, `test_batch.bin` is for testing;
/// CIFAR-100 has one file for each, `train.bin` and `test.bin`.
fn cifar_split(file: &str) -> Option<Split> {
    match file.strip_suffix(".bin")? {
        "test_batch" | "test" => Some(Split::Test),
        "train" => Some(Split::Train),
        stem => stem.strip_prefix("data_batch_").map(|_| Split::Train),
    }
}

/// The split a path names, and the rest of the path behind that folder. The first of the folder
/// names counts: a class may be called "train", but it then lies inside a split.
fn split_of(name: &str) -> Option<(Split, &str)> {
    let mut rest = name;
    while let Some((folder, behind)) = rest.split_once('/') {
        let found = SPLITS
            .iter()
            .find(|(known, _)| folder.eq_ignore_ascii_case(known));
        if let Some(&(_, split)) = found {
            return Some((split, behind));
        }
        rest = behind;
    }
    None
}

/// Where a set has pictures for testing and others for validation, the former; but the latter where
/// these are the ones with classes, as in Tiny ImageNet.
pub(super) fn tested(files: Vec<File>, notes: &[File]) -> Vec<File> {
    let is_of = |file: &File, beginning: &str| {
        let parts = file.name.split('/');
        let mut parts = parts.filter(|part| SPLITS.iter().any(|s| part.eq_ignore_ascii_case(s.0)));
        parts.next().is_some_and(|part| {
            part.get(..beginning.len())
                .is_some_and(|begins| begins.eq_ignore_ascii_case(beginning))
        })
    };
    let has = |beginning: &str| files.iter().any(|file| is_of(file, beginning));
    if !(has("test") && has("val")) {
        return files;
    }
    let has_classes = notes
        .iter()
        .any(|file| file_name(&file.name) == ANNOTATIONS);
    let other = if has_classes { "test" } else { "val" };
    files
        .into_iter()
        .filter(|file| !is_of(file, other))
        .collect()
}

/// The folder of the part that the first of the pictures is of, as it is written.
pub(super) fn part(files: &[File]) -> Option<String> {
    let mut folders = files.first()?.name.split('/');
    let is_part = |folder: &&str| SPLITS.iter().any(|s| folder.eq_ignore_ascii_case(s.0));
    folders.find(is_part).map(str::to_owned)
}

/// The class folder of a picture: the first folder behind the split, or, without split folders,
/// the folder the picture lies in.
fn class_of(name: &str) -> Option<&str> {
    if let Some((_, behind)) = split_of(name) {
        return behind.split_once('/').map(|(class, _)| class);
    }
    let (folders, _) = name.rsplit_once('/')?;
    folders.rsplit('/').next()
}

/// Pictures with their labels, not yet decoded.
pub(super) struct Labelled {
    pub classes: Vec<String>,
    pub files: Vec<(File, u16)>,
}

/// Labels every picture. Classes are sorted by folder name, as torchvision's
/// `ImageFolder` does, and pictures by path. The val part of Tiny ImageNet has one folder
/// `images` and its classes in `val_annotations.txt`; `words.txt` turns WordNet ids into words.
/// Pictures of classes that are not `wanted` are dropped. Those in no folder get the class `flat`,
/// where it is given.
pub(super) fn label(
    pictures: Vec<File>,
    notes: &[File],
    wanted: &Classes,
    flat: Option<&str>,
) -> Result<Labelled, DatasetError> {
    let annotations = annotations(notes);
    let class_folder = |name: &str| match annotations.get(file_name(name)) {
        Some(class) => Some(class.clone()),
        None => class_of(name).or(flat).map(str::to_owned),
    };
    let mut named = BTreeMap::new();
    for file in pictures {
        let class = class_folder(&file.name).ok_or_else(|| DatasetError::NoLabel {
            name: file.name.clone(),
        })?;
        named.insert(file.name.clone(), (class, file));
    }
    let folders: BTreeSet<&String> = named.values().map(|(class, _)| class).collect();
    if folders.len() > usize::from(u16::MAX) {
        return Err(DatasetError::TooManyClasses(folders.len()));
    }
    let words = words(notes, &folders);
    let all: Vec<(&str, &str)> = folders
        .iter()
        .map(|folder| {
            (
                folder.as_str(),
                *words.get(folder.as_str()).unwrap_or(&folder.as_str()),
            )
        })
        .collect();
    let taken = wanted.choose(all.iter().copied())?;
    let taken = all.into_iter().zip(taken).filter(|(_, taken)| *taken);
    let (mut classes, mut label) = (Vec::new(), HashMap::new());
    for (number, ((folder, name), _)) in (0..).zip(taken) {
        classes.push(name.to_owned());
        label.insert(folder.to_owned(), number);
    }
    let files = named.into_values();
    let files = files.filter_map(|(class, file)| Some((file, *label.get(&class)?)));
    Ok(Labelled {
        classes,
        files: files.collect(),
    })
}

/// File name → class of every annotation file.
fn annotations(notes: &[File]) -> HashMap<String, String> {
    lines(notes, ANNOTATIONS)
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
        })
        .collect()
}

/// WordNet id → its first word, for the ids in use.
fn words<'a>(notes: &'a [File], used: &BTreeSet<&String>) -> HashMap<&'a str, &'a str> {
    lines(notes, WORDS)
        .filter_map(|line| line.split_once('\t'))
        .filter(|(id, _)| used.contains(&(*id).to_owned()))
        .map(|(id, words)| (id, words.split(',').next().unwrap_or(words).trim()))
        .collect()
}

fn lines<'a>(notes: &'a [File], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = notes
        .iter()
        .filter(move |file| file_name(&file.name) == name);
    named.flat_map(|file| std::str::from_utf8(&file.bytes).unwrap_or("").lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_path() {
        let table = [
            ("train/cat/0001.jpg", Split::Train, Role::Picture),
            ("train/cat/0001.jpg", Split::Test, Role::Other),
            ("tiny/val/images/val_0.JPEG", Split::Test, Role::Picture),
            ("tiny/val/val_annotations.txt", Split::Test, Role::Notes),
            ("tiny/words.txt", Split::Train, Role::Notes),
            ("tiny/train/n01/n01_boxes.txt", Split::Train, Role::Other),
            ("train/cat/._0001.jpg", Split::Train, Role::Other),
            ("train/.DS_Store", Split::Train, Role::Other),
            ("c/data_batch_3.bin", Split::Train, Role::CifarBatch),
            ("c/data_batch_3.bin", Split::Test, Role::Other),
            ("c/test_batch.bin", Split::Test, Role::CifarBatch),
            ("c/train.bin", Split::Train, Role::CifarBatch),
            ("c/train.bin", Split::Test, Role::Other),
            ("c/test.bin", Split::Test, Role::CifarBatch),
            ("c/mine.bin", Split::Test, Role::Other),
            ("mine/cat/a.PNG", Split::Train, Role::Picture),
            ("mine/cat/a.PNG", Split::Test, Role::Picture),
            ("data/Train/cat/a.png", Split::Test, Role::Other),
            ("data/Test/cat/a.png", Split::Test, Role::Picture),
            ("data/TRAINING/cat/a.png", Split::Train, Role::Picture),
            ("data/valid/cat/a.png", Split::Train, Role::Other),
            ("data/valid/cat/a.png", Split::Test, Role::Picture),
        ];
        for (name, split, wanted) in table {
            assert_eq!(role(name, split), wanted, "{name} {split:?}");
        }
    }

    #[test]
    fn classes_by_path() {
        let table = [
            ("train/cat/0001.jpg", Some("cat")),
            ("tiny/train/n01/images/n01_0.JPEG", Some("n01")),
            ("mine/cat/a.png", Some("cat")),
            ("cat/a.png", Some("cat")),
            ("a.png", None),
            ("train/a.png", None),
        ];
        for (name, wanted) in table {
            assert_eq!(class_of(name), wanted, "{name}");
        }
    }

    #[test]
    fn pictures_for_testing_come_before_those_for_validation() {
        let taken = |names: &[&str], notes: &[File]| {
            let files = names.iter().map(|name| file(name, "")).collect();
            let taken = tested(files, notes);
            taken.into_iter().map(|file| file.name).collect::<Vec<_>>()
        };
        let both = ["d/Valid/cat/a.png", "d/Test/cat/b.png"];
        assert_eq!(taken(&both, &[]), [both[1]]);
        assert_eq!(taken(&both[..1], &[]), [both[0]]);
        let tiny = ["t/val/images/v.JPEG", "t/test/images/t.JPEG"];
        let notes = [file("t/val/val_annotations.txt", "v.JPEG\tn01")];
        assert_eq!(taken(&tiny, &notes), [tiny[0]]);
        let plain = ["cat/a.png", "dog/b.png"];
        assert_eq!(taken(&plain, &[]), plain);
    }

    fn file(name: &str, text: &str) -> File {
        File {
            name: name.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn annotations_and_words_win_over_folders() {
        let pictures = vec![
            file("t/val/images/val_1.JPEG", ""),
            file("t/val/images/val_0.JPEG", ""),
        ];
        let notes = [
            file(
                "t/val/val_annotations.txt",
                "val_0.JPEG\tn02\t0\t1\t2\t3\nval_1.JPEG\tn01\t0\t1\t2\t3\n",
            ),
            file("t/words.txt", "n01\ttench, Tinca tinca\nn03\tshark\n"),
        ];
        let set = label(pictures, &notes, &Classes::default(), None).unwrap();
        assert_eq!(set.classes, ["tench", "n02"]);
        let labels: Vec<_> = set.files.iter().map(|(_, label)| *label).collect();
        assert_eq!(labels, [1, 0]);
    }

    #[test]
    fn a_picture_beside_the_class_folders_is_named() {
        let error = label(
            vec![file("train/a.png", "")],
            &[],
            &Classes::default(),
            None,
        );
        let error = error.err().unwrap();
        assert!(error.to_string().contains("train/a.png"), "{error}");
    }

    fn chosen(only: &[&str], without: &[&str]) -> Result<Vec<bool>, DatasetError> {
        let classes = Classes {
            only: only.iter().map(|&name| name.to_owned()).collect(),
            without: without.iter().map(|&name| name.to_owned()).collect(),
        };
        let set = [("n01", "tench"), ("n02", "crane"), ("n03", "crane")];
        classes.choose(set.into_iter())
    }

    #[test]
    fn classes_are_chosen_by_id_or_name() {
        assert_eq!(chosen(&[], &[]).unwrap(), [true, true, true]);
        assert_eq!(chosen(&[], &["n02", "n09"]).unwrap(), [true, false, true]);
        assert_eq!(
            chosen(&["n03", "Tench"], &["n03"]).unwrap(),
            [true, false, true]
        );
        let error = chosen(&["crane"], &[]).unwrap_err().to_string();
        assert!(error.contains("several classes called “crane”"), "{error}");
        let error = chosen(&["shark"], &[]).unwrap_err().to_string();
        assert!(error.contains("no class “shark”"), "{error}");
    }
}
