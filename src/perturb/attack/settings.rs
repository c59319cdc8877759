//! Settings of attacks by name: the one type they have from the command line, the page and plans
//! to the loop that uses them.
//!
//! [`SETTINGS`] is the table of them: a setting that no attack had before is a new row.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::norm::Norm;

/// A setting that attacks may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Eps,
    Steps,
    RelStep,
    RandomStart,
    Restarts,
    Queries,
}

/// The values a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// In the norm of pixels in [0, 1]; written `0.5` or `8/255`.
    Radius,
    /// A whole number.
    Count,
    Fraction,
    /// On or off.
    Switch,
}

/// A row of [`SETTINGS`].
#[derive(Clone, Copy, Debug)]
pub struct SettingInfo {
    pub setting: Setting,
    /// In plans and as a flag, in kebab case.
    pub name: &'static str,
    /// Its label in a form.
    pub title: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    pub unit: Unit,
    /// Smallest and largest value that a form offers, and the step between them.
    pub range: [f64; 3],
}

/// All settings but the norm, in the order of [`Setting`].
#[rustfmt::skip]
pub const SETTINGS: [SettingInfo; 6] = [
    row(Setting::Eps, "eps", "Radius ε", "Radius, in the norm of pixels in [0, 1]: `8/255` or `0.5`.", Unit::Radius, [0.0, 1.0, 0.001]),
    row(Setting::Steps, "steps", "Steps", "Steps, or most of them; the attack's usual number unless given.", Unit::Count, [1.0, 20_000.0, 1.0]),
    row(Setting::RelStep, "rel-step", "Step ÷ ε", "Step length as a fraction of the radius, as Foolbox has it.", Unit::Fraction, [0.01, 1.0, 0.01]),
    row(Setting::RandomStart, "random-start", "Start from a random point", "Start from a random point of the ball instead of the image itself.", Unit::Switch, [0.0, 1.0, 1.0]),
    row(Setting::Restarts, "restarts", "Restarts", "Runs from different random points; images that have fallen are not run again.", Unit::Count, [1.0, 100.0, 1.0]),
    row(Setting::Queries, "queries", "Queries", "Passes an image may take.", Unit::Count, [1.0, 20_000.0, 1.0]),
];

/// The keys of a document.
const KEYS: [&str; 1 + SETTINGS.len()] = {
    let mut keys = ["norm"; 1 + SETTINGS.len()];
    let mut i = 0;
    while i < SETTINGS.len() {
        keys[i + 1] = SETTINGS[i].name;
        i += 1;
    }
    keys
};

const fn row(
    setting: Setting,
    name: &'static str,
    title: &'static str,
    help: &'static str,
    unit: Unit,
    range: [f64; 3],
) -> SettingInfo {
    SettingInfo {
        setting,
        name,
        title,
        help,
        unit,
        range,
    }
}

/// A value that is not one of a setting. The message is a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("`{0}` is no radius; write a number such as 0.5 or a fraction such as 8/255")]
    Radius(String),
    #[error("`{0}` is not one of linf, l2, l1")]
    Norm(String),
    #[error("`{text}` is no value of {setting}, which is a number of at least 0")]
    Number { setting: &'static str, text: String },
}

impl Setting {
    pub fn info(self) -> &'static SettingInfo {
        &SETTINGS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// A value as people write it.
    ///
    /// # Errors
    /// [`ValueError`]: not a number of this kind.
    pub fn parse(self, text: &str) -> Result<f64, ValueError> {
        let info = self.info();
        let value = match info.unit {
            Unit::Radius => return Ok(f64::from(parse_radius(text)?)),
            Unit::Count => text.parse::<u32>().ok().map(f64::from),
            Unit::Fraction => text.parse::<f32>().ok().map(f64::from),
            Unit::Switch => text.parse::<bool>().ok().map(f64::from),
        };
        value.ok_or_else(|| ValueError::Number {
            setting: info.name,
            text: text.to_owned(),
        })
    }
}

/// A radius as people write it: `0.5` or `8/255`.
///
/// # Errors
/// [`ValueError::Radius`], for what is neither or is no number of at least 0.
pub fn parse_radius(text: &str) -> Result<f32, ValueError> {
    let number = |text: &str| text.trim().parse::<f32>().ok();
    let radius = match text.split_once('/') {
        Some((above, below)) => number(above).zip(number(below)).map(|(a, b)| a / b),
        None => number(text),
    };
    let sound = radius.filter(|r| r.is_finite() && *r >= 0.0);
    sound.ok_or_else(|| ValueError::Radius(text.to_owned()))
}

/// Settings of an attack. What is absent has the attack's usual value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub norm: Option<Norm>,
    /// By [`Setting`].
    values: [Option<f64>; SETTINGS.len()],
}

impl Settings {
    /// These values and no others.
    pub fn of<const N: usize>(values: [(Setting, f64); N]) -> Self {
        let mut settings = Self::default();
        for (setting, value) in values {
            settings.set(setting, value);
        }
        settings
    }

    /// The same in a norm.
    pub fn in_norm(self, norm: Norm) -> Self {
        Self {
            norm: Some(norm),
            ..self
        }
    }

    pub fn get(&self, setting: Setting) -> Option<f64> {
        self.values[setting as usize]
    }

    /// A switch that is off is absent.
    pub fn set(&mut self, setting: Setting, value: f64) {
        let off = setting.info().unit == Unit::Switch && value == 0.0;
        self.values[setting as usize] = (!off).then_some(value);
    }

    /// The settings that have a value.
    pub fn given(&self) -> impl Iterator<Item = (&'static SettingInfo, f64)> {
        let values = SETTINGS.iter().zip(self.values);
        values.filter_map(|(info, value)| value.map(|value| (info, value)))
    }

    /// The norm; L∞ where there is none.
    pub(super) fn norm(&self) -> Norm {
        self.norm.unwrap_or_default()
    }

    pub(super) fn is_on(&self, switch: Setting) -> bool {
        self.get(switch).is_some()
    }

    /// A value that is known to be there; 0 otherwise.
    pub(super) fn number(&self, setting: Setting) -> f32 {
        self.get(setting).unwrap_or_default() as f32
    }

    /// A count that is known to be there; 0 otherwise.
    pub(super) fn count(&self, setting: Setting) -> usize {
        self.get(setting).unwrap_or_default() as usize
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = usize::from(self.norm.is_some()) + self.given().count();
        let mut fields = serializer.serialize_struct("Settings", length)?;
        if let Some(norm) = self.norm {
            fields.serialize_field(KEYS[0], &norm)?;
        }
        for (info, value) in self.given() {
            match info.unit {
                Unit::Radius | Unit::Fraction => fields.serialize_field(info.name, &(value as f32)),
                Unit::Count => fields.serialize_field(info.name, &(value as u32)),
                Unit::Switch => fields.serialize_field(info.name, &(value != 0.0)),
            }?;
        }
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a struct, so that other fields of a document may stand beside these.
        deserializer.deserialize_struct("Settings", &KEYS, Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings of an attack")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
        let mut settings = Settings::default();
        while let Some(key) = map.next_key::<String>()? {
            let Some(info) = SETTINGS.iter().find(|info| info.name == key) else {
                match key == KEYS[0] {
                    true => settings.norm = Some(map.next_value()?),
                    false => return Err(serde::de::Error::unknown_field(&key, &KEYS)),
                }
                continue;
            };
            let value = match info.unit {
                Unit::Radius | Unit::Fraction => f64::from(map.next_value::<f32>()?),
                Unit::Count => f64::from(map.next_value::<u32>()?),
                Unit::Switch => f64::from(map.next_value::<bool>()?),
            };
            settings.set(info.setting, value);
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_their_settings() {
        for (place, info) in SETTINGS.iter().enumerate() {
            assert_eq!(info.setting as usize, place, "{}", info.name);
            assert!(info.help.ends_with('.') && !info.title.is_empty());
        }
    }

    #[test]
    fn settings_are_documents() {
        let settings = Settings::of([
            (Setting::Steps, 8.0),
            (Setting::RelStep, f64::from(0.1_f32)),
            (Setting::RandomStart, 1.0),
            (Setting::Queries, 0.0),
        ])
        .in_norm(Norm::L2);
        let text = serde_json::to_string(&settings).unwrap();
        let expected = r#"{"norm":"l2","steps":8,"rel-step":0.1,"random-start":true,"queries":0}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        let off: Settings = serde_json::from_str(r#"{"random-start":false}"#).unwrap();
        assert_eq!(off, Settings::default());
        for wrong in [r#"{"step":1}"#, r#"{"steps":-1}"#, r#"{"steps":1.5}"#, "[]"] {
            assert!(serde_json::from_str::<Settings>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn radii_are_numbers_or_fractions() {
        assert_eq!(parse_radius("8/255"), Ok(8.0 / 255.0));
        assert_eq!(parse_radius("0.5"), Ok(0.5));
        assert_eq!(parse_radius(" 1 / 4 "), Ok(0.25));
        for text in ["", "eight", "8/0", "-1", "nan", "1/2/3"] {
            assert!(parse_radius(text).is_err(), "{text}");
        }
    }
}
