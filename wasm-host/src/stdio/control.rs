//! The guest's own datagram socket, on which the daemon hands over a new log file, asks for a copy of the output, or tells
//! the size of the terminal.
//!
//! The daemon sends [`GuestControl`] messages straight to the guest process. Nobody waits here: the log writer looks before
//! each write, which costs one system call and needs no thread, so rotation works also while the guest spins without
//! calling the host. A guest with a terminal has a thread that serves it, and that one waits for the socket, too.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use prost::Message;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::protocol::{GuestControl, Resize, guest_control};

/// Messages are a few bytes; a longer one is not ours.
const MESSAGE_BYTES: usize = 256;

/// What the daemon asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// Lines go to this file from now on.
    Log(OwnedFd),
    /// What goes to stdout and to stderr is written to these pipes as well.
    Tap([OwnedFd; 2]),
    /// The terminal has another size.
    Resize(Resize),
    /// A message that is not understood; its descriptors are closed.
    Unknown,
}

/// The next order that waits on `socket`, if any. Neither allocates nor locks.
pub(super) fn next(socket: &OwnedFd) -> Option<Order> {
    let mut bytes = [0; MESSAGE_BYTES];
    // Room for three, so that a sender's mistake does not leave descriptors of this process unowned.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            Err(_) => return None,
            Ok(message) => break message,
        }
    };
    let mut descriptors = [const { None }; 3];
    let mut arrived = 0;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            for right in rights {
                if let Some(slot) = descriptors.get_mut(arrived) {
                    *slot = Some(right);
                    arrived += 1;
                }
            }
        }
    }
    let body = bytes.get(..message.bytes).filter(|_| !message.flags.contains(ReturnFlags::TRUNC));
    let order = body.and_then(|body| GuestControl::decode(body).ok()?.body);
    Some(match (order, descriptors) {
        (Some(guest_control::Body::ReopenLog(_)), [Some(log), None, None]) => Order::Log(log),
        (Some(guest_control::Body::Tap(_)), [Some(stdout), Some(stderr), None]) => Order::Tap([stdout, stderr]),
        (Some(guest_control::Body::Resize(size)), [None, None, None]) => Order::Resize(size),
        _ => Order::Unknown,
    })
}
