//! What this host offers a module that knows it, and any other host does without: docs/toolbox.md, "Host interface".
//!
//! A core module cannot import what may be missing, so it is offered the other way round. A module that exports its table
//! of functions as [`TABLE`] and a function [`TAKE`] finds ours at the table's end, from the number on with which that
//! function is called once, before `_start`. The version is part of the name; within it, functions and their order stay.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::termios::{InputModes, LocalModes, OptionalActions};
use wasmtime::{Caller, Extern, Func, Instance, Ref, Store, Table};

use super::errno::{EBADF, EFAULT, ENOTTY, SUCCESS};
use crate::protocol::{GuestSpec, StreamKind};
use crate::stdio::Streams;

/// The module's table of functions, under the name that LLVM's linker gives it.
const TABLE: &str = "__indirect_function_table";

/// Takes the index of the first function.
const TAKE: &str = "cri-wasm-host-v1";

/// What the offered functions know.
#[derive(Clone)]
pub(super) struct Facts {
    /// The guest's terminal, and which of its three streams lead there.
    terminal: Option<Arc<OwnedFd>>,
    streams: [bool; 3],
    /// User, group and supplemental groups.
    identity: Vec<u32>,
}

impl Facts {
    pub(super) fn new(spec: &GuestSpec, streams: &Streams) -> Self {
        let kinds = [spec.stdin(), spec.stdout(), spec.stderr()];
        Facts {
            terminal: streams.guest_end().cloned(),
            streams: kinds.map(|kind| kind == StreamKind::StreamTerminal),
            identity: [spec.uid, spec.gid].into_iter().chain(spec.groups.iter().copied()).collect(),
        }
    }

    fn terminal(&self, fd: i32) -> Result<&OwnedFd, i32> {
        let stream = usize::try_from(fd).ok().and_then(|index| self.streams.get(index)).ok_or(EBADF)?;
        self.terminal.as_deref().filter(|_| *stream).ok_or(ENOTTY)
    }

    /// `tty_raw(fd, on) -> errno`: keys reach the guest one by one, unechoed, ^C as well; or lines do, edited by the kernel.
    /// Output stays processed, so a newline is enough.
    fn set_raw(&self, fd: i32, on: bool) -> i32 {
        let terminal = match self.terminal(fd) {
            Ok(terminal) => terminal,
            Err(errno) => return errno,
        };
        let Ok(mut modes) = rustix::termios::tcgetattr(terminal) else { return ENOTTY };
        modes.local_modes.set(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN, !on);
        modes.input_modes.set(InputModes::ICRNL | InputModes::IXON, !on);
        match rustix::termios::tcsetattr(terminal, OptionalActions::Now, &modes) {
            Ok(()) => SUCCESS,
            Err(_) => ENOTTY,
        }
    }

    /// `tty_size(fd, out) -> errno`: two u16, columns and rows; 0 where nobody has told.
    fn size(&self, fd: i32) -> Result<[u8; 4], i32> {
        let size = rustix::termios::tcgetwinsize(self.terminal(fd)?).map_err(|_| ENOTTY)?;
        let ([a, b], [c, d]) = (size.ws_col.to_le_bytes(), size.ws_row.to_le_bytes());
        Ok([a, b, c, d])
    }
}

/// Offers the functions, if the module has a place for them.
pub(super) async fn make<T: Send + 'static>(store: &mut Store<T>, instance: &Instance, facts: Facts) -> wasmtime::Result<()> {
    let Some(table) = instance.get_table(&mut *store, TABLE) else { return Ok(()) };
    let Ok(take) = instance.get_typed_func::<i32, ()>(&mut *store, TAKE) else { return Ok(()) };
    let Some(first) = place(store, &table, facts) else { return Ok(()) };
    take.call_async(store, first).await
}

/// Puts the functions at the table's end. `None`: it cannot grow.
fn place<T: 'static>(store: &mut Store<T>, table: &Table, facts: Facts) -> Option<i32> {
    let (raw, size) = (facts.clone(), facts.clone());
    let functions = [
        Func::wrap(&mut *store, move |fd: i32, on: i32| raw.set_raw(fd, on != 0)),
        Func::wrap(&mut *store, move |mut guest: Caller<'_, T>, fd: i32, out: i32| match size.size(fd) {
            Ok(bytes) => write(&mut guest, out, &bytes),
            Err(errno) => errno,
        }),
        Func::wrap(&mut *store, move |mut guest: Caller<'_, T>, out: i32, capacity: i32| {
            let room = usize::try_from(capacity).unwrap_or(0);
            let bytes: Vec<u8> = facts.identity.iter().take(room).flat_map(|id| id.to_le_bytes()).collect();
            // A result that cannot be written is one of which nothing was.
            if write(&mut guest, out, &bytes) == SUCCESS { i32::try_from(facts.identity.len()).unwrap_or(i32::MAX) } else { 0 }
        }),
    ];
    let mut functions = functions.into_iter();
    let first = table.grow(&mut *store, functions.len() as u64, Ref::Func(functions.next())).ok()?;
    for (index, function) in (first + 1..).zip(functions) {
        table.set(&mut *store, index, Ref::Func(Some(function))).ok()?;
    }
    i32::try_from(first).ok()
}

fn write<T>(guest: &mut Caller<'_, T>, out: i32, bytes: &[u8]) -> i32 {
    let Some(Extern::Memory(memory)) = guest.get_export("memory") else { return EFAULT };
    let Ok(offset) = usize::try_from(out.cast_unsigned()) else { return EFAULT };
    if memory.write(guest, offset, bytes).is_ok() { SUCCESS } else { EFAULT }
}
