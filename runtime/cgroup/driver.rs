//! Who makes the groups: the runtime itself (cgroupfs), or systemd.
//!
//! The group's path says which: a scope or a slice is a unit of systemd's, everything else is a plain directory. So a pod that a
//! kubelet put into a plain group gets plain groups also on a node with systemd, and what was made under one driver is taken
//! down under another.

use super::systemd::{Holder, Systemd, SystemdError};
use super::unit::Unit;
use super::{Cgroup, CgroupError, CgroupPath, Cgroups, Limits};

/// A group that was made for a process which has not joined it yet.
#[derive(Debug)]
#[must_use]
pub struct Made {
    /// The group.
    pub group: Cgroup,
    /// Keeps a scope until somebody has joined it.
    holder: Option<Holder>,
}

/// Lets go of a group that somebody has joined, or that nobody will.
pub async fn release(made: Option<Made>) {
    if let Some(holder) = made.and_then(|made| made.holder) {
        // Its process is killed and reaped.
        let _ = tokio::task::spawn_blocking(move || drop(holder)).await;
    }
}

impl Cgroups {
    /// These, with systemd for what has a unit's name.
    #[must_use]
    pub fn with_systemd(self, systemd: Systemd) -> Cgroups {
        Cgroups { systemd: Some(systemd), ..self }
    }

    /// systemd, where it makes the groups.
    pub fn systemd(&self) -> Option<&Systemd> {
        self.systemd.as_ref()
    }

    /// Makes a group with limits. Blocking: it waits for systemd where the group is a unit. A failure leaves nothing behind of a
    /// unit, and of a plain group its directory, as [`Cgroups::create`] does.
    pub fn make(&self, path: &CgroupPath, limits: &Limits) -> Result<Made, CgroupError> {
        let group = self.open(path);
        let Some((systemd, unit)) = group.unit() else {
            group.create()?;
            group.apply(limits)?;
            return Ok(Made { group, holder: None });
        };
        let failed = |source| failed(&unit, source);
        let version = self.version();
        let holder = match &unit {
            Unit::Scope { name, slice } => Some(systemd.start_scope(name, slice, limits, version).map_err(failed)?),
            Unit::Slice { name } => {
                systemd.start_slice(name, limits, version).map_err(failed)?;
                None
            }
        };
        // Hierarchies that systemd does not use on v1 (cpuset, hugetlb), and limits that it has no words for.
        if let Err(error) = group.create().and_then(|()| group.apply(limits)) {
            drop(holder);
            if let Err(undo) = group.remove() {
                tracing::warn!(cgroup = %path, error = %crate::store::chain(&undo), "a unit that was just started stays");
            }
            return Err(error);
        }
        Ok(Made { group, holder })
    }
}

impl Cgroup {
    /// The unit that this group belongs to, if systemd is there to ask.
    pub(super) fn unit(&self) -> Option<(&Systemd, Unit)> {
        Some((self.systemd.as_ref()?, Unit::of(&self.path)?))
    }

    /// Tells systemd what has just been written, so that it does not write something else one day.
    pub(super) fn tell(&self, limits: &Limits) -> Result<(), CgroupError> {
        let Some((systemd, unit)) = self.unit() else { return Ok(()) };
        systemd.set(unit.name(), limits, self.layout.version()).map_err(|source| failed(&unit, source))?;
        // It rounds a quota to whole percents.
        self.apply(limits)
    }

    /// Has systemd forget the unit, whose processes have ended.
    pub(super) fn stop_unit(&self) -> Result<(), CgroupError> {
        let Some((systemd, unit)) = self.unit() else { return Ok(()) };
        systemd.stop(unit.name()).map_err(|source| failed(&unit, source))
    }
}

fn failed(unit: &Unit, source: SystemdError) -> CgroupError {
    CgroupError::Systemd { unit: unit.name().to_owned(), source }
}
