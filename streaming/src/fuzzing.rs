//! What the fuzzer of `fuzz/` runs: the readers of foreign bytes, each with what must hold whatever the bytes are.
//!
//! It lives here because the readers are private, and so that the committed corpus runs as a unit test as well. A
//! property that does not hold is a panic. The feature `fuzzing` opens it; nothing that is shipped has it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a broken property is a panic")]

mod session;

pub use session::spdy_session;

use zlib_rs::{Deflate, DeflateFlush};

use crate::spdy::{Decoder, Frame, HeaderError, HeaderReader, dictionary};
use crate::token;
use crate::websocket::{Incoming, read, write};

/// A frame that owns its bytes; the pieces of data frames are joined.
#[derive(Debug, PartialEq, Eq)]
enum Owned {
    Data(u32, Vec<u8>, bool),
    SynStream(u32, bool, bool, Vec<u8>),
    Headers(u32, bool, Vec<u8>),
    Reset(u32),
    Ping(u32),
    GoAway,
    Ignored,
}

fn frames(parts: &[&[u8]]) -> (Vec<Owned>, Option<String>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    let mut open = false;
    for part in parts {
        let mut part = *part;
        loop {
            let frame = match decoder.next(&mut part) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            };
            let frame = match frame {
                Frame::Data { stream, bytes, fin } => Owned::Data(stream, bytes.to_vec(), fin),
                Frame::SynStream { stream, fin, unidirectional, block } => {
                    Owned::SynStream(stream, fin, unidirectional, block.to_vec())
                }
                Frame::Headers { stream, fin, block } => Owned::Headers(stream, fin, block.to_vec()),
                Frame::Reset { stream } => Owned::Reset(stream),
                Frame::Ping { id } => Owned::Ping(id),
                Frame::GoAway => Owned::GoAway,
                Frame::Ignored => Owned::Ignored,
            };
            match (frames.last_mut(), frame) {
                // A piece may belong to the frame before, or to another of the same stream: joined either way.
                (Some(Owned::Data(before, all, false)), Owned::Data(stream, bytes, fin)) if open && *before == stream => {
                    all.extend_from_slice(&bytes);
                    let Some(Owned::Data(_, _, end)) = frames.last_mut() else { unreachable!() };
                    *end = fin;
                }
                (_, frame) => frames.push(frame),
            }
            open = matches!(frames.last(), Some(Owned::Data(..)));
        }
        assert!(part.is_empty(), "bytes are left over without an error");
    }
    (frames, None)
}

/// Frames are the same however the bytes are cut, streams have sound numbers, and no frame has more than was sent.
pub fn spdy_frames(bytes: &[u8]) {
    let whole = frames(&[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(frames(&single), whole);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(frames(&[first, second]), whole);
    let length = |frame: &Owned| match frame {
        Owned::Data(stream, bytes, _) | Owned::SynStream(stream, _, _, bytes) | Owned::Headers(stream, _, bytes) => {
            assert!((1..=0x7fff_ffff).contains(stream));
            bytes.len()
        }
        Owned::Reset(stream) => {
            assert!((1..=0x7fff_ffff).contains(stream));
            8
        }
        Owned::Ping(_) => 4,
        Owned::GoAway => 8,
        Owned::Ignored => 0,
    };
    assert!(whole.0.iter().map(length).sum::<usize>() <= bytes.len());
}

/// Blocks, each after its length in two bytes, are headers or an error, of a bounded size; and whatever they are, what a
/// sound client compresses can be read.
pub fn spdy_headers(mut bytes: &[u8]) {
    let mut reader = HeaderReader::default();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (block, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes = rest;
        match reader.read(block) {
            Ok(headers) => {
                assert!(headers.pairs().len() <= 64);
                let total: usize = headers.pairs().iter().map(|(name, value)| name.len() + value.len()).sum();
                assert!(total <= 16 * 1024);
                for (name, _) in headers.pairs() {
                    assert!(!name.is_empty() && headers.get(name).is_some());
                }
            }
            Err(HeaderError::Malformed) => (),
            Err(HeaderError::Broken | HeaderError::TooLong) => break,
        }
    }
    round_trip(bytes);
}

/// The bytes as the values of headers, through a compressor of their own.
fn round_trip(bytes: &[u8]) {
    let mut deflate = Deflate::new(6, true, 15);
    deflate.set_dictionary(&dictionary()).unwrap();
    let mut reader = HeaderReader::default();
    let value = String::from_utf8_lossy(bytes).replace('\0', " ");
    for part in [&value[..], "second"] {
        let pairs = [("streamtype", "data"), ("x", part)];
        let mut text = 2u32.to_be_bytes().to_vec();
        for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        let mut block = vec![0; text.len() * 2 + 1024];
        let before = deflate.total_out();
        deflate.compress(&text, &mut block, DeflateFlush::SyncFlush).unwrap();
        block.truncate(usize::try_from(deflate.total_out() - before).unwrap());
        match reader.read(&block) {
            Ok(headers) => {
                assert_eq!(headers.get("streamtype"), Some("data"));
                assert_eq!(headers.get("x"), Some(part));
            }
            Err(error) => {
                assert!(error == HeaderError::TooLong && text.len() >= 16 * 1024, "{error}");
                return;
            }
        }
    }
}

/// A message is a channel's bytes, which are written as they were, or the end of a channel where there is such a thing.
pub fn websocket(bytes: &[u8]) {
    for (base64, closing) in [(false, false), (false, true), (true, false), (true, true)] {
        match read(bytes, base64, closing) {
            Ok(Incoming::Data(channel, data)) => {
                assert!(data.len() < bytes.len());
                // Not every base64 text is the one that is written, but it is read alike.
                let again = write(channel, &data, base64).into_data();
                if !(base64 && channel > 9) {
                    assert_eq!(read(&again, base64, false), Ok(Incoming::Data(channel, data.clone())));
                }
                assert!(base64 || again == bytes);
            }
            Ok(Incoming::Close(channel)) => assert!(closing && bytes == [255, channel]),
            Ok(Incoming::Nothing) => assert!(bytes.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty() && (base64 || closing)),
        }
    }
    let mut sizes = crate::stream::Sizes::default();
    for part in bytes.chunks(3) {
        if sizes.push(part).is_err() {
            break;
        }
    }
}

/// A path is refused, or it is exactly what the server would have given for it.
pub fn token(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    if let Some((door, token)) = token::parse_path(path) {
        assert_eq!(format!("/{}/{}", door.name(), token.text()), path);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    type Target = (&'static str, fn(&[u8]));

    /// The seeds and whatever was found once.
    #[test]
    fn the_committed_corpus_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let targets: [Target; 5] = [
            ("spdy_frames", super::spdy_frames),
            ("spdy_headers", super::spdy_headers),
            ("spdy_session", super::spdy_session),
            ("websocket", super::websocket),
            ("token", super::token),
        ];
        for (name, target) in targets {
            let seeds = std::fs::read_dir(corpus.join(name)).unwrap();
            let ran = seeds.map(|seed| target(&std::fs::read(seed.unwrap().path()).unwrap())).count();
            assert!(ran > 0, "{name} has no seeds");
        }
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_where_the_bytes_are_cut(
            parts in prop::collection::vec((any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            // Mostly sound frames: a kind, flags, and a body after its length.
            let mut bytes = Vec::new();
            for (kind, flags, body) in parts {
                let control = kind % 3 != 0;
                bytes.extend_from_slice(&if control { [0x80, 3, 0, kind % 12] } else { [0, 0, 0, kind.max(1)] });
                bytes.extend_from_slice(&[flags & 3, 0, 0, u8::try_from(body.len()).unwrap()]);
                bytes.extend_from_slice(&body);
            }
            let whole = super::frames(&[&bytes]);
            for cut in 0..=bytes.len() {
                let (first, second) = bytes.split_at(cut);
                prop_assert_eq!(&super::frames(&[first, second]), &whole);
            }
            super::spdy_frames(&bytes);
        }

        #[test]
        fn headers_pass_through_the_compressed_stream(bytes: Vec<u8>) {
            super::round_trip(&bytes);
        }
    }
}
