//! Telling from a file's first bytes what it is, or what it is instead of weights.

use super::error::CheckpointError;

/// Enough of a file's head to tell: the magic of a tar archive is the furthest in.
pub(super) const HEAD: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zip,
    Pickle,
    /// Perhaps: a pickle of protocol 0 or 1 has no mark of its own. PyTorch writes none.
    OldPickle,
    Safetensors,
}

/// Other things that get saved under the name of a checkpoint.
struct Lookalike {
    magic: &'static [u8],
    at: usize,
    what: &'static str,
    advice: &'static str,
}

const PACKED: &str = "please unpack it and open what is inside";
const OTHER_FRAMEWORK: &str = "please convert it to safetensors or to a PyTorch state_dict first";
const PICTURE: &str = "please drop it as an image, or choose a .pth, .pth.tar or .safetensors file";

const fn at_start(magic: &'static [u8], what: &'static str, advice: &'static str) -> Lookalike {
    Lookalike {
        magic,
        at: 0,
        what,
        advice,
    }
}

const LOOKALIKES: &[Lookalike] = &[
    at_start(
        b"version https://git-lfs",
        "a Git LFS pointer",
        "the weights themselves were not downloaded; run `git lfs pull` or download the file from its page",
    ),
    at_start(b"\x1f\x8b", "a gzip archive", PACKED),
    at_start(b"\xfd7zXZ\0", "an xz archive", PACKED),
    at_start(b"BZh", "a bzip2 archive", PACKED),
    at_start(b"\x28\xb5\x2f\xfd", "a Zstandard archive", PACKED),
    at_start(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", PACKED),
    at_start(b"Rar!", "a RAR archive", PACKED),
    Lookalike {
        magic: b"ustar",
        at: 257,
        what: "a tar archive",
        advice: PACKED,
    },
    at_start(b"\x89HDF", "an HDF5 file", OTHER_FRAMEWORK),
    at_start(b"GGUF", "a GGUF file", OTHER_FRAMEWORK),
    Lookalike {
        magic: b"TFL3",
        at: 4,
        what: "a TensorFlow Lite model",
        advice: OTHER_FRAMEWORK,
    },
    at_start(
        b"\x93NUMPY",
        "a NumPy array",
        "an array carries no names, so please save a state_dict",
    ),
    at_start(b"\x89PNG", "a PNG picture", PICTURE),
    at_start(b"\xff\xd8\xff", "a JPEG picture", PICTURE),
    at_start(b"GIF8", "a GIF picture", PICTURE),
    at_start(
        b"%PDF",
        "a PDF document",
        "please choose a .pth, .pth.tar or .safetensors file",
    ),
    at_start(
        b"PK\x05\x06",
        "an empty zip archive",
        "please save the weights again",
    ),
];

/// Says which reader to use for a file that begins with `head` and is `length` bytes long.
///
/// # Errors
/// [`CheckpointError::Empty`] or [`CheckpointError::NotWeights`], naming what it is instead.
pub(super) fn sniff(head: &[u8], length: u64) -> Result<Kind, CheckpointError> {
    if head.is_empty() {
        return Err(CheckpointError::Empty);
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Kind::Zip);
    }
    if looks_like_safetensors(head) {
        return Ok(Kind::Safetensors);
    }
    if let Some(found) = LOOKALIKES.iter().find(|l| l.is_in(head)) {
        return Err(CheckpointError::not_weights(found.what, found.advice));
    }
    if let Some((what, advice)) = text_kind(head) {
        return Err(CheckpointError::not_weights(what, advice));
    }
    match head.first() {
        Some(0x80) => Ok(Kind::Pickle),
        Some(b'(' | b'c' | b']' | b'}') => Ok(Kind::OldPickle),
        _ => Err(unknown(length)),
    }
}

pub(super) fn unknown(length: u64) -> CheckpointError {
    CheckpointError::NotWeights {
        what: format!("a file of {length} bytes in a format this program does not know"),
        advice: "please choose a .pth, .pth.tar or .safetensors file".to_owned(),
    }
}

impl Lookalike {
    fn is_in(&self, head: &[u8]) -> bool {
        head.get(self.at..)
            .is_some_and(|tail| tail.starts_with(self.magic))
    }
}

/// A little-endian header length, then a JSON object.
fn looks_like_safetensors(head: &[u8]) -> bool {
    // A header of 2^32 bytes or more is no header.
    matches!(head, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

fn text_kind(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let starts = |word: &str| {
        text.get(..word.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(word.as_bytes()))
    };
    if starts("<!doctype html") || starts("<html") || starts("<head") || starts("<!--") {
        return Some((
            "a web page",
            "the address led to a page, perhaps a login or an error, so please download the file itself",
        ));
    }
    if starts("<?xml") || starts("<error") {
        return Some((
            "an XML document",
            "the server probably answered with an error message instead of the file",
        ));
    }
    if starts("{\"") || starts("{\n") || starts("{ ") || starts("{\r") || starts("[{") {
        return Some((
            "a JSON text",
            "the server probably answered with a message instead of the file",
        ));
    }
    None
}
