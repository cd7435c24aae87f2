//! A connection to the system bus, for one order to systemd.
//!
//! Each order has a connection of its own: it costs three messages, and there is nothing to keep, to share or to make again when
//! the bus is restarted. Blocking, with a deadline for the whole order.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::SystemdError;
use super::wire::{Call, FIXED_HEADER, Kind, Message, Writer, remaining};

/// How long one order may take, its job in systemd's queue included. runc waits as long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Lines of the handshake are short.
const MAX_LINE: usize = 4096;

const BUS: Call<'_> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    signature: "",
};

/// An open connection that the bus has greeted.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    deadline: Instant,
    /// Signals that came while an answer was waited for, in their order.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects, and asks for the signals that `rule` describes.
    pub(super) fn open(address: &str, rule: &str) -> Result<Bus, SystemdError> {
        let failed = |source| SystemdError::Connect { address: address.to_owned(), source };
        let stream = connect(address).map_err(failed)?;
        let mut bus = Bus { stream, serial: 0, deadline: Instant::now() + DEADLINE, signals: Vec::new() };
        bus.authenticate().map_err(failed)?;
        bus.call(&Call { member: "Hello", ..BUS }, &[])?;
        let mut body = Writer::default();
        body.text(rule);
        bus.call(&Call { member: "AddMatch", signature: "s", ..BUS }, &body.finish())?;
        Ok(bus)
    }

    /// SASL's EXTERNAL: the bus asks the kernel who we are.
    fn authenticate(&mut self) -> io::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the bus greets without an end"));
            }
            let mut byte = [0];
            self.read(&mut byte)?;
            line.extend_from_slice(&byte);
        }
        if !line.starts_with(b"OK ") {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the bus refuses this user: {text}")));
        }
        self.write(b"BEGIN\r\n")
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call(&mut self, call: &Call<'_>, body: &[u8]) -> Result<Message, SystemdError> {
        self.serial += 1;
        let serial = self.serial;
        let lost = |source| SystemdError::Lost { method: call.member.to_owned(), source };
        self.write(&call.encode(serial, body)).map_err(lost)?;
        loop {
            let message = self.receive().map_err(lost)?;
            match message.kind {
                Kind::Return if message.reply_to == Some(serial) => return Ok(message),
                Kind::Error if message.reply_to == Some(serial) => {
                    let text = super::wire::Reader::new(&message.body).text().unwrap_or_default();
                    return Err(SystemdError::Refused { method: call.member.to_owned(), name: message.error, text });
                }
                Kind::Signal => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// The next signal.
    pub(super) fn signal(&mut self) -> io::Result<Message> {
        if !self.signals.is_empty() {
            return Ok(self.signals.remove(0));
        }
        loop {
            let message = self.receive()?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut fixed = [0; FIXED_HEADER];
        self.read(&mut fixed)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED_HEADER + remaining(&fixed)?, 0);
        if let Some(rest) = bytes.get_mut(FIXED_HEADER..) {
            self.read(rest)?;
        }
        Message::decode(&bytes)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(timed_out()) } else { Ok(left) }
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(bytes)
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", DEADLINE.as_secs()))
}

/// The first of these addresses (`unix:path=…;unix:abstract=…`, D-Bus specification, "Server Addresses") that can be reached.
fn connect(addresses: &str) -> io::Result<UnixStream> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "only addresses of the form unix:path=PATH are known");
    for address in addresses.split(';') {
        let options = address.strip_prefix("unix:").unwrap_or_default().split(',');
        for (key, value) in options.filter_map(|option| option.split_once('=')) {
            let address = match key {
                "path" => SocketAddr::from_pathname(value),
                "abstract" => SocketAddr::from_abstract_name(value),
                _ => continue,
            };
            match address.and_then(|address| UnixStream::connect_addr(&address)) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}
