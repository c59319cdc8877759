//! How a file of responses was interpreted, in plain words, and which of its values can be used.

use serde::{Deserialize, Serialize};

use super::axes::AxisTaken;
use super::error::NeuralError;
use super::format::Format;
use super::left_out::LeftOut;
use super::matching::matched;
use super::names::{Listed, Matched};
use super::responses::Responses;

/// How a file of responses was interpreted. [`Interpretation::sentences`] says it in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interpretation {
    pub format: Format,
    /// `[stimuli, repetitions, neuroids]` as they were read.
    pub shape: [usize; 3],
    /// `[stimuli, repetitions, neuroids]` that can be used.
    pub kept: [usize; 3],
    /// How each axis of the file was interpreted.
    pub axes: Vec<AxisTaken>,
    /// Sentences on what the reader left out or chose.
    pub notes: Vec<String>,
    /// What lies beside the responses in the file and is not used.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// How names were matched; `None` where there are no pictures to match.
    pub names: Option<Matched>,
    /// Fewest and most repetitions that a stimulus was recorded in.
    pub repetitions: [usize; 2],
    pub not_finite: NotFinite,
    /// Stimuli left out because a neuroid that is kept has no number for them.
    pub unrecorded_stimuli: Listed,
    /// Neuroids left out because they have no number for more than half of the stimuli.
    pub unrecorded_neuroids: Listed,
    /// Neuroids left out because they respond to all stimuli alike.
    pub constant_neuroids: Listed,
    /// Regions of the neuroids that are kept, by name.
    pub regions: Vec<Region>,
}

/// Values that are not finite. A repetition without any finite value was not recorded, and does not
/// count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotFinite {
    pub nan: usize,
    pub infinite: usize,
    /// How many stimuli have such values.
    pub stimuli: usize,
    /// The first few of these and how many each has.
    pub first: Vec<(String, usize)>,
}

/// A region and how many of the neuroids that are kept lie in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    pub name: String,
    pub neuroids: usize,
}

/// Responses that can be used, and the pictures they are to.
#[derive(Clone, Debug, PartialEq)]
pub struct Aligned {
    /// In the order of the pictures, where there are any; every stimulus has a number for every
    /// neuroid in at least one repetition.
    pub responses: Responses,
    /// The picture of each stimulus, by its place in the names that were given; without names, the
    /// place of the stimulus in the file.
    pub images: Vec<usize>,
}

/// Matches responses with pictures and leaves out what cannot be used.
///
/// Names match letter by letter, then without folders, then without endings, then whatever the
/// case; responses without names match by order where there are as many as pictures and nothing else
/// can have been meant. Without `image_names` all stimuli stay, in the order of the file.
///
/// # Errors
/// No name matches or the counts differ (with a hint where the axes lie the other way round); an
/// order that may not be the pictures'; no numbers; all neuroids constant; fewer than two stimuli left.
pub fn interpret(
    responses: &Responses,
    image_names: Option<&[String]>,
) -> Result<(Interpretation, Aligned), NeuralError> {
    let (places, names) = match image_names {
        Some(images) => matched(responses, images)?,
        None => ((0..responses.shape[0]).map(|i| (i, i)).collect(), None),
    };
    let stimuli: Vec<usize> = places.iter().map(|(_, stimulus)| *stimulus).collect();
    let ordered = responses.keep_stimuli(&stimuli);
    let usable = Usable::of(&ordered)?;
    let kept = ordered
        .keep_stimuli(&usable.stimuli)
        .keep_neuroids(&usable.neuroids);
    let images = usable.stimuli.iter().filter_map(|i| places.get(*i));
    let interpretation = Interpretation {
        format: responses.origin.format,
        shape: responses.shape,
        kept: kept.shape,
        axes: responses.origin.axes.clone(),
        notes: responses.origin.notes.clone(),
        left_out: responses.origin.left_out.clone(),
        names,
        repetitions: repetitions(&ordered),
        not_finite: not_finite(&ordered),
        unrecorded_stimuli: called(&usable.lost_stimuli, |i| stimulus_name(&ordered, i)),
        unrecorded_neuroids: called(&usable.lost_neuroids, |i| neuroid_name(&ordered, i)),
        constant_neuroids: called(&usable.constant, |i| neuroid_name(&ordered, i)),
        regions: regions(&kept),
    };
    let aligned = Aligned {
        images: images.map(|(image, _)| *image).collect(),
        responses: kept,
    };
    Ok((interpretation, aligned))
}

/// Which stimuli and neuroids can be used.
#[derive(Debug, Default)]
struct Usable {
    stimuli: Vec<usize>,
    neuroids: Vec<usize>,
    lost_stimuli: Vec<usize>,
    lost_neuroids: Vec<usize>,
    constant: Vec<usize>,
}

impl Usable {
    /// Leaves out neuroids that were hardly recorded, then stimuli without a number for one of the
    /// others, then neuroids that do not vary.
    fn of(responses: &Responses) -> Result<Self, NeuralError> {
        let [stimuli, _, neuroids] = responses.shape;
        let mean = responses.mean();
        let value = |stimulus: usize, neuroid: usize| mean[stimulus * neuroids + neuroid];
        if mean.iter().all(|v| !v.is_finite()) {
            return Err(NeuralError::AllNan);
        }
        let gaps = |n: &usize| (0..stimuli).filter(|s| !value(*s, *n).is_finite()).count();
        let (lost_neuroids, recorded): (Vec<usize>, Vec<usize>) =
            (0..neuroids).partition(|n| 2 * gaps(n) > stimuli);
        let is_whole = |s: &usize| recorded.iter().all(|n| value(*s, *n).is_finite());
        let (kept, lost_stimuli): (Vec<usize>, Vec<usize>) = (0..stimuli).partition(is_whole);
        if kept.len() < 2 || recorded.is_empty() {
            return Err(NeuralError::TooFew {
                stimuli: kept.len(),
                neuroids: recorded.len(),
            });
        }
        let first = kept.first().copied().unwrap_or_default();
        let is_constant = |n: &usize| kept.iter().all(|s| value(*s, *n) == value(first, *n));
        let (constant, varying): (Vec<usize>, Vec<usize>) =
            recorded.into_iter().partition(is_constant);
        match varying.is_empty() {
            true => Err(NeuralError::AllConstant),
            false => Ok(Self {
                stimuli: kept,
                neuroids: varying,
                lost_stimuli,
                lost_neuroids,
                constant,
            }),
        }
    }
}

fn called(indices: &[usize], name: impl Fn(usize) -> String) -> Listed {
    Listed::of(indices.iter().map(|i| name(*i)))
}

fn stimulus_name(responses: &Responses, index: usize) -> String {
    let name = responses.stimuli().and_then(|names| names.get(index));
    name.map_or_else(|| format!("number {index}"), Clone::clone)
}

fn neuroid_name(responses: &Responses, index: usize) -> String {
    let name = responses.neuroids().and_then(|names| names.get(index));
    name.map_or_else(|| format!("number {index}"), Clone::clone)
}

/// Fewest and most repetitions that hold a number.
fn repetitions(responses: &Responses) -> [usize; 2] {
    let [_, repetitions, neuroids] = responses.shape;
    let stimuli = responses
        .values
        .chunks_exact((repetitions * neuroids).max(1));
    let counts = stimuli.map(|values| {
        let rows = values.chunks_exact(neuroids.max(1));
        rows.filter(|row| row.iter().any(|v| v.is_finite())).count()
    });
    let (least, most) = counts.fold((usize::MAX, 0), |(l, m), n| (l.min(n), m.max(n)));
    [least.min(most), most]
}

fn not_finite(responses: &Responses) -> NotFinite {
    const MOST: usize = 5;
    let [_, repetitions, neuroids] = responses.shape;
    let mut found = NotFinite::default();
    let stimuli = responses
        .values
        .chunks_exact((repetitions * neuroids).max(1));
    for (index, values) in stimuli.enumerate() {
        let recorded = values
            .chunks_exact(neuroids.max(1))
            .filter(|row| repetitions == 1 || row.iter().any(|v| !v.is_nan()))
            .flatten();
        let (nan, infinite) = recorded.fold((0, 0), |(nan, infinite), v| {
            (
                nan + usize::from(v.is_nan()),
                infinite + usize::from(v.is_infinite()),
            )
        });
        if nan + infinite == 0 {
            continue;
        }
        found.nan += nan;
        found.infinite += infinite;
        found.stimuli += 1;
        if found.first.len() < MOST {
            let name = crate::archive::shorten(&stimulus_name(responses, index));
            found.first.push((name, nan + infinite));
        }
    }
    found
}

fn regions(responses: &Responses) -> Vec<Region> {
    let mut counts = std::collections::BTreeMap::new();
    for region in responses.regions().unwrap_or_default() {
        *counts.entry(crate::archive::shorten(region)).or_insert(0) += 1;
    }
    let counts = counts.into_iter();
    counts
        .map(|(name, neuroids)| Region { name, neuroids })
        .collect()
}

impl Interpretation {
    /// The interpretation in plain sentences.
    pub fn sentences(&self) -> Vec<String> {
        let [stimuli, _, neuroids] = self.shape;
        let mut all = vec![format!(
            "This is {}: {stimuli} stimuli, {}, {neuroids} neuroids.",
            self.format.name(),
            self.repetitions_said()
        )];
        all.extend(self.axes.iter().map(axis_said));
        all.extend(self.notes.iter().map(|note| sentence(note)));
        all.extend(self.names.iter().flat_map(names_said));
        all.extend(self.values_said());
        if !self.regions.is_empty() {
            let each = self.regions.iter();
            let each: Vec<String> = each.map(|r| format!("{} {}", r.name, r.neuroids)).collect();
            all.push(format!("Neuroids by region: {}.", each.join(", ")));
        }
        let [stimuli, _, neuroids] = self.kept;
        all.push(format!(
            "To be used: {stimuli} stimuli x {neuroids} neuroids."
        ));
        all
    }

    fn repetitions_said(&self) -> String {
        match self.repetitions {
            [1, 1] => "one repetition".to_owned(),
            [least, most] if least == most => format!("{most} repetitions"),
            [least, most] => format!("{least} to {most} repetitions"),
        }
    }

    fn values_said(&self) -> Vec<String> {
        let mut all = Vec::new();
        let NotFinite {
            nan,
            infinite,
            stimuli,
            first,
        } = &self.not_finite;
        if *stimuli > 0 {
            let first: Vec<String> = first.iter().map(|(n, c)| format!("{n} ({c})")).collect();
            all.push(format!(
                "Of the values, {nan} are not a number and {infinite} infinite, in {stimuli} \
                 stimuli: {}{}.",
                first.join(", "),
                if first.len() < *stimuli { ", …" } else { "" }
            ));
        }
        all.extend(counted(&[
            (
                &self.unrecorded_neuroids,
                "Neuroids left out because they have no number for more than half of the stimuli",
            ),
            (
                &self.unrecorded_stimuli,
                "Stimuli left out because a neuroid has no number for them",
            ),
            (
                &self.constant_neuroids,
                "Neuroids left out because they respond to all stimuli alike",
            ),
        ]));
        all
    }
}

/// "Stimuli without a picture: 2 (a, b)." for each that are any.
fn counted(lists: &[(&Listed, &str)]) -> Vec<String> {
    let any = lists.iter().filter(|(listed, _)| listed.count > 0);
    let said = any.map(|(Listed { count, first }, what)| {
        let more = if first.len() < *count { ", …" } else { "" };
        format!("{what}: {count} ({}{more}).", first.join(", "))
    });
    said.collect()
}

fn axis_said(axis: &AxisTaken) -> String {
    let AxisTaken { name, size, .. } = axis;
    let what = axis.axis.plural();
    format!("`{name}` ({size}) was taken for the {what}: {}.", axis.why)
}

fn names_said(names: &Matched) -> Vec<String> {
    let by: Vec<String> = names
        .by
        .iter()
        .map(|(rule, count)| format!("{count} {}", rule.says()))
        .collect();
    let column = match &names.column {
        Some(column) => format!(" (the stimuli are named by `{column}`)"),
        None => String::new(),
    };
    let mut all = vec![format!(
        "Stimuli with a picture: {}, {}{column}.",
        names.count,
        by.join(", "),
    )];
    all.extend(counted(&[
        (&names.missing, "Pictures without responses"),
        (&names.extra, "Stimuli without a picture"),
    ]));
    all
}

/// A note as a sentence.
fn sentence(note: &str) -> String {
    let mut letters = note.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", letters.as_str())
}
