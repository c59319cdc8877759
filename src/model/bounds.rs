//! Ranges that the numbers of a configuration must keep: a configuration may come from a file that
//! anybody made, so they are checked before anything is allocated or divided by them.

/// A number of a configuration that no network can be built with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the architecture asks for {what} = {value}, which must be from {low} to {high}")]
pub struct ConfigError {
    pub what: &'static str,
    pub value: usize,
    pub low: usize,
    pub high: usize,
}

/// Lowest and highest value, both allowed.
pub type Range = (usize, usize);

/// Channels, features, planes.
pub const WIDTH: Range = (1, 16_384);
/// Side of a filter, px.
pub const KERNEL: Range = (1, 127);
pub const STRIDE: Range = (1, 16);
/// Time steps of a recurrent area.
pub const STEPS: Range = (1, 64);

/// Collects checks and keeps the first that fails.
#[derive(Default)]
pub struct Bounds(Option<ConfigError>);

impl Bounds {
    pub fn check(&mut self, what: &'static str, value: usize, (low, high): Range) {
        if self.0.is_none() && !(low..=high).contains(&value) {
            self.0 = Some(ConfigError {
                what,
                value,
                low,
                high,
            });
        }
    }

    pub fn check_all(
        &mut self,
        what: &'static str,
        values: impl IntoIterator<Item = usize>,
        range: Range,
    ) {
        for value in values {
            self.check(what, value, range);
        }
    }

    /// # Errors
    /// The first value outside of its range.
    pub fn result(self) -> Result<(), ConfigError> {
        self.0.map_or(Ok(()), Err)
    }
}

/// A flag of a checkpoint that no network can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file's setting `{name}` is {found}, which must be from {least} to {most}")]
pub struct SettingError {
    name: &'static str,
    found: String,
    least: String,
    most: String,
}

/// Checks a real number; NaN is in no range.
///
/// # Errors
/// A number outside of `least..=most`.
pub fn check_setting(
    name: &'static str,
    found: f64,
    least: f64,
    most: f64,
) -> Result<(), SettingError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(SettingError {
        name,
        found: found.to_string(),
        least: least.to_string(),
        most: most.to_string(),
    })
}
