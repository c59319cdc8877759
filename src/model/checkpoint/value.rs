//! The settings a checkpoint carries beside its tensors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A plain value out of a checkpoint: what a training script kept of its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// A dictionary or the attributes of a settings object; keys as text.
    Table(BTreeMap<String, Value>),
    /// Something this program does not interpret, by the name its file gives it.
    Opaque(String),
}

impl Value {
    /// A number, also when it is written as text (as safetensors metadata is).
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            // Settings are small numbers: nothing is lost below 2^53.
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub fn as_usize(&self) -> Option<usize> {
        match self {
            Self::Int(i) => usize::try_from(*i).ok(),
            Self::Float(f) if f.fract() == 0.0 && (0.0..9e15).contains(f) => Some(*f as usize),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Also `0`, `1`, `"True"` and `"false"`.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Int(0) => Some(false),
            Self::Int(1) => Some(true),
            Self::Text(text) => match text.trim() {
                "true" | "True" | "1" => Some(true),
                "false" | "False" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}
