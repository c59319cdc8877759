//! Finding the table of weights, and the settings beside it, in what a pickle holds.
//!
//! Met in the wild: a bare state dict (torchvision), `{"state_dict": …, "epoch", "optimizer",
//! "flags"}` (CORnet, VOneNet), other names for the same parts. Optimizer states are left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::callables::{Verdict, verdict};
use super::error::{CheckpointError, TensorProblem, name_some};
use super::graph::{Id, Node, Object, Pickled, RawTensor};
use super::value::Value;
use crate::archive::{Limits, shorten};

/// What a checkpoint's pickle says, before its bytes are looked at.
pub(super) struct Harvest<'a> {
    /// In the order of the file.
    pub tensors: Vec<(String, RawTensor<'a>)>,
    pub flags: BTreeMap<String, Value>,
    pub remarks: Vec<String>,
}

/// Where training scripts put the weights, most telling first.
const WEIGHTS: &[&str] = &[
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "state_dict_ema",
    "ema_state_dict",
];

/// Where training scripts put what is needed only to go on training.
const TRAINING: &[&str] = &[
    "optimizer",
    "optimizer_state_dict",
    "optimizer_states",
    "optim",
    "schedule",
    "scheduler",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "amp",
    "callbacks",
    "loops",
];

/// Where training scripts put their settings, which are spread out among the flags.
const SETTINGS: &[&str] = &[
    "flags",
    "FLAGS",
    "args",
    "opt",
    "config",
    "cfg",
    "hparams",
    "hyper_parameters",
    "settings",
];

/// `DataParallel` and `torch.compile` put these before every name.
const WRAPPERS: &[&str] = &["module.", "_orig_mod."];

/// # Errors
/// No table of weights, a malformed description of one of them, or a top-level value that only
/// calling an unknown function would make.
pub(super) fn harvest<'a>(
    pickled: &'a Pickled,
    limits: &Limits,
) -> Result<Harvest<'a>, CheckpointError> {
    let entries = top_level(pickled)?;
    for (_, value) in entries {
        refuse_unknown_call(pickled, *value)?;
    }
    let (place, weights) = find_weights(pickled, entries)?;
    let mut remarks = Vec::new();
    remarks.extend(place.and_then(|place| others(pickled, place)));
    let tensors = collect(pickled, weights, limits, &mut remarks)?;
    if !pickled.unknown_calls.is_empty() {
        let names = name_some(pickled.unknown_calls.iter().map(String::as_str));
        remarks.push(format!(
            "Left unread, for the weights do not need it: {names}."
        ));
    }
    let flags = match place {
        Some(place) => flags(pickled, entries, place, limits),
        None => BTreeMap::new(),
    };
    Ok(Harvest {
        tensors,
        flags,
        remarks,
    })
}

fn top_level(pickled: &Pickled) -> Result<&[(Id, Id)], CheckpointError> {
    refuse_unknown_call(pickled, pickled.root)?;
    let problem = match pickled.node(pickled.root) {
        Node::Dict(entries) => return Ok(entries),
        Node::Object(object) if !object.items.is_empty() => return Ok(&object.items),
        Node::Object(object) => match pickled.global(object.callable) {
            Some(class) => format!(
                "it holds a whole `{}` object, whose code is not in the file; in Python, please save `model.state_dict()` instead",
                class.path()
            ),
            None => "it holds an object of an unknown kind".to_owned(),
        },
        Node::Tensor { .. } => "it holds a single tensor without a name".to_owned(),
        Node::List(_) | Node::Tuple(_) => "it holds a list, whose members have no names".to_owned(),
        _ => "it holds a single plain value".to_owned(),
    };
    Err(CheckpointError::NoTensors(problem))
}

/// A value that needs an unknown function to be called has no meaning here, and at the top of a
/// checkpoint it is either the model itself or an attack.
fn refuse_unknown_call(pickled: &Pickled, id: Id) -> Result<(), CheckpointError> {
    let Node::Object(object) = pickled.node(id) else {
        return Ok(());
    };
    let Some(global) = pickled.global(object.callable) else {
        return Ok(());
    };
    if !object.is_call || verdict(&global.module, &global.name) == Verdict::Harmless {
        return Ok(());
    }
    Err(CheckpointError::Callable {
        callable: global.path(),
        why: "which is not among the functions known to be harmless",
    })
}

/// A tensor, or something in a tensor's place that says it is one.
fn is_weight(pickled: &Pickled, id: Id) -> bool {
    match pickled.node(id) {
        Node::Tensor { .. } => true,
        Node::Object(object) => unread_tensor(pickled, object).is_some(),
        _ => false,
    }
}

/// Sparse, quantised and other tensors that PyTorch rebuilds by functions of their own.
fn unread_tensor(pickled: &Pickled, object: &Object) -> Option<String> {
    let global = pickled.global(object.callable)?;
    let rebuilt = global.module.starts_with("torch.") && global.name.starts_with("_rebuild");
    rebuilt.then(|| global.path())
}

fn holds_weights(pickled: &Pickled, id: Id) -> bool {
    let entries = pickled.entries(id).unwrap_or_default();
    entries.iter().any(|(_, value)| is_weight(pickled, *value))
}

type Entries = [(Id, Id)];

/// The table of weights, and the key it is found under (`None`: the file is nothing else).
fn find_weights<'a>(
    pickled: &'a Pickled,
    entries: &'a Entries,
) -> Result<(Option<&'a str>, &'a Entries), CheckpointError> {
    for name in WEIGHTS {
        let table = pickled.get(pickled.root, name);
        if let Some(id) = table.filter(|id| holds_weights(pickled, *id)) {
            return Ok((Some(name), pickled.entries(id).unwrap_or_default()));
        }
    }
    if holds_weights(pickled, pickled.root) {
        return Ok((None, entries));
    }
    let keys = entries.iter().filter_map(|(key, _)| pickled.text(*key));
    Err(CheckpointError::NoTensors(match entries.len() {
        0 => "it holds an empty table".to_owned(),
        _ => format!(
            "it holds {}, and a table called `state_dict` or the tensors themselves were expected",
            name_some(keys)
        ),
    }))
}

/// Says which table was taken of several, and how to take another.
fn others(pickled: &Pickled, place: &str) -> Option<String> {
    let has_weights = |name: &&&str| {
        let table = pickled.get(pickled.root, name);
        **name != place && table.is_some_and(|id| holds_weights(pickled, id))
    };
    let others: Vec<&str> = WEIGHTS.iter().filter(has_weights).copied().collect();
    let first = others.first()?;
    Some(format!(
        "The weights called `{place}` were taken; the file holds {} as well. To take those, save them \
         alone in Python: torch.save(torch.load(FILE)[\"{first}\"], \"{first}.pth\").",
        name_some(others.iter().copied())
    ))
}

fn collect<'a>(
    pickled: &'a Pickled,
    weights: &'a Entries,
    limits: &Limits,
    remarks: &mut Vec<String>,
) -> Result<Vec<(String, RawTensor<'a>)>, CheckpointError> {
    if weights.len() > limits.max_tensors {
        return Err(CheckpointError::TooLarge {
            what: "the number of tensors".to_owned(),
            found: weights.len() as u64,
            limit: limits.max_tensors as u64,
        });
    }
    let mut seen = BTreeSet::new();
    let mut tensors = Vec::new();
    let mut skipped = Vec::new();
    for (key, value) in weights {
        let name = key_text(pickled, *key);
        let name = unwrapped(&name);
        if let Some(raw) = tensor(pickled, *value, name)? {
            if !seen.insert(name.to_owned()) {
                return Err(CheckpointError::tensor(name, TensorProblem::Twice));
            }
            tensors.push((name.to_owned(), raw));
        } else {
            skipped.push(name.to_owned());
        }
    }
    if !skipped.is_empty() {
        let names = name_some(skipped.iter().map(String::as_str));
        remarks.push(format!("Left out, for it is not a tensor: {names}."));
    }
    Ok(tensors)
}

fn tensor<'a>(
    pickled: &'a Pickled,
    id: Id,
    name: &str,
) -> Result<Option<RawTensor<'a>>, CheckpointError> {
    if let Some(described) = pickled.tensor(id) {
        let raw = described.map_err(|problem| CheckpointError::tensor(name, problem))?;
        return Ok(Some(raw));
    }
    let Node::Object(object) = pickled.node(id) else {
        return Ok(None);
    };
    match unread_tensor(pickled, object) {
        Some(path) => Err(CheckpointError::tensor(name, TensorProblem::Kind(path))),
        None => Ok(None),
    }
}

/// A name without the prefixes that wrappers of the model put before it.
pub(super) fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|w| name.strip_prefix(w)) {
        name = rest;
    }
    name
}

fn key_text(pickled: &Pickled, id: Id) -> String {
    match pickled.node(id) {
        Node::Text(text) => text.to_string(),
        Node::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Node::Int(n) => n.to_string(),
        Node::Float(x) => x.to_string(),
        Node::Bool(b) => b.to_string(),
        _ => "(a key that is no text)".to_owned(),
    }
}

// Flags.

fn flags(
    pickled: &Pickled,
    entries: &Entries,
    weights: &str,
    limits: &Limits,
) -> BTreeMap<String, Value> {
    let mut converter = Converter {
        pickled,
        max_depth: limits.max_depth,
        // Settings are dozens of values. What is beyond this is left out, not an error.
        values_left: 10_000,
    };
    let mut flags = BTreeMap::new();
    for name in SETTINGS {
        let table = pickled.get(pickled.root, name);
        for (key, value) in table.and_then(|id| pickled.entries(id)).unwrap_or_default() {
            converter.insert(&mut flags, *key, *value, 1);
        }
    }
    for (key, value) in entries {
        let name = pickled.text(*key).unwrap_or_default();
        let is_settings = SETTINGS.contains(&name) && pickled.entries(*value).is_some();
        if name == weights || is_settings || TRAINING.contains(&name) {
            continue;
        }
        converter.insert(&mut flags, *key, *value, 0);
    }
    flags
}

struct Converter<'a> {
    pickled: &'a Pickled,
    max_depth: usize,
    values_left: usize,
}

impl Converter<'_> {
    /// What is there already stays: the settings table speaks of the model itself.
    fn insert(&mut self, flags: &mut BTreeMap<String, Value>, key: Id, value: Id, depth: usize) {
        if self.values_left > 0 {
            let name = shorten(&key_text(self.pickled, key));
            let value = self.value(value, depth);
            flags.entry(name).or_insert(value);
        }
    }

    /// A shared or circular part is copied as often as it is met, within depth and count.
    fn value(&mut self, id: Id, depth: usize) -> Value {
        if self.values_left == 0 || depth >= self.max_depth {
            return Value::Opaque("left out: too large".to_owned());
        }
        self.values_left -= 1;
        match self.pickled.node(id) {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(n) => Value::Int(*n),
            Node::Float(x) => Value::Float(*x),
            Node::Text(text) => Value::Text(self.text(text)),
            Node::List(members) => self.list(members, depth),
            Node::Tuple(members) => self.list(members, depth),
            Node::Dict(entries) => self.table(entries, depth),
            Node::Object(object) => self.object(id, object, depth),
            Node::Global(global) => Value::Opaque(global.path()),
            Node::Tensor { .. } => Value::Opaque("a tensor".to_owned()),
            Node::Storage(_) => Value::Opaque("a storage".to_owned()),
            Node::Big(_) => Value::Opaque("a large number".to_owned()),
            Node::Bytes(_) => Value::Opaque("bytes".to_owned()),
        }
    }

    fn text(&self, text: &str) -> String {
        // One text can be met thousands of times through the memo.
        const MOST: usize = 1000;
        text.chars().take(MOST).collect()
    }

    fn list(&mut self, members: &[Id], depth: usize) -> Value {
        let most = members.len().min(self.values_left);
        let members = members.iter().take(most);
        Value::List(members.map(|id| self.value(*id, depth + 1)).collect())
    }

    fn table(&mut self, entries: &Entries, depth: usize) -> Value {
        let mut table = BTreeMap::new();
        for (key, value) in entries {
            self.insert(&mut table, *key, *value, depth + 1);
        }
        Value::Table(table)
    }

    fn object(&mut self, id: Id, object: &Object, depth: usize) -> Value {
        if let Some(number) = numpy_scalar(self.pickled, object) {
            return number;
        }
        if let Some(entries) = self.pickled.entries(id) {
            return self.table(entries, depth);
        }
        let name = self.pickled.global(object.callable).map(|g| g.path());
        Value::Opaque(name.unwrap_or_else(|| "an object".to_owned()))
    }
}

/// `numpy.core.multiarray.scalar(dtype("f8", …), bytes)`: accuracies are often kept so.
fn numpy_scalar(pickled: &Pickled, object: &Object) -> Option<Value> {
    if &*pickled.global(object.callable)?.name != "scalar" {
        return None;
    }
    let [dtype, bytes] = pickled.sequence(object.arguments?)? else {
        return None;
    };
    let Node::Object(dtype) = pickled.node(*dtype) else {
        return None;
    };
    let code = pickled.text(*pickled.sequence(dtype.arguments?)?.first()?)?;
    let mut bytes = raw_bytes(pickled, *bytes)?;
    // The state is (version, byte order, …).
    let order = dtype
        .state
        .and_then(|id| pickled.sequence(id)?.get(1).copied());
    if order.and_then(|id| pickled.text(id)) == Some(">") {
        bytes.reverse();
    }
    scalar(code, &bytes)
}

fn scalar(code: &str, bytes: &[u8]) -> Option<Value> {
    Some(match code {
        "f8" => Value::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        "f4" => Value::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        "i8" => Value::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        "i4" => Value::Int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        "b1" => Value::Bool(bytes != [0]),
        _ => return None,
    })
}

/// Bytes, or the way protocol 2 spells them: `_codecs.encode(text, "latin1")`.
fn raw_bytes(pickled: &Pickled, id: Id) -> Option<Vec<u8>> {
    // No scalar is longer.
    const MOST: usize = 16;
    let text = match pickled.node(id) {
        Node::Bytes(bytes) => return (bytes.len() <= MOST).then(|| bytes.to_vec()),
        Node::Text(text) => text,
        Node::Object(call) => pickled.text(*pickled.sequence(call.arguments?)?.first()?)?,
        _ => return None,
    };
    let bytes = text
        .chars()
        .take(MOST + 1)
        .map(|c| u8::try_from(u32::from(c)).ok());
    bytes
        .collect::<Option<Vec<u8>>>()
        .filter(|b| b.len() <= MOST)
}
