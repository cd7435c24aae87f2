//! The descriptors that come with a launch, sorted by what they are for, and the closing of all others.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use thiserror::Error;

use super::Places;
use crate::protocol::{DescriptorKind, Launch};

/// The descriptors of one launch.
#[derive(Debug)]
pub struct Descriptors {
    /// memfd with the encoded `GuestSpec`.
    pub spec: OwnedFd,
    /// Compiled code.
    pub code: Option<OwnedFd>,
    /// The CRI log.
    pub log: Option<OwnedFd>,
    /// Standard streams that bypass the log.
    pub stdin: Option<OwnedFd>,
    /// See `stdin`.
    pub stdout: Option<OwnedFd>,
    /// See `stdin`.
    pub stderr: Option<OwnedFd>,
    /// The guest's end of a pseudo terminal.
    pub terminal: Option<OwnedFd>,
    /// The other end.
    pub master: Option<OwnedFd>,
    /// `memory.oom_control` or `memory.events` of the container's cgroup.
    pub oom_events: Option<OwnedFd>,
    /// pidfd of a process whose PID namespace is joined.
    pub pid_target: Option<OwnedFd>,
    /// What the jail uses up.
    pub places: Places,
}

/// The message and its descriptors do not fit together.
#[derive(Debug, Error)]
pub enum MalformedLaunch {
    /// More or fewer descriptors arrived than the message lists.
    #[error("{listed} descriptors listed, {arrived} arrived")]
    Count {
        /// In the message.
        listed: usize,
        /// Beside it.
        arrived: usize,
    },
    /// A kind that this supervisor does not know, or one twice.
    #[error("descriptor {index} has kind {kind}, which is unknown or came before")]
    Kind {
        /// Place in the list.
        index: usize,
        /// As in the message.
        kind: i32,
    },
    /// Without it nothing can run.
    #[error("no {0} descriptor")]
    Missing(&'static str),
}

impl Descriptors {
    /// Sorts what arrived by the list in the message.
    pub fn sort(launch: &Launch, arrived: Vec<OwnedFd>) -> Result<Self, MalformedLaunch> {
        if launch.descriptors.len() != arrived.len() {
            return Err(MalformedLaunch::Count { listed: launch.descriptors.len(), arrived: arrived.len() });
        }
        let (mut spec, mut code, mut log, mut oom_events) = (None, None, None, None);
        let (mut stdin, mut stdout, mut stderr) = (None, None, None);
        let (mut terminal, mut master, mut pid_target) = (None, None, None);
        let mut places = Places::default();
        for (index, (&kind, descriptor)) in launch.descriptors.iter().zip(arrived).enumerate() {
            let slot = match DescriptorKind::try_from(kind) {
                Ok(DescriptorKind::CgroupProcs) => {
                    places.cgroups.push(descriptor);
                    continue;
                }
                Ok(DescriptorKind::Mount) => {
                    places.mounts.push(descriptor);
                    continue;
                }
                Ok(DescriptorKind::Spec) => &mut spec,
                Ok(DescriptorKind::Code) => &mut code,
                Ok(DescriptorKind::Root) => &mut places.root,
                Ok(DescriptorKind::Log) => &mut log,
                Ok(DescriptorKind::Netns) => &mut places.network,
                Ok(DescriptorKind::Userns) => &mut places.users,
                Ok(DescriptorKind::Ipcns) => &mut places.ipc,
                Ok(DescriptorKind::OomEvents) => &mut oom_events,
                Ok(DescriptorKind::Stdin) => &mut stdin,
                Ok(DescriptorKind::Stdout) => &mut stdout,
                Ok(DescriptorKind::Stderr) => &mut stderr,
                Ok(DescriptorKind::Target) => &mut places.target,
                Ok(DescriptorKind::Terminal) => &mut terminal,
                Ok(DescriptorKind::TerminalMaster) => &mut master,
                Ok(DescriptorKind::PidTarget) => &mut pid_target,
                Ok(DescriptorKind::DescriptorUnspecified) | Err(_) => return Err(MalformedLaunch::Kind { index, kind }),
            };
            if slot.replace(descriptor).is_some() {
                return Err(MalformedLaunch::Kind { index, kind });
            }
        }
        Ok(Self {
            spec: spec.ok_or(MalformedLaunch::Missing("SPEC"))?,
            code,
            log,
            stdin,
            stdout,
            stderr,
            terminal,
            master,
            oom_events,
            pid_target,
            places,
        })
    }

    /// Their numbers, for [`keep_only`].
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> + '_ {
        [&self.spec]
            .into_iter()
            .chain(&self.code)
            .chain(&self.log)
            .chain([&self.stdin, &self.stdout, &self.stderr, &self.terminal, &self.master].into_iter().flatten())
            .chain(&self.places.target)
            .chain(&self.places.network)
            .chain(&self.places.ipc)
            .chain(&self.places.users)
            .chain(&self.places.root)
            .chain(&self.places.cgroups)
            .chain(&self.places.mounts)
            .map(AsRawFd::as_raw_fd)
    }
}

/// Closes every descriptor but the standard ones and those named: a fork copies all that the supervisor holds.
#[allow(unsafe_code, reason = "close_range closes descriptors that values of the parent's memory image still name")]
pub fn keep_only(numbers: impl Iterator<Item = RawFd>) {
    let keep: BTreeSet<u32> = numbers.filter_map(|number| u32::try_from(number).ok()).filter(|&number| number > 2).collect();
    let mut first = 3u32;
    for number in keep.into_iter().map(Some).chain([None]) {
        let last = number.map_or(u32::MAX, |number| number.saturating_sub(1));
        if first <= last {
            // SAFETY: the owners of these descriptors live in the supervisor; the copies of them in this forked child are never used
            // nor dropped, because the child leaves through _exit.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
        }
        first = number.map_or(u32::MAX, |number| number.saturating_add(1));
    }
}
