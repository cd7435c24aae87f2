//! The channel messages of `channel.k8s.io` and its later versions, without a socket.
//!
//! A message is the number of a channel in its first byte and then the channel's bytes; in the base64 forms the first is a
//! digit and the others are text. Since v5, 255 and a channel's number say that the channel is closed.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

const CLOSE: u8 = 255;

/// A message of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// Bytes of a channel.
    Data(u8, Cow<'a, [u8]>),
    /// The client has closed a channel.
    Close(u8),
    /// No byte at all, which clients send to see whether the server is there.
    Nothing,
}

/// Why a session cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the text after the channel's number is no base64")]
    NoBase64,
    #[error("a message that closes a channel has two bytes, not {0}")]
    CloseLength(usize),
}

/// Reads one message.
pub(crate) fn read(message: &[u8], base64: bool, closing: bool) -> Result<Incoming<'_>, MessageError> {
    match (message, closing) {
        ([], _) => Ok(Incoming::Nothing),
        ([CLOSE, channel], true) => Ok(Incoming::Close(*channel)),
        ([CLOSE, ..], true) => Err(MessageError::CloseLength(message.len())),
        // What is before the digits becomes a channel that nobody has.
        ([channel, text @ ..], _) if base64 => {
            let bytes = STANDARD.decode(text).map_err(|_| MessageError::NoBase64)?;
            Ok(Incoming::Data(channel.wrapping_sub(b'0'), Cow::Owned(bytes)))
        }
        ([channel, bytes @ ..], _) => Ok(Incoming::Data(*channel, Cow::Borrowed(bytes))),
    }
}

/// Writes one message.
pub(crate) fn write(channel: u8, bytes: &[u8], base64: bool) -> Message {
    if base64 {
        let mut text = String::with_capacity(2 + bytes.len().div_ceil(3) * 4);
        text.push(char::from(b'0'.wrapping_add(channel)));
        STANDARD.encode_string(bytes, &mut text);
        return Message::text(text);
    }
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(Bytes::from(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_can_be_read(channel in 0u8..5, bytes: Vec<u8>, base64: bool, closing: bool) {
            let message = write(channel, &bytes, base64).into_data();
            let read = read(&message, base64, closing && !base64);
            prop_assert_eq!(read, Ok(Incoming::Data(channel, Cow::Borrowed(&bytes[..]))));
        }
    }

    #[test]
    fn only_v5_closes_channels() {
        assert_eq!(read(&[255, 0], false, true), Ok(Incoming::Close(0)));
        assert_eq!(read(&[255, 0], false, false), Ok(Incoming::Data(255, Cow::Borrowed(&[0]))));
        assert_eq!(read(&[255], false, true), Err(MessageError::CloseLength(1)));
        assert_eq!(read(&[255, 1, 2], false, true), Err(MessageError::CloseLength(3)));
        assert_eq!(read(&[], false, true), Ok(Incoming::Nothing));
        assert_eq!(read(b"0?", true, false), Err(MessageError::NoBase64));
        assert_eq!(read(b"1aGk=", true, false), Ok(Incoming::Data(1, Cow::Borrowed(b"hi"))));
    }
}
