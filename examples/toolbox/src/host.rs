//! The optional interface of a host that knows terminals and users.
//!
//! A core module cannot import what a host may lack, so it works the other way round. The module exports its function
//! table (`__indirect_function_table`) and a function `cri-wasm-host-v1` of type `(i32) -> ()`. A host that knows the
//! interface grows the table by its functions, in the order below, and calls that export with the first one's index,
//! before `_start`. On other hosts nobody calls it, and the toolbox does without.
//!
//! | slot | function | result |
//! |---|---|---|
//! | 0 | `tty_raw(fd: i32, on: i32) -> i32` | WASI errno: 0, 8 (not open), 59 (not a terminal). Raw is without ICANON, ECHO, ISIG, IXON and ICRNL; OPOST stays. The host restores the terminal when the guest ends |
//! | 1 | `tty_size(fd: i32, out: *mut [u16; 2]) -> i32` | errno; columns and rows |
//! | 2 | `identity(out: *mut u32, capacity: i32) -> i32` | how many values there are: uid, gid, supplemental groups; at most `capacity` are written |
#![allow(unsafe_code, reason = "functions of the host are called through indices of the function table")]

#[cfg(target_arch = "wasm32")]
mod slots {
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The index of the first function, 0 while there is none: index 0 of a table is never a function.
    static FIRST: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: the name is no other function's; the host calls it with an index of the exported table.
    #[unsafe(export_name = "cri-wasm-host-v1")]
    extern "C" fn offered(first: i32) {
        FIRST.store(usize::try_from(first).unwrap_or(0), Ordering::Relaxed);
    }

    fn slot(number: usize) -> Option<usize> {
        match FIRST.load(Ordering::Relaxed) {
            0 => None,
            first => Some(first + number),
        }
    }

    pub fn tty_raw(fd: i32, on: bool) -> Option<i32> {
        let index = slot(0)?;
        // SAFETY: a function pointer is an index of the table here, and the host put a function of this type there.
        let call = unsafe { std::mem::transmute::<usize, extern "C" fn(i32, i32) -> i32>(index) };
        Some(call(fd, i32::from(on)))
    }

    pub fn tty_size(fd: i32) -> Option<(i32, [u16; 2])> {
        let index = slot(1)?;
        let mut size = [0; 2];
        // SAFETY: as above; the host writes two numbers of 16 bits, for which there is room.
        let call = unsafe { std::mem::transmute::<usize, extern "C" fn(i32, *mut [u16; 2]) -> i32>(index) };
        let code = call(fd, &mut size);
        Some((code, size))
    }

    pub fn identity(values: &mut [u32]) -> Option<i32> {
        let index = slot(2)?;
        // SAFETY: as above; the host writes at most as many numbers as it is told there is room for.
        let call = unsafe { std::mem::transmute::<usize, extern "C" fn(*mut u32, i32) -> i32>(index) };
        Some(call(values.as_mut_ptr(), i32::try_from(values.len()).unwrap_or(i32::MAX)))
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod slots {
    pub fn tty_raw(_fd: i32, _on: bool) -> Option<i32> {
        None
    }
    pub fn tty_size(_fd: i32) -> Option<(i32, [u16; 2])> {
        None
    }
    pub fn identity(_values: &mut [u32]) -> Option<i32> {
        None
    }
}

/// Linux's bound is 65,536 groups; nobody has that many, and what is above is left out.
const IDENTITIES: usize = 4096;

/// Makes the terminal raw, or as it was; whether that was possible.
pub fn raw(fd: i32, on: bool) -> bool {
    slots::tty_raw(fd, on) == Some(0)
}

/// Columns and rows of a terminal, if the host tells.
pub fn size(fd: i32) -> Option<(usize, usize)> {
    match slots::tty_size(fd)? {
        (0, [columns, rows]) if columns > 0 && rows > 0 => Some((columns.into(), rows.into())),
        _ => None,
    }
}

/// Who the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Supplemental groups.
    pub groups: Vec<u32>,
}

/// Who this process is: from the host, else from /proc, else not to be known.
pub fn identity() -> Option<Identity> {
    let mut values = vec![0; IDENTITIES];
    if let Some(count) = slots::identity(&mut values) {
        values.truncate(usize::try_from(count).unwrap_or(0));
        if let [user, group, groups @ ..] = values.as_slice() {
            return Some(Identity { user: *user, group: *group, groups: groups.to_vec() });
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // Real, effective, saved and file system's; the effective one counts.
    let second = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
    Some(Identity {
        user: second("Uid:")?,
        group: second("Gid:")?,
        groups: field("Groups:").unwrap_or("").split_whitespace().flat_map(str::parse).collect(),
    })
}
