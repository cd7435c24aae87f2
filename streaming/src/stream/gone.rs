//! Whether the client is still there.

use tokio_util::sync::CancellationToken;

/// Resolves when the client has gone: its connection is closed or broken, idle for too long, or the server stops.
#[derive(Clone, Debug)]
pub struct Gone(CancellationToken);

impl Gone {
    pub(crate) fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    /// Waits until the client has gone. May be called again, and by many at once.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Whether it has gone already.
    pub fn is_gone(&self) -> bool {
        self.0.is_cancelled()
    }
}
