//! What a pickle holds, as a graph of plain values.

use std::collections::BTreeSet;

use super::dtype::DType;
use super::error::TensorProblem;
use crate::archive::shorten;

/// A node's place in [`Pickled::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub u32);

#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// More than 64 bits, little-endian two's complement.
    Big(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    /// A list, a set: a mutable sequence.
    List(Vec<Id>),
    Tuple(Box<[Id]>),
    Dict(Vec<(Id, Id)>),
    /// The name of a function or class.
    Global(Box<Global>),
    /// Bytes outside of the pickle, by the tuple that refers to them; see [`Pickled::storage`].
    Storage(Id),
    /// A tensor, by the arguments of its constructor; see [`Pickled::tensor`].
    Tensor {
        arguments: Id,
        /// The constructor that gives the type itself (`_rebuild_tensor_v3`).
        typed: bool,
    },
    Object(Box<Object>),
}

#[derive(Debug)]
pub(super) struct Global {
    pub module: Box<str>,
    pub name: Box<str>,
}

impl Global {
    pub fn path(&self) -> String {
        shorten(&format!("{}.{}", self.module, self.name))
    }
}

/// The bytes behind tensors, as a pickle refers to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    /// The class's name: `FloatStorage`.
    pub class: &'a Global,
    /// `None` for `UntypedStorage`, whose tensors bring their type themselves, and for types that
    /// cannot be read.
    pub dtype: Option<DType>,
    /// Elements of `dtype`; bytes of an `UntypedStorage`.
    pub length: u64,
    /// Legacy files: this is `(offset, length)` within the storage `key`, in elements.
    pub view: Option<(u64, u64)>,
}

/// A tensor as a pickle describes it; nothing has been checked against the bytes.
#[derive(Clone, Debug)]
pub(super) struct RawTensor<'a> {
    pub storage: Storage<'a>,
    pub dtype: DType,
    /// In elements, as are the strides.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// The result of a call that was not made.
#[derive(Debug)]
pub(super) struct Object {
    pub callable: Id,
    pub arguments: Option<Id>,
    /// A call of a function, rather than the making of an instance of a class.
    pub is_call: bool,
    pub state: Option<Id>,
    pub items: Vec<(Id, Id)>,
}

/// A whole pickle as a graph.
#[derive(Debug)]
pub(super) struct Pickled {
    pub nodes: Vec<Node>,
    pub root: Id,
    /// Callables that were to be called and of which nothing is known.
    pub unknown_calls: BTreeSet<String>,
}

impl Pickled {
    pub fn node(&self, id: Id) -> &Node {
        // Ids are only ever made by `Machine::add`, and nodes are never removed.
        &self.nodes[id.0 as usize]
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn global(&self, id: Id) -> Option<&Global> {
        match self.node(id) {
            Node::Global(global) => Some(global),
            _ => None,
        }
    }

    /// The members of a list or a tuple.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::List(members) => Some(members),
            Node::Tuple(members) => Some(members),
            _ => None,
        }
    }

    /// The entries of a dictionary, or the attributes of an object that is little more than one
    /// (`argparse.Namespace`).
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(entries) => Some(entries),
            Node::Object(object) if !object.items.is_empty() => Some(&object.items),
            Node::Object(object) => match self.node(object.state?) {
                Node::Dict(entries) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of a text key in a dictionary; the last one wins, as in Python.
    pub fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let entries = self.entries(dict)?;
        let found = entries
            .iter()
            .rev()
            .find(|(k, _)| self.text(*k) == Some(key));
        found.map(|(_, v)| *v)
    }
}

impl Pickled {
    /// Reads the description of a tensor; `None` when the node is something else.
    ///
    /// # Errors
    /// What is wrong with the description, to be put behind the tensor's name.
    pub fn tensor(&self, id: Id) -> Option<Result<RawTensor<'_>, TensorProblem>> {
        match *self.node(id) {
            Node::Tensor { arguments, typed } => Some(self.raw_tensor(arguments, typed)),
            _ => None,
        }
    }

    fn raw_tensor(&self, arguments: Id, typed: bool) -> Result<RawTensor<'_>, TensorProblem> {
        let arguments = self.sequence(arguments).unwrap_or_default();
        let [storage, offset, shape, strides, rest @ ..] = arguments else {
            return Err(TensorProblem::Incomplete);
        };
        let storage = self.storage(*storage).ok_or(TensorProblem::NoStorage)?;
        let dtype = match (typed, storage.dtype) {
            (true, _) => self.given_dtype(rest)?,
            (false, Some(dtype)) => dtype,
            (false, None) => return Err(cannot_read(storage.class)),
        };
        Ok(RawTensor {
            storage,
            dtype,
            offset: self.size(*offset, "offset")?,
            shape: self.sizes(*shape, "shape")?,
            strides: self.sizes(*strides, "strides")?,
        })
    }

    /// The type in `(…, requires_grad, hooks, dtype, …)`.
    fn given_dtype(&self, rest: &[Id]) -> Result<DType, TensorProblem> {
        let global = rest.get(2).and_then(|id| self.global(*id));
        let global = global.ok_or(TensorProblem::NoType)?;
        DType::of_torch_dtype(&global.name).ok_or_else(|| cannot_read(global))
    }

    fn size(&self, id: Id, what: &'static str) -> Result<u64, TensorProblem> {
        match self.node(id) {
            Node::Int(n) => u64::try_from(*n).map_err(|_| TensorProblem::Negative(what, *n)),
            _ => Err(TensorProblem::NotNumber(what)),
        }
    }

    fn sizes(&self, id: Id, what: &'static str) -> Result<Vec<u64>, TensorProblem> {
        // PyTorch allows 64 dimensions; nothing that is loaded here has more than 5.
        const MOST: usize = 64;
        let members = self.sequence(id).ok_or(TensorProblem::NotNumbers(what))?;
        if members.len() > MOST {
            return Err(TensorProblem::Dimensions(members.len()));
        }
        members.iter().map(|id| self.size(*id, what)).collect()
    }

    /// Reads `("storage", class, key, location, length[, view])`.
    pub fn storage(&self, id: Id) -> Option<Storage<'_>> {
        let Node::Storage(reference) = self.node(id) else {
            return None;
        };
        let [_, class, key, _location, length, rest @ ..] = self.sequence(*reference)? else {
            return None;
        };
        let class = self.global(*class)?;
        Some(Storage {
            key: self.text(*key)?,
            class,
            dtype: DType::of_torch_storage(&class.name),
            length: self.size(*length, "length").ok()?,
            view: match rest.first() {
                None => None,
                Some(id) => self.view(*id)?,
            },
        })
    }

    /// `(key, offset, length)` or `None`. Nothing where it is neither.
    fn view(&self, id: Id) -> Option<Option<(u64, u64)>> {
        match self.node(id) {
            Node::None => Some(None),
            Node::Tuple(members) => match members[..] {
                [_key, offset, length] => {
                    let offset = self.size(offset, "offset").ok()?;
                    Some(Some((offset, self.size(length, "length").ok()?)))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// All storages, whoever uses them.
    pub fn storages(&self) -> impl Iterator<Item = Storage<'_>> {
        let is_storage = |node: &Node| matches!(node, Node::Storage(_));
        let ids = (0..)
            .zip(&self.nodes)
            .filter(move |(_, node)| is_storage(node));
        ids.filter_map(|(id, _)| self.storage(Id(id)))
    }
}

fn cannot_read(global: &Global) -> TensorProblem {
    TensorProblem::Storage(global.path())
}
