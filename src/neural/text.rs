//! The text of a table, whatever program wrote it: its letters, its separator, its lines.

use std::borrow::Cow;

use super::error::NeuralError;

/// The cells' separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separator {
    Byte(u8),
    /// Any number of blanks, as `numpy.savetxt` and R's `write.table` write them.
    Blanks,
}

/// A table as UTF-8.
pub(super) struct Text<'a> {
    pub text: Cow<'a, str>,
    /// Where the table begins: behind a line `sep=;`.
    pub start: usize,
    pub separator: Separator,
    /// Clauses on what was assumed.
    pub notes: Vec<String>,
}

/// Windows-1252's letters from 0x80 to 0x9F; the others are those of Unicode.
#[rustfmt::skip]
const WINDOWS: [Option<char>; 32] = [
    Some('€'), None, Some('‚'), Some('ƒ'), Some('„'), Some('…'), Some('†'), Some('‡'),
    Some('ˆ'), Some('‰'), Some('Š'), Some('‹'), Some('Œ'), None, Some('Ž'), None,
    None, Some('‘'), Some('’'), Some('“'), Some('”'), Some('•'), Some('–'), Some('—'),
    Some('˜'), Some('™'), Some('š'), Some('›'), Some('œ'), None, Some('ž'), Some('Ÿ'),
];

/// Decodes the bytes of a table and finds its separator, which is `usual` unless the table itself
/// shows another.
///
/// # Errors
/// [`NeuralError::Empty`], [`NeuralError::Encoding`].
pub(super) fn table(bytes: &[u8], usual: u8) -> Result<Text<'_>, NeuralError> {
    let mut notes = Vec::new();
    let text = decode(bytes, &mut notes)?;
    if text.trim().is_empty() {
        return Err(NeuralError::Empty);
    }
    let (start, named) = excel_separator(&text);
    let separator = match named {
        Some(named) => Separator::Byte(named),
        None => used_separator(&text, usual),
    };
    Ok(Text {
        text,
        start,
        separator,
        notes,
    })
}

/// Whether bytes begin as text of 16 bits a letter does.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF")
}

fn decode<'a>(bytes: &'a [u8], notes: &mut Vec<String>) -> Result<Cow<'a, str>, NeuralError> {
    if is_utf16(bytes) {
        let big = bytes.starts_with(b"\xFE\xFF");
        let units = bytes[2..].as_chunks::<2>().0.iter();
        let units = units.map(|unit| match big {
            true => u16::from_be_bytes(*unit),
            false => u16::from_le_bytes(*unit),
        });
        let text: Result<String, _> = char::decode_utf16(units).collect();
        notes.push("the text is UTF-16".to_owned());
        return text.map(Cow::Owned).map_err(|_| NeuralError::Encoding);
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    let letter = |byte: &u8| match byte {
        0x80..=0x9F => WINDOWS[usize::from(byte - 0x80)],
        other => Some(char::from(*other)),
    };
    let text: Option<String> = bytes.iter().map(letter).collect();
    notes.push("the text is not UTF-8 and was read as Windows-1252 (Western European)".to_owned());
    text.map(Cow::Owned).ok_or(NeuralError::Encoding)
}

/// Excel's first line `sep=;`: where the next begins, and the separator that it names.
fn excel_separator(text: &str) -> (usize, Option<u8>) {
    let end = text.find(['\n', '\r']).unwrap_or(text.len());
    let line = text[..end].trim().trim_matches('"');
    let named = line
        .get(..4)
        .filter(|start| start.eq_ignore_ascii_case("sep="))
        .and_then(|_| line.as_bytes().get(4).copied())
        // A tab at the end of the line was trimmed off.
        .or_else(|| line.eq_ignore_ascii_case("sep=").then_some(b'\t'));
    match named {
        Some(separator) => (end, Some(separator)),
        None => (0, None),
    }
}

/// The separator that the first line of cells shows, or the usual one.
fn used_separator(text: &str, usual: u8) -> Separator {
    let has_cells = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let mut lines = text.lines().filter(has_cells);
    let first = lines.next().unwrap_or(text);
    let occurs = |separator: &u8| first.as_bytes().contains(separator);
    // Semicolons and tabs stand between numbers with decimal commas.
    let between_decimals = |separator: &u8| {
        usual == b',' && occurs(separator) && commas_are_decimal(first, char::from(*separator))
    };
    let found = [b';', b'\t'].into_iter().find(between_decimals);
    let found = found.or_else(|| [usual, b'\t', b';', b','].into_iter().find(occurs));
    match found {
        Some(separator) => Separator::Byte(separator),
        None if first.split_whitespace().count() > 1 && !first.contains('"') => {
            blanks(first, lines.next())
        }
        None => Separator::Byte(usual),
    }
}

/// Whether each comma of a line lies between two digits, at most one a cell.
fn commas_are_decimal(line: &str, separator: char) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    line.split(separator)
        .all(|cell| match cell.split_once(',') {
            None => true,
            Some((whole, part)) => {
                !part.contains(',')
                    && is_digit(whole.chars().last())
                    && is_digit(part.chars().next())
            }
        })
}

/// Blanks separate cells where the first two lines have as many words; a name may hold some.
fn blanks(first: &str, second: Option<&str>) -> Separator {
    let words = |line: &str| line.split_whitespace().count();
    match second.is_none_or(|second| words(second) == words(first)) {
        true => Separator::Blanks,
        false => Separator::Byte(b','),
    }
}
