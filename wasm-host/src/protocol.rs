//! What the daemon and the supervisor say to each other: the messages of `proto/host/host.proto` and how they travel.
//!
//! One message is one datagram of a `SOCK_SEQPACKET` unix socket. Descriptors ride with the message that names them. Both ends are
//! root's; still, a message that does not decode is an error and never a panic.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its comments stand in host.proto"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/cri_wasm.host.v1.rs"));
}
pub use generated::*;

/// Version of the protocol. A supervisor of another version is left to its guests and a new one is started beside it.
pub const PROTOCOL: u32 = 2;

/// Largest message in bytes. Replies carry a trap's backtrace (at most 4 KiB), requests a list of descriptor kinds.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Most descriptors of one message: the kernel's SCM_MAX_FD.
pub const MAX_DESCRIPTORS: usize = 253;

/// Sends one message with its descriptors; never blocks when the socket is non-blocking.
pub fn send(socket: impl AsFd, message: &impl Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more descriptors than one message can carry"));
    }
    let bytes = message.encode_to_vec();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message with its descriptors. `None`: the peer has gone.
pub fn receive<M: Message + Default>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0u8; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let bytes = bytes.get(..received.bytes).unwrap_or_default();
    let message = M::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, descriptors)))
}

/// Names the executable file that this process runs, so that an upgraded daemon knows a supervisor of the old build.
pub fn build() -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{}-{:x}-{:x}.{:x}", env!("CARGO_PKG_VERSION"), file.size(), file.mtime(), file.mtime_nsec()),
        Err(_) => env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Nanoseconds since the epoch, as CRI timestamps are.
pub fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (left, right) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let request = Request { id: 7, body: Some(request::Body::Hello(Hello { protocol: 1 })) };
        send(&left, &request, &[left.as_fd(), right.as_fd()]).unwrap();
        let (received, descriptors) = receive::<Request>(&right).unwrap().unwrap();
        assert_eq!(received, request);
        assert_eq!(descriptors.len(), 2);
        drop(left);
        drop(descriptors);
        assert!(receive::<Request>(&right).unwrap().is_none());
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error() {
        let (left, right) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::send(&left, &[0xff; 9], SendFlags::empty()).unwrap();
        assert_eq!(receive::<Request>(&right).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
