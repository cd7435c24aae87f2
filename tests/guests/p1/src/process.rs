//! What a process is told, clocks, random bytes, waiting; sockets that are none.

use crate::abi::*;
use crate::calls::*;
use crate::{fails, file, ok, so};

pub const CHECKS: &[(&str, fn(Fd) -> Check)] = &[
    ("args", args),
    ("environ", environ),
    ("clock_res_get", clock_res_get),
    ("clock_time_get", clock_time_get),
    ("random_get", random_get),
    ("sched_yield", yields),
    ("poll_oneoff_nothing", poll_nothing),
    ("poll_oneoff_clocks", poll_clocks),
    ("poll_oneoff_descriptors", poll_descriptors),
    ("sock_accept", accept),
    ("sock_recv", recv),
    ("sock_send", sends),
    ("sock_shutdown", shutdown),
];

fn args(_: Fd) -> Check {
    let args = ok!(texts(raw::args_sizes_get, raw::args_get));
    so!(args.len() == 4 && args[1..] == ["", "a b", "ü"], args);
    Ok(())
}

fn environ(_: Fd) -> Check {
    let environ = ok!(texts(raw::environ_sizes_get, raw::environ_get));
    for wanted in ["P1=a=b", "EMPTY="] {
        so!(environ.iter().filter(|entry| *entry == wanted).count() == 1, environ);
    }
    Ok(())
}

fn clock_res_get(_: Fd) -> Check {
    for clock in [REALTIME, MONOTONIC] {
        so!(ok!(calls_res(clock)) > 0);
    }
    not_there(calls_res(PROCESS_CPUTIME))?;
    not_there(calls_res(THREAD_CPUTIME))?;
    Ok(())
}

/// Clocks of processor time may be lacking; the witx says inval then, wasmtime badf.
fn not_there(found: Call<u64>) -> Check {
    if found.is_err() {
        fails!(found, INVAL, BADF);
    }
    Ok(())
}

fn calls_res(clock: u32) -> Call<u64> {
    crate::calls::clock_res_get(clock)
}

fn clock_time_get(_: Fd) -> Check {
    let time = crate::calls::clock_time_get;
    // 2020, in nanoseconds.
    so!(ok!(time(REALTIME, 1)) > 1_577_836_800_000_000_000);
    let mut before = ok!(time(MONOTONIC, 0));
    for _ in 0..1000 {
        let now = ok!(time(MONOTONIC, 1_000_000));
        so!(now >= before);
        before = now;
    }
    not_there(time(PROCESS_CPUTIME, 0))?;
    not_there(time(THREAD_CPUTIME, 0))?;
    Ok(())
}

fn random_get(_: Fd) -> Check {
    let (one, two) = (ok!(random(256)), ok!(random(256)));
    so!(one != two && one.iter().any(|byte| *byte != one[0]));
    so!(ok!(random(5000)).iter().rev().take(64).any(|byte| *byte != 0));
    Ok(())
}

fn yields(_: Fd) -> Check {
    ok!(sched_yield());
    Ok(())
}

fn poll_nothing(_: Fd) -> Check {
    fails!(poll(&[]), INVAL);
    Ok(())
}

fn clock(user: u64, id: u32, timeout: u64, flags: u16) -> Subscription {
    Subscription { user, tag: 0, subject: id.into(), timeout, precision: 0, flags }
}

fn poll_clocks(_: Fd) -> Check {
    let now = crate::calls::clock_time_get;
    let begin = ok!(now(MONOTONIC, 0));
    let events = ok!(poll(&[clock(17, MONOTONIC, 20_000_000, 0), clock(18, MONOTONIC, 60_000_000_000, 0)]));
    so!(ok!(now(MONOTONIC, 0)) - begin >= 20_000_000);
    so!(events.len() == 1 && events[0].user == 17 && events[0].error == 0 && events[0].kind == 0, events);
    // A point in time that is over; one of the wall clock.
    let events = ok!(poll(&[clock(19, MONOTONIC, begin, 1)]));
    so!(events.len() == 1 && events[0].user == 19, events);
    let events = ok!(poll(&[clock(20, REALTIME, ok!(now(REALTIME, 0)) + 5_000_000, 1)]));
    so!(events.len() == 1 && events[0].user == 20 && events[0].error == 0, events);
    // Two that are due at once are told at once.
    let events = ok!(poll(&[clock(21, MONOTONIC, 0, 0), clock(22, REALTIME, 0, 0)]));
    so!(!events.is_empty() && events.iter().all(|event| [21, 22].contains(&event.user)), events);
    Ok(())
}

fn poll_descriptors(place: Fd) -> Check {
    let fd = file(place, "file", b"content")?;
    let wait = |user, tag, fd: Fd| Subscription { user, tag, subject: fd.into(), ..Subscription::default() };
    let long = clock(9, MONOTONIC, 60_000_000_000, 0);
    // Regular files are always ready.
    let events = ok!(poll(&[wait(1, 1, fd), long]));
    so!(events.len() == 1 && events[0].user == 1 && events[0].kind == 1 && events[0].error == 0, events);
    let events = ok!(poll(&[wait(2, 2, fd), long]));
    so!(events.len() == 1 && events[0].user == 2 && events[0].kind == 2 && events[0].error == 0, events);
    let events = ok!(poll(&[wait(3, 2, 1), long]));
    so!(events.len() == 1 && events[0].user == 3 && events[0].error == 0, events);
    // A descriptor that is none is an event of its own, or fails the call.
    match poll(&[wait(4, 1, 999), long]) {
        Ok(events) => so!(events.len() == 1 && events[0].error == BADF, events),
        Err(errno) => so!(errno == BADF, errno),
    }
    ok!(fd_close(fd));
    Ok(())
}

fn accept(place: Fd) -> Check {
    fails!(sock_accept(999, 0), BADF);
    let fd = file(place, "file", b"")?;
    fails!(sock_accept(fd, 0), NOTSOCK);
    ok!(fd_close(fd));
    Ok(())
}

fn recv(place: Fd) -> Check {
    fails!(receive(999, 1), BADF);
    let fd = file(place, "file", b"text")?;
    fails!(receive(fd, 1), NOTSOCK);
    ok!(fd_close(fd));
    Ok(())
}

fn sends(place: Fd) -> Check {
    fails!(send(999, b"x"), BADF);
    let fd = file(place, "file", b"")?;
    fails!(send(fd, b"x"), NOTSOCK);
    so!(ok!(fd_filestat_get(fd)).size == 0);
    ok!(fd_close(fd));
    Ok(())
}

fn shutdown(place: Fd) -> Check {
    fails!(sock_shutdown(999, 3), BADF);
    let fd = file(place, "file", b"")?;
    fails!(sock_shutdown(fd, 3), NOTSOCK);
    ok!(fd_close(fd));
    Ok(())
}
