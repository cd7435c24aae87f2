//! The wrapper that each RPC goes through: it refuses calls while the daemon ends, opens the span, logs, and maps errors.
//!
//! RPCs that are not here answer UNIMPLEMENTED by the generated default; docs/cri.md names them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;

use super::error::Error;
use crate::metrics::{Counted, Method, Rpc, Timed, metrics};
use crate::proto::images::v1::images_server::ImagesServer;
use crate::proto::runtime::v1::image_service_server::ImageServiceServer;
use crate::proto::runtime::v1::runtime_service_server::RuntimeServiceServer;
use crate::server::MAX_MESSAGE;
use crate::state::Runtime;
use crate::store::chain;
use crate::traces;

/// The services of the CRI, and the daemon's own, over one [`Runtime`].
#[derive(Clone)]
pub struct Service {
    pub(super) runtime: Arc<Runtime>,
}

/// What a streaming RPC answers with. It is made as the client takes it, so a slow client keeps nothing in memory but what is on its
/// way.
pub(super) type Messages<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// How an RPC is logged: lists and statuses come several times a second.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reads,
    Changes,
}

impl Runtime {
    /// The services to be mounted on a server.
    pub fn services(self: Arc<Self>) -> Routes {
        let service = Service { runtime: self };
        let runtime = RuntimeServiceServer::new(service.clone());
        let images = ImageServiceServer::new(service.clone());
        Routes::new(runtime.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
            .add_service(images.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
            .add_service(ImagesServer::new(service))
    }
}

impl Service {
    pub(super) async fn call<Q, A, W>(
        &self,
        name: &'static str,
        kind: Kind,
        request: Request<Q>,
        work: impl FnOnce(Arc<Runtime>, Q) -> W,
    ) -> Result<Response<A>, Status>
    where
        W: Future<Output = Result<A, Error>>,
    {
        let runtime = Arc::clone(&self.runtime);
        let span = tracing::info_span!("rpc", method = name);
        traces::join(&span, name, request.metadata().as_ref());
        let timed = timed(name);
        async move {
            if runtime.stop.is_cancelled() {
                timed.end(code_name(Code::Unavailable));
                return Err(shutting_down());
            }
            let outcome = work(runtime, request.into_inner()).await;
            let taken = timed.end(outcome.as_ref().map_or_else(|error| code_name(error.code()), |_| code_name(Code::Ok)));
            let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
            match outcome {
                Ok(answer) => {
                    traces::ended(&tracing::Span::current(), Code::Ok.into(), None);
                    if kind == Kind::Changes {
                        tracing::debug!(micros, "done");
                    } else {
                        tracing::trace!(micros, "done");
                    }
                    Ok(Response::new(answer))
                }
                Err(error) => {
                    let code = error.code();
                    traces::ended(&tracing::Span::current(), code.into(), Some(&chain(&error)));
                    // Asking for what is gone is how clients find out that it is.
                    if error.is_not_found() {
                        tracing::debug!(micros, error = %chain(&error), "not found");
                    } else {
                        tracing::warn!(micros, ?code, error = %chain(&error), "failed");
                    }
                    Err(error.into())
                }
            }
        }
        .instrument(span)
        .await
    }

    /// As [`Service::call`], for an RPC that answers with many messages. It ends with its first error, and with the daemon.
    pub(super) async fn stream<Q, A, S, W>(
        &self,
        name: &'static str,
        request: Request<Q>,
        open: impl FnOnce(Arc<Runtime>, Q) -> W,
    ) -> Result<Response<Messages<A>>, Status>
    where
        W: Future<Output = Result<S, Error>>,
        S: Stream<Item = Result<A, Error>> + Send + 'static,
        A: Send + 'static,
    {
        let opened = self.call(name, Kind::Reads, request, open).await?;
        let stop = self.runtime.stop.clone();
        let state = Some((Box::pin(opened.into_inner()), stop));
        let messages = stream::unfold(state, move |state| async move {
            let (mut messages, stop) = state?;
            let message = tokio::select! {
                message = messages.next() => message?,
                () = stop.cancelled() => return Some((Err(shutting_down()), None)),
            };
            match message {
                Ok(message) => Some((Ok(message), Some((messages, stop)))),
                Err(error) => {
                    tracing::warn!(method = name, code = ?error.code(), error = %chain(&error), "a stream has failed");
                    Some((Err(error.into()), None))
                }
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}

fn shutting_down() -> Status {
    Error::Unavailable("the daemon is shutting down".to_owned()).into()
}

/// Counts a call, from its arrival on. One whose client goes away is dropped, and counted as cancelled.
pub(super) fn timed(method: &'static str) -> Timed<impl FnMut(&'static str, Duration)> {
    let in_flight = Counted::new(&metrics().rpcs_in_flight);
    Timed::new(code_name(Code::Cancelled), move |code, taken| {
        let _counted_until_here = &in_flight;
        metrics().rpcs.get_or_create(&Rpc { method, code }).inc();
        metrics().rpc_duration.get_or_create(&Method { method }).observe(taken.as_secs_f64());
    })
}

/// As the Go libraries write them, and so the dashboards of everything else on the node.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
