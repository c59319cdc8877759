//! Weight files: every fixture, both of PyTorch's formats, and files that are broken or hostile.
#![cfg(feature = "checkpoint")]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod formats;
mod hostile;
mod numpy;
mod recognise;
mod safetensors;

use std::io::Cursor;

use ventral::model::checkpoint::{Checkpoint, Limits};

use crate::common::torch::{Storage, Tensor, ordered_dict, torch_legacy, torch_zip};

type Bytes = Cursor<Vec<u8>>;

fn open(bytes: Vec<u8>) -> Checkpoint<Bytes> {
    match Checkpoint::open(Cursor::new(bytes), &Limits::default()) {
        Ok(checkpoint) => checkpoint,
        Err(e) => panic!("{e}"),
    }
}

/// The sentence with which a file is refused.
fn refusal(bytes: Vec<u8>) -> String {
    match Checkpoint::open(Cursor::new(bytes), &Limits::default()) {
        Ok(checkpoint) => panic!("opened: {:?}", checkpoint.tensors()),
        Err(e) => e.to_string(),
    }
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
    }
}

/// A file in both formats that holds one bare tensor `w`.
fn both_formats(tensor: &Tensor, storage: &Storage) -> [Vec<u8>; 2] {
    let object = |legacy| ordered_dict(vec![("w".to_owned(), tensor.py(legacy))]);
    let storages = std::slice::from_ref(storage);
    [
        torch_zip(&object(false), storages, false),
        torch_legacy(&object(true), storages),
    ]
}
