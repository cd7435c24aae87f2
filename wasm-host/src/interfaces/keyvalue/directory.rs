//! A bucket in a directory of the container, such as a volume that containers of a pod share: a file for each key.
//!
//! A file has the key's name, with `%XX` for each byte that could mean something to a file system, so a mounted ConfigMap is a
//! bucket too. A new value is written beside the old one and takes its place at once; who changes anything holds the lock of the
//! bucket, `.lock`, so increments count right whoever makes them. Nothing is synced to disk: a power cut may take the last changes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{Failure, PAGE, Page, VALUE_BYTES, incremented};
use crate::interfaces::files;

/// Longest name of a file (limits.h).
const NAME_BYTES: usize = 255;

/// Who changes the bucket holds it. Names of keys never begin with a dot.
const LOCK: &str = ".lock";

/// A value that has not its key yet.
const NEW: &str = ".new";

/// How long the lock is waited for, and how long between two looks. Who holds it writes one file.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

pub(super) struct Directory {
    path: Arc<PathBuf>,
}

/// While this is there nobody else changes the bucket.
struct Held {
    directory: OwnedFd,
    _lock: OwnedFd,
}

impl Directory {
    pub(super) fn at(path: &str) -> Self {
        Directory { path: Arc::new(PathBuf::from(path)) }
    }

    /// A volume that does not answer stops this guest alone.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = Arc::clone(&self.path);
        let ended = tokio::task::spawn_blocking(move || work(&path)).await;
        ended.unwrap_or_else(|error| Err(Failure::io(&self.path)(io::Error::other(error))))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let name = name(key)?;
        self.work(move |path| read(path, open(path)?.as_fd(), &name)).await
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool, Failure> {
        let name = name(key)?;
        self.work(move |path| files::is_there(open(path)?.as_fd(), &name).map_err(Failure::io(path))).await
    }

    pub(super) async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        let name = name(key)?;
        self.work(move |path| write(path, &lock(path)?, &name, &value)).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        let name = name(key)?;
        self.work(move |path| match unlinkat(&lock(path)?.directory, &name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(Failure::io(path)(error.into())),
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn increment(&self, key: &str, delta: i64) -> Result<i64, Failure> {
        let name = name(key)?;
        self.work(move |path| {
            let held = lock(path)?;
            let number = incremented(read(path, held.directory.as_fd(), &name)?.as_deref(), delta)?;
            write(path, &held, &name, number.to_string().as_bytes())?;
            Ok(number)
        })
        .await
    }

    pub(super) async fn swap(&self, key: &str, expected: Option<Vec<u8>>, value: Vec<u8>) -> Result<bool, Failure> {
        let name = name(key)?;
        self.work(move |path| {
            let held = lock(path)?;
            let same = read(path, held.directory.as_fd(), &name)? == expected;
            if same {
                write(path, &held, &name, &value)?;
            }
            Ok(same)
        })
        .await
    }

    /// In the order of their names; the cursor is the last name of the page.
    pub(super) async fn keys(&self, cursor: Option<String>) -> Result<Page, Failure> {
        self.work(move |path| {
            let mut page = BTreeSet::new();
            for name in files::names(open(path)?.as_fd()).map_err(Failure::io(path))? {
                let name = name.map_err(Failure::io(path))?;
                if cursor.as_ref().is_none_or(|cursor| name > *cursor) && key_of(&name).is_some() {
                    page.insert(name);
                }
                // Only as many are kept as fit, and one that says that there are more.
                if page.len() > PAGE + 1 {
                    page.pop_last();
                }
            }
            let more = page.len() > PAGE;
            if more {
                page.pop_last();
            }
            let cursor = page.last().filter(|_| more).cloned();
            Ok((page.iter().filter_map(|name| key_of(name)).collect(), cursor))
        })
        .await
    }
}

fn open(path: &Path) -> Result<OwnedFd, Failure> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such directory");
    files::directory(path).and_then(|directory| directory.ok_or_else(missing)).map_err(Failure::io(path))
}

fn read(path: &Path, directory: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    files::read(directory, name, VALUE_BYTES).map_err(Failure::io(&path.join(name)))
}

fn lock(path: &Path) -> Result<Held, Failure> {
    let directory = open(path)?;
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Another user of the volume can lock what he can read.
    let lock = openat(&directory, LOCK, flags, Mode::from_raw_mode(0o644)).map_err(|error| Failure::io(path)(error.into()))?;
    let begun = Instant::now();
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Held { directory, _lock: lock }),
            Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(Failure::Locked(path.display().to_string())),
            Err(error) => return Err(Failure::io(path)(error.into())),
        }
    }
}

fn write(path: &Path, held: &Held, name: &str, value: &[u8]) -> Result<(), Failure> {
    let directory = &held.directory;
    let written = || -> io::Result<()> {
        // Of somebody who ended while he wrote it.
        match unlinkat(directory, NEW, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(directory, NEW, flags, Mode::from_raw_mode(0o644))?);
        let renamed = file.write_all(value).and_then(|()| Ok(renameat(directory, NEW, directory, name)?));
        if renamed.is_err() {
            // The next writer would do it as well.
            let _ = unlinkat(directory, NEW, AtFlags::empty());
        }
        renamed
    };
    written().map_err(Failure::io(&path.join(name)))
}

/// The file of a key.
fn name(key: &str) -> Result<String, Failure> {
    let name = encode(key);
    if name.len() > NAME_BYTES { Err(Failure::KeyTooLong { bytes: name.len(), most: NAME_BYTES }) } else { Ok(name) }
}

/// What a ConfigMap takes for a key stays as it is, but for a dot at the beginning.
fn encode(key: &str) -> String {
    if key.is_empty() {
        // No byte is written so.
        return "%".to_owned();
    }
    let mut name = String::with_capacity(key.len());
    for (index, byte) in key.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if index > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

/// The key of a file; `None`: it is none that this would have made.
fn key_of(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' if name.len() == 1 => {}
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
            }
            byte => bytes.push(byte),
        }
    }
    let key = String::from_utf8(bytes).ok()?;
    (encode(&key) == name).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_file_of_its_own() {
        for (key, file) in [
            ("a", "a"),
            ("app.properties", "app.properties"),
            (".lock", "%2Elock"),
            ("..", "%2E."),
            ("a/b", "a%2Fb"),
            ("%", "%25"),
            ("", "%"),
            ("ä\0", "%C3%A4%00"),
        ] {
            assert_eq!(encode(key), file);
            assert_eq!(key_of(file).as_deref(), Some(key));
        }
        for other in [".lock", "lost+found", "%2e.", "%4", "%61", "%FF", "a%"] {
            assert_eq!(key_of(other), None, "{other}");
        }
        assert!(name(&"a".repeat(255)).is_ok());
        assert!(matches!(name(&"/".repeat(100)), Err(Failure::KeyTooLong { bytes: 300, most: 255 })));
    }
}
