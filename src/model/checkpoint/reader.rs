//! Reading counted bytes whose lengths a hostile file may have made up.

use std::io::{self, ErrorKind, Read};

use super::error::CheckpointError;
use crate::archive::is_damage;

/// A reader that knows how many bytes there can be, so that no claimed length is believed.
pub(super) struct ByteReader<R> {
    inner: R,
    position: u64,
    /// Bytes there are, or may be read, from the start of `inner`.
    end: u64,
    /// What lies at `end`: the end of the data, or only of the user's patience.
    capped: bool,
    /// What is being read, for the error message.
    what: &'static str,
}

impl<R: Read> ByteReader<R> {
    /// `available` bytes are in `inner`; no more than `limit` of them will be read.
    pub fn new(inner: R, available: u64, limit: u64, what: &'static str) -> Self {
        Self {
            inner,
            position: 0,
            end: available.min(limit),
            capped: limit < available,
            what,
        }
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn claim(&mut self, n: u64) -> Result<(), CheckpointError> {
        let left = self.end - self.position;
        if n <= left {
            self.position += n;
            return Ok(());
        }
        Err(if self.capped {
            CheckpointError::TooLarge {
                what: format!("{} in bytes", self.what),
                found: self.position.saturating_add(n),
                limit: self.end,
            }
        } else {
            self.cut_off(n, left)
        })
    }

    fn cut_off(&self, expected: u64, found: u64) -> CheckpointError {
        CheckpointError::Truncated {
            what: self.what.to_owned(),
            expected,
            found,
        }
    }

    fn explain(&self, error: io::Error, expected: u64) -> CheckpointError {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.cut_off(expected, 0),
            _ if is_damage(&error) => {
                CheckpointError::damaged(format!("{} cannot be unpacked", self.what))
            }
            _ => error.into(),
        }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        match self.inner.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(e) => Err(self.explain(e, N as u64)),
        }
    }

    pub fn byte(&mut self) -> Result<u8, CheckpointError> {
        self.array::<1>().map(|[b]| b)
    }

    /// `n` bytes. Memory grows with what is really there, not with what is claimed.
    pub fn take(&mut self, n: u64) -> Result<Vec<u8>, CheckpointError> {
        self.claim(n)?;
        let mut bytes = Vec::new();
        let found = self.inner.by_ref().take(n).read_to_end(&mut bytes);
        let found = found.map_err(|e| self.explain(e, n))? as u64;
        if found < n {
            return Err(self.cut_off(n, found));
        }
        Ok(bytes)
    }

    /// Up to and without the next newline.
    pub fn line(&mut self) -> Result<Vec<u8>, CheckpointError> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                b => line.push(b),
            }
        }
    }
}
