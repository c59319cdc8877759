//! Headers and padding of a `.tar` archive (POSIX.1-1988, with GNU's long names).
//!
//! A page passes a chosen folder to its worker as one archive: these headers and the files, which
//! the browser concatenates without reading them.

/// A tar archive is made of blocks of this many bytes.
pub const BLOCK: usize = 512;

/// The longest path a header has room for, in bytes.
const MOST_NAME: usize = 100;

/// The header of a file, preceded by its name where that is long. `path` has `/` between folders;
/// `length` is in bytes, below 8 GiB.
pub fn header(path: &str, length: u64) -> Vec<u8> {
    if path.len() <= MOST_NAME {
        return block(path.as_bytes(), length, b'0');
    }
    let mut bytes = block(b"././@LongLink", path.len() as u64 + 1, b'L');
    bytes.extend(path.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes.extend(block(&path.as_bytes()[..MOST_NAME], length, b'0'));
    bytes
}

/// The number of zeros after a file of this many bytes.
pub fn padding(length: u64) -> usize {
    (length.next_multiple_of(BLOCK as u64) - length) as usize
}

/// The end of an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

fn block(name: &[u8], length: u64, kind: u8) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, b"0000644\0");
    put(
        124,
        format!("{:011o}", length.min(0o77_777_777_777)).as_bytes(),
    );
    put(136, b"00000000000");
    // The checksum is computed with blanks in its place.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(all(test, feature = "dataset"))]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_reader_of_archives_finds_what_was_packed() {
        let long = format!("set/{}/ä.png", "class".repeat(60));
        let edge = format!("{}/a.png", "e".repeat(MOST_NAME - 6));
        let files = [
            ("cat/1.png", vec![1; 5]),
            (long.as_str(), vec![2; 512]),
            (edge.as_str(), Vec::new()),
            ("dog/2.png", vec![3; 1025]),
        ];
        let mut bytes = Vec::new();
        for (path, content) in &files {
            let length = content.len() as u64;
            bytes.extend(header(path, length));
            bytes.extend(content);
            bytes.resize(bytes.len() + padding(length), 0);
        }
        bytes.extend(END);
        let mut archive = tar::Archive::new(&bytes[..]);
        let found = archive.entries().expect("it is an archive").map(|entry| {
            let mut entry = entry.expect("it is whole");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("it is there");
            let path = entry.path().expect("it has one").into_owned();
            (path.to_string_lossy().into_owned(), content)
        });
        let expected = files.map(|(path, content)| (path.to_owned(), content));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
