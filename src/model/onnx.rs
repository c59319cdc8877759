//! Graphs as ONNX files: protocol buffers of `onnx.proto3`, opset 13.

use std::io::{self, Write};

use super::graph::{Graph, OUTPUT};
use super::load::HostTensor;
use super::trace::{INPUT, Node};

/// The version of the format (2019), which every runtime in use reads.
const IR_VERSION: u64 = 7;
const OPSET: u64 = 13;

/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// `AttributeProto.AttributeType`.
const TYPE_FLOAT: u64 = 1;
const TYPE_INT: u64 = 2;
const TYPE_INTS: u64 = 7;

/// Attributes that are one number.
const SINGLE: [&str; 2] = ["axis", "transB"];

/// Writes the graph as one file, weights as f32. The batch is as large as the input's.
///
/// # Errors
/// What `out` reports.
pub fn write(graph: &Graph, out: &mut impl Write) -> io::Result<()> {
    let mut model = Message::default();
    model.number(1, IR_VERSION);
    model.text(2, "ventral");
    model.text(3, env!("CARGO_PKG_VERSION"));
    let mut opset = Message::default();
    opset.number(2, OPSET);
    model.message(8, &opset);
    // The graph comes last: its weights, which may be large, are the end of the file.
    out.write_all(&model.0)?;
    let head = head(graph);
    let weights: Vec<Message> = graph
        .weights
        .iter()
        .map(|(name, tensor)| weight_head(name, tensor))
        .collect();
    let sizes = weights.iter().zip(graph.weights.values());
    let bodies = sizes.map(|(head, tensor)| {
        let body = head.0.len() + 4 * tensor.values.len();
        Message::tag_size(5, body) + body
    });
    let mut start = Message::default();
    start.start(7, head.0.len() + bodies.sum::<usize>());
    out.write_all(&start.0)?;
    out.write_all(&head.0)?;
    for (weight, tensor) in weights.iter().zip(graph.weights.values()) {
        let mut start = Message::default();
        start.start(5, weight.0.len() + 4 * tensor.values.len());
        out.write_all(&start.0)?;
        out.write_all(&weight.0)?;
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// A graph without its weights.
fn head(graph: &Graph) -> Message {
    let mut head = Message::default();
    for (place, node) in graph.nodes.iter().enumerate() {
        head.message(1, &node_message(place, node));
    }
    head.text(2, "ventral");
    let side = graph.side as u64;
    head.message(11, &value(INPUT, &[3, side, side]));
    head.message(12, &value(OUTPUT, &[graph.classes as u64]));
    head
}

fn node_message(place: usize, node: &Node) -> Message {
    let mut message = Message::default();
    for input in &node.inputs {
        message.text(1, input);
    }
    message.text(2, &node.output);
    message.text(3, &format!("{}_{place}", node.op));
    message.text(4, node.op);
    for (name, values) in &node.ints {
        let mut attribute = Message::default();
        attribute.text(1, name);
        if SINGLE.contains(name) {
            values.iter().for_each(|v| attribute.number(3, *v as u64));
            attribute.number(20, TYPE_INT);
        } else {
            values.iter().for_each(|v| attribute.number(8, *v as u64));
            attribute.number(20, TYPE_INTS);
        }
        message.message(5, &attribute);
    }
    for (name, value) in &node.floats {
        let mut attribute = Message::default();
        attribute.text(1, name);
        attribute.float(2, *value);
        attribute.number(20, TYPE_FLOAT);
        message.message(5, &attribute);
    }
    message
}

/// An input or output `[batch, …]`.
fn value(name: &str, sizes: &[u64]) -> Message {
    let mut shape = Message::default();
    let mut batch = Message::default();
    batch.text(2, "batch");
    shape.message(1, &batch);
    for size in sizes {
        let mut dimension = Message::default();
        dimension.number(1, *size);
        shape.message(1, &dimension);
    }
    let mut tensor = Message::default();
    tensor.number(1, FLOAT);
    tensor.message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut value = Message::default();
    value.text(1, name);
    value.message(2, &kind);
    value
}

/// A weight up to its values, which are to follow.
fn weight_head(name: &str, tensor: &HostTensor) -> Message {
    let mut message = Message::default();
    for size in &tensor.shape {
        message.number(1, *size as u64);
    }
    message.number(2, FLOAT);
    message.text(8, name);
    message.start(9, 4 * tensor.values.len());
    message
}

/// A message of protocol buffers as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.tag(field, 0);
        self.varint(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.tag(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// A field of so many bytes, which are to follow.
    fn start(&mut self, field: u64, bytes: usize) {
        self.tag(field, 2);
        self.varint(bytes as u64);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.start(field, text.len());
        self.0.extend(text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.start(field, message.0.len());
        self.0.extend(&message.0);
    }

    /// Bytes before a field of so many.
    fn tag_size(field: u64, bytes: usize) -> usize {
        let mut start = Self::default();
        start.start(field, bytes);
        start.0.len()
    }
}
