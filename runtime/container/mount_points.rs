//! Mount points, made once for all containers that mount at the same places.
//!
//! An image seldom has the places at which a pod mounts: `/etc/hosts`, `/dev/termination-log`, a service account, volumes. Making them in
//! every container's writable layer costs a file system journal several times more than the mounts themselves. So they come as one more
//! layer, below those of the image, which all containers with the same set of places share. What it cannot give (the image has a link in
//! the way) the guest's process makes in the writable layer.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// Most layers that are kept. Sets of mount paths come from pod templates, of which a node sees few; beyond that each container makes
/// its own, as if there were no layers.
const MAX_LAYERS: usize = 512;

/// The layer with these places, made if it is not there. `None`: there is nothing to make, or too many layers.
///
/// `directory` holds the layers; `places` are absolute paths in the container with whether each is a file.
pub fn layer<'a>(directory: &Path, places: impl Iterator<Item = (&'a str, bool)>) -> io::Result<Option<PathBuf>> {
    let places: BTreeSet<(&str, bool)> = places.filter(|(path, _)| is_plain(path)).collect();
    if places.is_empty() {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    for (path, is_file) in &places {
        hasher.update(path.as_bytes());
        hasher.update([0, u8::from(*is_file)]);
    }
    let name = hasher.finalize().iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let layer = directory.join(&name);
    if layer.is_dir() {
        return Ok(Some(layer));
    }
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.count() >= MAX_LAYERS {
        return Ok(None);
    }
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(directory)?;
    for (path, is_file) in places {
        let place = new.path().join(path.trim_start_matches('/'));
        if is_file {
            std::fs::create_dir_all(place.parent().unwrap_or(new.path()))?;
            // A place may lie below another one that is a file; the mount itself will say so.
            let _ = std::fs::File::create_new(place);
        } else {
            let _ = std::fs::create_dir_all(place);
        }
    }
    match std::fs::rename(new.path(), &layer) {
        Ok(()) => {}
        // Another start was as quick.
        Err(_) if layer.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok(Some(layer))
}

/// Absolute, without `..`, and not the root itself.
fn is_plain(path: &str) -> bool {
    let mut components = Path::new(path).components();
    components.next() == Some(Component::RootDir) && {
        let rest: Vec<_> = components.collect();
        !rest.is_empty() && rest.iter().all(|component| matches!(component, Component::Normal(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_with_the_same_places_share_a_layer() {
        let directory = tempfile::tempdir().unwrap();
        let places = [("/etc/hosts", true), ("/data", false)];
        let first = layer(directory.path(), places.into_iter()).unwrap().unwrap();
        let second = layer(directory.path(), places.into_iter().rev()).unwrap().unwrap();
        assert_eq!(first, second);
        assert!(first.join("etc/hosts").is_file() && first.join("data").is_dir());
        let other = layer(directory.path(), [("/data", true)].into_iter()).unwrap().unwrap();
        assert_ne!(first, other);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn places_outside_are_left_to_the_mount() {
        let directory = tempfile::tempdir().unwrap();
        let places = [("/../x", false), ("relative", false), ("/", false)];
        assert_eq!(layer(directory.path(), places.into_iter()).unwrap(), None);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
