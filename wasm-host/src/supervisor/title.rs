//! What `ps` shows of a guest's process: its guest's command, where the guest, or another one of its pod, can look.

use std::fs;

/// Field numbers of /proc/PID/stat, from 1 (proc(5)).
const ARG_START: usize = 48;
const ARG_END: usize = 49;

/// Longest name of a process that the kernel keeps.
const COMM_BYTES: usize = 15;

/// Names the calling process after `args`, as far as the supervisor's own command line leaves room. Where that cannot be done
/// the supervisor's name stays, which harms nobody.
pub(super) fn set(args: &[String]) {
    let name = args.first().map_or("guest", |path| path.rsplit('/').next().unwrap_or(path));
    let mut comm = name.as_bytes().get(..name.len().min(COMM_BYTES)).unwrap_or_default().to_vec();
    comm.push(0);
    if let Ok(comm) = std::ffi::CString::from_vec_with_nul(comm) {
        let _ = rustix::thread::set_name(&comm);
    }
    if let Some((start, length)) = room() {
        write(start, length, args);
    }
}

/// Where the kernel reads the command line from.
fn room() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 1 and 2 are before the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let (start, end) = (field(ARG_START)?, field(ARG_END)?);
    (start != 0 && end > start).then(|| (start, end - start))
}

#[allow(unsafe_code, reason = "the command line lies where the kernel put it, in memory that no value of this program owns")]
fn write(start: usize, length: usize, args: &[String]) {
    let mut line = args.iter().flat_map(|word| word.bytes().chain([0])).take(length).collect::<Vec<u8>>();
    line.resize(length, 0);
    // The last byte must be zero, or the kernel takes what follows for a part of it.
    if let Some(last) = line.last_mut() {
        *last = 0;
    }
    // SAFETY: the kernel says that these bytes are this process's command line: they are mapped, writable and on its initial stack.
    // std has copied what it needed of them into its own memory at the start, and nobody holds a reference into them.
    unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), std::ptr::with_exposed_provenance_mut::<u8>(start), line.len()) };
}
