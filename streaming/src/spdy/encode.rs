//! The frames that the server sends.

use super::Reason;
use super::dictionary::ID;

const CONTROL: u16 = 0x8000 | 3;
/// The last frame of a stream in this direction.
const FIN: u8 = 1;

/// What goes before the bytes of a data frame.
pub(crate) fn data(stream: u32, length: usize, fin: bool) -> [u8; 8] {
    frame_head(stream.to_be_bytes(), if fin { FIN } else { 0 }, length)
}

/// The answer that opens a stream. Its headers are none, which needs no compressor: the four bytes of their count are a
/// stored block of the zlib stream, and the empty stored block after it makes readers hand them out, as Z_SYNC_FLUSH
/// does. `first` is the first header block of the connection, which names the dictionary.
pub(crate) fn syn_reply(stream: u32, first: bool) -> Vec<u8> {
    // Deflate with a window of 32 KiB, a dictionary, and the check bits that make the two bytes a multiple of 31.
    const ZLIB: [u8; 2] = [0x78, 0x20];
    const STORED: [u8; 5] = [0, 4, 0, !4, 0xff];
    const NO_HEADERS: [u8; 4] = [0; 4];
    const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];
    let mut block = Vec::with_capacity(20);
    if first {
        block.extend_from_slice(&ZLIB);
        block.extend_from_slice(&ID);
    }
    for part in [&STORED[..], &NO_HEADERS, &FLUSH] {
        block.extend_from_slice(part);
    }
    control(2, &[&stream.to_be_bytes(), &block])
}

/// Ends a stream in both directions.
pub(crate) fn reset(stream: u32, reason: Reason) -> Vec<u8> {
    control(3, &[&stream.to_be_bytes(), &(reason as u32).to_be_bytes()])
}

/// The answer to a ping.
pub(crate) fn ping(id: u32) -> Vec<u8> {
    control(6, &[&id.to_be_bytes()])
}

/// Settings, of which there are none: clients read them and do nothing.
pub(crate) fn nothing() -> Vec<u8> {
    control(4, &[&[0; 4]])
}

/// The last frame of a session; `last` is the last stream that was opened.
pub(crate) fn go_away(last: u32, protocol_error: bool) -> Vec<u8> {
    control(7, &[&last.to_be_bytes(), &u32::from(protocol_error).to_be_bytes()])
}

fn control(kind: u16, body: &[&[u8]]) -> Vec<u8> {
    let length = body.iter().map(|part| part.len()).sum();
    let [a, b] = CONTROL.to_be_bytes();
    let [c, d] = kind.to_be_bytes();
    let mut frame = Vec::with_capacity(8 + length);
    frame.extend_from_slice(&frame_head([a, b, c, d], 0, length));
    body.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

fn frame_head([a, b, c, d]: [u8; 4], flags: u8, length: usize) -> [u8; 8] {
    // Callers send no frame beyond 2^24 bytes.
    let [_, x, y, z] = (length as u32).to_be_bytes();
    [a, b, c, d, flags, x, y, z]
}
