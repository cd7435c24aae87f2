//! GetContainerEvents: what happens to pods and containers, in its order, with what the whole pod was at that moment.

use std::sync::Arc;

use futures_util::stream::{self, Stream};

use super::error::Error;
use super::{answer_container, answer_sandbox};
use crate::events::{Event, EventKind};
use crate::proto::runtime::v1 as cri;
use crate::state::Runtime;

pub(super) async fn follow(
    runtime: Arc<Runtime>,
    _request: cri::GetEventsRequest,
) -> Result<impl Stream<Item = Result<cri::ContainerEventResponse, Error>>, Error> {
    let follower = runtime.events.follow();
    Ok(stream::unfold((runtime, follower), |(runtime, mut follower)| async move {
        let event = tokio::select! {
            event = follower.next(&runtime.events, &runtime.sandboxes) => event?.map_err(Error::from),
            // This call has no end of its own, and the daemon does not wait for clients to leave.
            () = runtime.closing.cancelled() => Err(Error::Unavailable("the daemon is shutting down".to_owned())),
        };
        Some((event.map(|event| message(&event)), (runtime, follower)))
    }))
}

fn message(event: &Event) -> cri::ContainerEventResponse {
    let kind = match event.kind {
        EventKind::Created => cri::ContainerEventType::ContainerCreatedEvent,
        EventKind::Started => cri::ContainerEventType::ContainerStartedEvent,
        EventKind::Stopped => cri::ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => cri::ContainerEventType::ContainerDeletedEvent,
    };
    let statuses = event.containers.iter().map(|(container, status)| answer_container::status_as(container, status.clone()));
    cri::ContainerEventResponse {
        container_id: event.subject.clone(),
        container_event_type: kind.into(),
        created_at: event.at,
        pod_sandbox_status: Some(answer_sandbox::status(&event.sandbox, event.sandbox_status.clone())),
        containers_statuses: statuses.collect(),
    }
}
