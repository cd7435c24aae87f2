//! What the probe writes and reads through its standard descriptors.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use crate::{Failure, Outcome};

/// A standard descriptor without the standard library's buffers.
fn raw(descriptor: i32) -> ManuallyDrop<File> {
    // SAFETY: 0, 1 and 2 are the guest's from its start to its end, and ManuallyDrop keeps them open.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

fn write(descriptor: i32, bytes: &[u8]) {
    if raw(descriptor).write_all(bytes).is_err() {
        // Nobody can be told; the code says that it was the output.
        exit(74);
    }
}

pub fn out(text: &str) {
    write(1, text.as_bytes());
}

pub fn err(text: &str) {
    write(2, text.as_bytes());
}

pub fn bytes(bytes: &[u8]) {
    write(1, bytes);
}

pub fn number(word: &str) -> Result<u64, Failure> {
    word.parse().map_err(|_| Failure::Usage("COMMAND: a number is not one"))
}

/// Lines numbered from 1, `line 7`, filled up with `.` to a length (without the newline), with a pause after each.
/// A count of 0 means for ever.
pub fn lines(count: &str, rest: &[&str]) -> Outcome {
    let count = number(count)?;
    let length = rest.first().map_or(Ok(0), |word| number(word))? as usize;
    let pause = Duration::from_millis(rest.get(1).map_or(Ok(0), |word| number(word))?);
    let mut line = String::new();
    for index in 1.. {
        line.clear();
        line.push_str("line ");
        line.push_str(&index.to_string());
        if line.len() < length {
            line.push(' ');
        }
        while line.len() < length {
            line.push('.');
        }
        line.push('\n');
        out(&line);
        if !pause.is_zero() {
            sleep(pause);
        }
        if index == count {
            break;
        }
    }
    Ok(())
}

/// One line of so many bytes, the letters of the alphabet over and over, then a newline: one write.
pub fn long(length: u64) {
    let mut line: Vec<u8> = (b'a'..=b'z').cycle().take(length as usize).collect();
    line.push(b'\n');
    bytes(&line);
}

/// `out 1` to stdout, `err 1` to stderr, `out 2`, and so on.
pub fn both(count: u64) {
    for index in 1..=count {
        out(&format!("out {index}\n"));
        err(&format!("err {index}\n"));
    }
}

/// Four lines that are not UTF-8: a lone continuation byte, a sequence cut short, a NUL, and CRLF.
pub fn binary() {
    for line in [&b"lone \x80 byte\n"[..], b"cut \xe2\x82\n", b"nul \x00 byte\n", b"\xff\xfe crlf\r\n"] {
        bytes(line);
    }
}

/// Copies stdin to stdout until its end, then says `read N bytes` on a line of its own.
pub fn copy_stdin() -> Outcome {
    let mut buffer = vec![0; 65_536];
    let (mut total, mut last) = (0, b'\n');
    loop {
        match raw(0).read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let part = buffer.get(..count).unwrap_or_default();
                bytes(part);
                total += count;
                last = part.last().copied().unwrap_or(last);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Refused("stdin".into(), error)),
        }
    }
    out(&format!("{}read {total} bytes\n", if last == b'\n' { "" } else { "\n" }));
    Ok(())
}
