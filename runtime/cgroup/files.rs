//! Reading and writing control files: one open, one system call, one error that names the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use super::CgroupError;

/// The whole text of a file of `/proc` or of a hierarchy.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(text),
        Err(source) => Err(CgroupError::Read { path: path.to_owned(), source }),
    }
}

/// Writes `value` with a single write: control files take a value per call. Never creates the file.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| write_once(&mut file, value))
        .map_err(|source| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

fn write_once(file: &mut File, value: &str) -> io::Result<()> {
    loop {
        match file.write(value.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) if count < value.len() => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// A number in a control file; `max` and v1's huge "no limit" numbers are `u64::MAX` and themselves.
pub(super) fn read_number(path: &Path) -> Result<u64, CgroupError> {
    let text = read(path)?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        number => number.parse().map_err(|error| CgroupError::Read {
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        }),
    }
}
