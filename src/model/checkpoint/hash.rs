//! Is this the published file? Its name says.

use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

/// SHA-256 of a whole source, as 64 lower-case hex digits. The source is left at its end.
///
/// `progress` is called with the number of bytes hashed so far.
///
/// # Errors
/// Whatever the source reports.
pub fn sha256<S: Read + Seek>(source: &mut S, mut progress: impl FnMut(u64)) -> io::Result<String> {
    source.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..n]);
        done += n as u64;
        progress(done);
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The start of its SHA-256 that a file's name carries in PyTorch's convention:
/// `cornet_s-1d3f7974.pth` gives `1d3f7974`.
pub fn published_prefix(file_name: &str) -> Option<&str> {
    let (_, suffix) = file_name.rsplit_once('-')?;
    let (digits, _extension) = suffix.split_once('.')?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (digits.len() >= 8 && digits.bytes().all(is_hex)).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_standards_example() {
        let mut seen = 0;
        let hash = sha256(&mut io::Cursor::new(b"abc"), |n| seen = n).unwrap();
        // FIPS 180-4, appendix B.1.
        assert_eq!(
            hash,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(seen, 3);
    }

    #[test]
    fn published_names_carry_a_prefix() {
        assert_eq!(published_prefix("cornet_s-1d3f7974.pth"), Some("1d3f7974"));
        assert_eq!(published_prefix("voneresnet50_e70.pth.tar"), None);
        assert_eq!(published_prefix("my-weights.pth"), None);
    }
}
