//! A socket of a guest. The kernel does what the guest asks, so its semantics are Linux's: what waits, waits in the system call.
//! A guest has its process for itself, so nobody else waits with it.

use std::io::{IoSlice, Result};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, accept_with, sockopt};

use super::abi;
use crate::guest::errno::{EINVAL, of_socket};

/// What a call of a guest fails with.
type Errors<T> = std::result::Result<T, i32>;

pub(in crate::guest::preview1) struct Socket {
    descriptor: OwnedFd,
    listens: bool,
    blocking: Blocking,
}

/// Whether calls wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocking {
    Yes,
    No,
    /// A listening socket that the guest has neither asked for its flags nor told any. Programs of C and Rust accept from what they
    /// were handed and expect to wait; Go asks first, and can only serve others meanwhile where it finds that nothing waits. Who
    /// has asked is told so, and gets it.
    Unasked,
}

impl Socket {
    /// One that listens, and blocks.
    pub(super) fn listening(descriptor: OwnedFd) -> Self {
        Socket { descriptor, listens: true, blocking: Blocking::Unasked }
    }

    pub(super) fn listens(&self) -> bool {
        self.listens
    }

    /// The next connection.
    pub(super) fn accept(&self, flags: i32) -> Errors<Socket> {
        let nonblocking = i32::from(abi::NONBLOCK);
        if flags & !nonblocking != 0 {
            return Err(EINVAL);
        }
        let nonblocking = flags & nonblocking != 0;
        let mut wanted = SocketFlags::CLOEXEC;
        wanted.set(SocketFlags::NONBLOCK, nonblocking);
        loop {
            match accept_with(&self.descriptor, wanted) {
                Ok(descriptor) => {
                    prepare(&descriptor);
                    let blocking = if nonblocking { Blocking::No } else { Blocking::Yes };
                    return Ok(Socket { descriptor, listens: false, blocking });
                }
                // A client that has gone before it was accepted is nobody's business.
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(error) => return Err(of_socket(error)),
            }
        }
    }

    /// Reads into the pieces of `memory`. Returns the number of bytes; 0 at the end, or where there is no room.
    pub(super) fn receive(&self, memory: &mut [u8], vectors: &[Range<usize>], flags: RecvFlags) -> Errors<usize> {
        match vectors {
            [] => Ok(0),
            [only] => self.receive_into(memory.get_mut(only.clone()).unwrap_or_default(), flags),
            several => {
                // The guest's pieces may overlap, so they cannot be handed to the kernel all at once.
                let room = several.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len())).min(memory.len());
                let mut bytes = vec![0; room];
                let count = self.receive_into(&mut bytes, flags)?;
                let mut rest = bytes.get(..count).unwrap_or_default();
                for piece in several {
                    let (now, later) = rest.split_at(rest.len().min(piece.len()));
                    if let Some(place) = memory.get_mut(piece.clone()).and_then(|place| place.get_mut(..now.len())) {
                        place.copy_from_slice(now);
                    }
                    rest = later;
                }
                Ok(count)
            }
        }
    }

    fn receive_into(&self, buffer: &mut [u8], flags: RecvFlags) -> Errors<usize> {
        retried(|| rustix::net::recv(&self.descriptor, &mut *buffer, flags).map(|(count, _)| count))
    }

    /// Writes the pieces of `memory`. Returns the number of bytes: all, unless nothing waits.
    pub(super) fn send(&self, memory: &[u8], vectors: &[Range<usize>]) -> Errors<usize> {
        let pieces: Vec<_> = vectors.iter().filter_map(|piece| memory.get(piece.clone())).map(IoSlice::new).collect();
        let mut nothing = SendAncillaryBuffer::default();
        retried(|| rustix::net::sendmsg(&self.descriptor, &pieces, &mut nothing, SendFlags::NOSIGNAL))
    }

    pub(super) fn shut_down(&self, how: i32) -> Errors<()> {
        let how = match how {
            abi::SHUT_READ => Shutdown::Read,
            abi::SHUT_WRITE => Shutdown::Write,
            both if both == abi::SHUT_READ | abi::SHUT_WRITE => Shutdown::Both,
            _ => return Err(EINVAL),
        };
        rustix::net::shutdown(&self.descriptor, how).map_err(of_socket)
    }

    /// `fdstat`.
    pub(super) fn status(&mut self) -> Errors<[u8; 24]> {
        if self.blocking == Blocking::Unasked {
            self.set_blocking(false)?;
        }
        let flags = if self.blocking == Blocking::No { abi::NONBLOCK } else { 0 };
        Ok(abi::descriptor_status(flags, self.listens))
    }

    /// Takes the flags of `fd_fdstat_set_flags`. Those of files mean nothing here, as in Linux.
    pub(super) fn set_flags(&mut self, flags: i32) -> Errors<()> {
        if flags & !i32::from(abi::DESCRIPTOR_FLAGS) != 0 {
            return Err(EINVAL);
        }
        self.set_blocking(flags & i32::from(abi::NONBLOCK) == 0)
    }

    fn set_blocking(&mut self, blocking: bool) -> Errors<()> {
        let flags = if blocking { OFlags::empty() } else { OFlags::NONBLOCK };
        fcntl_setfl(&self.descriptor, flags).map_err(of_socket)?;
        self.blocking = if blocking { Blocking::Yes } else { Blocking::No };
        Ok(())
    }

    /// `filestat`.
    pub(super) fn file_status(&self) -> Errors<[u8; 64]> {
        let status = rustix::fs::fstat(&self.descriptor).map_err(of_socket)?;
        Ok(abi::file_status(status.st_dev, status.st_ino))
    }

    /// Bytes that can be read at once; of a listening socket 1, for a connection.
    pub(super) fn waiting(&self) -> u64 {
        if self.listens { 1 } else { rustix::io::ioctl_fionread(&self.descriptor).unwrap_or(0) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What programs elsewhere ask of a connection, and WASI has no call for: what they write goes out at once, and a client that is
/// no more there is noticed, by the times of the node (net.ipv4.tcp_keepalive_*).
fn prepare(connection: &OwnedFd) {
    // Of a connection that is reset already the next call tells.
    let _: Result<()> = sockopt::set_tcp_nodelay(connection, true).map_err(Into::into);
    let _: Result<()> = sockopt::set_socket_keepalive(connection, true).map_err(Into::into);
}

fn retried(mut call: impl FnMut() -> rustix::io::Result<usize>) -> Errors<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(of_socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::guest::errno::{EAGAIN, ENOTCONN};

    const NOTHING: RecvFlags = RecvFlags::empty();

    /// A listener, the far end of a connection, and this one.
    fn connected() -> (Socket, TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let listener = Socket::listening(listener.into());
        let near = listener.accept(0).unwrap();
        (listener, far, near)
    }

    #[test]
    fn pieces_are_filled_in_their_order_also_where_they_overlap() {
        let (_, mut far, near) = connected();
        let mut memory = vec![b'.'; 8];
        far.write_all(b"abcdefgh").unwrap();
        assert_eq!(near.receive(&mut memory, &[0..2, 1..3, 6..8], RecvFlags::WAITALL), Ok(6));
        assert_eq!(memory, b"acd...ef");
        // More room is asked for than there is memory.
        let whole = vec![0..8; 1024];
        assert_eq!(near.receive(&mut memory, &whole, NOTHING), Ok(2));
        assert_eq!(&memory[..2], b"gh");
        assert_eq!(near.receive(&mut memory, &[], NOTHING), Ok(0));
        assert_eq!(near.send(&memory, &[0..1, 0..2, 1..2]), Ok(4));
        let mut received = [0; 4];
        far.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"gghh");
    }

    #[test]
    fn a_listener_waits_until_it_is_asked_for_its_flags() {
        let (mut listener, _far, near) = connected();
        assert_eq!(listener.blocking, Blocking::Unasked);
        assert_eq!(listener.status().unwrap()[2], 4);
        assert_eq!(listener.accept(0).err(), Some(EAGAIN));
        listener.set_flags(0).unwrap();
        assert_eq!((listener.blocking, listener.status().unwrap()[2]), (Blocking::Yes, 0));
        assert_eq!(near.accept(0).err(), Some(EINVAL));
        assert_eq!(listener.receive(&mut [0], std::slice::from_ref(&(0..1)), NOTHING), Err(ENOTCONN));
        assert_eq!((listener.accept(1).err(), listener.set_flags(-1).err()), (Some(EINVAL), Some(EINVAL)));
    }

    #[test]
    fn one_that_does_not_block_takes_what_there_is_room_for() {
        let (_, far, mut near) = connected();
        near.set_flags(4).unwrap();
        assert_eq!(near.receive(&mut [0], std::slice::from_ref(&(0..1)), RecvFlags::WAITALL), Err(EAGAIN));
        let memory = vec![7; 1 << 20];
        let mut sum = 0;
        let error = loop {
            match near.send(&memory, &[0..1 << 20, 0..1 << 20]) {
                Ok(count) => sum += count,
                Err(error) => break error,
            }
        };
        assert!(error == EAGAIN && sum > 0, "{error} after {sum}");
        drop(far);
    }
}
