//! Image by image: which are lost, and what they are taken for.

use std::collections::BTreeMap;

use serde_bytes::ByteBuf;

use super::Row;
use super::report::Report;
use super::summary::{Action, FragileImage};
use crate::experiment::table::Table;

/// How often each answer was given to the images of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    pub model: String,
    pub condition: String,
    counts: BTreeMap<(u16, u16), usize>,
}

impl Confusion {
    /// One more than the highest class there is.
    pub fn classes(&self) -> usize {
        let highest = self
            .counts
            .keys()
            .map(|(label, answer)| label.max(answer))
            .max();
        highest.map_or(0, |class| usize::from(*class) + 1)
    }

    /// Images of a class.
    pub fn of(&self, label: usize) -> usize {
        let own = self
            .counts
            .iter()
            .filter(|((l, _), _)| usize::from(*l) == label);
        own.map(|(_, count)| count).sum()
    }

    /// Images of a class that were given an answer.
    pub fn count(&self, label: usize, answer: usize) -> usize {
        let key = u16::try_from(label).ok().zip(u16::try_from(answer).ok());
        let found = key.and_then(|key| self.counts.get(&key));
        found.copied().unwrap_or(0)
    }

    /// The wrong answers given most often: class, answer, images.
    pub fn worst(&self, most: usize) -> Vec<(u16, u16, usize)> {
        let wrong = self
            .counts
            .iter()
            .filter(|((label, answer), _)| label != answer);
        let mut wrong: Vec<_> = wrong.map(|((l, a), count)| (*l, *a, *count)).collect();
        wrong.sort_by_key(|(l, a, count)| (std::cmp::Reverse(*count), *l, *a));
        wrong.truncate(most);
        wrong
    }
}

/// The answers of a model in a condition.
pub fn confusion(rows: &[Row], model: &str, condition: &str) -> Confusion {
    let mut counts = BTreeMap::new();
    let own = rows
        .iter()
        .filter(|r| r.model == model && r.condition == condition);
    for row in own {
        *counts.entry((row.label, row.prediction)).or_insert(0) += 1;
    }
    Confusion {
        model: model.to_owned(),
        condition: condition.to_owned(),
        counts,
    }
}

impl Report {
    /// The images that `model` gets wrong in most conditions, the worst first, `most` of them.
    /// `rows` are those the report is of; `names` are the classes', where they are known.
    pub fn lost(
        &self,
        rows: &[Row],
        model: &str,
        most: usize,
        names: &[String],
    ) -> Vec<FragileImage> {
        let own = self.models.iter().find(|m| m.name == model);
        let accuracy: BTreeMap<&str, f64> = own
            .into_iter()
            .flat_map(|m| &m.cells)
            .map(|cell| (cell.condition.as_str(), cell.accuracy.value))
            .collect();
        let mildness = |row: &Row| accuracy.get(row.condition.as_str()).copied().unwrap_or(0.0);
        let mut images: BTreeMap<u32, (usize, Option<&Row>, usize)> = BTreeMap::new();
        for row in rows.iter().filter(|r| r.model == model) {
            let (wrong, mildest, of) = images.entry(row.image).or_default();
            *of += 1;
            if row.right >= 0.5 {
                continue;
            }
            *wrong += 1;
            if mildest.is_none_or(|known| mildness(row) > mildness(known)) {
                *mildest = Some(row);
            }
        }
        let lost = |(image, (wrong, mildest, of)): (u32, (usize, Option<&Row>, usize))| {
            let row = mildest?;
            Some(FragileImage {
                image,
                label: class_name(row.label, names),
                prediction: class_name(row.prediction, names),
                condition: row.condition.clone(),
                wrong,
                of,
                action: Action::None,
                png: ByteBuf::new(),
            })
        };
        let mut all: Vec<FragileImage> = images.into_iter().filter_map(lost).collect();
        // As often wrong, but already in a milder condition: worse.
        let rank = |l: &FragileImage| accuracy.get(l.condition.as_str()).copied().unwrap_or(0.0);
        all.sort_by(|a, b| (b.wrong.cmp(&a.wrong)).then(rank(b).total_cmp(&rank(a))));
        all.truncate(most);
        all
    }

    /// The condition in which a model gets the fewest images right, where it is not the clean one.
    pub fn hardest(&self, model: &str) -> Option<&str> {
        let own = self.models.iter().find(|m| m.name == model)?;
        let cells = own.cells.iter().filter(|c| c.condition != "clean");
        let hardest = cells.min_by(|a, b| a.accuracy.value.total_cmp(&b.accuracy.value));
        hardest.map(|cell| cell.condition.as_str())
    }
}

/// A class by its name, or its number where it has none.
pub fn class_name(class: u16, names: &[String]) -> String {
    let found = names.get(usize::from(class));
    found.cloned().unwrap_or_else(|| class.to_string())
}

/// A line for each lost image.
pub fn lost_table(lost: &[FragileImage]) -> Table {
    let head = [
        "image",
        "class",
        "wrong in",
        "mildest of these",
        "answer there",
    ];
    let line = |l: &FragileImage| {
        vec![
            l.image.to_string(),
            l.label.clone(),
            format!("{} of {}", l.wrong, l.of),
            l.condition.clone(),
            l.prediction.clone(),
        ]
    };
    Table {
        head: head.map(str::to_owned).into(),
        rows: lost.iter().map(line).collect(),
    }
}

/// The wrong answers given most often, clean and in another condition.
pub fn confusion_table(found: &Confusion, names: &[String]) -> Table {
    let line = |(label, answer, count): (u16, u16, usize)| {
        let of = found.of(usize::from(label));
        let (label, answer) = (class_name(label, names), class_name(answer, names));
        vec![label, answer, format!("{count} of {of}")]
    };
    Table {
        head: ["class", "answer", "images"].map(str::to_owned).into(),
        rows: found.worst(10).into_iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    fn row(condition: &str, image: u32, prediction: u16) -> Row {
        Row {
            model: "a".to_owned(),
            seed: 0,
            condition: condition.to_owned(),
            image,
            label: 1,
            prediction,
            right: f32::from(u8::from(prediction == 1)),
            passes: 1,
            l1: 0.0,
            l2: 0.0,
            linf: 0.0,
            areas: Vec::new(),
            part: None,
        }
    }

    #[test]
    fn the_worst_images_come_first_with_what_fooled_them_most_mildly() {
        let text = "version = 1\nname = \"t\"\nmodels = [\"a\"]\nimages = 4\n\
                    [[corruptions]]\nkinds = [\"fog\"]\nseverities = [1, 5]";
        let plan = Plan::parse(text).expect("it is sound");
        // Image 0 always stands; 1 falls to the strong fog, 2 to both, 3 is wrong when clean.
        let answers = [
            ("clean", [1, 1, 1, 7]),
            ("fog 1", [1, 1, 2, 1]),
            ("fog 5", [1, 3, 2, 1]),
        ];
        let each = |(condition, answers): (&str, [u16; 4])| {
            let rows = (0..)
                .zip(answers)
                .map(|(image, answer)| row(condition, image, answer));
            rows.collect::<Vec<Row>>()
        };
        let rows: Vec<Row> = answers.into_iter().flat_map(each).collect();
        let report = Report::new(&plan, &rows, 4).expect("it is sound");
        let lost = report.lost(&rows, "a", 9, &[]);
        let told: Vec<_> = lost
            .iter()
            .map(|l| {
                let prediction: u16 = l.prediction.parse().expect("a number");
                (l.image, l.wrong, l.of, l.condition.as_str(), prediction)
            })
            .collect();
        // Of two that fall once, the one that is wrong in the milder condition is the worse.
        let expected = [
            (2, 2, 3, "fog 1", 2),
            (3, 1, 3, "clean", 7),
            (1, 1, 3, "fog 5", 3),
        ];
        assert_eq!(told, expected);
        assert_eq!(report.lost(&rows, "a", 1, &[]), lost[..1]);
        assert_eq!(report.hardest("a"), Some("fog 5"));
        let found = confusion(&rows, "a", "fog 5");
        assert_eq!((found.classes(), found.of(1), found.count(1, 1)), (4, 4, 2));
        assert_eq!(found.worst(9), [(1, 2, 1), (1, 3, 1)]);
        let names = ["cat".to_owned(), "dog".to_owned()];
        let lost = report.lost(&rows, "a", 9, &names);
        assert_eq!(
            lost_table(&lost).rows[0][1..],
            ["dog", "2 of 3", "fog 1", "2"]
        );
    }
}
