//! From bytes, cut anywhere, to frames (Draft 3, 2.2). Holds no more than one control frame.

/// The longest control frame; real ones have a hundred bytes.
const LONGEST_CONTROL: usize = 64 * 1024;

/// A frame of the client, or a piece of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// Bytes of a stream, as they come: a data frame may be 16 MiB long and is given in pieces. `fin` is set at the end
    /// of the frame that closes the stream.
    Data { stream: u32, bytes: &'a [u8], fin: bool },
    /// Opens a stream.
    SynStream { stream: u32, fin: bool, unidirectional: bool, block: &'a [u8] },
    /// A header block that means nothing here, but belongs to the compressed stream. `fin` may close the stream.
    Headers { stream: u32, fin: bool, block: &'a [u8] },
    /// Ends a stream in both directions.
    Reset { stream: u32 },
    /// To be answered.
    Ping { id: u32 },
    /// The client opens no more streams.
    GoAway,
    /// Settings, windows, and what a future version may add: sound, and of no meaning here.
    Ignored,
}

/// Why a session cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a control frame of SPDY version {0}, where 3 is spoken")]
    Version(u16),
    #[error("a control frame of {0} bytes, where 64 KiB are allowed")]
    TooLong(usize),
    #[error("a control frame of type {kind} with {length} bytes, which it cannot have")]
    Length { kind: u16, length: usize },
    #[error("a frame of type {0} for stream 0, which is none")]
    StreamZero(u16),
    #[error("a reset frame that gives no reason")]
    NoReason,
}

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    head: [u8; 8],
    /// How much of `head` is there.
    filled: usize,
    body: Body,
    /// A control frame that came in more than one piece.
    control: Vec<u8>,
    /// The last such frame, while the caller looks at it.
    complete: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Body {
    /// The head is being read.
    #[default]
    None,
    Data {
        stream: u32,
        left: usize,
        fin: bool,
    },
    Control {
        kind: u16,
        flags: u8,
        length: usize,
    },
}

impl Decoder {
    /// Takes bytes from the front of `input` and gives the next frame, or `None` when `input` is empty. After an error
    /// it must not be used any more.
    pub(crate) fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'s>>, FrameError> {
        loop {
            match self.body {
                Body::None => {
                    let wanted = self.head.get_mut(self.filled..).unwrap_or_default();
                    let got = take(input, wanted.len());
                    for (to, from) in wanted.iter_mut().zip(got) {
                        *to = *from;
                    }
                    self.filled += got.len();
                    if self.filled < self.head.len() {
                        return Ok(None);
                    }
                    self.filled = 0;
                    self.body = read_head(self.head)?;
                    if let Body::Data { stream, left: 0, fin } = self.body {
                        self.body = Body::None;
                        return Ok(Some(Frame::Data { stream, bytes: &[], fin }));
                    }
                }
                Body::Data { stream, left, fin } => {
                    let bytes = take(input, left);
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let left = left - bytes.len();
                    self.body = if left == 0 { Body::None } else { Body::Data { stream, left, fin } };
                    return Ok(Some(Frame::Data { stream, bytes, fin: fin && left == 0 }));
                }
                Body::Control { kind, flags, length } => {
                    if self.control.is_empty() && input.len() >= length {
                        self.body = Body::None;
                        return read_control(kind, flags, take(input, length)).map(Some);
                    }
                    let got = take(input, length - self.control.len());
                    self.control.extend_from_slice(got);
                    if self.control.len() < length {
                        return Ok(None);
                    }
                    self.body = Body::None;
                    // The next frame must find it empty, and this one is borrowed until then.
                    self.complete = std::mem::take(&mut self.control);
                    return read_control(kind, flags, &self.complete).map(Some);
                }
            }
        }
    }
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

fn read_head([a, b, c, d, flags, x, y, z]: [u8; 8]) -> Result<Body, FrameError> {
    let length = u32::from_be_bytes([0, x, y, z]) as usize;
    if a & 0x80 == 0 {
        return match u32::from_be_bytes([a, b, c, d]) {
            0 => Err(FrameError::StreamZero(0)),
            stream => Ok(Body::Data { stream, left: length, fin: flags & 1 != 0 }),
        };
    }
    match u16::from_be_bytes([a & 0x7f, b]) {
        3 if length <= LONGEST_CONTROL => Ok(Body::Control { kind: u16::from_be_bytes([c, d]), flags, length }),
        3 => Err(FrameError::TooLong(length)),
        version => Err(FrameError::Version(version)),
    }
}

fn read_control(kind: u16, flags: u8, body: &[u8]) -> Result<Frame<'_>, FrameError> {
    let fin = flags & 1 != 0;
    let wrong = FrameError::Length { kind, length: body.len() };
    let exactly =
        |length: usize| if body.len() == length { Ok(()) } else { Err(FrameError::Length { kind, length: body.len() }) };
    // Identifiers have 31 bits; the first is reserved.
    let word = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_be_bytes(*word));
    let id = || word(0).map(|id| id & 0x7fff_ffff);
    let stream = || match id() {
        None => Err(FrameError::Length { kind, length: body.len() }),
        Some(0) => Err(FrameError::StreamZero(kind)),
        Some(stream) => Ok(stream),
    };
    match kind {
        // After the stream: the one it belongs to, its priority and a slot for certificates, none of which is used.
        1 => {
            let block = body.get(10..).ok_or(wrong)?;
            Ok(Frame::SynStream { stream: stream()?, fin, unidirectional: flags & 2 != 0, block })
        }
        // A reply answers nothing, since the server opens no streams.
        2 | 8 => Ok(Frame::Headers { stream: stream()?, fin, block: body.get(4..).ok_or(wrong)? }),
        3 => {
            exactly(8)?;
            let stream = stream()?;
            if word(4) == Some(0) { Err(FrameError::NoReason) } else { Ok(Frame::Reset { stream }) }
        }
        4 => {
            let count = word(0).ok_or(wrong)? as usize;
            count
                .checked_mul(8)
                .and_then(|bytes| exactly(bytes.checked_add(4)?).ok())
                .ok_or(FrameError::Length { kind, length: body.len() })?;
            Ok(Frame::Ignored)
        }
        6 => exactly(4).map(|()| word(0)).map(|id| id.map_or(Frame::Ignored, |id| Frame::Ping { id })),
        7 => exactly(8).map(|()| Frame::GoAway),
        // Nobody here keeps windows, so no delta can overflow one.
        9 => exactly(8).map(|()| Frame::Ignored),
        // Draft 3, 2.2.1: an unknown type must be ignored.
        _ => Ok(Frame::Ignored),
    }
}
