//! Descriptors: what they are, how they are numbered, what is handed out.

use crate::abi::*;
use crate::calls::*;
use crate::{ROOT, fails, file, ok, so};

pub const CHECKS: &[(&str, fn(Fd) -> Check)] = &[
    ("fd_prestat_get", prestat),
    ("fd_prestat_dir_name", dir_name),
    ("fd_fdstat_get", fdstat),
    ("fd_fdstat_set_flags", set_flags),
    ("fd_fdstat_set_rights", set_rights),
    ("fd_close", close),
    ("fd_renumber", renumber),
    ("standard_streams", streams),
];

fn prestat(place: Fd) -> Check {
    let found = ok!(fd_prestat_get(ROOT));
    so!(found.tag == 0 && found.name_length == 1, found);
    // Programs look from 3 on until there is none.
    fails!(fd_prestat_get(place), BADF);
    fails!(fd_prestat_get(999), BADF);
    fails!(fd_prestat_get(0), BADF);
    Ok(())
}

fn dir_name(place: Fd) -> Check {
    so!(ok!(fd_prestat_dir_name(ROOT, 1)) == "/");
    fails!(fd_prestat_dir_name(ROOT, 0), NAMETOOLONG);
    fails!(fd_prestat_dir_name(place, 10), BADF, NOTDIR);
    fails!(fd_prestat_dir_name(999, 10), BADF);
    Ok(())
}

fn fdstat(place: Fd) -> Check {
    so!(ok!(fd_fdstat_get(place)).kind == DIRECTORY);
    let fd = file(place, "file", b"")?;
    let found = ok!(fd_fdstat_get(fd));
    so!(found.kind == REGULAR_FILE && found.flags == 0, found);
    so!(found.rights & (READ | WRITE) == READ | WRITE, found);
    let appends = ok!(open(place, "file", 0, ALL, APPEND));
    so!(ok!(fd_fdstat_get(appends)).flags & APPEND != 0);
    let reads = ok!(open(place, "file", 0, ALL & !WRITE, 0));
    so!(ok!(fd_fdstat_get(reads)).rights & WRITE == 0);
    for fd in [fd, appends, reads] {
        ok!(fd_close(fd));
    }
    fails!(fd_fdstat_get(999), BADF);
    Ok(())
}

fn set_flags(place: Fd) -> Check {
    let fd = file(place, "file", b"1234")?;
    ok!(fd_fdstat_set_flags(fd, APPEND));
    so!(ok!(fd_fdstat_get(fd)).flags & APPEND != 0);
    so!(ok!(write(fd, b"5")) == 1);
    ok!(fd_fdstat_set_flags(fd, 0));
    so!(ok!(fd_fdstat_get(fd)).flags & APPEND == 0);
    ok!(fd_seek(fd, 0, SET));
    so!(ok!(write(fd, b"a")) == 1);
    so!(ok!(pread(fd, 10, 0)) == b"a2345");
    ok!(fd_close(fd));
    fails!(fd_fdstat_set_flags(999, 0), BADF);
    Ok(())
}

fn set_rights(place: Fd) -> Check {
    fails!(fd_fdstat_set_rights(999, 0, 0), BADF);
    let fd = file(place, "file", b"")?;
    // They were taken out of preview 1 in use: a host takes rights away, or says that it does not.
    match fd_fdstat_set_rights(fd, READ, 0) {
        Ok(()) => fails!(write(fd, b"x"), NOTCAPABLE, BADF),
        Err(errno) => so!(errno == NOTSUP, errno),
    }
    ok!(fd_close(fd));
    Ok(())
}

fn close(place: Fd) -> Check {
    let fd = file(place, "file", b"")?;
    ok!(fd_close(fd));
    fails!(fd_close(fd), BADF);
    fails!(read(fd, 1), BADF);
    fails!(fd_close(999), BADF);
    Ok(())
}

fn renumber(place: Fd) -> Check {
    let one = file(place, "one", b"one")?;
    let two = file(place, "two", b"two")?;
    ok!(fd_renumber(one, two));
    fails!(read(one, 1), BADF);
    so!(ok!(read(two, 10)) == b"one");
    fails!(fd_renumber(999, two), BADF);
    fails!(fd_renumber(two, 999), BADF);
    ok!(fd_renumber(two, two));
    so!(ok!(pread(two, 10, 0)) == b"one");
    ok!(fd_close(two));
    Ok(())
}

fn streams(_: Fd) -> Check {
    for fd in 0..3 {
        let found = ok!(fd_fdstat_get(fd));
        so!(found.kind != DIRECTORY && found.kind != REGULAR_FILE, found);
        fails!(fd_seek(fd, 0, CUR), SPIPE);
        fails!(fd_tell(fd), SPIPE);
        ok!(fd_filestat_get(fd));
    }
    so!(ok!(read(0, 10)).is_empty());
    fails!(write(0, b"x"), BADF, NOTCAPABLE);
    fails!(read(1, 1), BADF, NOTCAPABLE);
    // As much of it as one call takes; a part that is empty is none.
    let written = ok!(write_parts(1, &[b"", b"# written ", b"in parts\n"]));
    so!(written == 10 || written == 19, written);
    if written == 10 {
        so!(ok!(write(1, b"in parts\n")) == 9);
    }
    Ok(())
}
