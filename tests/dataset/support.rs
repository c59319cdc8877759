//! Small sets and archives of them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ventral::image::dataset::{
    Classes, DatasetError, LabelledSet, LoadOptions, OpenOptions, Opened, Split, open, quiet,
};
use ventral::image::{Picture, encode_png};

/// A picture of one colour, as a PNG file.
pub fn flat(size: usize, colour: [u8; 3]) -> Vec<u8> {
    let data = colour.repeat(size * size);
    encode_png(&Picture::from_rgb(size, size, data).unwrap()).unwrap()
}

pub fn write_tree(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Two classes; the files are not in the order of their classes.
pub fn small_tree() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("set/train/dog/1.png", flat(8, [30, 31, 32])),
        ("set/train/cat/2.png", flat(8, [20, 21, 22])),
        ("set/train/cat/1.png", flat(8, [10, 11, 12])),
        ("set/train/cat/notes.md", b"not a picture".to_vec()),
        ("set/train/.DS_Store", b"nor this".to_vec()),
        ("set/test/dog/1.png", flat(16, [50, 51, 52])),
        ("set/test/cat/1.png", flat(8, [40, 41, 42])),
    ]
}

pub fn small_set(split: Split) -> LabelledSet {
    let colours: &[[u8; 3]] = match split {
        Split::Train => &[[10, 11, 12], [20, 21, 22], [30, 31, 32]],
        Split::Test => &[[40, 41, 42], [50, 51, 52]],
    };
    let planes = colours.iter().flatten();
    LabelledSet {
        classes: vec!["cat".to_owned(), "dog".to_owned()],
        images: planes.flat_map(|&c| [c; 64]).collect(),
        labels: match split {
            Split::Train => vec![0, 0, 1],
            Split::Test => vec![0, 1],
        },
        size: 8,
    }
}

pub fn options(cache: Option<PathBuf>) -> LoadOptions {
    LoadOptions { size: 8, cache }
}

pub fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Every other entry deflated, so that both ways are read.
pub fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    use zip::CompressionMethod::{Deflated, Stored};
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (i, (name, bytes)) in files.iter().enumerate() {
        let method = if i % 2 == 0 { Deflated } else { Stored };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A record of a CIFAR-10 batch: its label and a plane of each colour.
pub fn record(label: u8, colour: [u8; 3]) -> Vec<u8> {
    let planes = colour.iter().flat_map(|&c| [c; 1024]);
    std::iter::once(label).chain(planes).collect()
}

pub fn opened(bytes: &[u8], name: &str, images: usize) -> Result<Opened, DatasetError> {
    let options = OpenOptions {
        size: 8,
        images,
        without: Vec::new(),
        flat: false,
        in_order: false,
    };
    open(bytes, name, &options, &mut quiet)
}

pub fn classes(only: &[&str]) -> Classes {
    Classes {
        only: only.iter().map(|&name| name.to_owned()).collect(),
        ..Classes::default()
    }
}
