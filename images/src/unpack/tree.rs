//! A layer's directory while it is filled: every operation is relative to a descriptor that the kernel resolved below
//! the layer's root, so no link that the archive made leads out of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::survey::{Known, Summing, Survey, survey_of};
use super::xattr::{self, Xattrs};

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The mark of a directory that hides the lower ones.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) mtime: i64,
    pub(super) xattrs: Xattrs,
}

pub(super) struct Tree {
    root: OwnedFd,
    depth: usize,
    /// The directory of the last entry: archives go through directories in order.
    parent: Option<Parent>,
    /// What was written, so that the survey need not read it again.
    known: Known,
}

struct Parent {
    path: PathBuf,
    directory: Arc<OwnedFd>,
    /// Making entries changes a directory's time, so it is set back when the archive moves on.
    times: Timestamps,
}

impl Drop for Parent {
    fn drop(&mut self) {
        // A wrong time on a directory harms nothing.
        let _set = rustix::fs::futimens(&*self.directory, &self.times);
    }
}

impl Tree {
    pub(super) fn open(path: &Path, depth: usize) -> io::Result<Tree> {
        let root = rustix::fs::openat(CWD, path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Tree { root, depth, parent: None, known: Known::default() })
    }

    pub(super) fn directory(&mut self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        let Some((parent, name)) = self.parent(path)? else {
            self.parent = None;
            return apply(&self.root, attributes, 0o7777 & !0o4000);
        };
        let mut hides = false;
        match stat(&parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
            found => {
                hides = found.is_some_and(|found| is_whiteout(&found));
                clear(&parent, name)?;
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
            }
        }
        let directory = rustix::fs::openat(&parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        if hides {
            set_opaque(&directory)?;
        }
        // Directories keep setgid: it is about whose the new files are, and gives nobody a right.
        apply(&directory, attributes, 0o7777 & !0o4000)
    }

    /// A new and empty file in the place of whatever was there; `complete` gives it its attributes.
    pub(super) fn file(&mut self, path: &Path) -> io::Result<File> {
        let (parent, name) = self.parent(path)?.ok_or(Errno::ISDIR)?;
        clear(&parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?))
    }

    pub(super) fn complete(&mut self, file: &File, attributes: &Attributes, content: Summing) -> io::Result<()> {
        self.known.content(file, content)?;
        apply(file, attributes, 0o1777)
    }

    pub(super) fn symlink(&mut self, path: &Path, target: &Path, attributes: &Attributes) -> io::Result<()> {
        let (parent, name) = self.parent(path)?.ok_or(Errno::ISDIR)?;
        clear(&parent, name)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::utimensat(&parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(super) fn hard_link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let target_name = target.file_name().ok_or(Errno::ISDIR)?;
        let target_parent = self.resolve(target.parent().unwrap_or(Path::new("")))?;
        let found = stat(&target_parent, target_name)?.ok_or(Errno::NOENT)?;
        if is_whiteout(&found) {
            return Err(Errno::NOENT.into());
        }
        // The kernel's own answer, EPERM, is one that a broken node gives too.
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(Errno::ISDIR.into());
        }
        let (parent, name) = self.parent(path)?.ok_or(Errno::ISDIR)?;
        if let Some(there) = stat(&parent, name)?
            && (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
        {
            return Ok(());
        }
        clear(&parent, name)?;
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is a link to that, not to where it leads.
        Ok(rustix::fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())?)
    }

    /// Hides what lower layers have under this path.
    pub(super) fn whiteout(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?.ok_or(Errno::ISDIR)?;
        match stat(&parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                set_opaque(&rustix::fs::openat(&parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
            }
            Some(_) => Ok(()),
            None => Ok(rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)?),
        }
    }

    /// Hides what lower layers have in this directory.
    pub(super) fn opaque(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.resolve_or_make(path)?;
        set_opaque(&directory)
    }

    /// Everything is on the disk after this.
    pub(super) fn finish(mut self) -> io::Result<Survey> {
        self.parent = None;
        rustix::fs::syncfs(&self.root)?;
        survey_of(&self.root, &self.known)
    }

    /// The directory of `path` and its last component; nothing for the root itself.
    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<Option<(Arc<OwnedFd>, &'a OsStr)>> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(None) };
        if let Some(last) = self.parent.as_ref().filter(|last| last.path == parent) {
            return Ok(Some((last.directory.clone(), name)));
        }
        self.parent = None;
        let directory = Arc::new(self.resolve_or_make(parent)?);
        let stat = rustix::fs::fstat(&*directory)?;
        let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
        self.parent = Some(Parent {
            path: parent.to_owned(),
            directory: directory.clone(),
            times: Timestamps { last_access: time, last_modification: time },
        });
        Ok(Some((directory, name)))
    }

    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        match open(&self.root, path, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {}
            other => return Ok(other?),
        }
        // Links are followed as they will be seen from inside, where this root is the root.
        let directory = open(&self.root, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
        self.check_depth(&directory)?;
        Ok(directory)
    }

    fn resolve_or_make(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR)) => {}
            other => return other,
        }
        let mut current = self.root.try_clone()?;
        let mut so_far = PathBuf::new();
        for name in path {
            so_far.push(name);
            current = match self.resolve(&so_far) {
                Ok(directory) => directory,
                Err(_) => make_missing(&current, name)?,
            };
        }
        // Links may have led to a deeper place than the path tells.
        self.check_depth(&current)?;
        Ok(current)
    }

    fn check_depth(&self, directory: &OwnedFd) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let components = |descriptor: &OwnedFd| {
            std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).map(|path| path.components().count())
        };
        if components(directory)? > components(&self.root)? + self.depth { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
    }
}

fn open(root: &OwnedFd, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    // EAGAIN: a rename somewhere on the system raced with the kernel's check that no `..` escapes.
    for _ in 0..32 {
        match rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// A directory that the archive did not name. A whiteout in its place becomes a directory that hides the lower ones.
fn make_missing(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let hides = match stat(parent, name)? {
        Some(found) if is_whiteout(&found) => true,
        Some(_) => return Err(Errno::NOTDIR.into()),
        None => false,
    };
    if hides {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    }
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let directory = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
    if hides {
        set_opaque(&directory)?;
    }
    Ok(directory)
}

fn apply(file: impl std::os::fd::AsFd, attributes: &Attributes, kept: u32) -> io::Result<()> {
    xattr::set(&file, &attributes.xattrs)?;
    // The owner first: changing it clears bits of the mode.
    rustix::fs::fchown(&file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode & kept))?;
    Ok(rustix::fs::futimens(&file, &times(attributes.mtime))?)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime as _, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn set_opaque(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

pub(super) fn stat(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

/// Removes whatever has this name.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let Some(found) = stat(parent, name)? else { return Ok(()) };
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
    }
    let directory = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    loop {
        let names = some_names(&directory)?;
        if names.is_empty() {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?);
        }
        for inner in names {
            clear(&directory, &inner)?;
        }
    }
}

/// The first names in a directory; not all, since a hostile archive makes half a million.
fn some_names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::OsString>> {
    const SOME: usize = 1024;
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
        if names.len() == SOME {
            break;
        }
    }
    Ok(names)
}
