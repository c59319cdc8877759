//! Python's pickle format, read as data.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This
//! interpreter calls none: it builds a graph of plain values, in which a call is a node that
//! remembers what was to be called with what. The few constructors a state dict needs
//! (`OrderedDict`, `torch._utils._rebuild_tensor_v2`, …) have meanings of their own, everything
//! else stays an [`Object`]. Nothing recurses, and every length is checked against the bytes that
//! are really there, so neither deep nesting nor a claimed size can hurt.
//!
//! The format is specified by CPython's `Lib/pickletools.py`, protocols 0 to 5.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use super::callables::{Verdict, verdict};
use super::constructors::{Meaning, constructor, reference};
use super::error::CheckpointError;
use super::graph::{Global, Id, Node, Object, Pickled};
use super::reader::ByteReader;
use crate::archive::Limits;

/// Reads one pickle, to its `STOP`.
///
/// # Errors
/// A malformed or oversized pickle, or one that asks for a dangerous function.
pub(super) fn read<R: Read>(
    reader: &mut ByteReader<R>,
    limits: &Limits,
) -> Result<Pickled, CheckpointError> {
    let mut machine = Machine {
        reader,
        max_values: limits.max_values,
        pickled: Pickled {
            nodes: Vec::new(),
            root: Id(0),
            unknown_calls: BTreeSet::new(),
        },
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    while !machine.step()? {}
    Ok(machine.pickled)
}

struct Machine<'a, R> {
    reader: &'a mut ByteReader<R>,
    /// Values, and references to them on the stack or in the memo.
    max_values: usize,
    pickled: Pickled,
    stack: Vec<Id>,
    /// Heights of the stack at which a `MARK` was set.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// See [`Machine::charge`].
    copied: usize,
}

type Step = Result<(), CheckpointError>;

fn broken(what: &str) -> CheckpointError {
    CheckpointError::damaged(format!("its table of contents (a pickle) {what}"))
}

impl<R: Read> Machine<'_, R> {
    /// Carries out one instruction; `true` after the last.
    fn step(&mut self) -> Result<bool, CheckpointError> {
        let opcode = self.reader.byte()?;
        match opcode {
            b'.' => {
                self.pickled.root = self.pop()?;
                return Ok(true);
            }
            // Protocol and framing say nothing about the content.
            0x80 => drop(self.reader.byte()?),
            0x95 => drop(self.reader.array::<8>()?),
            b'(' => self.mark()?,
            b'0' => self.discard()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = *self.top()?;
                self.push(top)?;
            }
            b'N' => self.put(Node::None)?,
            0x88 => self.put(Node::Bool(true))?,
            0x89 => self.put(Node::Bool(false))?,
            b'I' | b'L' | b'F' => self.textual_number(opcode)?,
            b'J' => {
                let n = i32::from_le_bytes(self.reader.array()?);
                self.put(Node::Int(n.into()))?;
            }
            b'K' => {
                let n = self.reader.byte()?;
                self.put(Node::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.reader.array()?);
                self.put(Node::Int(n.into()))?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.reader.array()?);
                self.put(Node::Float(x))?;
            }
            0x8a | 0x8b => self.long(opcode)?,
            b'S' | b'V' => self.textual_string(opcode)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.string(opcode)?,
            b'B' | b'C' | 0x8e | 0x96 => self.bytes(opcode)?,
            b']' | 0x8f => self.put(Node::List(Vec::new()))?,
            b')' => self.put(Node::Tuple(Box::default()))?,
            b'}' => self.put(Node::Dict(Vec::new()))?,
            b'l' | 0x91 => {
                let members = self.pop_to_mark()?;
                self.put(Node::List(members))?;
            }
            b't' => {
                let members = self.pop_to_mark()?;
                self.put(Node::Tuple(members.into()))?;
            }
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84))?,
            b'd' => {
                let members = self.pop_to_mark()?;
                let entries = pairs(&members)?;
                self.put(Node::Dict(entries))?;
            }
            b'a' => {
                let member = self.pop()?;
                self.append(&[member])?;
            }
            b'e' | 0x90 => {
                let members = self.pop_to_mark()?;
                self.append(&members)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let members = self.pop_to_mark()?;
                self.set_items(pairs(&members)?)?;
            }
            b'p' | b'q' | b'r' | 0x94 => self.memorise(opcode)?,
            b'g' | b'h' | b'j' => self.recall(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' => self.reduce()?,
            0x81 | 0x92 => self.new_object(opcode)?,
            b'i' | b'o' => self.instance(opcode)?,
            b'b' => self.build()?,
            b'P' | b'Q' => self.persistent(opcode)?,
            0x82..=0x84 => {
                return Err(broken(
                    "uses an extension registry, which no checkpoint does",
                ));
            }
            0x97 | 0x98 => return Err(broken("refers to buffers kept outside of it")),
            _ => {
                return Err(broken(&format!(
                    "holds an instruction that does not exist ({opcode:#04x})"
                )));
            }
        }
        Ok(false)
    }

    // The stack.

    fn add(&mut self, node: Node) -> Result<Id, CheckpointError> {
        let count = self.pickled.nodes.len();
        self.within_bounds(count)?;
        let id = Id(u32::try_from(count).map_err(|_| broken("holds too many values"))?);
        self.pickled.nodes.push(node);
        Ok(id)
    }

    fn within_bounds(&self, count: usize) -> Step {
        if count < self.max_values {
            return Ok(());
        }
        Err(CheckpointError::TooLarge {
            what: "the number of values in its table of contents".to_owned(),
            found: count as u64 + 1,
            limit: self.max_values as u64,
        })
    }

    fn push(&mut self, id: Id) -> Step {
        self.within_bounds(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn put(&mut self, node: Node) -> Step {
        let id = self.add(node)?;
        self.push(id)
    }

    /// Counts what is copied rather than read: a copy of a copy of a copy takes few bytes of file.
    fn charge(&mut self, n: usize) -> Step {
        self.copied = self.copied.saturating_add(n);
        self.within_bounds(self.copied)
    }

    fn mark(&mut self) -> Step {
        self.within_bounds(self.marks.len())?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Values above the last mark, which alone an instruction may touch.
    fn above_mark(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&Id, CheckpointError> {
        match self.stack.last() {
            Some(id) if self.above_mark() > 0 => Ok(id),
            _ => Err(broken("takes a value where there is none")),
        }
    }

    fn pop(&mut self) -> Result<Id, CheckpointError> {
        let id = *self.top()?;
        self.stack.pop();
        Ok(id)
    }

    /// `POP` takes a value, or the mark when it is on top.
    fn discard(&mut self) -> Step {
        if self.above_mark() == 0 && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, CheckpointError> {
        let height = self
            .marks
            .pop()
            .ok_or_else(|| broken("closes a group that was not opened"))?;
        Ok(self.stack.split_off(height))
    }

    // Plain values.

    fn textual_number(&mut self, opcode: u8) -> Step {
        let line = self.reader.line()?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        let node = match (opcode, text) {
            (b'I', "00") => Some(Node::Bool(false)),
            (b'I', "01") => Some(Node::Bool(true)),
            (b'F', _) => text.parse().ok().map(Node::Float),
            _ => text.trim_end_matches('L').parse().ok().map(Node::Int),
        };
        self.put(node.ok_or_else(|| broken("holds a number that is none"))?)
    }

    fn long(&mut self, opcode: u8) -> Step {
        let length = match opcode {
            0x8a => u64::from(self.reader.byte()?),
            _ => u64::from(u32::from_le_bytes(self.reader.array()?)),
        };
        let bytes = self.reader.take(length)?;
        self.put(match small_int(&bytes) {
            Some(n) => Node::Int(n),
            None => Node::Big(bytes.into()),
        })
    }

    fn length(&mut self, size: usize) -> Result<u64, CheckpointError> {
        Ok(match size {
            1 => u64::from(self.reader.byte()?),
            4 => u64::from(u32::from_le_bytes(self.reader.array()?)),
            _ => u64::from_le_bytes(self.reader.array()?),
        })
    }

    fn string(&mut self, opcode: u8) -> Step {
        let size = match opcode {
            0x8c | b'U' => 1,
            b'X' | b'T' => 4,
            _ => 8,
        };
        let length = self.length(size)?;
        let bytes = self.reader.take(length)?;
        // Python 2 wrote its byte strings with `T` and `U`; numpy scalars keep raw bytes there.
        let python2 = matches!(opcode, b'T' | b'U');
        match String::from_utf8(bytes) {
            Ok(text) => self.put(Node::Text(text.into())),
            Err(e) if python2 => self.put(Node::Bytes(e.into_bytes().into())),
            // Surrogates, which Python allows and UTF-8 does not.
            Err(e) => self.put(Node::Text(String::from_utf8_lossy(e.as_bytes()).into())),
        }
    }

    fn textual_string(&mut self, opcode: u8) -> Step {
        let line = self.reader.line()?;
        let text = String::from_utf8_lossy(&line);
        let text = match opcode {
            b'S' => text.trim().trim_matches(['\'', '"']),
            _ => &text,
        };
        self.put(Node::Text(text.into()))
    }

    fn bytes(&mut self, opcode: u8) -> Step {
        let size = match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        };
        let length = self.length(size)?;
        let bytes = self.reader.take(length)?;
        self.put(Node::Bytes(bytes.into()))
    }

    // Containers.

    fn short_tuple(&mut self, n: usize) -> Step {
        if self.above_mark() < n {
            return Err(broken("takes a value where there is none"));
        }
        let members = self.stack.split_off(self.stack.len() - n);
        self.put(Node::Tuple(members.into()))
    }

    /// The node that an instruction is about to fill.
    fn target(&mut self) -> Result<&mut Node, CheckpointError> {
        let id = *self.top()?;
        // See `Pickled::node`.
        Ok(&mut self.pickled.nodes[id.0 as usize])
    }

    fn append(&mut self, members: &[Id]) -> Step {
        match self.target()? {
            Node::List(list) => list.extend_from_slice(members),
            // A subclass of list: its members are not needed.
            Node::Object(_) => {}
            _ => return Err(broken("adds to a list that is none")),
        }
        Ok(())
    }

    fn set_items(&mut self, mut entries: Vec<(Id, Id)>) -> Step {
        match self.target()? {
            Node::Dict(dict) => dict.append(&mut entries),
            Node::Object(object) => object.items.append(&mut entries),
            _ => return Err(broken("adds to a dictionary that is none")),
        }
        Ok(())
    }

    // The memo.

    fn memo_index(&mut self, opcode: u8) -> Result<u64, CheckpointError> {
        Ok(match opcode {
            b'q' | b'h' => self.length(1)?,
            b'r' | b'j' => self.length(4)?,
            0x94 => self.memo.len() as u64,
            _ => {
                let line = self.reader.line()?;
                let text = String::from_utf8_lossy(&line);
                text.trim()
                    .parse()
                    .map_err(|_| broken("holds a number that is none"))?
            }
        })
    }

    fn memorise(&mut self, opcode: u8) -> Step {
        let index = self.memo_index(opcode)?;
        let top = *self.top()?;
        self.within_bounds(self.memo.len())?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Step {
        let index = self.memo_index(opcode)?;
        let id = self.memo.get(&index).copied();
        self.push(id.ok_or_else(|| broken("refers to a value that was not stored"))?)
    }

    // Names, and calls that are not made.

    fn global(&mut self, opcode: u8) -> Step {
        let global = match opcode {
            b'c' => self.textual_global()?,
            _ => self.stacked_global()?,
        };
        self.put(Node::Global(global.into()))
    }

    fn stacked_global(&mut self) -> Result<Global, CheckpointError> {
        let name = self.pop()?;
        let module = self.pop()?;
        let texts = (self.pickled.text(module), self.pickled.text(name));
        let (Some(module), Some(name)) = texts else {
            return Err(broken("names a function by something that is no name"));
        };
        let copied = module.len() + name.len();
        let global = Global {
            module: module.into(),
            name: name.into(),
        };
        self.charge(copied)?;
        Ok(global)
    }

    fn textual_global(&mut self) -> Result<Global, CheckpointError> {
        let module = self.reader.line()?;
        let name = self.reader.line()?;
        Ok(Global {
            module: String::from_utf8_lossy(&module).trim().into(),
            name: String::from_utf8_lossy(&name).trim().into(),
        })
    }

    fn reduce(&mut self) -> Step {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        self.call(callable, arguments, true)
    }

    fn new_object(&mut self, opcode: u8) -> Step {
        if opcode == 0x92 {
            // Keyword arguments, which no value we understand has.
            self.pop()?;
        }
        let arguments = self.pop()?;
        let class = self.pop()?;
        self.call(class, arguments, false)
    }

    /// `INST` and `OBJ`: instances as protocols 0 and 1 make them.
    fn instance(&mut self, opcode: u8) -> Step {
        let (class, arguments) = if opcode == b'i' {
            let global = self.textual_global()?;
            let class = self.add(Node::Global(global.into()))?;
            (class, self.pop_to_mark()?)
        } else {
            let mut members = self.pop_to_mark()?;
            if members.is_empty() {
                return Err(broken("makes an instance of nothing"));
            }
            (members.remove(0), members)
        };
        let arguments = self.add(Node::Tuple(arguments.into()))?;
        self.call(class, arguments, false)
    }

    /// Where Python would call: a known constructor gets its meaning, anything else becomes an
    /// [`Object`]; a dangerous one ends the reading.
    fn call(&mut self, callable: Id, arguments: Id, is_call: bool) -> Step {
        let meaning = match self.pickled.node(callable) {
            Node::Global(global) => match constructor(&global.module, &global.name) {
                Some(make) => make(&self.pickled, arguments),
                None => {
                    let (path, judged) = (global.path(), verdict(&global.module, &global.name));
                    self.judge(path, judged)?;
                    None
                }
            },
            _ => None,
        };
        match meaning {
            Some(Meaning::New(node)) => {
                if let Node::Dict(entries) = &node {
                    self.charge(entries.len())?;
                }
                self.put(node)
            }
            Some(Meaning::Same(id)) => self.push(id),
            None => self.put(Node::Object(Box::new(Object {
                callable,
                arguments: Some(arguments),
                is_call,
                state: None,
                items: Vec::new(),
            }))),
        }
    }

    fn judge(&mut self, path: String, judged: Verdict) -> Step {
        // Enough for a remark; a hostile file may name thousands.
        const MOST: usize = 32;
        match judged {
            Verdict::Dangerous => {
                return Err(CheckpointError::Callable {
                    callable: path,
                    why: "which no set of weights needs",
                });
            }
            Verdict::Unknown if self.pickled.unknown_calls.len() < MOST => {
                self.pickled.unknown_calls.insert(path);
            }
            _ => {}
        }
        Ok(())
    }

    fn build(&mut self) -> Step {
        let state = self.pop()?;
        // An OrderedDict's `_metadata` or a parameter's Python attributes are not needed.
        if let Node::Object(object) = self.target()? {
            object.state = Some(state);
        }
        Ok(())
    }

    fn persistent(&mut self, opcode: u8) -> Step {
        let id = if opcode == b'P' {
            let line = self.reader.line()?;
            self.add(Node::Text(String::from_utf8_lossy(&line).into()))?
        } else {
            self.pop()?
        };
        match reference(&self.pickled, id) {
            Some(Meaning::New(node)) => self.put(node),
            Some(Meaning::Same(id)) => self.push(id),
            None => Err(broken(
                "refers to bytes outside of it in a way that PyTorch does not",
            )),
        }
    }
}

fn pairs(members: &[Id]) -> Result<Vec<(Id, Id)>, CheckpointError> {
    let (pairs, rest) = members.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(broken("holds a key without a value"));
    }
    Ok(pairs.iter().map(|[k, v]| (*k, *v)).collect())
}

/// Little-endian two's complement that fits 64 bits.
fn small_int(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut all = if negative { [0xff; 8] } else { [0; 8] };
    all[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}
