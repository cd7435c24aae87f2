//! The one task that writes to a SPDY connection. What the protocol demands goes before data; data goes in its order.

use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Reason, encode};
use crate::link::Activity;
use crate::stream::{Message, Outgoing};

/// Frames that are written at once.
const AT_ONCE: usize = 16;

/// What the reader of the connection wants to be sent. The queue is short: a client that asks and does not read waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Reply(u32),
    Reset(u32, Reason),
    Ping(u32),
    /// The session ends here and now.
    Failed,
}

/// A frame: what is before its bytes, and its bytes.
type Piece = (Bytes, Bytes);

/// Writes until the session is over or the client is gone; then the writing half is closed. `last` tells the last stream
/// of the client.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    mut wire: W,
    mut outgoing: Outgoing,
    mut control: mpsc::Receiver<Control>,
    last: std::sync::Arc<std::sync::atomic::AtomicU32>,
    activity: Activity,
) -> io::Result<()> {
    let mut replied = false;
    let mut pieces: Vec<Piece> = Vec::with_capacity(AT_ONCE);
    let mut over = None;
    while over.is_none() {
        let (mut data, mut bytes, mut nudge) = (0, 0, false);
        tokio::select! {
            biased;
            Some(control) = control.recv() => over = demand(control, &mut replied, &mut pieces),
            message = outgoing.messages.recv() => {
                nudge = message == Some(Message::Nudge);
                over = give(message.unwrap_or(Message::Close), &mut data, &mut bytes, &mut pieces);
            }
        }
        while over.is_none() && !nudge && pieces.len() < AT_ONCE {
            if let Ok(control) = control.try_recv() {
                over = demand(control, &mut replied, &mut pieces);
            } else if let Ok(message) = outgoing.messages.try_recv() {
                over = give(message, &mut data, &mut bytes, &mut pieces);
            } else {
                break;
            }
        }
        write_all(&mut wire, &pieces).await?;
        // A nudge, which is alone, is no sign of life.
        if !nudge {
            activity.touch();
        }
        pieces.clear();
        outgoing.sent(data, bytes);
    }
    let last = last.load(std::sync::atomic::Ordering::Acquire);
    wire.write_all(&encode::go_away(last, over == Some(Over::Failed))).await?;
    wire.flush().await?;
    wire.shutdown().await
}

/// How a session ends.
#[derive(PartialEq, Eq)]
enum Over {
    Well,
    Failed,
}

fn demand(control: Control, replied: &mut bool, pieces: &mut Vec<Piece>) -> Option<Over> {
    let frame = match control {
        Control::Reply(stream) => encode::syn_reply(stream, !std::mem::replace(replied, true)),
        Control::Reset(stream, reason) => encode::reset(stream, reason),
        Control::Ping(id) => encode::ping(id),
        Control::Failed => return Some(Over::Failed),
    };
    pieces.push((Bytes::from(frame), Bytes::new()));
    None
}

fn give(message: Message, sent: &mut usize, bytes: &mut usize, pieces: &mut Vec<Piece>) -> Option<Over> {
    match message {
        // A greeting, which SPDY does not need.
        Message::Data(_, data) if data.is_empty() => (),
        Message::Data(stream, data) => {
            *sent += 1;
            *bytes += data.len();
            pieces.push((Bytes::copy_from_slice(&encode::data(stream, data.len(), false)), data));
        }
        Message::End(stream) => pieces.push((Bytes::copy_from_slice(&encode::data(stream, 0, true)), Bytes::new())),
        Message::Reset(stream) => pieces.push((Bytes::from(encode::reset(stream, Reason::Cancel)), Bytes::new())),
        Message::Nudge => pieces.push((Bytes::from(encode::nothing()), Bytes::new())),
        Message::Close => return Some(Over::Well),
    }
    None
}

async fn write_all<W: AsyncWrite + Unpin>(wire: &mut W, pieces: &[Piece]) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); 2 * AT_ONCE];
    for (slice, part) in slices.iter_mut().zip(pieces.iter().flat_map(|(head, data)| [head, data])) {
        *slice = IoSlice::new(part);
    }
    let mut left = &mut slices[..];
    // Takes the empty ones away.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = wire.write_vectored(left).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    wire.flush().await
}
