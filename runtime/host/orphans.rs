//! Guests whose supervisor has died. They run on; nobody can reap them but init, so their end is seen by their pidfd and told from what
//! their own process wrote before it left.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::Interest;
use wasm_host::exit_record::Seen;
use wasm_host::protocol::{self, ExitRecord, Outcome};

use super::{Host, Process, lock};

/// A supervisor that is reaping the guest at this very moment writes its record within this time.
const RECORD_GRACE: Duration = Duration::from_millis(500);

impl Host {
    /// Starts watching every running guest that is no child of a connected supervisor.
    pub(super) fn watch_orphans(&self) {
        let guests = match self.0.guests.guests() {
            Ok(guests) => guests,
            Err(error) => return tracing::error!(%error, "listing the guests' files"),
        };
        let supervisor = self.0.current.borrow().as_ref().map(|connection| connection.welcome().pid);
        for guest in guests {
            let Seen::Started(started, _) = self.0.guests.seen(&guest) else { continue };
            let process = Process::from(started);
            let parent = process.parent();
            if parent.is_some() && parent == supervisor || !lock(&self.0.watched).insert(guest.clone()) {
                continue;
            }
            let host = self.clone();
            self.0.tasks.spawn(async move {
                let stop = host.0.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = host.watch(&guest, &process) => {}
                }
                lock(&host.0.watched).remove(&guest);
            });
        }
    }

    async fn watch(&self, guest: &str, process: &Process) {
        match process.open() {
            Ok(Some(descriptor)) => {
                if let Err(error) = ended(descriptor).await {
                    return tracing::error!(guest, pid = process.pid, %error, "a guest without supervisor cannot be watched");
                }
            }
            Ok(None) => {}
            Err(error) => {
                return tracing::error!(guest, pid = process.pid, %error, "a guest without supervisor cannot be watched");
            }
        }
        tokio::time::sleep(RECORD_GRACE).await;
        let record = match self.0.guests.seen(guest) {
            Seen::Ended(record) => record,
            Seen::Started(_, outcome) => record_of_lost(process, outcome),
            // Somebody was told already and has deleted the files.
            Seen::Nothing => return,
        };
        if let Err(error) = self.0.guests.write_exit(guest, &record) {
            tracing::warn!(guest, %error, "recording the end of a guest without supervisor");
        }
        self.tell(guest.to_owned(), record).await;
    }
}

async fn ended(descriptor: OwnedFd) -> std::io::Result<()> {
    let descriptor = super::watch_descriptor(descriptor, Interest::READABLE)?;
    let _ready = descriptor.readable().await?;
    Ok(())
}

/// What can be said of a guest that nobody reaped for us: its own words, else that nothing is known.
pub(super) fn record_of_lost(process: &Process, outcome: Option<Outcome>) -> ExitRecord {
    let (exit_code, reason, message, finished_at) = match outcome {
        Some(outcome) => (outcome.exit_code, outcome.reason, outcome.message, outcome.finished_at),
        None => (
            255,
            "Unknown".to_owned(),
            "the supervisor had died before it could see how this guest ended".to_owned(),
            protocol::now(),
        ),
    };
    ExitRecord {
        pid: process.pid,
        start_ticks: process.start_ticks,
        started_at: process.started_at,
        finished_at,
        exit_code,
        reason,
        message,
    }
}
