//! The directory of a zip archive, and archives of stored entries.
//!
//! Only what PyTorch and NumPy use: one disk, stored or deflated entries, zip64. The directory is
//! looked for where the format puts it, in the last 64 KiB, so that a truncated archive is
//! recognised without a search through all of it (PKWARE APPNOTE 6.3).

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use flate2::Crc;

use super::{ArchiveError, Backing, DEFLATE_RATIO, Endian, shorten};

const END: [u8; 4] = *b"PK\x05\x06";
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const END_SIZE: usize = 22;
const LOCATOR64_SIZE: usize = 20;
const CENTRAL_SIZE: usize = 46;
const LOCAL_SIZE: usize = 30;
/// More entries than any real archive has: a training checkpoint has a few thousand.
const MOST_ENTRIES: usize = 1 << 20;

/// An entry as the directory lists it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where its local header begins.
    header: u64,
    packed: u64,
    /// Bytes it claims to hold, unpacked: no more than its packed bytes can.
    pub length: u64,
    method: u16,
    encrypted: bool,
    crc: u32,
}

/// The entries of an archive by name.
#[derive(Debug)]
pub(crate) struct Directory {
    pub entries: BTreeMap<String, Entry>,
}

/// Little-endian numbers out of a slice; `None` past its end.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn slice(self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }
}

fn broken(what: &str) -> ArchiveError {
    ArchiveError::Damaged(format!("its zip archive {what}"))
}

fn read_at<S: Read + Seek>(source: &mut S, at: u64, length: u64) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    source.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Directory {
    /// Reads the directory of a source of `size` bytes; the directory itself may have
    /// `max_bytes`.
    pub fn read<S: Read + Seek>(
        source: &mut S,
        size: u64,
        max_bytes: u64,
    ) -> Result<Self, ArchiveError> {
        let place = Place::find(source, size)?;
        if place.length > max_bytes {
            return Err(ArchiveError::TooLarge {
                what: "the directory of its zip archive in bytes".to_owned(),
                found: place.length,
                limit: max_bytes,
            });
        }
        if place
            .start
            .checked_add(place.length)
            .is_none_or(|end| end > size)
        {
            return Err(broken("has its directory beyond its end"));
        }
        let bytes = read_at(source, place.start, place.length)?;
        Self::parse(&bytes, size)
    }

    fn parse(bytes: &[u8], size: u64) -> Result<Self, ArchiveError> {
        let mut entries = BTreeMap::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (name, entry, length) =
                Entry::parse(rest).ok_or_else(|| broken("has a malformed directory"))?;
            entry.check(&name, size)?;
            if entries.len() == MOST_ENTRIES {
                return Err(broken("has too many entries"));
            }
            if entries.insert(name.clone(), entry).is_some() {
                return Err(broken(&format!(
                    "has two entries called `{}`",
                    shorten(&name)
                )));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(Self { entries })
    }

    /// Where the bytes of an entry lie, for which its local header has to be read.
    pub fn locate<S: Read + Seek>(
        &self,
        source: &mut S,
        size: u64,
        name: &str,
    ) -> Result<Option<Backing>, ArchiveError> {
        match self.entries.get(name) {
            Some(entry) => entry.locate(source, size, name).map(Some),
            None => Ok(None),
        }
    }
}

/// Where the directory lies.
struct Place {
    start: u64,
    length: u64,
}

impl Place {
    fn find<S: Read + Seek>(source: &mut S, size: u64) -> Result<Self, ArchiveError> {
        let tail_size = size.min((END_SIZE + LOCATOR64_SIZE + usize::from(u16::MAX)) as u64);
        let tail = read_at(source, size - tail_size, tail_size)?;
        let end = find_end(&tail).ok_or_else(|| ArchiveError::Truncated {
            what: "its zip archive, whose directory is at the end".to_owned(),
            expected: END_SIZE as u64,
            found: 0,
        })?;
        let malformed = || broken("has a malformed directory");
        let fields = Fields(&tail);
        let length = fields.u32(end + 12).ok_or_else(malformed)?;
        let start = fields.u32(end + 16).ok_or_else(malformed)?;
        let locator = end
            .checked_sub(LOCATOR64_SIZE)
            .filter(|at| fields.array(*at) == Some(LOCATOR64));
        match locator {
            Some(at) => {
                let at = fields.u64(at + 8).ok_or_else(malformed)?;
                Self::read64(source, at).and_then(|place| place.ok_or_else(malformed))
            }
            None => Ok(Self {
                start: start.into(),
                length: length.into(),
            }),
        }
    }

    fn read64<S: Read + Seek>(source: &mut S, at: u64) -> Result<Option<Self>, ArchiveError> {
        let bytes = read_at(source, at, 56)?;
        let fields = Fields(&bytes);
        let place = || {
            Some(Self {
                length: fields.u64(40)?,
                start: fields.u64(48)?,
            })
        };
        Ok(place().filter(|_| fields.array(0) == Some(END64)))
    }
}

/// The last end record whose comment reaches to the end of the file.
fn find_end(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(END_SIZE)?;
    let fields = Fields(tail);
    (0..=last).rev().find(|at| {
        let comment = last - at;
        fields.array(*at) == Some(END) && fields.u16(at + 20).map(usize::from) == Some(comment)
    })
}

/// The second half of code page 437, in which names are that are not UTF-8 (APPNOTE 6.3.10, appendix
/// D).
const CODE_PAGE_437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A name as UTF-8, which many programs write without its flag, or else in code page 437.
fn decoded(name: &[u8]) -> String {
    let letter = |byte: &u8| match byte.checked_sub(128) {
        None => char::from(*byte),
        // All 128 are there.
        Some(place) => CODE_PAGE_437
            .chars()
            .nth(place.into())
            .unwrap_or('\u{fffd}'),
    };
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => name.iter().map(letter).collect(),
    }
}

impl Entry {
    /// The first entry of `bytes`, its name, and the bytes it takes in the directory.
    fn parse(bytes: &[u8]) -> Option<(String, Self, usize)> {
        let fields = Fields(bytes);
        if fields.array(0) != Some(CENTRAL) {
            return None;
        }
        let name_length = usize::from(fields.u16(28)?);
        let extra_length = usize::from(fields.u16(30)?);
        let comment_length = usize::from(fields.u16(32)?);
        let name = fields.slice(CENTRAL_SIZE, name_length)?;
        let extra = fields.slice(CENTRAL_SIZE + name_length, extra_length)?;
        let mut entry = Self {
            header: fields.u32(42)?.into(),
            packed: fields.u32(20)?.into(),
            length: fields.u32(24)?.into(),
            method: fields.u16(10)?,
            encrypted: fields.u16(8)? & 1 != 0,
            crc: fields.u32(16)?,
        };
        entry.widen(extra)?;
        let length = CENTRAL_SIZE + name_length + extra_length + comment_length;
        Some((decoded(name), entry, length))
    }

    /// Takes 64-bit sizes from the zip64 field, where the 32-bit ones say so.
    fn widen(&mut self, mut extra: &[u8]) -> Option<()> {
        const ZIP64: u16 = 1;
        while let (Some(id), Some(length)) = (Fields(extra).u16(0), Fields(extra).u16(2)) {
            let field = Fields(extra.get(4..)?).slice(0, length.into())?;
            if id == ZIP64 {
                let mut at = 0;
                for value in [&mut self.length, &mut self.packed, &mut self.header] {
                    if *value == u64::from(u32::MAX) {
                        *value = Fields(field).u64(at)?;
                        at += 8;
                    }
                }
            }
            extra = extra.get(4 + usize::from(length)..)?;
        }
        Some(())
    }

    fn check(&self, name: &str, size: u64) -> Result<(), ArchiveError> {
        let name = shorten(name);
        let end = self
            .header
            .checked_add(LOCAL_SIZE as u64)
            .and_then(|start| start.checked_add(self.packed));
        if end.is_none_or(|end| end > size) {
            return Err(ArchiveError::Truncated {
                what: format!("`{name}`"),
                expected: self.packed,
                found: size.saturating_sub(self.header),
            });
        }
        // The most a DEFLATE stream of this size can unpack to. Stored entries have one size.
        let most = match self.method {
            0 => self.packed,
            _ => self.packed.saturating_mul(DEFLATE_RATIO).saturating_add(64),
        };
        if self.length > most {
            return Err(broken(&format!(
                "claims {} bytes for `{name}`, of which it can hold {most} at most",
                self.length
            )));
        }
        Ok(())
    }

    fn locate<S: Read + Seek>(
        &self,
        source: &mut S,
        size: u64,
        name: &str,
    ) -> Result<Backing, ArchiveError> {
        let name = shorten(name);
        if self.encrypted {
            return Err(broken(&format!("has a password on `{name}`")));
        }
        if !matches!(self.method, 0 | 8) {
            return Err(broken(&format!(
                "packs `{name}` by method {}, and only stored and deflated entries can be read",
                self.method
            )));
        }
        let bytes = read_at(source, self.header, LOCAL_SIZE as u64)?;
        let fields = Fields(&bytes);
        let start = || {
            let skipped = u64::from(fields.u16(26)?) + u64::from(fields.u16(28)?);
            let start = self.header + LOCAL_SIZE as u64 + skipped;
            (fields.array(0) == Some(LOCAL) && start + self.packed <= size).then_some(start)
        };
        Ok(Backing {
            start: start().ok_or_else(|| broken(&format!("has lost `{name}`")))?,
            packed: self.packed,
            length: self.length,
            deflated: self.method == 8,
            crc: Some(self.crc),
            endian: Endian::Little,
        })
    }
}

/// Writes an archive of stored entries, one after the other, the same bytes every time.
///
/// Entries and the archive stay below 4 GiB, which is what the format can say without zip64.
pub(crate) struct Writer<W> {
    out: W,
    written: u64,
    directory: Vec<u8>,
    entries: u16,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            directory: Vec::new(),
            entries: 0,
        }
    }

    fn emit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Adds an entry whose bytes are the given pieces in a row.
    pub fn add(&mut self, name: &str, pieces: &[&[u8]]) -> io::Result<()> {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut crc = Crc::new();
        pieces.iter().for_each(|piece| crc.update(piece));
        let header = u32_of(self.written)?;
        let name_length = u16::try_from(name.len()).map_err(|_| too_large())?;
        let common = common_fields(crc.sum(), u32_of(length)?, name_length);

        self.emit(&LOCAL)?;
        self.emit(&common)?;
        self.emit(name.as_bytes())?;
        for piece in pieces {
            self.emit(piece)?;
        }

        self.directory.extend(CENTRAL);
        self.directory.extend(20u16.to_le_bytes()); // made by version 2.0
        self.directory.extend(common);
        // Comment length, disk, internal and external attributes.
        self.directory.extend([0; 10]);
        self.directory.extend(header.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries = self.entries.checked_add(1).ok_or_else(too_large)?;
        Ok(())
    }

    /// Writes the directory and returns the output.
    pub fn finish(mut self) -> io::Result<W> {
        let start = u32_of(self.written)?;
        let directory = std::mem::take(&mut self.directory);
        self.emit(&directory)?;
        self.emit(&END)?;
        self.emit(&[0; 4])?; // disks
        self.emit(&self.entries.to_le_bytes())?;
        self.emit(&self.entries.to_le_bytes())?;
        self.emit(&u32_of(directory.len() as u64)?.to_le_bytes())?;
        self.emit(&start.to_le_bytes())?;
        self.emit(&[0; 2])?; // comment length
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The fields that a local header and a directory entry share.
fn common_fields(crc: u32, length: u32, name_length: u16) -> Vec<u8> {
    const UTF8_NAME: u16 = 1 << 11;
    // The earliest date there is: 1980-01-01.
    const DATE: u16 = (1 << 5) | 1;
    let mut fields = Vec::with_capacity(26);
    fields.extend(20u16.to_le_bytes()); // needs version 2.0
    fields.extend(UTF8_NAME.to_le_bytes());
    fields.extend([0; 4]); // stored, midnight
    fields.extend(DATE.to_le_bytes());
    fields.extend(crc.to_le_bytes());
    fields.extend(length.to_le_bytes());
    fields.extend(length.to_le_bytes());
    fields.extend(name_length.to_le_bytes());
    fields.extend([0; 2]); // no extra field
    fields
}

fn u32_of(n: u64) -> io::Result<u32> {
    u32::try_from(n)
        .ok()
        .filter(|n| *n != u32::MAX)
        .ok_or_else(too_large)
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "an .npz archive holds 4 GiB and 65535 arrays at most: please write fewer images or taps",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_utf8_or_in_code_page_437() {
        assert_eq!(CODE_PAGE_437.chars().count(), 128);
        assert_eq!(decoded("bild_ä.png".as_bytes()), "bild_ä.png");
        assert_eq!(decoded(b"bild_\x84\x94\x81\xe1.png"), "bild_äöüß.png");
    }
}
