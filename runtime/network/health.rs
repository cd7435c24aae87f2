//! Whether pods could be attached now.
//!
//! A kubelet starts no pod on a node whose network is not ready, and shows the
//! reason; so everything that can be known before the first `ADD` fails is
//! looked at: are the executables there, do they speak the network's version,
//! and, from 1.1.0 on, what do they say themselves.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::chain;
use super::error::{PluginError, PluginFailure, full_text};
use super::list::{NetworkList, Plugin};
use super::plugin::{Command, Launcher};
use super::spec_version::SpecVersion;

/// The readiness question is answered quickly or not at all; `ADD` may take longer.
const MAX_STATUS_TIME: Duration = Duration::from_secs(10);

/// `STATUS` of a network that works except for what it has already (section 5).
const LIMITED_CONNECTIVITY: u32 = 51;

/// What executables have told of their versions, until they change.
#[derive(Default)]
pub struct KnownVersions(Mutex<HashMap<PathBuf, Told>>);

struct Told {
    /// The executable's time of change when it was asked.
    changed: SystemTime,
    versions: Option<Vec<String>>,
}

/// Looks at all plugins of a network.
///
/// # Errors
/// Pods cannot be attached, for the reason that the text gives.
pub async fn check(launcher: &Launcher, list: &NetworkList, known: &KnownVersions) -> Result<(), String> {
    let launcher = Launcher { timeout: launcher.timeout.min(MAX_STATUS_TIME), ..launcher.clone() };
    for plugin in &list.plugins {
        check_version(&launcher, list, plugin, known).await?;
    }
    if list.version < SpecVersion::WITH_STATUS {
        return Ok(());
    }
    for plugin in &list.plugins {
        match chain::status(&launcher, list, plugin).await {
            Ok(()) => {}
            Err(PluginError { failure: PluginFailure::Reported { code, message, .. }, .. }) if code == LIMITED_CONNECTIVITY => {
                return Err(format!("plugin {} cannot attach pods, and those it has may be cut off: {message}", plugin.kind));
            }
            Err(error) => return Err(full_text(&error)),
        }
    }
    Ok(())
}

async fn check_version(launcher: &Launcher, list: &NetworkList, plugin: &Plugin, known: &KnownVersions) -> Result<(), String> {
    let path = launcher.find(&plugin.kind).map_err(|failure| {
        let error = PluginError { plugin: plugin.kind.clone(), command: Command::Version, failure };
        format!("{} (network {} needs it)", full_text(&error), list.name)
    })?;
    let changed = path.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let remembered = {
        let known = known.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&path).filter(|told| told.changed == changed).map(|told| told.versions.clone())
    };
    let versions = match remembered {
        Some(versions) => versions,
        None => {
            let versions = chain::versions(launcher, plugin).await;
            let mut known = known.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(path.clone(), Told { changed, versions: versions.clone() });
            versions
        }
    };
    let wanted = list.version.to_string();
    match versions {
        Some(versions) if !versions.contains(&wanted) => {
            Err(format!("plugin {} speaks CNI {}, but network {} wants {wanted}", path.display(), versions.join(", "), list.name))
        }
        _ => Ok(()),
    }
}
