//! Which picture each stimulus is to: by name, or by order where nothing else can have been meant.

use super::axes::{Axis, AxisTaken};
use super::error::NeuralError;
use super::left_out::LeftOut;
use super::names::{Column, Matched, Rule, listed, natural_order, pairs, report};
use super::responses::Responses;

/// Pairs of (picture, stimulus) in the order of the pictures.
pub(super) type Places = Vec<(usize, usize)>;

/// # Errors
/// No name matches; counts that differ; an order that may not be the pictures'.
pub(super) fn matched(
    responses: &Responses,
    images: &[String],
) -> Result<(Places, Option<Matched>), NeuralError> {
    let named = responses.names.iter();
    let best = match best(named, images, 1) {
        Some(best) => Some(best),
        None => unclaimed(responses, images),
    };
    match best {
        Some((places, report)) => Ok((places, Some(report))),
        None if responses.names.is_empty() => by_order(responses, images),
        None => {
            check_turned(responses, images)?;
            Err(NeuralError::NoMatch {
                stimuli: listed(responses.stimuli().unwrap_or_default()),
                images: listed(images),
            })
        }
    }
}

/// The first of the columns that match best, where at least `least` names match.
fn best<'a>(
    columns: impl DoubleEndedIterator<Item = &'a Column>,
    images: &[String],
    least: usize,
) -> Option<(Places, Matched)> {
    let all = columns.map(|column| (column, pairs(&column.values, images)));
    let (column, pairs) = all.rev().max_by_key(|(_, pairs)| pairs.len())?;
    if pairs.len() < least {
        return None;
    }
    let report = report(Some(column), &pairs, images);
    let places = pairs.iter().map(|(image, stimulus, _)| (*image, *stimulus));
    Some((places.collect(), report))
}

/// Text whose name says nothing names the stimuli where most of it are names of pictures.
fn unclaimed(responses: &Responses, images: &[String]) -> Option<(Places, Matched)> {
    let stimuli = responses.shape[0];
    let columns: Vec<Column> = responses
        .origin
        .left_out
        .iter()
        .filter_map(|left| {
            let values = left.entries.as_ref().filter(|all| all.len() == stimuli)?;
            Some(Column {
                name: left.name.clone(),
                values: values.clone(),
            })
        })
        .collect();
    best(columns.iter(), images, stimuli.min(images.len()) / 2 + 1)
}

fn by_order(
    responses: &Responses,
    images: &[String],
) -> Result<(Places, Option<Matched>), NeuralError> {
    let stimuli = responses.shape[0];
    if stimuli != images.len() {
        check_turned(responses, images)?;
        return Err(NeuralError::Count {
            stimuli,
            images: images.len(),
        });
    }
    if !responses.origin.by_order {
        check_order(responses, images)?;
    }
    let pairs: Vec<_> = (0..stimuli).map(|i| (i, i, Rule::Order)).collect();
    let report = report(None, &pairs, images);
    Ok((pairs.iter().map(|p| (p.0, p.1)).collect(), Some(report)))
}

/// Whether nothing but the order of the pictures can have been meant.
fn check_order(responses: &Responses, images: &[String]) -> Result<(), NeuralError> {
    let may_name = responses.origin.left_out.iter().filter(|l| l.may_name);
    let said = |left: &LeftOut| format!("`{}` ({})", left.name, left.reason);
    let found: Vec<String> = may_name.map(said).collect();
    if !found.is_empty() {
        let found = listed(&found);
        return Err(NeuralError::NotByOrder { found });
    }
    let axes = &responses.origin.axes;
    let as_many = axes.iter().filter(|a| a.usual && a.size == images.len());
    if images.len() > 1 && as_many.count() > 1 {
        return Err(NeuralError::AnyAxis {
            images: images.len(),
            shape: axes.iter().map(|a| a.size).collect(),
            axes: named(axes.iter().map(|a| a.axis)),
        });
    }
    match natural_order(images) {
        Some((first, second)) => Err(NeuralError::TwoOrders { first, second }),
        None => Ok(()),
    }
}

/// Whether another axis has what the pictures have: their names, or their number.
fn check_turned(responses: &Responses, images: &[String]) -> Result<(), NeuralError> {
    let axes = &responses.origin.axes;
    if let Some(ids) = responses.neuroids() {
        let found = pairs(ids, images).len();
        if 2 * found > images.len() {
            return Err(NeuralError::Transposed {
                why: format!("what was taken for {found} neuroids has the names of pictures"),
                axes: turned(axes, Axis::Neuroid),
            });
        }
    }
    let count = images.len();
    let of_pictures = axes.iter().find(|axis| {
        axis.size == count && count > 1 && matches!(axis.axis, Axis::Neuroid | Axis::Repetition)
    });
    match of_pictures.filter(|_| responses.names.is_empty()) {
        Some(axis) => Err(NeuralError::Transposed {
            why: format!(
                "there are {count} pictures and as many {}",
                axis.axis.plural()
            ),
            axes: turned(axes, axis.axis),
        }),
        None => Ok(()),
    }
}

/// The file's axes where the one that was taken for `taken` is that of the stimuli; each way that
/// the others can be meant.
fn turned(axes: &[AxisTaken], taken: Axis) -> String {
    let with = |others: &[Axis]| {
        let mut others = others.iter().copied();
        named(axes.iter().map(|axis| match axis.axis {
            it if it == taken => Axis::Stimulus,
            Axis::TimeBin => Axis::TimeBin,
            _ => others.next().unwrap_or(Axis::Neuroid),
        }))
    };
    let others = axes.iter().filter(|a| a.axis != Axis::TimeBin).count();
    match others {
        3 => format!(
            "{} or {}, whichever they are",
            with(&[Axis::Neuroid, Axis::Repetition]),
            with(&[Axis::Repetition, Axis::Neuroid])
        ),
        _ => with(&[Axis::Neuroid]),
    }
}

/// `stimulus,neuroid,time_bin`, as they are given on the command line.
fn named(axes: impl Iterator<Item = Axis>) -> String {
    let names = axes.map(|axis| axis.name().replace(' ', "_"));
    names.collect::<Vec<_>>().join(",")
}
