//! A pod that stays: one line every interval, until it is stopped.
//!
//! `ticker [SECONDS [COUNT]]`: the interval (1 second unless told) and after how many lines to end (never unless told).

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

fn main() -> ExitCode {
    match arguments().and_then(|(interval, count)| tick(interval, count).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("ticker: {problem}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<(Duration, u64), String> {
    let mut words = std::env::args().skip(1);
    let interval = match words.next() {
        None => Duration::from_secs(1),
        Some(word) => word
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| format!("{word}: not a number of seconds"))?,
    };
    let count = match words.next() {
        None => u64::MAX,
        Some(word) => word.parse().map_err(|_| format!("{word}: not a number of lines"))?,
    };
    Ok((interval, count))
}

fn tick(interval: Duration, count: u64) -> io::Result<()> {
    let mut out = io::stdout();
    for number in 1..=count {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        writeln!(out, "tick {number} at {}", clock(now.as_secs()))?;
        if number < count {
            sleep(interval);
        }
    }
    Ok(())
}

/// The time of day (UTC) of a second since 1970, as `07:05:09`.
fn clock(second: u64) -> String {
    let of_day = second % 86_400;
    format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
