//! Extended attributes of an entry: which are kept.
//!
//! `user.*` of files and directories, as tools write them into PAX records. Not `security.*` (capabilities, labels),
//! `trusted.*` and `system.*` (overlayfs's own marks, access lists), which would grant rights or change what the layers
//! show, and not `user.overlay.*`, which overlayfs mounted by an ordinary user takes for its marks. An entry with more
//! than fits into the smallest room that a file system has for them keeps none; no guest can ask for them, so that is
//! no reason to refuse an image. For the same reason a value with a line feed, at which the archive reader splits, is
//! left out.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const PREFIX: &[u8] = b"SCHILY.xattr.";
/// Attributes of one file.
const COUNT: usize = 32;
/// Bytes of their names and values: ext4 has one block of, rarely, 4 KiB less some headers.
const BYTES: usize = 2048;

/// Name and value.
pub(super) type Xattrs = Vec<(String, Vec<u8>)>;

/// Those of an entry that are kept.
pub(super) fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> Xattrs {
    let Ok(Some(records)) = entry.pax_extensions() else { return Xattrs::new() };
    let mut kept = Xattrs::new();
    // A record that cannot be read has been looked at by the archive reader already.
    for record in records.flatten() {
        let name = record.key_bytes().strip_prefix(PREFIX).and_then(|name| std::str::from_utf8(name).ok());
        if let Some(name) = name.filter(|name| is_safe(name)) {
            kept.push((name.to_owned(), record.value_bytes().to_vec()));
        }
    }
    let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
    if kept.len() > COUNT || bytes > BYTES {
        tracing::debug!(count = kept.len(), bytes, "the extended attributes of an entry are too many and were left out");
        kept.clear();
    }
    kept
}

fn is_safe(name: &str) -> bool {
    name.strip_prefix("user.").is_some_and(|rest| !rest.is_empty() && !rest.starts_with("overlay."))
        && name.len() <= 255
        && !name.contains('\0')
}

/// Gives them to a file or a directory. A file system that has none for users goes without.
pub(super) fn set(file: impl AsFd, xattrs: &Xattrs) -> std::io::Result<()> {
    for (name, value) in xattrs {
        match rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
