//! What a file says of the network in it: the shapes of its tensors, the settings of the script that
//! trained it, its name.

use std::collections::BTreeMap;

use crate::model::checkpoint::Value;

/// Why a configuration cannot be read from the shapes.
#[derive(Debug)]
pub enum Gap {
    Missing,
    /// A tensor, its shape, and what was expected.
    Shape(String, Vec<usize>, &'static str),
}

/// Shapes by published name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

pub struct Reading<'a> {
    pub shapes: &'a Shapes,
    /// Settings, by name.
    pub flags: &'a BTreeMap<String, Value>,
    /// The file's, lower case, `-` as `_`.
    pub name: &'a str,
    /// Before the names of the tensors asked for.
    pub prefix: &'static str,
    /// Channels of the VOneBlock's bottleneck, where there is one in front.
    pub behind: Option<usize>,
    /// Sentences for the user: what had to be assumed.
    pub remarks: Vec<String>,
}

// Tensors.
impl Reading<'_> {
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let shape = self.shapes.get(&format!("{}{name}", self.prefix))?;
        Some(shape)
    }

    /// The weights of a square convolution: channels in, channels out, kernel.
    ///
    /// # Errors
    /// No such tensor, or one of another shape.
    pub fn conv(&self, name: &str) -> Result<[usize; 3], Gap> {
        let name = format!("{name}.weight");
        match self.shape(&name).ok_or(Gap::Missing)? {
            [to, from, kernel, wide] if kernel == wide && *to.min(from).min(kernel) > 0 => {
                Ok([*from, *to, *kernel])
            }
            other => Err(self.odd(&name, other, "the weights of a square convolution")),
        }
    }

    /// The weights of a linear layer: features in, features out.
    ///
    /// # Errors
    /// No such tensor, or one of another shape.
    pub fn linear(&self, name: &str) -> Result<[usize; 2], Gap> {
        let name = format!("{name}.weight");
        match self.shape(&name).ok_or(Gap::Missing)? {
            [to, from] if *to.min(from) > 0 => Ok([*from, *to]),
            other => Err(self.odd(&name, other, "the weights of a linear layer")),
        }
    }

    fn odd(&self, name: &str, shape: &[usize], expected: &'static str) -> Gap {
        Gap::Shape(format!("{}{name}", self.prefix), shape.to_vec(), expected)
    }

    /// One more than the largest number behind `prefix`: how many time steps, how many blocks. Of
    /// one that is incomplete, the rest is then known to be missing.
    pub fn count(&self, prefix: &str) -> usize {
        let prefix = format!("{}{prefix}", self.prefix);
        let behind = self
            .shapes
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix));
        let number = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
        let count = behind
            .filter_map(number)
            .max()
            .map_or(0, |n| n.saturating_add(1));
        // A name may claim any number.
        count.min(self.shapes.len())
    }
}

// Settings.
impl Reading<'_> {
    pub fn has(&self, key: &str) -> bool {
        self.flags.contains_key(key)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.flags.get(key).and_then(Value::as_str)
    }

    pub fn size(&self, key: &str) -> Option<usize> {
        self.flags.get(key).and_then(Value::as_usize)
    }

    pub fn number(&self, key: &str, default: f64) -> f64 {
        let found = self.flags.get(key).and_then(Value::as_f64);
        found.unwrap_or(default)
    }

    pub fn truth(&self, key: &str) -> Option<bool> {
        self.flags.get(key).and_then(Value::as_bool)
    }
}
