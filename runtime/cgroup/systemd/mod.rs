//! systemd as the one who makes the groups: each container is a scope of its own below the pod's slice, asked for over D-Bus.
//!
//! A node's groups have one owner, and where systemd is that, the kubelet asks it for the pods' slices and we for the scopes in
//! them. A scope needs a process to begin with, and a guest's process does not exist yet when its group must: so a
//! [`Holder`] keeps the scope until the guest has joined it. Everything else is as without systemd: the scope is delegated
//! (`Delegate=yes`), and limits, processes and counters are files of its directory.

mod bus;
mod holder;
#[cfg(test)]
mod mock;
mod properties;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use holder::Holder;

use super::layout::Version;
use super::limits::Limits;
use bus::Bus;
use properties::Property;
use wire::{Call, Message, Reader, Value, Writer};

/// Where the system bus is unless the environment says something else.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// Set by tests and by nodes that have their bus elsewhere; D-Bus specification, "Well-known Message Bus Instances".
const ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// systemd makes this directory when it is the node's first process; sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

const MANAGER: Call<'_> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
};

/// The signals that are waited for.
const JOBS: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The bus cannot be reached.
    #[error("cannot reach the system bus at {address}")]
    Connect {
        /// The bus.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer came.
    #[error("systemd does not answer {method}")]
    Lost {
        /// The call.
        method: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error("systemd refuses {method}: {text} ({name})")]
    Refused {
        /// The call.
        method: String,
        /// The error's name.
        name: String,
        /// In systemd's words.
        text: String,
    },
    /// It tried, and could not.
    #[error("systemd could not do it: its job for {unit} ended as `{result}`; `systemctl status {unit}` may say why")]
    Job {
        /// The unit.
        unit: String,
        /// In systemd's words.
        result: String,
    },
    /// The process that keeps a scope for its guest did not start.
    #[error("cannot start the process that holds a scope")]
    Holder(#[source] io::Error),
}

/// The manager of the node's units. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Systemd {
    address: Arc<str>,
    /// Program of the processes that hold scopes.
    holder: Arc<Path>,
}

impl Systemd {
    /// Whether systemd runs this node.
    pub fn is_running() -> bool {
        Path::new(BOOTED).is_dir()
    }

    /// The node's own, not asked yet.
    pub fn of_the_node() -> Systemd {
        let address = std::env::var(ADDRESS).ok().filter(|address| !address.is_empty());
        // The kernel's name of this program's file, which is right also after the file was replaced.
        Systemd::at(address.as_deref().unwrap_or(SYSTEM_BUS), PathBuf::from("/proc/self/exe"))
    }

    pub(super) fn at(address: &str, holder: PathBuf) -> Systemd {
        Systemd { address: address.into(), holder: holder.into() }
    }

    /// Asks it something that changes nothing.
    pub fn ping(&self) -> Result<(), SystemdError> {
        let mut body = Writer::default();
        body.text("-.slice");
        self.open()?.call(&Call { member: "GetUnit", signature: "s", ..MANAGER }, &body.finish()).map(drop)
    }

    /// Starts a scope below a slice. It lives until the holder is dropped and no other process is in it. One of that name that is
    /// there already is what a start that was cut off has left, and goes first.
    pub(super) fn start_scope(&self, unit: &str, slice: &str, limits: &Limits, version: Version) -> Result<Holder, SystemdError> {
        let holder = Holder::start(&self.holder).map_err(SystemdError::Holder)?;
        let mut properties = vec![
            ("Description", Value::Text("a WebAssembly container".to_owned())),
            ("Slice", Value::Text(slice.to_owned())),
            // The directory is ours to write to, groups below it too; and an OOM kill in it does not end the whole scope.
            ("Delegate", Value::Flag(true)),
            // Not stopped early at a shutdown, and not ordered after anything.
            ("DefaultDependencies", Value::Flag(false)),
            ("PIDs", Value::Numbers(vec![holder.pid()])),
        ];
        properties.extend(accounting(version));
        properties.extend(properties::of(limits, version));
        self.start(unit, &properties)?;
        Ok(holder)
    }

    /// Starts a slice; one that is there already is taken, and gets these limits.
    pub(super) fn start_slice(&self, unit: &str, limits: &Limits, version: Version) -> Result<(), SystemdError> {
        let limits_of_it = properties::of(limits, version);
        let mut properties = vec![("Description", Value::Text("a WebAssembly pod".to_owned()))];
        properties.extend(accounting(version));
        properties.extend(limits_of_it);
        match self.order(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", |body| {
            body.text("replace");
            body.properties(&properties);
            body.no_units();
        }) {
            Err(SystemdError::Refused { name, .. }) if name == UNIT_EXISTS => self.set(unit, limits, version),
            other => other,
        }
    }

    fn start(&self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        let once = || {
            self.order(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", |body| {
                // As runc: what is queued for this unit is replaced.
                body.text("replace");
                body.properties(properties);
                body.no_units();
            })
        };
        match once() {
            Err(SystemdError::Refused { name, .. }) if name == UNIT_EXISTS => {
                self.stop(unit)?;
                once()
            }
            other => other,
        }
        .inspect_err(|_| {
            // A unit that failed stays known, and in the way of the next try.
            if let Err(error) = self.reset(unit) {
                tracing::debug!(unit, %error, "a unit that did not start is not forgotten");
            }
        })
    }

    /// Tells it new limits of a unit.
    pub(super) fn set(&self, unit: &str, limits: &Limits, version: Version) -> Result<(), SystemdError> {
        let properties = properties::of(limits, version);
        if properties.is_empty() {
            return Ok(());
        }
        let mut body = Writer::default();
        body.text(unit);
        // Until the next boot: a transient unit has no file to be kept in.
        body.flag(true);
        body.properties(&properties);
        let call = Call { member: "SetUnitProperties", signature: "sba(sv)", ..MANAGER };
        self.open()?.call(&call, &body.finish()).map(drop)
    }

    /// Stops a unit and forgets it; one that is not there is fine. What is still in it is ended by systemd.
    pub(super) fn stop(&self, unit: &str) -> Result<(), SystemdError> {
        match self.order(unit, "StopUnit", "ss", |body| body.text("replace")) {
            Err(SystemdError::Refused { name, .. }) if name == NO_SUCH_UNIT => return Ok(()),
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        match self.reset(unit) {
            // Gone as soon as it had stopped, as it should be.
            Err(SystemdError::Refused { .. }) => Ok(()),
            other => other,
        }
    }

    fn reset(&self, unit: &str) -> Result<(), SystemdError> {
        let mut body = Writer::default();
        body.text(unit);
        self.open()?.call(&Call { member: "ResetFailedUnit", signature: "s", ..MANAGER }, &body.finish()).map(drop)
    }

    /// A call whose answer is a job, and the end of that job.
    fn order(&self, unit: &str, member: &str, signature: &str, write: impl FnOnce(&mut Writer)) -> Result<(), SystemdError> {
        let mut bus = self.open()?;
        // systemd sends signals only while somebody has asked for them.
        bus.call(&Call { member: "Subscribe", ..MANAGER }, &[])?;
        let mut body = Writer::default();
        body.text(unit);
        write(&mut body);
        let answer = bus.call(&Call { member, signature, ..MANAGER }, &body.finish())?;
        let lost = |source| SystemdError::Lost { method: member.to_owned(), source };
        let job = Reader::new(&answer.body).text().map_err(lost)?;
        loop {
            let signal = bus.signal().map_err(lost)?;
            let Some((removed, result)) = removed_job(&signal) else { continue };
            if removed != job {
                continue;
            }
            return match result.as_str() {
                "done" => Ok(()),
                _ => Err(SystemdError::Job { unit: unit.to_owned(), result }),
            };
        }
    }

    fn open(&self) -> Result<Bus, SystemdError> {
        Bus::open(&self.address, JOBS)
    }
}

/// Counted from the start, so that nothing is missed.
fn accounting(version: Version) -> Vec<Property> {
    let input_output = if version == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
    ["CPUAccounting", "MemoryAccounting", "TasksAccounting", input_output].map(|name| (name, Value::Flag(true))).into()
}

/// JobRemoved: number, path, unit, result.
fn removed_job(signal: &Message) -> Option<(String, String)> {
    if signal.member != "JobRemoved" || signal.interface != MANAGER.interface {
        return None;
    }
    let mut body = Reader::new(&signal.body);
    body.u32().ok()?;
    let job = body.text().ok()?;
    body.text().ok()?;
    Some((job, body.text().ok()?))
}
