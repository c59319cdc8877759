//! A dropped file as a source of bytes: read in windows, never whole.

use std::io::{self, Read, Seek, SeekFrom};

use js_sys::Uint8Array;
use web_sys::{Blob, FileReaderSync};

/// What is read ahead at a time, bytes.
const WINDOW: u64 = 1 << 20;

/// A `Blob`, which the browser may keep on disk.
pub struct BlobSource {
    blob: Blob,
    reader: FileReaderSync,
    size: u64,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl BlobSource {
    pub fn new(blob: Blob) -> io::Result<Self> {
        Ok(Self {
            size: blob.size() as u64,
            reader: FileReaderSync::new().map_err(|_| failed())?,
            blob,
            position: 0,
            window: Vec::new(),
            window_start: 0,
        })
    }

    fn fetch(&self, start: u64, end: u64) -> io::Result<Uint8Array> {
        let slice = self
            .blob
            .slice_with_f64_and_f64(start as f64, end as f64)
            .map_err(|_| failed())?;
        let buffer = self.reader.read_as_array_buffer(&slice);
        let buffer = buffer.map_err(|_| failed())?;
        Ok(Uint8Array::new(&buffer))
    }

    /// The read-ahead bytes at the current position.
    fn ahead(&self) -> &[u8] {
        let offset = self.position.checked_sub(self.window_start);
        offset
            .and_then(|offset| self.window.get(usize::try_from(offset).ok()?..))
            .unwrap_or_default()
    }
}

fn failed() -> io::Error {
    io::Error::other("the browser could not read the file; it may have been moved or changed")
}

impl Read for BlobSource {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size || out.is_empty() {
            return Ok(0);
        }
        if self.ahead().is_empty() {
            let end = (self.position + WINDOW).min(self.size);
            self.window = self.fetch(self.position, end)?.to_vec();
            self.window_start = self.position;
        }
        let ahead = self.ahead();
        let n = ahead.len().min(out.len());
        out[..n].copy_from_slice(&ahead[..n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for BlobSource {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "seek before the start of a file",
            )
        })?;
        Ok(self.position)
    }
}
