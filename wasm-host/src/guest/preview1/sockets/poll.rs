//! `poll_oneoff` of a guest that has sockets, over any mix of sockets, clocks, input and files.
//!
//! Sockets are waited for with poll(2), which says what is ready now, as the call does. Streams and files are asked of wasmtime, one
//! by one. Only where such a one is waited for, which means standard input, do both have to be waited for at once; else the
//! guest's own thread sleeps in the kernel. A descriptor that is none is an event that says so, and no failure of the call.

use std::collections::HashMap;
use std::future::pending;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as wasi};
use wasmtime_wasi::runtime::poll_noop;
use wiggle::GuestMemory;

use super::abi::{self, EVENT_BYTES, Event, SUBSCRIPTION_BYTES, field};
use super::socket::Socket;
use super::table::{Entry, Table};
use crate::guest::errno::{EBADF, EINVAL, SUCCESS, of_socket};

// Types of events.
const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;

// Clocks, and the flag of a time that is not counted from now.
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;
const ABSOLUTE: u16 = 1;

/// What ends a wait for either direction.
const OVER: PollFlags = PollFlags::HUP.union(PollFlags::ERR).union(PollFlags::NVAL);

type Record = [u8; SUBSCRIPTION_BYTES];

/// What a guest waits for.
struct Subscription<'a> {
    userdata: [u8; 8],
    kind: u8,
    source: Source<'a>,
}

enum Source<'a> {
    /// Comes at this time; `None`: never.
    Clock(Option<Instant>),
    /// A socket, and its place among those that are waited for.
    Socket(&'a Socket, usize),
    /// A stream or file, as wasmtime takes it.
    File(Record),
    Unknown,
}

/// All that a call waits for.
#[derive(Default)]
struct Wait<'a> {
    subscriptions: Vec<Subscription<'a>>,
    sockets: Vec<(BorrowedFd<'a>, PollFlags)>,
    places: HashMap<RawFd, usize>,
    files: Vec<Record>,
    deadline: Option<Instant>,
    /// There is an event from the start.
    at_once: bool,
}

/// Waits for the first of the subscriptions in `memory`, and returns the events.
///
/// # Errors
/// The inner error is the number that the guest is told.
pub(super) async fn poll(
    wasi: &mut WasiP1Ctx,
    table: &Table,
    records: &[u8],
) -> wasmtime::Result<Result<Vec<[u8; EVENT_BYTES]>, i32>> {
    let mut wait = Wait::default();
    for record in records.as_chunks().0 {
        if let Err(error) = wait.add(wasi, table, record)? {
            return Ok(Err(error));
        }
    }
    let mut polled: Vec<_> = wait.sockets.iter().map(|(socket, flags)| PollFd::from_borrowed_fd(*socket, *flags)).collect();
    loop {
        let at_once = wait.at_once || !wait.files.is_empty();
        if let Err(error) = sleep(&mut polled, if at_once { Some(Instant::now()) } else { wait.deadline }) {
            return Ok(Err(of_socket(error)));
        }
        let events = wait.events(wasi, &polled)?;
        if !events.is_empty() {
            return Ok(Ok(events));
        }
        if !wait.files.is_empty()
            && let Err(error) = wait.either(wasi).await?
        {
            return Ok(Err(error));
        }
    }
}

/// Sleeps until a socket is ready, or `until`.
fn sleep(sockets: &mut [PollFd<'_>], until: Option<Instant>) -> rustix::io::Result<()> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match rustix::event::poll(sockets, left.as_ref()) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

impl<'a> Wait<'a> {
    fn add(&mut self, wasi: &mut WasiP1Ctx, table: &'a Table, record: &Record) -> wasmtime::Result<Result<(), i32>> {
        let [kind] = field(record, 8);
        let source = match kind {
            CLOCK => match clock(wasi, record)? {
                Ok(time) => {
                    self.deadline = [self.deadline, time].into_iter().flatten().min();
                    Source::Clock(time)
                }
                Err(error) => return Ok(Err(error)),
            },
            READ | WRITE => match table.get(i32::from_le_bytes(field(record, 16))) {
                Some(Entry::Socket(socket)) => Source::Socket(socket, self.watch(socket, kind)),
                Some(Entry::File(number)) => {
                    let mut record = *record;
                    if let Some(place) = record.get_mut(16..20) {
                        place.copy_from_slice(&number.to_le_bytes());
                    }
                    self.files.push(record);
                    Source::File(record)
                }
                None => {
                    self.at_once = true;
                    Source::Unknown
                }
            },
            _ => return Ok(Err(EINVAL)),
        };
        self.subscriptions.push(Subscription { userdata: field(record, 0), kind, source });
        Ok(Ok(()))
    }

    /// Each socket is polled once, whatever it is waited for: poll(2) takes no more entries than there may be descriptors.
    fn watch(&mut self, socket: &'a Socket, kind: u8) -> usize {
        let wanted = if kind == READ { PollFlags::IN } else { PollFlags::OUT };
        let descriptor = socket.as_fd();
        let next = self.sockets.len();
        let place = *self.places.entry(descriptor.as_raw_fd()).or_insert(next);
        match self.sockets.get_mut(place) {
            Some((_, flags)) => *flags |= wanted,
            None => self.sockets.push((descriptor, wanted)),
        }
        place
    }

    fn events(&self, wasi: &mut WasiP1Ctx, polled: &[PollFd<'_>]) -> wasmtime::Result<Vec<[u8; EVENT_BYTES]>> {
        let now = Instant::now();
        let mut events = Vec::new();
        for Subscription { userdata, kind, source } in &self.subscriptions {
            let event = |error, bytes, hangup| Event { userdata: *userdata, error, kind: *kind, bytes, hangup };
            let found = match source {
                Source::Clock(time) => time.filter(|time| *time <= now).map(|_| event(SUCCESS, 0, false)),
                Source::Socket(socket, place) => {
                    let ready = polled.get(*place).map_or(PollFlags::empty(), PollFd::revents);
                    let wanted = if *kind == READ { PollFlags::IN } else { PollFlags::OUT };
                    let bytes = || if *kind == READ { socket.waiting() } else { 1 };
                    ready.intersects(wanted | OVER).then(|| event(SUCCESS, bytes(), ready.intersects(OVER)))
                }
                Source::File(record) => of_file(wasi, record)?,
                Source::Unknown => Some(event(EBADF, 0, false)),
            };
            events.extend(found.map(Event::encoded));
        }
        Ok(events)
    }

    /// Waits for whatever comes first: a socket, a file, the time.
    async fn either(&self, wasi: &mut WasiP1Ctx) -> wasmtime::Result<Result<(), i32>> {
        let sockets = match self.gathered() {
            Ok(sockets) => sockets,
            Err(error) => return Ok(Err(Errno::from_io_error(&error).map_or(EINVAL, of_socket))),
        };
        let (mut memory, events) = (self.files.concat(), self.files.len() * SUBSCRIPTION_BYTES);
        let result = events + self.files.len() * EVENT_BYTES;
        memory.resize(result + 4, 0);
        let [events, result, count] = [events, result, self.files.len()].map(i32::try_from);
        let memory = &mut GuestMemory::Unshared(&mut memory);
        let files = wasi::poll_oneoff(wasi, memory, 0, events?, count?, result?);
        let clock = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            ready = sockets.readable() => drop(ready?),
            () = clock => {}
            ended = files => drop(ended?),
        }
        Ok(Ok(()))
    }

    /// The sockets, as one descriptor that can be read when one of them is ready.
    fn gathered(&self) -> std::io::Result<AsyncFd<OwnedFd>> {
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (socket, flags) in &self.sockets {
            let wanted = epoll::EventFlags::from_bits_truncate(flags.bits().into());
            epoll::add(&all, socket, epoll::EventData::new_u64(0), wanted)?;
        }
        // SAFETY: the epoll is open, is this function's alone, and is closed with its registration.
        unsafe { AsyncFd::register_with_interest(all, Interest::READABLE) }.map_err(Into::into)
    }
}

/// When a clock's subscription is due.
fn clock(wasi: &mut WasiP1Ctx, record: &Record) -> wasmtime::Result<Result<Option<Instant>, i32>> {
    let time = Duration::from_nanos(u64::from_le_bytes(field(record, 24)));
    let absolute = u16::from_le_bytes(field(record, 40)) & ABSOLUTE != 0;
    let clock = u32::from_le_bytes(field(record, 16));
    let passed = match (clock, absolute) {
        (REALTIME | MONOTONIC, false) => Duration::ZERO,
        (REALTIME, true) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        (MONOTONIC, true) => {
            // It counts from the start of the guest, which wasmtime knows.
            let mut now = vec![0; 8];
            wasi::clock_time_get(wasi, &mut GuestMemory::Unshared(&mut now), MONOTONIC.cast_signed(), 1, 0)?;
            Duration::from_nanos(u64::from_le_bytes(field(&now, 0)))
        }
        _ => return Ok(Err(EINVAL)),
    };
    Ok(Ok(Instant::now().checked_add(time.saturating_sub(passed))))
}

/// What wasmtime has to say of a stream or file now.
fn of_file(wasi: &mut WasiP1Ctx, record: &Record) -> wasmtime::Result<Option<Event>> {
    const RESULT: usize = SUBSCRIPTION_BYTES + EVENT_BYTES;
    let mut memory = record.to_vec();
    memory.resize(RESULT + 4, 0);
    let [events, result] = [SUBSCRIPTION_BYTES, RESULT].map(i32::try_from);
    let polled = {
        let memory = &mut GuestMemory::Unshared(&mut memory);
        poll_noop(pin!(wasi::poll_oneoff(wasi, memory, 0, events?, 1, result?)))
    };
    let Some(error) = polled.transpose()? else { return Ok(None) };
    let event = memory.get(SUBSCRIPTION_BYTES..).unwrap_or_default();
    let told = u16::from_le_bytes(field(event, 8));
    let hangup = u16::from_le_bytes(field(event, 24)) != 0;
    Ok(Some(Event {
        userdata: field(record, 0),
        error: if error == SUCCESS { told.into() } else { error },
        kind: abi::field::<1>(record, 8)[0],
        bytes: u64::from_le_bytes(field(event, 16)),
        hangup,
    }))
}
