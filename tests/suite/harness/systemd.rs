//! A system bus with a manager of units on it, as the daemon's own tests have it.

#[path = "../../../runtime/cgroup/systemd/mock.rs"]
#[allow(dead_code, reason = "its other user is the daemon's unit tests")]
mod mock;
#[path = "../../../runtime/cgroup/systemd/wire.rs"]
#[allow(dead_code, reason = "half of it is what the daemon alone writes")]
mod wire;

pub use mock::Mock;
