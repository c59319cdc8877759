//! An archive behind a program's own code: one file that holds the program and what it needs.
//!
//! The file is the program, the archive, the archive's SHA-256 (32 bytes), its length (8 bytes, the
//! lowest first) and eight bytes that mark the end.

use std::io::{self, Read, Seek, SeekFrom, Take, Write};

use sha2::{Digest, Sha256};

/// The last bytes of a program that carries an archive.
const MARK: [u8; 8] = *b"ventral\x01";

/// Bytes behind the archive.
const TRAILER: u64 = 32 + 8 + MARK.len() as u64;

/// What stands behind a program: bytes to read, and their name.
pub struct Appended<S> {
    /// The archive's bytes.
    pub bytes: Take<S>,
    /// Its SHA-256.
    pub hash: [u8; 32],
}

/// Writes an archive behind a program that has been written to `out`.
///
/// # Errors
/// When `out` cannot be written.
pub fn append(mut out: impl Write, archive: &[u8]) -> io::Result<()> {
    out.write_all(archive)?;
    out.write_all(&Sha256::digest(archive))?;
    out.write_all(&(archive.len() as u64).to_le_bytes())?;
    out.write_all(&MARK)
}

/// The archive behind a program, if it carries one.
///
/// # Errors
/// When the file cannot be read, or is shorter than its trailer says.
pub fn find<S: Read + Seek>(mut program: S) -> io::Result<Option<Appended<S>>> {
    let size = program.seek(SeekFrom::End(0))?;
    let Some(end) = size.checked_sub(TRAILER) else {
        return Ok(None);
    };
    let (mut hash, mut length, mut mark) = ([0; 32], [0; 8], MARK);
    program.seek(SeekFrom::Start(end))?;
    program.read_exact(&mut hash)?;
    program.read_exact(&mut length)?;
    program.read_exact(&mut mark)?;
    if mark != MARK {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length);
    let start = end
        .checked_sub(length)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    program.seek(SeekFrom::Start(start))?;
    Ok(Some(Appended {
        bytes: program.take(length),
        hash,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_program_gives_back_what_was_appended_to_it() {
        let mut file = b"a program of some length".to_vec();
        assert!(find(Cursor::new(&file)).unwrap().is_none());
        append(&mut file, b"an archive").unwrap();
        let mut found = find(Cursor::new(&file)).unwrap().unwrap();
        let mut bytes = Vec::new();
        found.bytes.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"an archive");
        assert_eq!(found.hash, *Sha256::digest(&bytes));
    }

    #[test]
    fn a_short_file_and_a_cut_one_are_no_panic() {
        assert!(find(Cursor::new(b"x")).unwrap().is_none());
        let mut file = Vec::new();
        append(&mut file, &[7; 100]).unwrap();
        assert!(find(Cursor::new(&file[60..])).is_err());
    }
}
