//! Setting limits: the steps of [`Limits`], written in an order that the kernel accepts from any state.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::group::Cgroup;
use super::layout::Controller;
use super::limits::{Limits, Step};
use super::{CgroupError, files};

/// The files that a change of limits wrote, with what stood in them before.
#[derive(Debug, Default)]
#[must_use]
pub struct Change {
    before: Vec<(PathBuf, String)>,
}

impl Change {
    /// Takes the change back. What cannot be written back is logged, and the rest is.
    pub fn undo(self) {
        // Backwards, so that each state on the way is one that the kernel has accepted before.
        for (path, value) in self.before.into_iter().rev() {
            // An empty list is written as a line without anything: a write of no bytes does not reach the kernel.
            let value = if value.is_empty() { "\n" } else { &value };
            if let Err(error) = files::write(&path, value) {
                tracing::error!(error = %crate::store::chain(&error), "a limit could not be taken back");
            }
        }
    }
}

impl Cgroup {
    /// Sets the limits that are given and leaves the others. Doing it twice is the same as doing it once. A failure may leave
    /// some of them set: this is for a group that was just made, and goes then.
    ///
    /// Errors: [`CgroupError::MissingController`] for a limit that this node cannot enforce (a preference, such as
    /// shares, is left out instead), [`CgroupError::InvalidLimit`], and [`CgroupError::Write`] with the file and the
    /// value that the kernel refused.
    pub fn apply(&self, limits: &Limits) -> Result<(), CgroupError> {
        self.steps(limits, &mut Writer { change: None })
    }

    /// As [`Cgroup::apply`], for a group in use: raises and lowers, and a failure leaves every limit as it was.
    ///
    /// A memory limit below what is in use: the kernel takes back what it can, page cache for example. If that is not enough
    /// v1 refuses ([`CgroupError::InUse`]), and v2 sets it and kills.
    pub fn update(&self, limits: &Limits) -> Result<Change, CgroupError> {
        let mut writer = Writer { change: Some(Change::default()) };
        let outcome = self.steps(limits, &mut writer);
        let change = writer.change.unwrap_or_default();
        // The kernel's word comes first: systemd accepts everything, and only logs what the kernel refuses it.
        match outcome.and_then(|()| self.tell(limits)) {
            Ok(()) => Ok(change),
            Err(error) => {
                change.undo();
                Err(error)
            }
        }
    }

    fn steps(&self, limits: &Limits, writer: &mut Writer) -> Result<(), CgroupError> {
        for step in limits.plan(self.layout.version())? {
            match step {
                Step::Write { controller, file, value, limit, optional } => {
                    self.apply_write(writer, controller, &file, &value, limit, optional)?;
                }
                Step::MemoryAndSwap { memory, swap } => self.apply_memory_and_swap(writer, memory, swap)?,
                Step::PeriodAndQuota { period, quota } => self.apply_period_and_quota(writer, period, quota)?,
                Step::CpuMax { period, quota } => self.apply_cpu_max(writer, period, quota)?,
            }
        }
        Ok(())
    }

    fn file(&self, controller: Controller, name: &str, limit: &str) -> Result<PathBuf, CgroupError> {
        Ok(self.path.below(&self.layout.require(controller, limit)?.mount).join(name))
    }

    fn apply_write(
        &self,
        writer: &mut Writer,
        controller: Controller,
        file: &str,
        value: &str,
        limit: &str,
        optional: bool,
    ) -> Result<(), CgroupError> {
        let result = self.file(controller, file, limit).and_then(|path| writer.write(&path, value));
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
    fn apply_memory_and_swap(&self, writer: &mut Writer, memory: Option<i64>, swap: Option<i64>) -> Result<(), CgroupError> {
        let memory_file = self.file(Controller::Memory, "memory.limit_in_bytes", "memory_limit_in_bytes")?;
        let swap_file = memory_file.with_file_name("memory.memsw.limit_in_bytes");
        let current = match files::read_number(&swap_file) {
            Ok(current) => current,
            // A kernel that does not account for swap (swapaccount=0) cannot bound it, and the pod asked for memory.
            Err(_) if memory_file.exists() => {
                return memory.map_or(Ok(()), |memory| writer.write(&memory_file, &memory.to_string()));
            }
            Err(error) => return Err(error),
        };
        let above_current = |bytes: i64| u64::try_from(bytes).map_or(true, |bytes| bytes > current);
        // Where no bound of swap is asked for, it must still not stand in the way of a raised memory limit.
        let swap = swap.or_else(|| memory.filter(|memory| above_current(*memory)));
        let memory = memory.map(|memory| (&memory_file, memory));
        let swap_first = swap.is_some_and(above_current);
        let swap = swap.map(|swap| (&swap_file, swap));
        let order = if swap_first { [swap, memory] } else { [memory, swap] };
        order.into_iter().flatten().try_for_each(|(file, bytes)| writer.write(file, &bytes.to_string()))
    }

    /// v1 checks the new ratio against the parent's at each write, so that either order may be the right one.
    fn apply_period_and_quota(&self, writer: &mut Writer, period: Option<u64>, quota: Option<i64>) -> Result<(), CgroupError> {
        let period_file = self.file(Controller::Cpu, "cpu.cfs_period_us", "cpu_period")?;
        let quota_file = period_file.with_file_name("cpu.cfs_quota_us");
        let period = period.map(|period| (&period_file, period.to_string()));
        let quota = quota.map(|quota| (&quota_file, quota.to_string()));
        let mut write = |order: [&Option<(&PathBuf, String)>; 2]| {
            order.into_iter().flatten().try_for_each(|(file, value)| writer.write(file, value))
        };
        if write([&period, &quota]).is_ok() { Ok(()) } else { write([&quota, &period]) }
    }

    fn apply_cpu_max(&self, writer: &mut Writer, period: Option<u64>, quota: Option<i64>) -> Result<(), CgroupError> {
        let file = self.file(Controller::Cpu, "cpu.max", "cpu_quota")?;
        let quota = match quota {
            Some(quota) if quota < 0 => "max".to_owned(),
            Some(quota) => quota.to_string(),
            // The file takes a quota with a period or alone, so that a period alone needs the quota that stands.
            None => files::read(&file)?.split_whitespace().next().unwrap_or("max").to_owned(),
        };
        match period {
            Some(period) => writer.write(&file, &format!("{quota} {period}")),
            None => writer.write(&file, &quota),
        }
    }
}

/// Writes control files, and keeps what stood in them if that may be wanted.
struct Writer {
    change: Option<Change>,
}

impl Writer {
    fn write(&mut self, path: &Path, value: &str) -> Result<(), CgroupError> {
        // What cannot be read cannot be kept; a file that is not there says so when it is written.
        let before = self.change.as_ref().and_then(|_| files::read(path).ok());
        files::write(path, value).map_err(|error| in_use(path, value, error))?;
        if let (Some(change), Some(before)) = (&mut self.change, before) {
            change.before.push((path.to_owned(), before.trim().to_owned()));
        }
        Ok(())
    }
}

/// v1 answers EBUSY to a memory limit that it cannot bring the usage below.
fn in_use(path: &Path, value: &str, error: CgroupError) -> CgroupError {
    match error {
        CgroupError::Write { source, .. }
            if source.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("memory.")) =>
        {
            let usage = files::read_number(&path.with_file_name("memory.usage_in_bytes")).unwrap_or_default();
            CgroupError::InUse { path: path.to_owned(), limit: value.to_owned(), usage, source }
        }
        other => other,
    }
}
