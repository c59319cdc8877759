//! The order of the axes of an array.

use super::axes::{Axis, AxisTaken, numbered};
use super::error::NeuralError;

/// The axes of an array that does not name them, first to last: as the user gave them, or in the
/// usual order.
///
/// # Errors
/// [`NeuralError::Axes`] for four axes or more, [`NeuralError::AxesAlike`] where the last two of three are
/// of one length, and as [`as_given`].
pub(super) fn unnamed(
    shape: &[usize],
    given: Option<&[Axis]>,
) -> Result<Vec<AxisTaken>, NeuralError> {
    use Axis::{Neuroid, Repetition, Stimulus};
    if let Some(given) = given {
        return as_given(shape, given);
    }
    // Nothing tells repetitions and neuroids apart, nor either from the rows of heat maps.
    if let [_, repetitions, neuroids] = *shape
        && repetitions == neuroids
        && neuroids > 1
    {
        return Err(NeuralError::AxesAlike {
            shape: shape.to_vec(),
        });
    }
    let usual: &[Axis] = match shape.len() {
        1 => &[Stimulus],
        2 => &[Stimulus, Neuroid],
        3 => &[Stimulus, Repetition, Neuroid],
        _ => {
            return Err(NeuralError::Axes {
                shape: shape.to_vec(),
            });
        }
    };
    let why = match shape.len() {
        1 => "an array of one axis has a value a stimulus",
        2 => "an array of two axes is stimuli x neuroids",
        _ => "an array of three axes is stimuli x repetitions x neuroids",
    };
    let mut axes = numbered(shape, usual, why);
    axes.iter_mut().for_each(|axis| axis.usual = true);
    Ok(axes)
}

/// The axes as the user gave them.
///
/// # Errors
/// [`NeuralError::AxesCount`] where their number is not that of the array.
pub(super) fn as_given(shape: &[usize], given: &[Axis]) -> Result<Vec<AxisTaken>, NeuralError> {
    match given.len() == shape.len() {
        true => Ok(numbered(shape, given, "you named it so")),
        false => Err(NeuralError::AxesCount {
            given: given.len(),
            found: shape.len(),
            shape: shape.to_vec(),
        }),
    }
}
