//! Setting limits: the steps of [`Limits`], written in an order that the kernel accepts from any state.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::group::Cgroup;
use super::layout::Controller;
use super::limits::{Limits, Step};
use super::{CgroupError, files};

impl Cgroup {
    /// Sets the limits that are given and leaves the others. Doing it twice is the same as doing it once, and a
    /// running group may be raised and lowered.
    ///
    /// Errors: [`CgroupError::MissingController`] for a limit that this node cannot enforce (a preference, such as
    /// shares, is left out instead), [`CgroupError::InvalidLimit`], and [`CgroupError::Write`] with the file and the
    /// value that the kernel refused: a memory limit below what is in use, for example.
    pub fn apply(&self, limits: &Limits) -> Result<(), CgroupError> {
        for step in limits.plan(self.layout.version())? {
            match step {
                Step::Write { controller, file, value, limit, optional } => {
                    self.apply_write(controller, &file, &value, limit, optional)?;
                }
                Step::MemoryAndSwap { memory, swap } => self.apply_memory_and_swap(memory, swap)?,
                Step::PeriodAndQuota { period, quota } => self.apply_period_and_quota(period, quota)?,
                Step::CpuMax { period, quota } => self.apply_cpu_max(period, quota)?,
            }
        }
        Ok(())
    }

    fn file(&self, controller: Controller, name: &str, limit: &str) -> Result<PathBuf, CgroupError> {
        match self.layout.hierarchy(controller) {
            Some(hierarchy) => Ok(self.path.below(&hierarchy.mount).join(name)),
            None => Err(CgroupError::MissingController {
                limit: limit.to_owned(),
                controller: controller.name(),
                reason: self.layout.absence(controller.name()).map_or("unknown", |absence| absence.reason()),
            }),
        }
    }

    fn apply_write(
        &self,
        controller: Controller,
        file: &str,
        value: &str,
        limit: &str,
        optional: bool,
    ) -> Result<(), CgroupError> {
        let result = self.file(controller, file, limit).and_then(|path| files::write(&path, value));
        match result {
            Err(error) if optional && self.is_absent(&error) => {
                tracing::debug!(cgroup = %self.path, file, value, "this node has no such control file, left out");
                Ok(())
            }
            other => other,
        }
    }

    /// Whether an error means that the node has no such file, while the group itself is there.
    fn is_absent(&self, error: &CgroupError) -> bool {
        match error {
            CgroupError::MissingController { .. } => true,
            CgroupError::Write { path, source, .. } => {
                source.kind() == ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir)
            }
            _ => false,
        }
    }

    /// v1 never lets memory be above memory plus swap, so that the order depends on where they stand.
    fn apply_memory_and_swap(&self, memory: Option<i64>, swap: Option<i64>) -> Result<(), CgroupError> {
        let memory_file = self.file(Controller::Memory, "memory.limit_in_bytes", "memory_limit_in_bytes")?;
        let swap_file = memory_file.with_file_name("memory.memsw.limit_in_bytes");
        let current = match files::read_number(&swap_file) {
            Ok(current) => current,
            // A kernel that does not account for swap (swapaccount=0) cannot bound it, and the pod asked for memory.
            Err(_) if memory_file.exists() => {
                return memory.map_or(Ok(()), |memory| files::write(&memory_file, &memory.to_string()));
            }
            Err(error) => return Err(error),
        };
        let above_current = |bytes: i64| u64::try_from(bytes).map_or(true, |bytes| bytes > current);
        // Where no bound of swap is asked for, it must still not stand in the way of a raised memory limit.
        let swap = swap.or_else(|| memory.filter(|memory| above_current(*memory)));
        let write_memory = || memory.map_or(Ok(()), |memory| files::write(&memory_file, &memory.to_string()));
        let write_swap = || swap.map_or(Ok(()), |swap| files::write(&swap_file, &swap.to_string()));
        if swap.is_some_and(above_current) {
            write_swap().and_then(|()| write_memory())
        } else {
            write_memory().and_then(|()| write_swap())
        }
    }

    /// v1 checks the new ratio against the parent's at each write, so that either order may be the right one.
    fn apply_period_and_quota(&self, period: Option<u64>, quota: Option<i64>) -> Result<(), CgroupError> {
        let period_file = self.file(Controller::Cpu, "cpu.cfs_period_us", "cpu_period")?;
        let quota_file = period_file.with_file_name("cpu.cfs_quota_us");
        let write_period = || period.map_or(Ok(()), |period| files::write(&period_file, &period.to_string()));
        let write_quota = || quota.map_or(Ok(()), |quota| files::write(&quota_file, &quota.to_string()));
        if write_period().and_then(|()| write_quota()).is_ok() {
            return Ok(());
        }
        write_quota().and_then(|()| write_period())
    }

    fn apply_cpu_max(&self, period: Option<u64>, quota: Option<i64>) -> Result<(), CgroupError> {
        let file = self.file(Controller::Cpu, "cpu.max", "cpu_quota")?;
        let quota = match quota {
            Some(quota) if quota < 0 => "max".to_owned(),
            Some(quota) => quota.to_string(),
            // The file takes a quota with a period or alone, so that a period alone needs the quota that stands.
            None => files::read(&file)?.split_whitespace().next().unwrap_or("max").to_owned(),
        };
        match period {
            Some(period) => files::write(&file, &format!("{quota} {period}")),
            None => files::write(&file, &quota),
        }
    }
}
