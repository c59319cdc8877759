//! The images that are attacked, and their labels.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use ventral::model::classes::{are_wordnet_ids, class_of};
use ventral::model::load::Loaded;

use super::named;
use crate::Failure;
use crate::input::{self, Listed};
use crate::recipe::Hashed;

/// Images as the model takes them.
pub struct Images {
    /// `[n, 3, side, side]` in [0, 1].
    pub pixels: Vec<f32>,
    pub side: usize,
    /// One an image; `None` where nobody said.
    pub labels: Option<Vec<usize>>,
    /// Where the labels come from, for people.
    pub labelled_by: String,
    /// Each image's file name, should it become a picture.
    pub names: Vec<String>,
    /// The file, or the pictures in the order of the images.
    pub inputs: Vec<Hashed>,
    pub label_file: Option<Hashed>,
}

impl Images {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Floats of one image.
    pub fn stride(&self) -> usize {
        3 * self.side * self.side
    }

    /// Reads the input and what is known of its labels.
    pub fn read(path: &Path, labels: Option<&Path>, loaded: &Loaded) -> Result<Self, Failure> {
        let mut images = match input::is_npy(path) {
            true => from_array(path)?,
            false => from_pictures(path, loaded, labels.is_none())?,
        };
        if let Some(path) = labels {
            images.labels = Some(read_labels(path, images.len(), loaded.config.classes)?);
            images.labelled_by = path.display().to_string();
            images.label_file = Some(Hashed::file(path)?);
        }
        Ok(images)
    }
}

const UNLABELLED: &str = "none given: what the model says of the clean images";

fn from_array(path: &Path) -> Result<Images, Failure> {
    let pixels = input::pixels(path, &[3])?;
    let [n, _, height, width] = pixels.shape;
    if height != width {
        let problem = format!("{}: images must be square to be attacked", path.display());
        return Err(problem.into());
    }
    let digits = (n - 1).to_string().len();
    Ok(Images {
        pixels: pixels.values,
        side: height,
        labels: None,
        labelled_by: UNLABELLED.to_owned(),
        names: (0..n).map(|i| format!("{i:0digits$}.png")).collect(),
        inputs: vec![Hashed::file(path)?],
        label_file: None,
    })
}

fn from_pictures(path: &Path, loaded: &Loaded, by_folder: bool) -> Result<Images, Failure> {
    let files = input::pictures(path)?;
    let labels = match by_folder {
        true => labels_by_folder(&files, &loaded.classes)?,
        false => None,
    };
    let read = |file: &Listed| -> Result<(Vec<f32>, Hashed), String> {
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", file.path.display());
        let bytes = std::fs::read(&file.path).map_err(|e| said(&e))?;
        let pixels = input::picture(&bytes, &loaded.config.preprocessing);
        let hashed = Hashed::bytes(&file.name, &bytes).map_err(|e| said(&e))?;
        Ok((pixels.map_err(|e| said(&e))?, hashed))
    };
    // A picture that cannot be read ends it here: a number about fewer images than were given
    // would be another number.
    let read: Vec<(Vec<f32>, Hashed)> = files.par_iter().map(read).collect::<Result<_, _>>()?;
    let (pixels, inputs): (Vec<Vec<f32>>, Vec<Hashed>) = read.into_iter().unzip();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let labelled_by = match labels {
        Some(_) => "the folders' names",
        None => UNLABELLED,
    };
    Ok(Images {
        pixels: pixels.concat(),
        side: loaded.config.preprocessing.crop,
        labels,
        labelled_by: labelled_by.to_owned(),
        names: input::png_names(&names),
        inputs,
        label_file: None,
    })
}

/// The labels of pictures in class folders; `None` when they lie in no folders.
fn labels_by_folder(files: &[Listed], classes: &[String]) -> Result<Option<Vec<usize>>, Failure> {
    let folders: Vec<Option<&str>> = files.iter().map(|file| folder_of(&file.name)).collect();
    let distinct: BTreeSet<&str> = folders.iter().copied().flatten().collect();
    if distinct.is_empty() {
        return Ok(None);
    }
    if let Some(place) = folders.iter().position(Option::is_none) {
        return Err(format!(
            "{} lies beside the class folders; give --labels, or move it into one",
            files[place].name
        )
        .into());
    }
    let numbered = are_wordnet_ids(distinct.iter().copied(), classes.len());
    let label = |folder: &str| {
        let ordered = numbered.then(|| distinct.iter().position(|name| *name == folder));
        ordered.flatten().or_else(|| class_of(folder, classes))
    };
    let labels = folders.into_iter().flatten().map(|folder| {
        label(folder).ok_or_else(|| {
            format!(
                "the folder `{folder}` is named after no class of this model{}; give --labels, or \
                 call the folders by the classes' names or numbers",
                named(classes)
            )
        })
    });
    Ok(Some(labels.collect::<Result<_, _>>()?))
}

/// The folder a file lies in.
fn folder_of(name: &str) -> Option<&str> {
    let (folders, _) = name.rsplit_once('/')?;
    folders.rsplit('/').next()
}

/// One class an image from an `.npy` file of integers.
fn read_labels(path: &Path, images: usize, classes: usize) -> Result<Vec<usize>, Failure> {
    let said = |problem: String| format!("{}: {problem}", path.display());
    let array = input::array(path)?;
    let values = array.data.to_i64();
    let values = values.ok_or_else(|| said("labels are integers, not fractions".to_owned()))?;
    if values.len() != images {
        let labels = values.len();
        return Err(said(format!("there are {labels} labels for {images} images")).into());
    }
    let label = |(i, value): (usize, &i64)| {
        let class = usize::try_from(*value).ok().filter(|c| *c < classes);
        class.ok_or_else(|| {
            said(format!(
                "the label {value} of image {i} is no class of this model, which has 0 to {}",
                classes.saturating_sub(1)
            ))
        })
    };
    Ok(values
        .iter()
        .enumerate()
        .map(label)
        .collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<Listed> {
        let one = |name: &&str| Listed {
            name: (*name).to_owned(),
            path: name.into(),
        };
        names.iter().map(one).collect()
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn folders_name_or_number_classes() {
        let classes = owned(&["cat", "fire engine", "7"]);
        let labels = |names: &[&str]| labels_by_folder(&listed(names), &classes);
        let found = labels(&["x/Cat/a.png", "fire_engine/b.png", "1/c.png", "7/d.png"]);
        assert_eq!(found.expect("they are classes"), Some(vec![0, 1, 1, 2]));
        assert_eq!(labels(&["a.png"]).expect("no folders"), None);
        for (names, said) in [
            (["cat/a.png", "dog/b.png"], "`dog`"),
            (["cat/a.png", "b.png"], "b.png"),
            (["cat/a.png", "3/b.png"], "`3`"),
        ] {
            let error = labels(&names).expect_err("no label").to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn all_wordnet_ids_are_the_classes_in_order() {
        let classes = owned(&["tench", "goldfish"]);
        let files = listed(&["n01443537/a.png", "n01440764/b.png"]);
        let labels = labels_by_folder(&files, &classes).expect("ids of all classes");
        assert_eq!(labels, Some(vec![1, 0]));
        assert!(labels_by_folder(&files[..1], &classes).is_err());
    }
}
