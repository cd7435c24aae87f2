//! The checked path of a control group, as it comes from CRI's `cgroup_parent`.

use std::fmt;
use std::path::{Path, PathBuf};

/// The longest name of a directory, as the kernel has it (`NAME_MAX`).
const MAX_COMPONENT: usize = 255;

/// The longest path accepted here: with the mount point and a control file's name it stays below the kernel's 4096.
const MAX_PATH: usize = 3072;

/// A path below a hierarchy's mount point: no `..`, no empty component, no control character.
///
/// Displayed with a leading slash, as the kubelet writes it: `/kubepods/burstable/pod1234`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath {
    /// Components joined by `/`, without a leading slash; empty is the root.
    relative: String,
}

/// A `cgroup_parent` or a name that is no path of a control group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A name in the notation of the systemd driver.
    #[error(
        "cgroup parent `{parent}` is in the notation of the systemd driver, but this runtime uses the cgroupfs driver: \
         set `cgroupDriver: cgroupfs` in the kubelet's configuration, or `[cgroup] driver = \"systemd\"` in the runtime's"
    )]
    Systemd {
        /// The whole text.
        parent: String,
    },
    /// A component that leads elsewhere or cannot be a directory's name.
    #[error("cgroup path {path:?} is not accepted: {reason}")]
    Invalid {
        /// The whole text.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl CgroupPath {
    /// The parent that is used where a pod names none, as `[cgroup] default_parent` has it by default.
    pub const DEFAULT_PARENT: &str = "/cri-wasm";

    /// Reads CRI's `LinuxPodSandboxConfig.cgroup_parent`; an empty one is [`CgroupPath::DEFAULT_PARENT`].
    ///
    /// Errors: [`PathError::Systemd`] for `foo.slice:prefix:name` and anything with a `.slice` in it,
    /// [`PathError::Invalid`] for what is no path.
    pub fn from_cri(parent: &str) -> Result<CgroupPath, PathError> {
        CgroupPath::from_cri_or(parent, CgroupPath::DEFAULT_PARENT)
    }

    /// As [`CgroupPath::from_cri`], with a default of one's own.
    pub fn from_cri_or(parent: &str, default: &str) -> Result<CgroupPath, PathError> {
        let parent = if parent.is_empty() { default } else { parent };
        let is_slice = |component: &str| component.ends_with(".slice") || component.contains(".slice:");
        if parent.split('/').any(is_slice) {
            return Err(PathError::Systemd { parent: parent.to_owned() });
        }
        CgroupPath::recorded(parent)
    }

    /// Reads a path that was displayed once, whoever made it.
    pub fn recorded(path: &str) -> Result<CgroupPath, PathError> {
        let parent = path;
        let mut relative = String::with_capacity(parent.len());
        // Doubled slashes and `.` name the same directory, and the kubelet's own paths begin with a slash.
        for component in parent.split('/').filter(|component| !component.is_empty() && *component != ".") {
            push(&mut relative, component, parent)?;
        }
        Ok(CgroupPath { relative })
    }

    /// The group `name` below this one. `name` is a single component.
    pub fn join(&self, name: &str) -> Result<CgroupPath, PathError> {
        if name.is_empty() || name == "." || name.contains('/') {
            return Err(PathError::Invalid { path: name.to_owned(), reason: "it is not a single name" });
        }
        let mut relative = self.relative.clone();
        push(&mut relative, name, name)?;
        Ok(CgroupPath { relative })
    }

    /// Its last component; empty at the root.
    pub fn name(&self) -> &str {
        self.relative.rsplit('/').next().unwrap_or_default()
    }

    /// The group above this one; `None` at the root.
    pub fn parent(&self) -> Option<CgroupPath> {
        if self.relative.is_empty() {
            return None;
        }
        let parent = self.relative.rsplit_once('/').map_or("", |(parent, _)| parent);
        Some(CgroupPath { relative: parent.to_owned() })
    }

    /// The directory of this group below a hierarchy's mount point.
    pub(super) fn below(&self, mount: &Path) -> PathBuf {
        mount.join(&self.relative)
    }
}

fn push(relative: &mut String, component: &str, whole: &str) -> Result<(), PathError> {
    let invalid = |reason| PathError::Invalid { path: whole.to_owned(), reason };
    if component == ".." {
        return Err(invalid("`..` leads out of it"));
    }
    if component.chars().any(char::is_control) {
        return Err(invalid("it has a control character"));
    }
    if component.len() > MAX_COMPONENT {
        return Err(invalid("a name in it has more than 255 bytes"));
    }
    if relative.len() + 1 + component.len() > MAX_PATH {
        return Err(invalid("it has more than 3072 bytes"));
    }
    if !relative.is_empty() {
        relative.push('/');
    }
    relative.push_str(component);
    Ok(())
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}", self.relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(parent: &str) -> String {
        CgroupPath::from_cri(parent).unwrap().to_string()
    }

    #[test]
    fn an_empty_parent_is_the_default_one() {
        assert_eq!(parsed(""), "/cri-wasm");
        assert_eq!(CgroupPath::from_cri_or("", "/other/place").unwrap().to_string(), "/other/place");
    }

    #[test]
    fn the_kubelets_paths_are_kept() {
        assert_eq!(parsed("/kubepods/burstable/pod123"), "/kubepods/burstable/pod123");
        assert_eq!(parsed("kubepods//besteffort/./podX/"), "/kubepods/besteffort/podX");
        assert_eq!(parsed("/"), "/");
    }

    #[test]
    fn systemd_notation_is_refused_and_the_driver_is_named() {
        for parent in ["kubepods.slice", "/kubepods.slice/kubepods-burstable.slice", "system.slice:cri:abc"] {
            let error = CgroupPath::from_cri(parent).unwrap_err();
            assert!(matches!(error, PathError::Systemd { .. }), "{parent}");
            assert!(error.to_string().contains("cgroupDriver: cgroupfs"), "{error}");
        }
    }

    #[test]
    fn a_path_that_leads_out_or_cannot_be_a_name_is_refused() {
        for parent in ["/..", "a/../b", "a\0b", "a\nb", &"x".repeat(256), &"x/".repeat(2000)] {
            assert!(matches!(CgroupPath::from_cri(parent), Err(PathError::Invalid { .. })), "{parent:?}");
        }
        let root = CgroupPath::from_cri("/").unwrap();
        for name in ["", ".", "..", "a/b", "\0"] {
            assert!(root.join(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn join_and_parent_are_inverse() {
        let pod = CgroupPath::from_cri("/kubepods/pod1").unwrap();
        let container = pod.join("abc").unwrap();
        assert_eq!(container.to_string(), "/kubepods/pod1/abc");
        assert_eq!(container.parent(), Some(pod));
        assert_eq!(CgroupPath::from_cri("/").unwrap().parent(), None);
        assert_eq!(CgroupPath::from_cri("a").unwrap().parent().unwrap().to_string(), "/");
    }
}
