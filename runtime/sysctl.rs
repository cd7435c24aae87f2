//! Kernel settings by their names.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A setting and the value that it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// As it was asked for.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Below `/proc/sys`.
    file: String,
}

/// The kernel does not take a setting.
#[derive(Debug, thiserror::Error)]
#[error("cannot set sysctl {name} to {value:?}")]
pub struct SysctlError {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: String,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl Sysctl {
    /// `None`: the name is none. `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are the same, as in
    /// sysctl(8): the first separator decides, and the other one stands for itself.
    pub fn new(name: &str, value: &str) -> Option<Self> {
        let dotted = name.find(['.', '/']).is_some_and(|at| name.get(at..=at) == Some("."));
        let swap = |character| match character {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let file: String = if dotted { name.chars().map(swap).collect() } else { name.to_owned() };
        let strange = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if file.split('/').any(strange) {
            return None;
        }
        Some(Self { name: name.to_owned(), value: value.to_owned(), file })
    }

    /// Whether it lies below this directory of `/proc/sys`.
    pub fn is_below(&self, directory: &str) -> bool {
        self.file.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/sys").join(&self.file)
    }

    /// Sets it in the namespaces of the calling thread, which are those that `/proc/sys` shows.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self) -> Result<(), SysctlError> {
        let written = OpenOptions::new().write(true).open(self.path()).and_then(|mut file| file.write_all(self.value.as_bytes()));
        written.map_err(|source| SysctlError { name: self.name.clone(), value: self.value.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_name_mean_the_same_file() {
        let path = |name: &str| Sysctl::new(name, "1").map(|sysctl| sysctl.path().display().to_string());
        let wanted = Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding".to_owned());
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), wanted);
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), wanted);
        for name in ["", "net..core", "net/../kernel/panic", "/etc/passwd", "net.core.\0"] {
            assert_eq!(path(name), None, "{name:?}");
        }
        assert!(Sysctl::new("net.core.somaxconn", "1").unwrap().is_below("net"));
        assert!(!Sysctl::new("network", "1").unwrap().is_below("net"));
    }
}
