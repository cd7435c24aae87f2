//! How the calls of sockets lie in a guest's memory: typenames.witx, in numbers.
//!
//! What lies outside of the memory ends the guest with a trap, as in all of wasmtime's own calls.

use std::ops::Range;

use wasmtime::bail;

/// Most pieces that one call reads or writes: Linux's IOV_MAX. What goes beyond is left for the next call, as with any short count.
const VECTORS: i32 = 1024;

/// File type of a socket that is a stream of bytes.
pub(super) const SOCKET_STREAM: u8 = 6;

// Flags of a descriptor.
pub(super) const NONBLOCK: u16 = 1 << 2;
pub(super) const DESCRIPTOR_FLAGS: u16 = (1 << 5) - 1;

// Flags of `sock_recv`.
pub(super) const PEEK: i32 = 1;
pub(super) const WAITALL: i32 = 2;

// Directions of `sock_shutdown`.
pub(super) const SHUT_READ: i32 = 1;
pub(super) const SHUT_WRITE: i32 = 2;

// What may be done with sockets: fd_fdstat_set_flags, fd_filestat_get, poll_fd_readwrite.
const ANY_RIGHTS: u64 = 1 << 3 | 1 << 21 | 1 << 27;
/// With a connection also: fd_read, fd_write, sock_shutdown.
const STREAM_RIGHTS: u64 = ANY_RIGHTS | 1 << 1 | 1 << 6 | 1 << 28;
/// With a listening socket also: sock_accept.
const LISTENER_RIGHTS: u64 = ANY_RIGHTS | 1 << 29;

/// Bytes of a subscription, of an event.
pub(super) const SUBSCRIPTION_BYTES: usize = 48;
pub(super) const EVENT_BYTES: usize = 32;

/// `fdstat` of a socket.
pub(super) fn descriptor_status(flags: u16, listens: bool) -> [u8; 24] {
    let rights = if listens { LISTENER_RIGHTS } else { STREAM_RIGHTS };
    // What is accepted can do what a connection can.
    let mut bytes = [0; 24];
    put(&mut bytes, 0, &[SOCKET_STREAM]);
    put(&mut bytes, 2, &flags.to_le_bytes());
    put(&mut bytes, 8, &rights.to_le_bytes());
    put(&mut bytes, 16, &STREAM_RIGHTS.to_le_bytes());
    bytes
}

/// `filestat` of a socket.
pub(super) fn file_status(device: u64, inode: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    put(&mut bytes, 0, &device.to_le_bytes());
    put(&mut bytes, 8, &inode.to_le_bytes());
    put(&mut bytes, 16, &[SOCKET_STREAM]);
    put(&mut bytes, 24, &1_u64.to_le_bytes());
    bytes
}

/// Why there is something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) userdata: [u8; 8],
    pub(super) error: i32,
    pub(super) kind: u8,
    pub(super) bytes: u64,
    pub(super) hangup: bool,
}

impl Event {
    pub(super) fn encoded(self) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.userdata);
        put(&mut bytes, 8, &u16::try_from(self.error).unwrap_or(u16::MAX).to_le_bytes());
        put(&mut bytes, 10, &[self.kind]);
        put(&mut bytes, 16, &self.bytes.to_le_bytes());
        put(&mut bytes, 24, &u16::from(self.hangup).to_le_bytes());
        bytes
    }
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..what.len())) {
        place.copy_from_slice(what);
    }
}

/// `N` bytes of a record, from `at` on.
pub(super) fn field<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    record.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Where `length` bytes lie from `pointer` on.
pub(super) fn range(memory: &[u8], pointer: i32, length: usize) -> wasmtime::Result<Range<usize>> {
    let start = usize::try_from(pointer.cast_unsigned())?;
    match start.checked_add(length) {
        Some(end) if end <= memory.len() => Ok(start..end),
        _ => bail!("out of bounds memory access"),
    }
}

/// The pieces of memory of a call that reads or writes, without empty ones.
pub(super) fn vectors(memory: &[u8], pointer: i32, count: i32) -> wasmtime::Result<Vec<Range<usize>>> {
    let count = count.cast_unsigned().min(VECTORS.cast_unsigned());
    let all = range(memory, pointer, usize::try_from(count)?.saturating_mul(8))?;
    let mut vectors = Vec::new();
    for vector in memory.get(all).unwrap_or_default().chunks_exact(8) {
        let length = usize::try_from(u32::from_le_bytes(field(vector, 4)))?;
        let place = range(memory, i32::from_le_bytes(field(vector, 0)), length)?;
        if !place.is_empty() {
            vectors.push(place);
        }
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_laid_out_as_in_the_specification() {
        let status = descriptor_status(NONBLOCK, true);
        assert_eq!((status[0], status[2], u64::from_le_bytes(field(&status, 8)) >> 29), (6, 4, 1));
        let of_file = file_status(7, 9);
        assert_eq!((of_file[0], of_file[8], of_file[16], of_file[24]), (7, 9, 6, 1));
        let event = Event { userdata: [1; 8], error: 8, kind: 2, bytes: 5, hangup: true }.encoded();
        assert_eq!((event[..8].to_vec(), event[8], event[10], event[16], event[24]), (vec![1; 8], 8, 2, 5, 1));
    }

    #[test]
    fn pieces_are_bounded_by_the_memory() {
        let mut memory = vec![0; 64];
        for (index, word) in [32_u32, 4, 0, 0, 60, 4].into_iter().enumerate() {
            memory[index * 4..][..4].copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(vectors(&memory, 0, 3).unwrap(), [32..36, 60..64]);
        assert_eq!(vectors(&memory, 0, 0).unwrap(), []);
        memory[20] = 5;
        assert!(vectors(&memory, 0, 3).is_err());
        for (pointer, count) in [(-8, 1), (60, 1), (0, -1), (64, 1)] {
            assert!(vectors(&memory, pointer, count).is_err(), "{pointer} {count}");
        }
    }
}
