//! Classes of pictures, from a table or from the folders they lie in.

use std::collections::{BTreeSet, HashMap};

use super::axes::Role;
use super::csv::read_table;
use super::error::NeuralError;
use super::format::separator;
use super::names::{Column, Listed, Matched, pairs, report};

/// A class for each picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Class names in alphabetical order; a label is an index into them.
    pub classes: Vec<String>,
    /// `[n]`, names of the pictures.
    pub images: Vec<String>,
    /// `[n]`, each below `classes.len()`.
    pub labels: Vec<u16>,
}

/// Reads `image,class` lines. The columns are those called so (`image`, `filename`, …; `class`,
/// `label`, `object_name`, …), or the first two.
///
/// # Errors
/// Ragged or empty tables, a line without a class, a picture with two classes.
pub fn labels_from_csv(name: &str, bytes: &[u8]) -> Result<Labels, NeuralError> {
    let mut lines = read_table(bytes, separator(name))?.lines;
    let columns = lines.first().and_then(|(_, cells)| header(cells));
    if columns.is_some() {
        lines.remove(0);
    }
    let (image, class) = columns.unwrap_or((0, 1));
    let mut given: Vec<(String, String)> = Vec::new();
    let mut known: HashMap<String, String> = HashMap::new();
    for (line, cells) in lines {
        let cell = |place: usize| cells.get(place).filter(|cell| !cell.is_empty());
        let (Some(image), Some(class)) = (cell(image), cell(class)) else {
            return Err(NeuralError::NoClass { line });
        };
        match known.insert(image.clone(), class.clone()) {
            None => given.push((image.clone(), class.clone())),
            Some(first) if first == *class => {}
            Some(first) => {
                return Err(NeuralError::TwoClasses {
                    name: crate::archive::shorten(image),
                    first: crate::archive::shorten(&first),
                    second: crate::archive::shorten(class),
                });
            }
        }
    }
    Labels::of(given)
}

/// Labels pictures by the folders they lie in: `train/cat/1.png` is a cat.
///
/// # Errors
/// A picture outside of any folder.
pub fn labels_by_folder(images: &[String]) -> Result<Labels, NeuralError> {
    let class = |image: &String| {
        let folder = image.rsplit(['/', '\\']).nth(1).filter(|f| !f.is_empty());
        let outside = || NeuralError::NoFolder(crate::archive::shorten(image));
        let folder = folder.ok_or_else(outside)?;
        Ok((image.clone(), folder.to_owned()))
    };
    let given: Result<Vec<_>, NeuralError> = images.iter().map(class).collect();
    Labels::of(given?)
}

/// The columns of image and class, where the first line names them.
fn header(cells: &[String]) -> Option<(usize, usize)> {
    let place = |role: Role| cells.iter().position(|c| Role::named(c) == Some(role));
    match (place(Role::Name), place(Role::Object)) {
        (Some(image), Some(class)) => Some((image, class)),
        (Some(0), None) => Some((0, 1)),
        (None, Some(1)) => Some((0, 1)),
        _ => None,
    }
}

impl Labels {
    fn of(given: Vec<(String, String)>) -> Result<Self, NeuralError> {
        if given.is_empty() {
            return Err(NeuralError::NoRows);
        }
        let classes: BTreeSet<&String> = given.iter().map(|(_, class)| class).collect();
        if classes.len() > usize::from(u16::MAX) {
            return Err(NeuralError::ManyClasses(classes.len()));
        }
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let number: HashMap<&str, u16> = classes.iter().map(String::as_str).zip(0..).collect();
        let label = |class: &String| number.get(class.as_str()).copied().unwrap_or_default();
        Ok(Self {
            labels: given.iter().map(|(_, class)| label(class)).collect(),
            images: given.into_iter().map(|(image, _)| image).collect(),
            classes,
        })
    }

    /// A label for each of these pictures, `[images]`, and how their names were matched.
    ///
    /// # Errors
    /// [`NeuralError::Unlabelled`] where a picture has none, [`NeuralError::EmptyClass`] where a
    /// class has none of the pictures.
    pub fn for_images(&self, images: &[String]) -> Result<(Vec<u16>, Matched), NeuralError> {
        let pairs = pairs(&self.images, images);
        let column = Column {
            name: "image".to_owned(),
            values: self.images.clone(),
        };
        let report = report(Some(&column), &pairs, images);
        if report.missing.count > 0 {
            return Err(NeuralError::Unlabelled {
                count: report.missing.count,
                first: Listed::to_string(&report.missing),
            });
        }
        let labels: Vec<u16> = pairs
            .iter()
            .filter_map(|(_, place, _)| self.labels.get(*place).copied())
            .collect();
        let used: BTreeSet<u16> = labels.iter().copied().collect();
        let mut numbered = (0u16..).zip(&self.classes);
        match numbered.find(|(number, _)| !used.contains(number)) {
            Some((_, class)) => Err(NeuralError::EmptyClass(crate::archive::shorten(class))),
            None => Ok((labels, report)),
        }
    }
}
