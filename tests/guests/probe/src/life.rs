//! How the probe lives and ends: traps, loops, waits, and what it uses up.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, On, Outcome, output};

/// Three frames above an `unreachable`, so that a backtrace has names to show.
#[inline(never)]
pub fn outer() {
    middle(black_box(3));
    black_box(());
}

#[inline(never)]
fn middle(depth: u32) {
    inner(black_box(depth) + 1);
    black_box(());
}

#[inline(never)]
fn inner(depth: u32) {
    if black_box(depth) > 0 {
        core::arch::wasm32::unreachable();
    }
}

pub fn panic() {
    panic!("the probe panics, as asked");
}

/// Recurses until the stack is used up.
pub fn recurse_for_ever() {
    #[inline(never)]
    #[allow(unconditional_recursion, reason = "the overflow is what is asked for")]
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 32]);
        black_box(deeper(depth + 1) + frame[7])
    }
    black_box(deeper(0));
}

/// Computes for ever and calls nothing of the host.
pub fn spin() -> ! {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// Sleeps so many seconds (a fraction is well), or `forever`.
pub fn sleep(seconds: &str) -> Outcome {
    if seconds == "forever" {
        sleep_for_ever();
    }
    let seconds = seconds.parse().map_err(|_| Failure::Usage("sleep SECONDS|forever"))?;
    thread::sleep(Duration::try_from_secs_f64(seconds).map_err(|_| Failure::Usage("sleep SECONDS|forever"))?);
    Ok(())
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// A size in bytes, with `K`, `M` or `G` for powers of 1024.
pub fn size(word: &str) -> Result<u64, Failure> {
    let (digits, shift) = match word.char_indices().last() {
        Some((end, 'K')) => (word.get(..end).unwrap_or_default(), 10),
        Some((end, 'M')) => (word.get(..end).unwrap_or_default(), 20),
        Some((end, 'G')) => (word.get(..end).unwrap_or_default(), 30),
        _ => (word, 0),
    };
    Ok(output::number(digits)? << shift)
}

/// Takes memory a MiB at a time and writes to each page of it; says `ate N bytes`, then sleeps for ever.
/// Where the guest is refused more (a `memory.grow` that fails), it says `refused after N bytes` and ends with 1.
pub fn eat_memory(word: &str) -> Outcome {
    const STEP: u64 = 1 << 20;
    let wanted = size(word)?;
    let mut eaten = 0;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while eaten < wanted {
        let step = STEP.min(wanted - eaten) as usize;
        let mut block = Vec::new();
        if kept.try_reserve(1).is_err() || block.try_reserve_exact(step).is_err() {
            output::out(&format!("refused after {eaten} bytes\n"));
            std::process::exit(1);
        }
        block.resize(step, 1);
        kept.push(black_box(block));
        eaten += step as u64;
    }
    output::out(&format!("ate {eaten} bytes\n"));
    sleep_for_ever()
}

/// Opens a path (`/` unless told) so many times and keeps it open; says `opened N`, also before it fails.
pub fn open_files(count: u64, rest: &[&str]) -> Outcome {
    let path = rest.first().copied().unwrap_or("/");
    let mut kept = Vec::new();
    let outcome = (0..count).try_for_each(|_| {
        kept.push(File::open(path).on(path)?);
        Ok(())
    });
    output::out(&format!("opened {}\n", kept.len()));
    outcome
}

/// Waits until a path exists, looking every 20 ms; gives up with ETIMEDOUT after so many seconds (60 unless told).
pub fn wait_for(path: &str, rest: &[&str]) -> Outcome {
    const ETIMEDOUT: i32 = 73;
    let limit = Duration::from_secs(rest.first().map_or(Ok(60), |word| output::number(word))?);
    let start = Instant::now();
    while !Path::new(path).exists() {
        if start.elapsed() > limit {
            return Err(std::io::Error::from_raw_os_error(ETIMEDOUT)).on(path);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
