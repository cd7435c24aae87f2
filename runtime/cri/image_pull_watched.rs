//! The daemon's own service beside the CRI: a pull whose caller sees how far it is. Ends with its caller, as PullImage does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use images::{Auth, BlobProgress, Image, Progress, PullError};
use tokio::time::MissedTickBehavior;
use tonic::{Request, Response, Status};

use super::error::Error;
use super::service::Service;
use crate::proto::images::v1::images_server::Images;
use crate::proto::images::v1::{Part, Phase, PullRequest, PullResponse};

/// How often the state is sent: often enough for bars that move.
const EVERY: Duration = Duration::from_millis(100);

#[tonic::async_trait]
impl Images for Service {
    type PullStream = Pin<Box<dyn Stream<Item = Result<PullResponse, Status>> + Send>>;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        if self.runtime.stop.is_cancelled() {
            return Err(Error::Unavailable("the daemon is shutting down".to_owned()).into());
        }
        let PullRequest { reference, username, password } = request.into_inner();
        let auth = (!username.is_empty()).then(|| Auth { username, password, ..Auth::default() });
        let progress = Progress::new();
        let (runtime, watched) = (Arc::clone(&self.runtime), progress.clone());
        let pull = Box::pin(async move { runtime.pull(&reference, auth, Some(&watched)).await });
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = Watch { pull, progress, ticks, compiling: BTreeSet::new() };
        Ok(Response::new(stream::unfold(Some(watch), next).boxed()))
    }
}

/// A pull and who looks at it. Dropping it gives the pull up.
struct Watch {
    pull: Pin<Box<dyn Future<Output = Result<Arc<Image>, PullError>> + Send>>,
    progress: Progress,
    ticks: tokio::time::Interval,
    /// Files that were seen being compiled, to tell when they are done.
    compiling: BTreeSet<PathBuf>,
}

async fn next(watch: Option<Watch>) -> Option<(Result<PullResponse, Status>, Option<Watch>)> {
    let mut watch = watch?;
    let ended = tokio::select! {
        result = &mut watch.pull => Some(result),
        _ = watch.ticks.tick() => None,
    };
    let parts = watch.parts();
    match ended {
        None => Some((Ok(PullResponse { parts, image_id: String::new() }), Some(watch))),
        Some(Ok(image)) => Some((Ok(PullResponse { parts, image_id: image.id.clone() }), None)),
        Some(Err(error)) => Some((Err(Error::from(error).into()), None)),
    }
}

impl Watch {
    fn parts(&mut self) -> Vec<Part> {
        let now = self.progress.snapshot();
        let running: BTreeSet<PathBuf> = now.compiling.into_iter().collect();
        self.compiling.extend(running.iter().cloned());
        let files = self.compiling.iter().map(|path| {
            let phase = if running.contains(path) { Phase::Compiling } else { Phase::Done };
            Part { name: path.display().to_string(), phase: phase.into(), done: 0, total: 0 }
        });
        now.blobs.into_iter().map(blob).chain(files).collect()
    }
}

fn blob(blob: BlobProgress) -> Part {
    let phase = match blob.phase {
        images::Phase::Waiting => Phase::Waiting,
        images::Phase::Downloading => Phase::Downloading,
        images::Phase::Unpacking => Phase::Unpacking,
        images::Phase::Exists => Phase::Exists,
        images::Phase::Done => Phase::Done,
    };
    Part { name: blob.digest, phase: phase.into(), done: blob.done, total: blob.total }
}
