//! The sizes of a client's terminal: JSON objects one after another, of which only the newest matters.

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use tokio::sync::watch;

use super::Input;
use crate::sessions::TerminalSize;

/// An object has less than 40 bytes; what grows beyond this is none.
const LONGEST: usize = 1024;

/// The sizes of the client's terminal. One that was not asked for is overtaken by the next, so a slow reader sees the
/// newest.
#[derive(Debug)]
pub struct Resize(watch::Receiver<Option<TerminalSize>>);

impl Resize {
    /// The next size; `None` when there will be no more: there is no terminal, or the client has gone. May be dropped and
    /// called anew without loss.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        self.0.changed().await.ok()?;
        *self.0.borrow_and_update()
    }
}

/// Sizes that [`follow`] sends on; where nobody does, there are none.
pub(crate) fn sizes() -> (watch::Sender<Option<TerminalSize>>, Resize) {
    let (sender, receiver) = watch::channel(None);
    (sender, Resize(receiver))
}

/// Reads a resize stream to its end. What is no size ends it, as it does in the reference server.
pub(crate) async fn follow(mut input: Input, sizes: watch::Sender<Option<TerminalSize>>) {
    let mut sizes_read = Sizes::default();
    while let Some(bytes) = input.next().await {
        match sizes_read.push(&bytes) {
            Ok(Some(newest)) => _ = sizes.send(Some(newest)),
            Ok(None) => (),
            Err(NoSize) => return,
        }
    }
}

/// A reader of sizes that takes them in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Sizes(BytesMut);

/// The bytes are no size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoSize;

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width", default)]
    width: u16,
    #[serde(rename = "Height", alias = "height", default)]
    height: u16,
}

impl Sizes {
    /// The newest size that is complete with these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<TerminalSize>, NoSize> {
        let mut newest = None;
        // In parts, so that a flood of sizes needs no more memory than one.
        for part in bytes.chunks(LONGEST) {
            self.0.extend_from_slice(part);
            let mut objects = serde_json::Deserializer::from_slice(&self.0).into_iter::<Size>();
            let mut read = 0;
            loop {
                match objects.next() {
                    Some(Ok(Size { width, height })) => {
                        newest = Some(TerminalSize { width, height });
                        read = objects.byte_offset();
                    }
                    Some(Err(error)) if !error.is_eof() => return Err(NoSize),
                    Some(Err(_)) => break,
                    // Nothing is left but white space.
                    None => {
                        read = self.0.len();
                        break;
                    }
                }
            }
            self.0.advance(read);
            if self.0.len() > LONGEST {
                return Err(NoSize);
            }
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u16, height: u16) -> Option<TerminalSize> {
        Some(TerminalSize { width, height })
    }

    #[test]
    fn sizes_arrive_in_any_pieces_and_the_newest_wins() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":30}{\"Width\":7,\"Height\":0}\n";
        assert_eq!(Sizes::default().push(text), Ok(size(7, 0)));
        for cut in 0..text.len() {
            let mut sizes = Sizes::default();
            let (first, second) = text.split_at(cut);
            let newest = (sizes.push(first).unwrap(), sizes.push(second).unwrap());
            assert_eq!(newest.1.or(newest.0), size(7, 0), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_and_never_kept() {
        assert_eq!(Sizes::default().push(b"{\"Width\":-1}"), Err(NoSize));
        assert_eq!(Sizes::default().push(b"resize!"), Err(NoSize));
        assert_eq!(Sizes::default().push(&[b'{'; 3]), Err(NoSize));
        let mut sizes = Sizes::default();
        assert_eq!(sizes.push(format!("{{\"x\":\"{}", "a".repeat(4096)).as_bytes()), Err(NoSize));
        assert_eq!(Sizes::default().push(&[b' '; 100_000]), Ok(None));
    }
}
