//! Names of systemd's units, and where their groups lie (systemd.slice(5), systemd.scope(5)).

use super::path::{CgroupPath, PathError};

/// Beginning of the names of our scopes.
const SCOPE: &str = "cri-wasm-";

/// A unit that a group belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    /// A container's, or that of a pod's first process.
    Scope {
        /// `cri-wasm-ID.scope`.
        name: String,
        /// The slice that it is in.
        slice: String,
    },
    /// A pod's.
    Slice {
        /// `kubepods-burstable-podUID.slice`.
        name: String,
    },
}

impl Unit {
    /// The unit of a group; `None` for one that systemd knows nothing of.
    pub(super) fn of(path: &CgroupPath) -> Option<Unit> {
        let name = path.name();
        if is_slice(name) {
            return Some(Unit::Slice { name: name.to_owned() });
        }
        if !name.ends_with(".scope") {
            return None;
        }
        let parent = path.parent()?;
        let slice = if is_slice(parent.name()) { parent.name() } else { "-.slice" };
        Some(Unit::Scope { name: name.to_owned(), slice: slice.to_owned() })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Unit::Scope { name, .. } | Unit::Slice { name } => name,
        }
    }
}

/// Whether a `cgroup_parent` is in the notation of systemd.
pub fn is_slice(parent: &str) -> bool {
    parent.ends_with(".slice")
}

/// The group of a slice, from its name or from a path that ends in its name: `a-b.slice` lies in `a.slice`.
pub fn slice_path(parent: &str) -> Result<CgroupPath, PathError> {
    let name = parent.rsplit('/').next().unwrap_or(parent);
    let invalid = |reason| PathError::Invalid { path: parent.to_owned(), reason };
    let stem = name.strip_suffix(".slice").ok_or_else(|| invalid("the name of a slice ends with `.slice`"))?;
    if stem == "-" {
        return CgroupPath::recorded("/");
    }
    if stem.is_empty() || stem.split('-').any(str::is_empty) {
        return Err(invalid("a slice's name has something on both sides of each `-`"));
    }
    if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)) {
        return Err(invalid("a unit's name is made of letters, digits and `:-_.\\@`"));
    }
    let mut path = String::new();
    for (end, _) in stem.match_indices('-') {
        path.push_str(&format!("/{}.slice", stem.get(..end).unwrap_or_default()));
    }
    CgroupPath::recorded(&format!("{path}/{name}"))
}

/// The group of a container, or of a pod's first process, below its pod's: a scope where that is a slice.
pub fn below(parent: &CgroupPath, id: &str) -> Result<CgroupPath, PathError> {
    if is_slice(parent.name()) { parent.join(&format!("{SCOPE}{id}.scope")) } else { parent.join(id) }
}

/// The group that is a pod's alone, below the parent of pods that name none.
pub fn of_pod(parent: &CgroupPath, id: &str) -> Result<CgroupPath, PathError> {
    match parent.name().strip_suffix(".slice") {
        Some(stem) => parent.join(&format!("{stem}-{id}.slice")),
        None => parent.join(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lies_in_those_that_its_name_names() {
        for (parent, path) in [
            ("kubepods.slice", "/kubepods.slice"),
            ("kubepods-burstable-pod1_2.slice", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"),
            // The whole path, as some clients have it.
            ("/kubepods.slice/kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"),
            ("-.slice", "/"),
        ] {
            assert_eq!(slice_path(parent).unwrap().to_string(), path);
        }
        for parent in ["kubepods", ".slice", "-a.slice", "a--b.slice", "a-.slice", "a b.slice", "a/../b\n.slice", ""] {
            assert!(slice_path(parent).is_err(), "{parent}");
        }
    }

    #[test]
    fn a_container_is_a_scope_of_its_pods_slice() {
        let pod = slice_path("kubepods-pod1.slice").unwrap();
        let container = below(&pod, "abc").unwrap();
        assert_eq!(container.to_string(), "/kubepods.slice/kubepods-pod1.slice/cri-wasm-abc.scope");
        let scope = Unit::Scope { name: "cri-wasm-abc.scope".into(), slice: "kubepods-pod1.slice".into() };
        assert_eq!(Unit::of(&container), Some(scope));
        assert_eq!(Unit::of(&pod), Some(Unit::Slice { name: "kubepods-pod1.slice".into() }));
        let own = of_pod(&slice_path("wasm.slice").unwrap(), "p1").unwrap();
        assert_eq!(own.to_string(), "/wasm.slice/wasm-p1.slice");
    }

    #[test]
    fn a_plain_group_is_no_unit() {
        let pod = CgroupPath::from_cri("/kubepods/pod1").unwrap();
        assert_eq!(below(&pod, "abc").unwrap().to_string(), "/kubepods/pod1/abc");
        assert_eq!(of_pod(&pod, "p").unwrap().to_string(), "/kubepods/pod1/p");
        assert_eq!((Unit::of(&pod), Unit::of(&CgroupPath::from_cri("/").unwrap())), (None, None));
    }
}
