//! IPC namespaces that the containers of a pod share.
//!
//! WASI has neither System V IPC nor message queues, so a guest can tell its namespace only by what it sees in `/proc`, and a pod
//! needs one only where it has settings for it, or where its handler shows `/proc`. Such a pod has one that is pinned in the state
//! directory; in all others each guest has an empty one of its own, which costs the pod nothing.

use std::path::{Path, PathBuf};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::metadata::{NamespaceMode, SandboxConfig, SandboxMetadata};
use super::sysctls;
use crate::config::Config;
use crate::pinned::{self, PinError};
use crate::sysctl::{Sysctl, SysctlError};

/// Why a pod has no IPC namespace.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// It cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The kernel does not take a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Where they are pinned.
pub fn directory(config: &Config) -> PathBuf {
    config.state.join("ipc")
}

/// Where a sandbox's is pinned, if it has one.
pub fn namespace(config: &Config, metadata: &SandboxMetadata) -> PathBuf {
    directory(config).join(metadata.id.as_str())
}

/// Whether a pod is to have one.
pub fn is_needed(config: &Config, sandbox: &SandboxConfig) -> bool {
    let shown = config.handlers.get(&sandbox.handler).is_some_and(|handler| handler.procfs);
    sandbox.namespaces.ipc == NamespaceMode::Pod && (shown || !sysctls::of_ipc(&sandbox.sysctls).is_empty())
}

/// Makes and pins one with these settings. It blocks for some hundred microseconds.
///
/// # Errors
/// A step failed; then nothing is left behind.
pub fn create(path: &Path, settings: &[Sysctl]) -> Result<(), IpcError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(PinError::BadName(path.display().to_string()).into());
    };
    let path = pinned::place(directory, name)?;
    let made = pinned::on_a_thread(&path, || {
        // SAFETY: NEWIPC leaves the table of descriptors shared, and concerns this thread alone.
        unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }
            .map_err(|errno| pinned::failed("make an IPC namespace for", &path)(errno.into()))?;
        settings.iter().try_for_each(Sysctl::set)?;
        Ok(pinned::pin(Path::new("/proc/thread-self/ns/ipc"), &path)?)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = pinned::remove(&path);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_settings_and_one_that_cannot_have_them_leaves_nothing() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: a_namespace_has_its_settings…: needs root");
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ipc/s1");
        let wrong = create(&path, &[Sysctl::new("fs.mqueue.msg_max", "many").unwrap()]).unwrap_err();
        assert!(wrong.to_string().contains("fs.mqueue.msg_max"), "{wrong}");
        assert!(!path.exists());
        let node = std::fs::read_to_string("/proc/sys/fs/mqueue/msg_max").unwrap();
        create(&path, &[Sysctl::new("fs.mqueue.msg_max", "77").unwrap()]).unwrap();
        assert!(pinned::is_pinned(&path));
        let seen = pinned::on_a_thread(&path, || {
            let namespace = pinned::open(&path)?;
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(rustix::thread::LinkNameSpaceType::InterProcessCommunication),
            )
            .unwrap();
            Ok::<_, PinError>(std::fs::read_to_string("/proc/sys/fs/mqueue/msg_max").unwrap())
        });
        assert_eq!(seen.unwrap(), "77\n");
        assert_eq!(std::fs::read_to_string("/proc/sys/fs/mqueue/msg_max").unwrap(), node);
        pinned::remove(&path).unwrap();
        pinned::remove(&path).unwrap();
    }
}
