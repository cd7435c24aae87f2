//! The guest's own datagram socket, on which the daemon hands over a new log file.
//!
//! The daemon sends one [`GuestControl`] message with one descriptor straight to the guest process. Nobody waits here:
//! the log writer looks before each write, which costs one system call and needs no thread, so rotation works also while
//! the guest spins without calling the host.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use prost::Message;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::protocol::{GuestControl, guest_control};

/// Messages are a few bytes; a longer one is not ours.
const MESSAGE_BYTES: usize = 256;

/// The newest log file that waits on `socket`, if any. Older ones, and messages that are not understood, are dropped
/// together with their descriptors.
pub(super) fn newest_log(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut newest = None;
    while let Some(received) = receive(socket) {
        newest = received.or(newest);
    }
    newest
}

/// `None`: nothing waits. `Some(None)`: a message that changes nothing.
fn receive(socket: &OwnedFd) -> Option<Option<OwnedFd>> {
    let mut bytes = [0; MESSAGE_BYTES];
    // Room for two, so that a sender's mistake does not leave descriptors of this process unowned.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            Err(_) => return None,
            Ok(message) => break message,
        }
    };
    let mut descriptor = None;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            for right in rights {
                descriptor = Some(right);
            }
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Some(None);
    }
    let Some(body) = bytes.get(..message.bytes) else { return Some(None) };
    let known = matches!(GuestControl::decode(body), Ok(GuestControl { body: Some(guest_control::Body::ReopenLog(_)) }));
    Some(descriptor.filter(|_| known))
}
