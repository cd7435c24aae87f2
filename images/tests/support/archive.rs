//! Layers for tests, made entry by entry: the library's own builder refuses hostile names. The unpacker's own tests
//! take this file too.

use std::io::Write as _;

use tar::{EntryType, Header};

/// A layer's archive under construction.
#[derive(Default)]
pub struct Archive(Vec<u8>);

impl Archive {
    /// Names are written as they are, hostile ones too.
    pub fn entry(mut self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Archive {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Archive {
        self.entry(EntryType::Regular, name, "", 0o644, content.as_ref())
    }

    pub fn directory(self, name: &str) -> Archive {
        self.entry(EntryType::Directory, name, "", 0o755, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Archive {
        self.entry(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Archive {
        self.entry(EntryType::Link, name, target, 0o644, b"")
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
