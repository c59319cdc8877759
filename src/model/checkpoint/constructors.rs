//! The calls in a pickle that have a meaning here: the constructors that a state dict needs.

use super::graph::{Id, Node, Pickled};

/// What a known constructor makes of its arguments: a value, or one of the arguments itself.
pub(super) enum Meaning {
    New(Node),
    Same(Id),
}

pub(super) type Constructor = fn(&Pickled, Id) -> Option<Meaning>;

/// The whole whitelist: what these make is understood, and none of them does anything else.
pub(super) fn constructor(module: &str, name: &str) -> Option<Constructor> {
    Some(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => dictionary,
        ("builtins" | "__builtin__", "dict") => dictionary,
        ("builtins" | "__builtin__", "list" | "set" | "frozenset" | "tuple") => sequence,
        ("torch", "Size") => sequence,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => tensor_v2,
        ("torch._utils", "_rebuild_tensor_v3") => tensor_v3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => first_argument,
        ("torch._tensor", "_rebuild_from_type_v2") => from_type,
        _ => return None,
    })
}

fn argument(pickled: &Pickled, arguments: Id, at: usize) -> Option<Id> {
    pickled.sequence(arguments)?.get(at).copied()
}

fn first_argument(pickled: &Pickled, arguments: Id) -> Option<Meaning> {
    argument(pickled, arguments, 0).map(Meaning::Same)
}

/// `OrderedDict()`, `OrderedDict([[k, v], …])`, `defaultdict(factory)`.
fn dictionary(pickled: &Pickled, arguments: Id) -> Option<Meaning> {
    let given = pickled.sequence(arguments)?.last();
    let members = given.and_then(|id| pickled.sequence(*id));
    let entry = |id: &Id| match pickled.sequence(*id)? {
        [k, v] => Some((*k, *v)),
        _ => None,
    };
    let entries = members.unwrap_or_default().iter().filter_map(entry);
    Some(Meaning::New(Node::Dict(entries.collect())))
}

/// `torch.Size((…))`, `set([…])`: the members themselves, for nothing here changes them later.
fn sequence(pickled: &Pickled, arguments: Id) -> Option<Meaning> {
    match argument(pickled, arguments, 0) {
        Some(id) => pickled.sequence(id).map(|_| Meaning::Same(id)),
        None => Some(Meaning::New(Node::List(Vec::new()))),
    }
}

/// `_rebuild_from_type_v2(function, type, arguments, state)`: a tensor of a subclass.
fn from_type(pickled: &Pickled, arguments: Id) -> Option<Meaning> {
    let function = pickled.global(argument(pickled, arguments, 0)?)?;
    if &*function.module != "torch._utils" {
        // One level is enough: nested ones could nest for ever.
        return None;
    }
    let make = constructor(&function.module, &function.name)?;
    make(pickled, argument(pickled, arguments, 2)?)
}

/// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, …)`.
fn tensor_v2(_: &Pickled, arguments: Id) -> Option<Meaning> {
    let typed = false;
    Some(Meaning::New(Node::Tensor { arguments, typed }))
}

/// `_rebuild_tensor_v3(…, hooks, dtype, …)`: the storage has no type of its own.
fn tensor_v3(_: &Pickled, arguments: Id) -> Option<Meaning> {
    let typed = true;
    Some(Meaning::New(Node::Tensor { arguments, typed }))
}

/// What stands for bytes outside of the pickle: a storage, or in files that keep the source of
/// their classes `("module", object, …)`.
pub(super) fn reference(pickled: &Pickled, id: Id) -> Option<Meaning> {
    let members = pickled.sequence(id)?;
    match (pickled.text(*members.first()?)?, members) {
        ("module", [_, object, ..]) => Some(Meaning::Same(*object)),
        ("storage", _) => Some(Meaning::New(Node::Storage(id))),
        _ => None,
    }
}
