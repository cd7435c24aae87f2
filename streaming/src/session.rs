//! A session over SPDY, on a connection of its own or inside a WebSocket.

use std::sync::Arc;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::http::Session;
use crate::negotiation::Protocol;
use crate::server::Server;
use crate::sessions::{Outcome, Sessions};
use crate::status;
use crate::wire::{ReadHalf, WriteHalf};
use crate::{command, forward, spdy};

/// Runs it to its end. `first` was read from the connection already.
pub(crate) async fn spdy<S: Sessions>(
    server: &Arc<Server<S>>,
    session: Session<S>,
    protocol: Protocol,
    halves: (ReadHalf, WriteHalf),
    first: Vec<u8>,
    stop: CancellationToken,
) {
    let config = &server.config;
    match (session, protocol) {
        (Session::Command { command, wanted }, Protocol::SpdyCommand { style, sizes }) => {
            let desk = command::CommandDesk::new(wanted, sizes);
            let count = desk.count();
            let (link, mut arrivals) = spdy::open(halves, first, desk, config, &server.pool);
            let collected = tokio::select! {
                collected = command::collect(&mut arrivals, count, style, config.creation) => collected,
                () = stop.cancelled() => Err(None),
            };
            match collected {
                Ok(io) => command::run(server, command, io, link, stop).await,
                Err(error) => {
                    if let Some(mut error) = error {
                        let message = format!("the client did not open its {count} streams within {:?}", config.creation);
                        if let Some(bytes) = status::write(style, &Outcome::Failure { message }) {
                            let _ = timeout(config.drain, error.write(bytes)).await;
                        }
                    }
                    let _ = timeout(config.drain + config.drain, link.close(config.drain)).await;
                }
            }
        }
        (Session::Forward { forward, .. }, Protocol::SpdyForward | Protocol::Tunnel) => {
            let desk = forward::ForwardDesk { connections: config.forwards };
            let (link, arrivals) = spdy::open(halves, first, desk, config, &server.pool);
            forward::run(server, forward, arrivals, link, stop).await;
        }
        // The protocol was chosen for the session.
        _ => (),
    }
}
