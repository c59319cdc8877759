//! Repairing what an old wasm-opt breaks: up to version 108, which is Debian 12's, it writes every
//! exported table as table 0 (binaryen issue 4711, mended in 109). wasm-bindgen exports its table of
//! JavaScript values, which is never table 0, so the page would end at its first line.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// Section numbers of the binary format.
const IMPORTS: u8 = 2;
const TABLES: u8 = 4;
const EXPORTS: u8 = 7;

/// Kinds of import and export.
const FUNCTION: u8 = 0;
const TABLE: u8 = 1;
const MEMORY: u8 = 2;
const GLOBAL: u8 = 3;

/// An exported table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Export {
    name: Vec<u8>,
    table: usize,
    /// Where the table's number stands in the file.
    at: Range<usize>,
}

/// Lets every exported table of `after` be of the type that the export of the same name has in
/// `before`; how many had to be changed.
///
/// # Errors
/// When either is no module that this can read, or the table that is meant cannot be told.
pub fn restore_exports(before: &[u8], after: &mut [u8]) -> Result<usize> {
    let (types, exports) = (tables(before)?, exported(before)?);
    let new_types = tables(after)?;
    let mut changed = 0;
    for export in exported(after)? {
        let wanted = exports
            .iter()
            .find(|old| old.name == export.name)
            .and_then(|old| types.get(old.table))
            .context("wasm-opt exports a table that was not exported before")?;
        if new_types.get(export.table) == Some(wanted) {
            continue;
        }
        let mut numbers = (0..).zip(&new_types).filter(|(_, kind)| *kind == wanted);
        let (Some((number, _)), None) = (numbers.next(), numbers.next()) else {
            bail!("wasm-opt exports the wrong table, and the right one cannot be told");
        };
        let place = after.get_mut(export.at).context("a cut export")?;
        // Written as short as it was: both numbers are below 128 wherever there are few tables.
        let [byte] = place else {
            bail!("wasm-opt wrote a table's number in an unusual way");
        };
        ensure!(number < 0x80_u8, "there are too many tables");
        *byte = number;
        changed += 1;
    }
    Ok(changed)
}

/// The type of every table, imported ones first.
fn tables(module: &[u8]) -> Result<Vec<u8>> {
    let mut types = Vec::new();
    if let Some(mut imports) = section(module, IMPORTS)? {
        for _ in 0..imports.number()? {
            imports.name()?;
            imports.name()?;
            match imports.byte()? {
                FUNCTION => drop(imports.number()?),
                TABLE => types.push(imports.table()?),
                MEMORY => imports.limits()?,
                GLOBAL => imports.skip(2)?,
                kind => bail!("an import of kind {kind}"),
            }
        }
    }
    if let Some(mut own) = section(module, TABLES)? {
        for _ in 0..own.number()? {
            types.push(own.table()?);
        }
    }
    Ok(types)
}

fn exported(module: &[u8]) -> Result<Vec<Export>> {
    let mut found = Vec::new();
    let Some(mut exports) = section(module, EXPORTS)? else {
        return Ok(found);
    };
    for _ in 0..exports.number()? {
        let name = exports.name()?.to_owned();
        let kind = exports.byte()?;
        let from = exports.at;
        let number = exports.number()?;
        if kind == TABLE {
            found.push(Export {
                name,
                table: number as usize,
                at: from..exports.at,
            });
        }
    }
    Ok(found)
}

/// A reader at the start of the section, or nothing when the module has none of this number.
fn section(module: &[u8], wanted: u8) -> Result<Option<Reader<'_>>> {
    ensure!(module.starts_with(b"\0asm\x01\0\0\0"), "no WebAssembly");
    let mut reader = Reader {
        bytes: module,
        at: 8,
    };
    while reader.at < module.len() {
        let number = reader.byte()?;
        let size = reader.number()? as usize;
        if number == wanted {
            return Ok(Some(reader));
        }
        reader.skip(size)?;
    }
    Ok(None)
}

/// Reads the binary format's few building blocks.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).context("a size too large")?;
        let taken = self.bytes.get(self.at..end).context("a cut module")?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count).map(drop)
    }

    fn byte(&mut self) -> Result<u8> {
        match self.take(1)? {
            [byte] => Ok(*byte),
            _ => bail!("a cut module"),
        }
    }

    /// An unsigned LEB128 of at most 32 bits.
    fn number(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).context("a number too large");
            }
        }
        bail!("a number too long")
    }

    fn name(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }

    fn limits(&mut self) -> Result<()> {
        let has_end = match self.byte()? {
            flags @ 0..=3 => flags & 1 == 1,
            flags => bail!("limits with flags {flags}"),
        };
        self.number()?;
        if has_end {
            self.number()?;
        }
        Ok(())
    }

    fn table(&mut self) -> Result<u8> {
        const FUNCTION_REFERENCE: u8 = 0x70;
        const EXTERN_REFERENCE: u8 = 0x6f;
        let kind = self.byte()?;
        let known = matches!(kind, FUNCTION_REFERENCE | EXTERN_REFERENCE);
        ensure!(known, "a table of type {kind:#x}");
        self.limits()?;
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCREF: u8 = 0x70;
    const EXTERNREF: u8 = 0x6f;

    /// A module that imports a function, a memory and a global, has the given tables and exports a
    /// function, then table number `export` as `t`.
    fn module(tables: &[u8], export: u8) -> Vec<u8> {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        let mut section = |number: u8, content: &[u8]| {
            bytes.extend([number, content.len() as u8]);
            bytes.extend(content);
        };
        section(1, &[1, 0x60, 0, 0]);
        let function = [1, b'm', 1, b'f', FUNCTION, 0];
        let memory = [1, b'm', 1, b'm', MEMORY, 1, 1, 2];
        let global = [1, b'm', 1, b'g', GLOBAL, 0x7f, 0];
        section(2, &[&[3], &function[..], &memory, &global].concat());
        let entries: Vec<u8> = tables.iter().flat_map(|kind| [*kind, 1, 1, 9]).collect();
        section(4, &[&[tables.len() as u8], &entries[..]].concat());
        section(7, &[2, 1, b'f', FUNCTION, 0, 1, b't', TABLE, export]);
        bytes
    }

    #[test]
    fn an_export_gets_back_the_table_of_its_type() {
        let before = module(&[FUNCREF, EXTERNREF], 1);
        let mut broken = module(&[FUNCREF, EXTERNREF], 0);
        assert_eq!(restore_exports(&before, &mut broken).unwrap(), 1);
        assert_eq!(broken, before);
        assert_eq!(restore_exports(&before, &mut broken).unwrap(), 0);
        // An unused table of functions may have gone; then the other has become number 0.
        let mut alone = module(&[EXTERNREF], 0);
        assert_eq!(restore_exports(&before, &mut alone).unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let before = module(&[FUNCREF, EXTERNREF], 1);
        let mut two = module(&[FUNCREF, EXTERNREF, EXTERNREF], 0);
        assert!(restore_exports(&before, &mut two).is_err());
        let mut none = module(&[FUNCREF], 0);
        assert!(restore_exports(&before, &mut none).is_err());
        assert!(restore_exports(b"text", &mut module(&[FUNCREF], 0)).is_err());
        for length in 0..before.len() {
            let mut after = module(&[FUNCREF, EXTERNREF], 0);
            // A cut module may still hold all that is asked for; it must only never panic.
            let _ = restore_exports(&before[..length], &mut after);
        }
    }
}
