//! A check for each function of WASI preview 1: what its witx and, where that refers to it, POSIX say of it.
//!
//! `p1`: runs all checks, each in a directory of its own below `/data`, and prints `ok NAME` or `FAIL NAME: WHAT` for each. Ends with
//! `proc_exit(7)`. `p1 raise`: calls `proc_raise`. It wants the arguments and variables that tests/suite/wasi_p1.rs gives it.

// The functions are those of C: pointers and lengths. Each wrapper in `calls` says what makes its call sound.
#![allow(unsafe_op_in_unsafe_fn)]

mod abi;
mod calls;
mod descriptors;
mod directories;
mod files;
mod paths;
mod process;

use abi::Fd;
use calls::Check;

/// The directory that is handed out: the root of the container.
const ROOT: Fd = 3;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("raise") {
        let refused = calls::proc_raise(6);
        println!("proc_raise: {refused:?}");
        return;
    }
    let data = calls::open_dir(ROOT, "data").expect("a directory /data");
    let all: [(&str, &[(&str, fn(Fd) -> Check)]); 5] = [
        ("process", process::CHECKS),
        ("descriptors", descriptors::CHECKS),
        ("files", files::CHECKS),
        ("directories", directories::CHECKS),
        ("paths", paths::CHECKS),
    ];
    // Names of what would end the guest; with commas between.
    let left_out = std::env::var("LEFT_OUT").unwrap_or_default();
    for (name, check) in all.iter().flat_map(|(_, checks)| checks.iter()) {
        if left_out.split(',').any(|other| other == *name) {
            continue;
        }
        let made = calls::mkdir(data, name).and_then(|()| calls::open_dir(data, name));
        let found = match made {
            Ok(place) => {
                let found = check(place);
                let _ = calls::fd_close(place);
                found
            }
            Err(errno) => Err(format!("its directory cannot be made: errno {errno}")),
        };
        match found {
            Ok(()) => println!("ok {name}"),
            Err(what) => println!("FAIL {name}: {what}"),
        }
    }
    // SAFETY: it does not come back.
    unsafe { abi::raw::proc_exit(7) }
}

/// Makes a file with this content.
fn file(place: Fd, name: &str, content: &[u8]) -> Result<Fd, String> {
    let fd = calls::open(place, name, abi::CREAT | abi::EXCL, abi::ALL, 0).map_err(|errno| format!("making {name}: {errno}"))?;
    match calls::write(fd, content) {
        Ok(written) if written == content.len() => {}
        other => return Err(format!("filling {name}: {other:?}")),
    }
    calls::fd_seek(fd, 0, abi::SET).map_err(|errno| format!("rewinding {name}: {errno}"))?;
    Ok(fd)
}
