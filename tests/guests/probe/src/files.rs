//! What the probe does to files.

use std::ffi::{CString, c_char, c_int};
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::{On, Outcome, life, output};

pub fn cat(paths: &[&str]) -> Outcome {
    for path in paths {
        output::bytes(&fs::read(path).on(path)?);
    }
    Ok(())
}

/// Makes or empties a file, or appends to it, and writes the text without a newline.
pub fn write(path: &str, text: &str, append: bool) -> Outcome {
    let mut options = OpenOptions::new();
    options.create(true).write(true);
    if append {
        options.append(true);
    } else {
        options.truncate(true);
    }
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).on(path)
}

/// Writes so many bytes (`K`, `M`, `G`), 64 KiB at a time.
pub fn fill(path: &str, size: &str) -> Outcome {
    let mut left = life::size(size)?;
    let block = [b'x'; 65_536];
    let mut file = File::create(path).on(path)?;
    while left > 0 {
        let part = left.min(block.len() as u64);
        file.write_all(block.get(..part as usize).unwrap_or_default()).on(path)?;
        left -= part;
    }
    Ok(())
}

/// The names in a directory, sorted, one a line, `/` after a directory and `@` after a symbolic link.
/// Recursive: the paths below it; symbolic links are not followed, and a directory that cannot be read is told on
/// stderr and passed over.
pub fn list(path: &str, recursive: bool) -> Outcome {
    let entries = sorted(Path::new(path)).on(path)?;
    for (name, kind) in entries {
        let full = if recursive { format!("{}/{name}", path.trim_end_matches('/')) } else { name };
        output::out(&format!("{full}{}\n", mark(kind)));
        if recursive && kind.is_dir() && list(&full, true).is_err() {
            output::err(&format!("ls: {full}: not readable\n"));
        }
    }
    Ok(())
}

fn sorted(path: &Path) -> io::Result<Vec<(String, FileType)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?));
    }
    entries.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(entries)
}

fn mark(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "/"
    } else if kind.is_symlink() {
        "@"
    } else {
        ""
    }
}

/// `file 12 bytes`, `directory`, `symlink` or `other`.
pub fn stat(path: &str, follow: bool) -> Outcome {
    let about = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) }.on(path)?;
    let kind = about.file_type();
    let text = if kind.is_file() {
        format!("file {} bytes", about.len())
    } else if kind.is_dir() {
        "directory".into()
    } else if kind.is_symlink() {
        "symlink".into()
    } else {
        "other".into()
    };
    output::out(&format!("{path}: {text}\n"));
    Ok(())
}

/// Makes `link` point to `target`. Through the C library: std's own function for WASI is not stable.
pub fn symlink(target: &str, link: &str) -> Outcome {
    unsafe extern "C" {
        fn symlink(target: *const c_char, link: *const c_char) -> c_int;
    }
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let to = CString::new(target).map_err(invalid).on(target)?;
    let at = CString::new(link).map_err(invalid).on(link)?;
    // SAFETY: both are NUL-terminated and outlive the call.
    let result = unsafe { symlink(to.as_ptr(), at.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()).on(link) }
}

pub fn readlink(path: &str) -> Outcome {
    let target = fs::read_link(path).on(path)?;
    output::out(&format!("{}\n", target.display()));
    Ok(())
}

/// Cuts or lengthens a file that exists.
pub fn truncate(path: &str, size: u64) -> Outcome {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(size)).on(path)
}

/// Makes a file if it does not exist, and sets its time to now.
pub fn touch(path: &str) -> Outcome {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).on(path)?;
    file.set_modified(SystemTime::now()).on(path)
}

pub fn sync(path: &str) -> Outcome {
    File::open(path).and_then(|file| file.sync_all()).on(path)
}
