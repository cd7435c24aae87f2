//! From the mounts that a client asks for to those that are made.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::metadata::{ImageFiles, ImageVolume, MountPropagation, MountRequest, ResolvedMount};
use crate::sandbox::files::ETC;

/// Why a mount is refused.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The destination is not absolute, or is the root itself.
    #[error("the container path {0:?} is not an absolute path below the root")]
    Destination(String),
    /// The source is not absolute.
    #[error("the host path {0:?} is not an absolute path")]
    Source(String),
    /// CRI: recursive_read_only needs readonly.
    #[error("the mount at {0} is to be read-only recursively but not read-only")]
    RecursiveButWritable(String),
    /// CRI: recursive_read_only needs propagation private.
    #[error("the mount at {0} is to be read-only recursively, so its propagation must be private")]
    RecursiveAndPropagated(String),
    /// CRI: an image is mounted read-only. The kubelet looks for the first word.
    #[error("ImageVolumeMountFailed: the image {image} at {destination}: {reason}")]
    Image {
        /// The image.
        image: String,
        /// In the container.
        destination: String,
        /// Why.
        reason: String,
    },
    /// CRI: a host path that does not exist is an error.
    #[error("the host path {path} of the mount at {destination} cannot be used")]
    HostPath {
        /// On the node.
        path: PathBuf,
        /// In the container.
        destination: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Checks and resolves the mounts of a container, and adds the sandbox's files of `/etc` where the pod brings none of its own.
///
/// Returned in the order in which they are to be made: a mount below another one after it. Looks at the disk of the node, so it
/// belongs on a blocking thread.
///
/// `look` finds the files of an image; its error is a clause.
pub fn resolve(
    requests: &[MountRequest],
    etc: &Path,
    readonly_rootfs: bool,
    look: impl Fn(&ImageVolume) -> Result<ImageFiles, String>,
) -> Result<Vec<ResolvedMount>, MountError> {
    let mut mounts = Vec::with_capacity(requests.len() + ETC.len());
    for request in requests {
        mounts.push(resolve_one(request, &look)?);
    }
    for (name, destination) in ETC {
        if mounts.iter().any(|mount| mount.container_path == destination) {
            continue;
        }
        mounts.push(ResolvedMount {
            image: None,
            host_path: etc.join(name),
            container_path: destination.to_owned(),
            readonly: readonly_rootfs,
            recursive_readonly: false,
            propagation: MountPropagation::Private,
            // They belong to the pod's root as they lie there.
            id_mapped: false,
        });
    }
    // A stable sort: of two mounts at one place the later one lies on top, as the client ordered them.
    mounts.sort_by_key(|mount| Path::new(&mount.container_path).components().count());
    Ok(mounts)
}

fn resolve_one(
    request: &MountRequest,
    look: impl Fn(&ImageVolume) -> Result<ImageFiles, String>,
) -> Result<ResolvedMount, MountError> {
    let destination = clean(&request.container_path)
        .filter(|path| path != "/")
        .ok_or_else(|| MountError::Destination(request.container_path.clone()))?;
    if request.recursive_readonly {
        if !request.readonly {
            return Err(MountError::RecursiveButWritable(destination));
        }
        if request.propagation != MountPropagation::Private {
            return Err(MountError::RecursiveAndPropagated(destination));
        }
    }
    if let Some(volume) = &request.image {
        let failed =
            |reason: String| MountError::Image { image: volume.image.image.clone(), destination: destination.clone(), reason };
        if !request.readonly {
            return Err(failed("it can only be mounted read-only".to_owned()));
        }
        let files = look(volume).map_err(failed)?;
        return Ok(ResolvedMount {
            host_path: files.places.first().cloned().unwrap_or_default(),
            image: Some(files),
            container_path: destination,
            readonly: true,
            recursive_readonly: true,
            propagation: MountPropagation::Private,
            // Images have the ids that containers see; where the pod has the node's, this changes nothing.
            id_mapped: true,
        });
    }
    if !request.host_path.starts_with('/') {
        return Err(MountError::Source(request.host_path.clone()));
    }
    let host_path = std::fs::canonicalize(&request.host_path).map_err(|source| MountError::HostPath {
        path: PathBuf::from(&request.host_path),
        destination: destination.clone(),
        source,
    })?;
    Ok(ResolvedMount {
        image: None,
        host_path,
        container_path: destination,
        readonly: request.readonly,
        recursive_readonly: request.recursive_readonly,
        propagation: request.propagation,
        id_mapped: request.ids.is_some(),
    })
}

/// An absolute path without `.`, `..` and doubled slashes; `..` at the root stays at the root, as in the kernel.
pub fn clean(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(requests: &[MountRequest], etc: &Path, readonly_rootfs: bool) -> Result<Vec<ResolvedMount>, MountError> {
        resolve(requests, etc, readonly_rootfs, |_| Err("no image".to_owned()))
    }

    fn request(host: &Path, container: &str) -> MountRequest {
        MountRequest {
            image: None,
            ids: None,
            container_path: container.to_owned(),
            host_path: host.to_str().unwrap().to_owned(),
            readonly: false,
            recursive_readonly: false,
            selinux_relabel: true,
            propagation: MountPropagation::Private,
        }
    }

    fn destinations(mounts: &[ResolvedMount]) -> Vec<&str> {
        mounts.iter().map(|mount| mount.container_path.as_str()).collect()
    }

    #[test]
    fn the_sandboxs_files_are_there_unless_the_pod_brings_its_own() {
        let host = tempfile::tempdir().unwrap();
        let mounts = resolved(&[request(host.path(), "/etc/hosts")], Path::new("/run/s"), true).unwrap();
        assert_eq!(destinations(&mounts), ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]);
        assert_eq!(mounts[0].host_path, host.path().canonicalize().unwrap());
        assert!(!mounts[0].readonly && mounts[1].readonly);
        assert_eq!(mounts[2].host_path, Path::new("/run/s/resolv.conf"));
    }

    #[test]
    fn a_mount_below_another_is_made_after_it() {
        let host = tempfile::tempdir().unwrap();
        let requests = [request(host.path(), "/a/b/c/d"), request(host.path(), "//a/./x/.."), request(host.path(), "/a/b/")];
        let mounts = resolved(&requests, Path::new("/run/s"), false).unwrap();
        assert_eq!(destinations(&mounts), ["/a", "/a/b", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/a/b/c/d"]);
    }

    #[test]
    fn a_linked_host_path_is_resolved_and_a_missing_one_refused() {
        let host = tempfile::tempdir().unwrap();
        let link = host.path().join("link");
        std::os::unix::fs::symlink(host.path(), &link).unwrap();
        let mounts = resolved(&[request(&link, "/v")], Path::new("/run/s"), false).unwrap();
        assert_eq!(mounts[0].host_path, host.path().canonicalize().unwrap());
        let error = resolved(&[request(&host.path().join("none"), "/v")], Path::new("/run/s"), false).unwrap_err();
        assert!(matches!(error, MountError::HostPath { .. }), "{error}");
    }

    #[test]
    fn recursive_read_only_needs_read_only_and_private() {
        let host = tempfile::tempdir().unwrap();
        let recursive = MountRequest { readonly: true, recursive_readonly: true, ..request(host.path(), "/v") };
        resolved(std::slice::from_ref(&recursive), Path::new("/s"), false).unwrap();
        let writable = MountRequest { readonly: false, ..recursive.clone() };
        assert!(matches!(resolved(&[writable], Path::new("/s"), false), Err(MountError::RecursiveButWritable(_))));
        for propagation in [MountPropagation::HostToContainer, MountPropagation::Bidirectional] {
            let propagated = MountRequest { propagation, ..recursive.clone() };
            assert!(matches!(resolved(&[propagated], Path::new("/s"), false), Err(MountError::RecursiveAndPropagated(_))));
        }
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        let host = tempfile::tempdir().unwrap();
        for container in ["", "v", "/", "/..", "/a/.."] {
            let error = resolved(&[request(host.path(), container)], Path::new("/s"), false).unwrap_err();
            assert!(matches!(error, MountError::Destination(_)), "{container:?}: {error}");
        }
        assert!(matches!(resolved(&[request(Path::new("relative"), "/v")], Path::new("/s"), false), Err(MountError::Source(_))));
    }
}
