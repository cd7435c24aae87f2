//! Notices changes of the configuration directory.
//!
//! Installers write files, replace the directory as a whole, or make it long
//! after the daemon has started. So the directory is watched, those under it
//! (where networks keep plugin files), and the nearest parent that exists, for
//! the entry that leads to it. After any change a new watcher is made and only
//! then the directory is read: what changes in between is seen by one of them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

/// Subdirectories beyond this many are not watched; a network has one.
const MAX_SUBDIRECTORIES: usize = 64;

/// Waits for changes of a directory, whether it exists or not.
pub struct Watcher {
    events: EventStream<[u8; 4096]>,
    /// The watch on the parent, and the only entry of it that matters.
    parent: Option<(WatchDescriptor, OsString)>,
}

impl Watcher {
    /// Begins to watch. From here on no change is missed.
    ///
    /// # Errors
    /// The kernel gives no more inotify instances or watches.
    pub fn new(dir: &Path) -> io::Result<Watcher> {
        let inotify = Inotify::init()?;
        let mut watches = inotify.watches();
        let parent = watch_parent(&mut watches, dir)?;
        let content = directory() | WatchMask::CLOSE_WRITE;
        if watch_if_there(&mut watches, dir, content)?.is_some() {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let below = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
            for path in below.take(MAX_SUBDIRECTORIES) {
                watch_if_there(&mut watches, &path, content)?;
            }
        }
        Ok(Watcher { events: inotify.into_event_stream([0; 4096])?, parent })
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// The kernel's queue cannot be read; a new watcher is needed.
    pub async fn changed(&mut self) -> io::Result<()> {
        while let Some(event) = self.events.next().await {
            let event = event?;
            let elsewhere = match (&self.parent, &event.name) {
                (Some((watch, name)), Some(found)) => event.wd == *watch && found != name,
                // Of a directory itself, or an overflow of the queue.
                _ => false,
            };
            if !elsewhere {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Entries that come and go, and the directory's own end.
fn directory() -> WatchMask {
    WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR
}

/// Watches the nearest ancestor that exists, for the next entry on the way.
fn watch_parent(watches: &mut Watches, dir: &Path) -> io::Result<Option<(WatchDescriptor, OsString)>> {
    'again: loop {
        for entry in dir.ancestors() {
            let (Some(parent), Some(name)) = (entry.parent(), entry.file_name()) else { return Ok(None) };
            if let Some(watch) = watch_if_there(watches, parent, directory())? {
                // Made while we looked? Then a nearer parent is to be had.
                if entry != dir && entry.is_dir() {
                    continue 'again;
                }
                return Ok(Some((watch, name.to_owned())));
            }
        }
        return Ok(None);
    }
}

fn watch_if_there(watches: &mut Watches, dir: &Path, what: WatchMask) -> io::Result<Option<WatchDescriptor>> {
    match watches.add(dir, what) {
        Ok(watch) => Ok(Some(watch)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
