//! Files that are there whole or not at all.

use std::io::{BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::Failure;

/// Writes a file beside its place, then moves it there: an interrupted run leaves no half of one.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<NamedTempFile>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let said = |e: &dyn std::fmt::Display| format!("cannot write {}: {e}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let file = temporary(folder.unwrap_or(Path::new("."))).map_err(|e| said(&e))?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.flush().map_err(|e| said(&e))?;
    let file = out.into_inner().map_err(|e| said(&e))?;
    file.persist(path).map_err(|e| said(&e))?;
    Ok(())
}

/// Readable for whom the user's umask lets read, as any file a program writes; temporary files
/// are the user's alone by default.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}
