//! What the probe is told: arguments, environment, directories, clocks, random bytes.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::{Instant, SystemTime};

use crate::{On, Outcome, output};

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(buffer: *mut u8, length: usize) -> i32;
    fn fd_prestat_get(descriptor: i32, prestat: *mut [u32; 2]) -> i32;
    fn fd_prestat_dir_name(descriptor: i32, path: *mut u8, length: usize) -> i32;
}

/// Every argument with its number, `0: probe`.
pub fn args() {
    for (index, word) in std::env::args().enumerate() {
        output::out(&format!("{index}: {word}\n"));
    }
}

/// `NAME=VALUE` of the named variables (`NAME is not set`), or of all, in the order in which the guest was given them.
pub fn env(names: &[&str]) {
    if names.is_empty() {
        for (name, value) in std::env::vars_os() {
            output::out(&format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    for name in names {
        match std::env::var_os(name) {
            Some(value) => output::out(&format!("{name}={}\n", value.to_string_lossy())),
            None => output::out(&format!("{name} is not set\n")),
        }
    }
}

/// The working directory, as `PWD` says and as the C library says.
pub fn pwd() -> Outcome {
    env(&["PWD"]);
    let path = std::env::current_dir().on("current directory")?;
    output::out(&format!("current directory {}\n", path.display()));
    Ok(())
}

/// The wall clock in nanoseconds since 1970, and how far the monotonic clock moved between two looks at it.
pub fn clock() -> Outcome {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other).on("clock")?;
    let start = Instant::now();
    output::out(&format!("wall {}\nmonotonic {}\n", now.as_nanos(), start.elapsed().as_nanos()));
    Ok(())
}

/// So many random bytes (16 unless told), in hexadecimal.
pub fn random(rest: &[&str]) -> Outcome {
    let count = rest.first().map_or(Ok(16), |word| output::number(word))?;
    let mut buffer = vec![0_u8; count as usize];
    // SAFETY: the buffer is as long as the host is told.
    let result = unsafe { random_get(buffer.as_mut_ptr(), buffer.len()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result)).on("random");
    }
    let mut text = String::new();
    for byte in buffer {
        let _ = write!(text, "{byte:02x}");
    }
    output::out(&format!("{text}\n"));
    Ok(())
}

/// The directories that the guest was given, `3: /`.
pub fn preopens() {
    for descriptor in 3.. {
        // A tag (0: a directory) and the length of its name.
        let mut prestat = [0_u32; 2];
        // SAFETY: a prestat is two words.
        if unsafe { fd_prestat_get(descriptor, &mut prestat) } != 0 {
            break;
        }
        let mut name = vec![0_u8; prestat[1] as usize];
        // SAFETY: the buffer is as long as the host is told.
        if unsafe { fd_prestat_dir_name(descriptor, name.as_mut_ptr(), name.len()) } == 0 {
            output::out(&format!("{descriptor}: {}\n", String::from_utf8_lossy(&name)));
        }
    }
}

/// Which of the standard descriptors is a terminal.
pub fn tty() {
    for (name, is) in
        [("stdin", io::stdin().is_terminal()), ("stdout", io::stdout().is_terminal()), ("stderr", io::stderr().is_terminal())]
    {
        output::out(&format!("{name} {}\n", if is { "terminal" } else { "not a terminal" }));
    }
}
