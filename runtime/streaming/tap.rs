//! What a running guest writes, for everybody who is attached to it.
//!
//! A guest takes one tap at a time: two pipes that it copies its output into. So the daemon reads one pair for each guest and
//! hands the bytes on. A tap is sent to the guest's socket, where it lies until the guest writes something, and few fit in
//! there. Hence one that was sent is kept, also while nobody is attached, until the guest has taken it and written.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::exec::ExecError;
use crate::state::Runtime;

/// Bytes of one read.
const CHUNK: usize = 64 << 10;

/// Chunks that wait for one client.
const QUEUE: usize = 32;

/// How long one client may take nothing while the others, and the guest, wait for it. Less than a guest waits for the daemon.
const PATIENCE: Duration = Duration::from_secs(1);

/// The taps of all guests.
#[derive(Debug, Default)]
pub struct Taps(Mutex<HashMap<String, Arc<Tap>>>);

/// Who is attached to one guest.
#[derive(Debug, Default)]
struct Tap(Mutex<Vec<Client>>);

#[derive(Debug)]
struct Client {
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
}

/// What a client is sent. Both end with the guest.
pub(super) struct Attached {
    pub(super) stdout: mpsc::Receiver<Bytes>,
    pub(super) stderr: mpsc::Receiver<Bytes>,
}

impl Taps {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Tap>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches a client to a running guest. `None`: the guest has just ended.
    pub(super) fn attach(&self, runtime: &Arc<Runtime>, guest: &str) -> Result<Option<Attached>, ExecError> {
        let ((stdout, out), (stderr, err)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let client = Client { stdout, stderr };
        // Held until the tap is known: two clients that come at once share one.
        let mut taps = self.lock();
        if let Some(tap) = taps.get(guest) {
            tap.lock().push(client);
        } else {
            let made = || -> io::Result<_> {
                let ((out, out_end), (err, err_end)) = (pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?);
                Ok(([pipe::Receiver::from_owned_fd(out)?, pipe::Receiver::from_owned_fd(err)?], out_end, err_end))
            };
            let ([out, err], out_end, err_end) = made().map_err(ExecError::system("making a pipe"))?;
            if !runtime.host.tap(guest, &out_end, &err_end)? {
                return Ok(None);
            }
            let tap = Arc::new(Tap(Mutex::new(vec![client])));
            taps.insert(guest.to_owned(), Arc::clone(&tap));
            let (task, guest) = (Arc::clone(runtime), guest.to_owned());
            runtime.spawn(async move {
                tokio::select! {
                    _ = async { tokio::join!(tap.follow(&task.taps, &guest, out, |client| &client.stdout),
                                             tap.follow(&task.taps, &guest, err, |client| &client.stderr)) } => {}
                    () = task.stop.cancelled() => {}
                }
                task.taps.close(&guest, &tap, true);
            });
        }
        Ok(Some(Attached { stdout: out, stderr: err }))
    }

    /// Forgets a tap to which nobody is attached, or that has ended. `false`: somebody is.
    fn close(&self, guest: &str, tap: &Arc<Tap>, ended: bool) -> bool {
        let mut taps = self.lock();
        if !ended && !tap.lock().is_empty() {
            return false;
        }
        if taps.get(guest).is_some_and(|known| Arc::ptr_eq(known, tap)) {
            taps.remove(guest);
        }
        tap.lock().clear();
        true
    }
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Vec<Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on one stream, until the guest has ended or has written something that nobody wants.
    async fn follow(
        self: &Arc<Self>,
        taps: &Taps,
        guest: &str,
        mut pipe: pipe::Receiver,
        stream: impl Fn(&Client) -> &mpsc::Sender<Bytes>,
    ) {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match pipe.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let bytes = buffer.split().freeze();
            let senders: Vec<_> = self.lock().iter().map(|client| stream(client).clone()).collect();
            for sender in senders {
                if sender.send_timeout(bytes.clone(), PATIENCE).await.is_err() {
                    // It has gone, or takes nothing: its session ends as its streams do.
                    self.lock().retain(|client| !stream(client).same_channel(&sender));
                }
            }
            if taps.close(guest, self, false) {
                return;
            }
        }
    }
}
