//! The first process of a PID namespace that the containers of a pod share: as long as it lives, the namespace does.
//!
//! It has nothing to reap. The guests in the namespace are children of the supervisor outside, and none has children.

use std::os::fd::OwnedFd;

use crate::jail::{self, Filter, JailError};
use crate::protocol::GuestSpec;

/// Gives up everything that waiting does not need.
pub(super) fn enter(spec: &GuestSpec, null: &OwnedFd, filter: &Filter) -> Result<(), JailError> {
    jail::enter_nothing(spec, null, filter)
}

/// Waits for SIGKILL: as the first of its namespace it is reached by no signal that it has no handler for.
pub(super) fn wait_for_ever() -> i32 {
    loop {
        let day = rustix::time::Timespec { tv_sec: 24 * 3600, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut [], Some(&day));
    }
}
