//! A small writer of pickles and of PyTorch's two file formats, so that the tests need no file
//! but what they build themselves.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A Python value.
#[derive(Clone, Debug)]
pub enum Py {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    Global(&'static str, &'static str),
    /// `module.name(*args)`.
    Call(&'static str, &'static str, Vec<Py>),
    /// An instance of `module.name` with this `__dict__`.
    Instance(&'static str, &'static str, Vec<(Py, Py)>),
    Persistent(Box<Py>),
    /// Opcodes as they are; they leave one value.
    Raw(Vec<u8>),
}

pub fn text(s: &str) -> Py {
    Py::Text(s.to_owned())
}

pub fn ints(values: &[i64]) -> Py {
    Py::Tuple(values.iter().map(|n| Py::Int(*n)).collect())
}

pub fn dict<const N: usize>(entries: [(&str, Py); N]) -> Py {
    Py::Dict(entries.map(|(k, v)| (text(k), v)).into())
}

pub fn ordered_dict(entries: Vec<(String, Py)>) -> Py {
    let mut code = b"ccollections\nOrderedDict\n)R(".to_vec();
    for (k, v) in entries {
        emit(&mut code, &text(&k));
        emit(&mut code, &v);
    }
    // `_metadata`, as modules have it.
    code.extend(b"u}");
    emit(&mut code, &text("_metadata"));
    code.extend(b"}sb");
    Py::Raw(code)
}

/// A whole pickle, protocol 2.
pub fn pickle(value: &Py) -> Vec<u8> {
    let mut code = vec![0x80, 2];
    emit(&mut code, value);
    code.push(b'.');
    code
}

fn emit(code: &mut Vec<u8>, value: &Py) {
    match value {
        Py::None => code.push(b'N'),
        Py::Bool(b) => code.push(if *b { 0x88 } else { 0x89 }),
        Py::Int(n) => match i32::try_from(*n) {
            Ok(n) => {
                code.push(b'J');
                code.extend(n.to_le_bytes());
            }
            Err(_) => {
                code.extend([0x8a, 8]);
                code.extend(n.to_le_bytes());
            }
        },
        Py::Float(x) => {
            code.push(b'G');
            code.extend(x.to_be_bytes());
        }
        Py::Text(s) => {
            code.push(b'X');
            code.extend((s.len() as u32).to_le_bytes());
            code.extend(s.as_bytes());
        }
        Py::Bytes(b) => {
            code.push(b'B');
            code.extend((b.len() as u32).to_le_bytes());
            code.extend(b);
        }
        Py::List(members) => {
            code.extend(b"](");
            members.iter().for_each(|m| emit(code, m));
            code.push(b'e');
        }
        Py::Tuple(members) => {
            code.push(b'(');
            members.iter().for_each(|m| emit(code, m));
            code.push(b't');
        }
        Py::Dict(entries) => {
            code.extend(b"}(");
            for (k, v) in entries {
                emit(code, k);
                emit(code, v);
            }
            code.push(b'u');
        }
        Py::Global(module, name) => code.extend(format!("c{module}\n{name}\n").bytes()),
        Py::Call(module, name, arguments) => {
            emit(code, &Py::Global(module, name));
            emit(code, &Py::Tuple(arguments.clone()));
            code.push(b'R');
        }
        Py::Instance(module, name, state) => {
            emit(code, &Py::Global(module, name));
            code.extend([b')', 0x81]);
            emit(code, &Py::Dict(state.clone()));
            code.push(b'b');
        }
        Py::Persistent(reference) => {
            emit(code, reference);
            code.push(b'Q');
        }
        Py::Raw(raw) => code.extend(raw),
    }
}

/// A tensor as PyTorch describes it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub key: &'static str,
    pub class: &'static str,
    /// Elements of the storage.
    pub length: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    /// Legacy: offset and length within the root storage.
    pub view: Option<(i64, i64)>,
}

impl Tensor {
    /// The whole of a storage, contiguous.
    pub fn whole(key: &'static str, class: &'static str, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for d in (1..shape.len()).rev() {
            strides[d - 1] = strides[d] * shape[d];
        }
        Self {
            key,
            class,
            length: shape.iter().product(),
            offset: 0,
            shape: shape.to_vec(),
            strides,
            view: None,
        }
    }

    pub fn storage(&self, legacy: bool) -> Py {
        let mut members = vec![
            text("storage"),
            Py::Global("torch", self.class),
            text(self.key),
            text(if legacy { "cuda:0" } else { "cpu" }),
            Py::Int(self.length),
        ];
        if legacy {
            members.push(match self.view {
                None => Py::None,
                Some((offset, length)) => {
                    Py::Tuple(vec![text("v"), Py::Int(offset), Py::Int(length)])
                }
            });
        }
        Py::Persistent(Box::new(Py::Tuple(members)))
    }

    pub fn py(&self, legacy: bool) -> Py {
        let arguments = vec![
            self.storage(legacy),
            Py::Int(self.offset),
            ints(&self.shape),
            ints(&self.strides),
            Py::Bool(false),
            Py::Call("collections", "OrderedDict", vec![]),
        ];
        Py::Call("torch._utils", "_rebuild_tensor_v2", arguments)
    }
}

/// The bytes of a storage: its key, the bytes of one value, all of them.
pub type Storage = (&'static str, usize, Vec<u8>);

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub fn i64_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// An archive with the given entries.
pub fn archive(entries: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let method = match deflated {
        true => CompressionMethod::Deflated,
        false => CompressionMethod::Stored,
    };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A file in PyTorch's zip format.
pub fn torch_zip(object: &Py, storages: &[Storage], deflated: bool) -> Vec<u8> {
    torch_zip_in_order(object, storages, deflated, "little")
}

pub fn torch_zip_in_order(
    object: &Py,
    storages: &[Storage],
    deflated: bool,
    byteorder: &str,
) -> Vec<u8> {
    zip_of_pickle(&pickle(object), storages, deflated, byteorder)
}

/// A file in PyTorch's zip format around any bytes in a pickle's place, with sound checksums.
pub fn zip_of_pickle(
    table: &[u8],
    storages: &[Storage],
    deflated: bool,
    byteorder: &str,
) -> Vec<u8> {
    let named: Vec<String> = storages
        .iter()
        .map(|(key, ..)| format!("test/data/{key}"))
        .collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("test/data.pkl", table)];
    entries.push(("test/byteorder", byteorder.as_bytes()));
    for (name, (_, _, bytes)) in named.iter().zip(storages) {
        entries.push((name, bytes));
    }
    entries.push(("test/version", b"3\n"));
    archive(&entries, deflated)
}

/// A file in PyTorch's format before 1.6.
pub fn torch_legacy(object: &Py, storages: &[Storage]) -> Vec<u8> {
    torch_legacy_on(object, storages, true)
}

pub fn torch_legacy_on(object: &Py, storages: &[Storage], little_endian: bool) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(pickle(&Py::Int(1001)));
    file.extend(pickle(&dict([
        ("protocol_version", Py::Int(1001)),
        ("little_endian", Py::Bool(little_endian)),
    ])));
    file.extend(pickle(object));
    let keys = storages.iter().map(|(key, ..)| text(key)).collect();
    file.extend(pickle(&Py::List(keys)));
    for (_, size, bytes) in storages {
        file.extend(((bytes.len() / size) as u64).to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// A wrapped state dict with an optimizer and flags, of a few hundred bytes; the values of
/// `a.weight` are 0 to 5, of `a.bias` 10 and 20, of `steps` 7.
pub fn small(legacy: bool, deflated: bool) -> Vec<u8> {
    let object = small_object(legacy);
    match legacy {
        true => torch_legacy(&object, &small_storages()),
        false => torch_zip(&object, &small_storages(), deflated),
    }
}

pub fn small_object(legacy: bool) -> Py {
    let weight = Tensor::whole("0", "FloatStorage", &[2, 3]);
    let bias = Tensor::whole("1", "FloatStorage", &[2]);
    let steps = Tensor::whole("2", "LongStorage", &[]);
    let momentum = Tensor::whole("3", "FloatStorage", &[2, 3]);
    dict([
        ("epoch", Py::Int(43)),
        (
            "flags",
            dict([("stride", Py::Int(2)), ("noise_scale", Py::Float(0.35))]),
        ),
        (
            "state_dict",
            ordered_dict(vec![
                ("module.a.weight".to_owned(), weight.py(legacy)),
                ("module.a.bias".to_owned(), bias.py(legacy)),
                ("module.steps".to_owned(), steps.py(legacy)),
            ]),
        ),
        (
            "optimizer",
            dict([("state", dict([("0", momentum.py(legacy))]))]),
        ),
    ])
}

pub fn small_storages() -> [Storage; 4] {
    [
        ("0", 4, f32_bytes(&[0., 1., 2., 3., 4., 5.])),
        ("1", 4, f32_bytes(&[10., 20.])),
        ("2", 8, i64_bytes(&[7])),
        ("3", 4, f32_bytes(&[9.; 6])),
    ]
}
