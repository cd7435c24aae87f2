//! Files of components (WASI 0.2 and 0.3) as containers need them: wasmtime's implementation, corrected as `preview1` does it
//! for modules.
//!
//! - Absolute symbolic links work, wherever they stand in a path. What WASI itself forbids stays refused: paths that begin
//!   with `/` or climb above the descriptor they start from, and making or reading a link with an absolute target.
//! - `read-only` and `cross-device` are told, where wasmtime says `io`. Too many open files are `other` in 0.3; 0.2 has no
//!   code for it.
//! - A path that ends with a slash is of a directory, as `preview1` says.
//!
//! Only the functions that take paths are defined again, in place of wasmtime's, which they call. The reason is looked up
//! after a call has failed, so calls that succeed pay nothing. Descriptors here are those of wasmtime, so where a guest
//! renames a directory that it has open, nothing needs to be kept in step.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;

use rustix::io::Errno;
use wasmtime::component::{Accessor, ComponentNamedList, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource};
use wasmtime::{StoreContextMut, bail};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystem, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::runtime::poll_noop;
use wasmtime_wasi::{ResourceTable, TrappableError, p2, p3};

use super::lookup::{self, Reason};
use super::paths::without_slashes;
use super::prepared::ComponentState;

/// The interface of 0.2, under the name by which wasmtime has linked it.
const TYPES_0_2: &str = "wasi:filesystem/types@0.2.12";

/// The interface of 0.3, likewise.
const TYPES_0_3: &str = "wasi:filesystem/types@0.3.0";

/// Defines the functions again, after wasmtime's have been linked.
pub(super) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_0_2(&mut linker.instance(TYPES_0_2)?)?;
    link_0_3(&mut linker.instance(TYPES_0_3)?)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Handle = Resource<Descriptor>;

/// Where wasmtime's functions of a version find descriptors.
trait Files {
    fn with<R>(&mut self, body: impl FnOnce(&mut ResourceTable) -> R) -> R;
}

type Files02<'a> = WasiFilesystemCtxView<'a>;

impl Files for Files02<'_> {
    fn with<R>(&mut self, body: impl FnOnce(&mut ResourceTable) -> R) -> R {
        body(self.table)
    }
}

type Files03<'a> = &'a Accessor<ComponentState, WasiFilesystem>;

impl Files for Files03<'_> {
    fn with<R>(&mut self, body: impl FnOnce(&mut ResourceTable) -> R) -> R {
        Accessor::with(self, |mut access| body(access.get().table))
    }
}

/// Error codes of a version.
trait Code: Error + From<io::Error> + Send + Sync + 'static {
    /// wasmtime refuses where a path leads, or the kernel the call.
    fn is_refusal(&self) -> bool;

    /// This code, or that of the reason where wasmtime does not know the kernel's error.
    fn explained(self, reason: impl FnOnce() -> Option<Reason>) -> Self;
}

type Code02 = p2::bindings::filesystem::types::ErrorCode;

impl Code for Code02 {
    fn is_refusal(&self) -> bool {
        matches!(self, Code02::NotPermitted)
    }

    fn explained(self, reason: impl FnOnce() -> Option<Reason>) -> Self {
        match self {
            Code02::Io => match reason() {
                Some(Reason::ReadOnly) => Code02::ReadOnly,
                Some(Reason::CrossDevice) => Code02::CrossDevice,
                Some(Reason::TooManyFiles) | None => Code02::Io,
            },
            other => other,
        }
    }
}

type Code03 = p3::bindings::filesystem::types::ErrorCode;

impl Code for Code03 {
    fn is_refusal(&self) -> bool {
        matches!(self, Code03::NotPermitted)
    }

    fn explained(self, reason: impl FnOnce() -> Option<Reason>) -> Self {
        match self {
            Code03::Io => match reason() {
                Some(Reason::ReadOnly) => Code03::ReadOnly,
                Some(Reason::CrossDevice) => Code03::CrossDevice,
                Some(Reason::TooManyFiles) => Code03::Other(Some("too many open files".to_owned())),
                None => Code03::Io,
            },
            other => other,
        }
    }
}

/// The result of a call. File operations block this thread (see `wasi::context`), so they are never pending.
fn now<T>(call: impl Future<Output = T>) -> wasmtime::Result<T> {
    match poll_noop(pin!(call)) {
        Some(result) => Ok(result),
        None => bail!("a file operation did not complete"),
    }
}

/// A call of wasmtime's, with paths below directories: made again where wasmtime took a link for an escape, and its error
/// explained. `follow`: the call follows a symbolic link at the end of a path.
fn corrected<F: Files, C: Code, R, const N: usize>(
    files: &mut F,
    places: [(Handle, String); N],
    follow: bool,
    call: impl Fn(&mut F, [(Handle, String); N]) -> wasmtime::Result<Result<R, TrappableError<C>>>,
) -> wasmtime::Result<Result<R, C>> {
    let copy =
        |places: &[(Handle, String); N]| places.each_ref().map(|(at, path)| (Resource::new_borrow(at.rep()), path.clone()));
    let mut error = match call(files, copy(&places))? {
        Ok(value) => return Ok(Ok(value)),
        Err(error) => error.downcast()?,
    };
    if error.is_refusal() && places.iter().all(|(_, path)| lookup::is_below(path)) {
        let resolved = places.iter().map(|(at, path)| resolve(files, at, path, follow)).collect::<Result<Vec<_>, _>>();
        match resolved {
            Err(reason) => error = reason.into(),
            Ok(resolved) => {
                let mut again = copy(&places);
                for (place, (directory, name)) in again.iter_mut().zip(resolved) {
                    *place = (files.with(|table| table.push(Descriptor::Dir(directory)))?, name);
                }
                let result = call(files, copy(&again));
                for (directory, _) in again {
                    files.with(|table| table.delete(directory))?;
                }
                error = match result? {
                    Ok(value) => return Ok(Ok(value)),
                    Err(error) => error.downcast()?,
                };
            }
        }
    }
    Ok(Err(error.explained(|| {
        let open = places.iter().filter_map(|(at, path)| Some((opened(files, at)?, path))).collect::<Vec<_>>();
        lookup::explain(open.iter().map(|(file, path)| (file.as_fd(), path.as_str())), follow)
    })))
}

/// The directory of what `path` below `at` leads to, as a descriptor, and the name in it.
fn resolve(files: &mut impl Files, at: &Handle, path: &str, follow: bool) -> io::Result<(Dir, String)> {
    let Some(Descriptor::Dir(start)) = files.with(|table| table.get(at).ok().cloned()) else {
        return Err(Errno::NOTDIR.into());
    };
    let (directory, name) = lookup::resolve(start.dir.as_fd(), path, follow)?;
    Ok((Dir::new(directory.into(), start.perms, start.open_mode, true), name))
}

fn opened(files: &mut impl Files, at: &Handle) -> Option<Arc<File>> {
    files.with(|table| match table.get(at).ok()? {
        Descriptor::File(file) => Some(file.file.clone()),
        Descriptor::Dir(directory) => Some(directory.dir.clone()),
    })
}

/// A call of wasmtime's that changes an open file: its error is explained.
fn explained<F: Files, C: Code, R>(
    files: &mut F,
    at: Handle,
    call: impl Fn(&mut F, Handle) -> wasmtime::Result<Result<R, TrappableError<C>>>,
) -> wasmtime::Result<Result<R, C>> {
    let error = match call(files, Resource::new_borrow(at.rep()))? {
        Ok(value) => return Ok(Ok(value)),
        Err(error) => error.downcast()?,
    };
    let is_read_only = |file: Arc<File>| lookup::is_read_only(file.as_fd()).then_some(Reason::ReadOnly);
    Ok(Err(error.explained(|| opened(files, &at).and_then(is_read_only))))
}

fn define_0_2<P, R>(
    instance: &mut LinkerInstance<'_, ComponentState>,
    name: &str,
    function: impl Fn(&mut Files02<'_>, P) -> wasmtime::Result<Result<R, Code02>> + Send + Sync + 'static,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: ComponentType + Lower + 'static,
{
    instance.func_wrap(
        &format!("[method]descriptor.{name}"),
        move |mut store: StoreContextMut<'_, ComponentState>, parameters| {
            Ok((function(&mut store.data_mut().filesystem(), parameters)?,))
        },
    )
}

fn define_0_3<P, R>(
    instance: &mut LinkerInstance<'_, ComponentState>,
    name: &str,
    function: impl Fn(&mut Files03<'_>, P) -> wasmtime::Result<Result<R, Code03>> + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + Send + 'static,
    R: ComponentType + Lower + 'static,
{
    instance.func_wrap_concurrent(&format!("[method]descriptor.{name}"), move |accessor, parameters| {
        let files = accessor.with_getter::<WasiFilesystem>(ComponentState::filesystem);
        Box::pin(async move { Ok((function(&mut &files, parameters)?,)) })
    })
}

/// The corrected functions of one version: the same in both, but for the types.
macro_rules! corrected {
    ($link:ident, $define:ident, $types:path, $host:ident, $on:ty) => {
        fn $link(instance: &mut LinkerInstance<'_, ComponentState>) -> wasmtime::Result<()> {
            use $types::{DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags, $host};
            const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
            type On<'a> = $on;
            type Times = (NewTimestamp, NewTimestamp);
            $define(instance, "open-at", |files, p: (Handle, PathFlags, String, OpenFlags, DescriptorFlags)| {
                let (at, lookup, path, open, flags) = p;
                corrected(files, [(at, path)], lookup.contains(FOLLOW), |files, [(at, path)]| {
                    now(On::open_at(files, at, lookup, path, open, flags))
                })
            })?;
            $define(instance, "stat-at", |files, (at, lookup, path): (Handle, PathFlags, String)| {
                let slash = path.ends_with('/');
                let lookup = if slash { lookup | FOLLOW } else { lookup };
                let found = corrected(files, [(at, path)], lookup.contains(FOLLOW), |files, [(at, path)]| {
                    now(On::stat_at(files, at, lookup, path))
                })?;
                Ok(match found {
                    Ok(found) if slash && !matches!(found.type_, DescriptorType::Directory) => Err(ErrorCode::NotDirectory),
                    found => found,
                })
            })?;
            $define(instance, "metadata-hash-at", |files, (at, lookup, path): (Handle, PathFlags, String)| {
                corrected(files, [(at, path)], lookup.contains(FOLLOW), |files, [(at, path)]| {
                    now(On::metadata_hash_at(files, at, lookup, path))
                })
            })?;
            $define(instance, "set-times-at", |files, p: (Handle, PathFlags, String, NewTimestamp, NewTimestamp)| {
                let (at, lookup, path, access, change) = p;
                corrected(files, [(at, path)], lookup.contains(FOLLOW), |files, [(at, path)]| {
                    let (access, change): Times = (access.clone(), change.clone());
                    now(On::set_times_at(files, at, lookup, path, access, change))
                })
            })?;
            $define(instance, "set-times", |files, (at, access, change): (Handle, NewTimestamp, NewTimestamp)| {
                explained(files, at, |files, at| now(On::set_times(files, at, access.clone(), change.clone())))
            })?;
            $define(instance, "create-directory-at", |files, (at, path): (Handle, String)| {
                corrected(files, [(at, path)], false, |files, [(at, path)]| now(On::create_directory_at(files, at, path)))
            })?;
            $define(instance, "remove-directory-at", |files, (at, path): (Handle, String)| {
                let path = without_slashes(&path).to_owned();
                corrected(files, [(at, path)], false, |files, [(at, path)]| now(On::remove_directory_at(files, at, path)))
            })?;
            $define(instance, "unlink-file-at", |files, (at, path): (Handle, String)| {
                corrected(files, [(at, path)], false, |files, [(at, path)]| now(On::unlink_file_at(files, at, path)))
            })?;
            $define(instance, "readlink-at", |files, (at, path): (Handle, String)| {
                corrected(files, [(at, path)], false, |files, [(at, path)]| now(On::readlink_at(files, at, path)))
            })?;
            $define(instance, "symlink-at", |files, (at, target, path): (Handle, String, String)| {
                corrected(files, [(at, path)], false, |files, [(at, path)]| now(On::symlink_at(files, at, target.clone(), path)))
            })?;
            $define(instance, "rename-at", |files, (at, path, to, new): (Handle, String, Handle, String)| {
                corrected(files, [(at, path), (to, new)], false, |files, [(at, path), (to, new)]| {
                    now(On::rename_at(files, at, path, to, new))
                })
            })?;
            $define(instance, "link-at", |files, p: (Handle, PathFlags, String, Handle, String)| {
                let (at, lookup, path, to, new) = p;
                corrected(files, [(at, path), (to, new)], false, |files, [(at, path), (to, new)]| {
                    now(On::link_at(files, at, lookup, path, to, new))
                })
            })
        }
    };
}
corrected!(link_0_2, define_0_2, p2::bindings::filesystem::types, HostDescriptor, Files02<'a>);
corrected!(link_0_3, define_0_3, p3::bindings::filesystem::types, HostDescriptorWithStore, WasiFilesystem);
