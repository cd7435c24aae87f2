//! One port-forward: the client opens two streams for each connection, one for its bytes and one for what goes wrong.

mod pairs;
mod relay;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::link::Link;
use crate::server::Server;
use crate::sessions::Sessions;
use crate::spdy::Arrival;
use pairs::Pairs;

pub(crate) use pairs::{ForwardDesk, Half};
pub(crate) use relay::{Pair, Refused, relay};

/// Forwards connections until the client has gone.
pub(crate) async fn run<S: Sessions>(
    server: &Arc<Server<S>>,
    forward: S::Forward,
    mut arrivals: mpsc::Receiver<Arrival<Half>>,
    link: Link,
    stop: CancellationToken,
) {
    let forward = Arc::new(forward);
    let mut pairs = Pairs::new(server.config.creation);
    // When this ends, so does every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => if let Some(pair) = pairs.add(arrival) {
                    let (server, forward) = (server.clone(), forward.clone());
                    connections.spawn(async move { relay(&server, &forward, pair, Refused::Resets).await });
                },
                None => break,
            },
            () = async { sleep_until(pairs.due().unwrap_or_else(tokio::time::Instant::now)).await }, if pairs.due().is_some() => {
                pairs.expire();
            }
            Some(_) = connections.join_next() => (),
            () = link.gone.cancelled() => break,
            () = link.activity.idle(server.config.idle) => break,
            () = stop.cancelled() => break,
        }
    }
    connections.shutdown().await;
    // What the forwarded connections still had to say has nobody to say it to.
    let drain = server.config.drain;
    let _ = timeout(drain + drain, link.close(drain)).await;
}
