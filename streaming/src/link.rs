//! A session's connection, whatever its transport: where its output goes, whether its client is there, how it is closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::stream::Outbox;

/// The connection of one session. Dropping it closes the connection at once.
pub(crate) struct Link {
    /// What is to be sent.
    pub(crate) outbox: Outbox,
    /// Cancelled when the client has gone; every stream's output is then.
    pub(crate) gone: CancellationToken,
    pub(crate) activity: Activity,
    reader: AbortOnDropHandle<()>,
    writer: AbortOnDropHandle<io::Result<()>>,
}

impl Link {
    /// Starts the two tasks. `reader` cancels `gone` when it ends; `writer` ends after [`Outbox::close`], or when it cannot
    /// write.
    pub(crate) fn new(
        outbox: Outbox,
        gone: CancellationToken,
        activity: Activity,
        reader: impl Future<Output = ()> + Send + 'static,
        writer: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Self {
        let nobody = gone.clone();
        let writer = async move { writer.await.inspect_err(|_| nobody.cancel()) };
        let (reader, writer) = (tokio::spawn(reader), tokio::spawn(writer));
        Self { outbox, gone, activity, reader: AbortOnDropHandle::new(reader), writer: AbortOnDropHandle::new(writer) }
    }

    /// Sends what is written and the end of the session, however slow the client reads; then reads what it still sends
    /// for as long as `drain`, and closes the connection.
    pub(crate) async fn close(mut self, drain: Duration) {
        self.outbox.close();
        if matches!((&mut self.writer).await, Ok(Ok(()))) {
            let _ = timeout(drain, &mut self.reader).await;
        }
    }
}

/// When a frame came or went last.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<(Instant, AtomicU64)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new((Instant::now(), AtomicU64::new(0))))
    }
}

impl Activity {
    /// One does now.
    pub(crate) fn touch(&self) {
        let (start, last) = &*self.0;
        last.store(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits until no frame came or went for `limit`.
    pub(crate) async fn idle(&self, limit: Duration) {
        let (start, last) = &*self.0;
        loop {
            let due = *start + Duration::from_micros(last.load(Ordering::Relaxed)) + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}
