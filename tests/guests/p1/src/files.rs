//! Files that are open.

use crate::abi::*;
use crate::calls::*;
use crate::{fails, file, ok, so};

pub const CHECKS: &[(&str, fn(Fd) -> Check)] = &[
    ("fd_read", reads),
    ("fd_write", writes),
    ("fd_pread", preads),
    ("fd_pwrite", pwrites),
    ("fd_seek", seeks),
    ("fd_tell", tells),
    ("fd_advise", advise),
    ("fd_allocate", allocate),
    ("fd_sync", sync),
    ("fd_sync_directory", sync_directory),
    ("fd_datasync", datasync),
    ("fd_filestat_get", filestat),
    ("fd_filestat_set_size", set_size),
    ("fd_filestat_set_times", times),
];

fn reads(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    so!(ok!(read(fd, 4)) == b"0123");
    let (one, two, count) = ok!(read_parts(fd, 2, 100));
    so!(one == b"45" || count == 0, one);
    if count > 2 {
        so!(two.starts_with(b"6789") && count == 6, count);
    } else {
        // Less than all buffers may be filled, in their order.
        so!(count == 2 && ok!(read(fd, 100)) == b"6789", count);
    }
    so!(ok!(read(fd, 100)).is_empty());
    so!(ok!(read(fd, 0)).is_empty());
    ok!(fd_close(fd));
    let writes = ok!(open(place, "file", 0, ALL & !READ, 0));
    fails!(read(writes, 1), BADF, NOTCAPABLE);
    ok!(fd_close(writes));
    fails!(read(place, 1), ISDIR, BADF, NOTCAPABLE);
    fails!(read(999, 1), BADF);
    Ok(())
}

fn writes(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    so!(ok!(write(fd, b"")) == 0);
    so!(ok!(write(fd, b"ab")) == 2);
    so!(ok!(fd_tell(fd)) == 2);
    let written = ok!(write_parts(fd, &[b"cd", b"ef"]));
    so!(written == 2 || written == 4, written);
    so!(ok!(pread(fd, 4, 0)) == b"abcd");
    // Beyond the end there is a hole of zeros.
    ok!(fd_seek(fd, 12, SET));
    so!(ok!(write(fd, b"z")) == 1);
    so!(ok!(pread(fd, 10, 9)) == b"9\0\0z");
    ok!(fd_close(fd));
    let appends = ok!(open(place, "file", 0, ALL, APPEND));
    so!(ok!(write(appends, b"!")) == 1 && ok!(fd_filestat_get(appends)).size == 14);
    ok!(fd_seek(appends, 0, SET));
    so!(ok!(write(appends, b"!")) == 1 && ok!(fd_filestat_get(appends)).size == 15);
    ok!(fd_close(appends));
    let reads = ok!(open(place, "file", 0, ALL & !WRITE, 0));
    fails!(write(reads, b"x"), BADF, NOTCAPABLE, PERM);
    ok!(fd_close(reads));
    fails!(write(place, b"x"), ISDIR, BADF, NOTCAPABLE);
    fails!(write(999, b"x"), BADF);
    Ok(())
}

fn preads(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    so!(ok!(pread(fd, 3, 8)) == b"89");
    so!(ok!(pread(fd, 3, 100)).is_empty());
    so!(ok!(fd_tell(fd)) == 0);
    ok!(fd_close(fd));
    fails!(pread(1, 1, 0), SPIPE, BADF, INVAL, NOTCAPABLE);
    fails!(pread(999, 1, 0), BADF);
    Ok(())
}

fn pwrites(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    so!(ok!(pwrite(fd, b"ab", 4)) == 2);
    so!(ok!(fd_tell(fd)) == 0);
    so!(ok!(pwrite(fd, b"z", 11)) == 1);
    so!(ok!(read(fd, 20)) == b"0123ab6789\0z");
    ok!(fd_close(fd));
    fails!(pwrite(1, b"x", 0), SPIPE, BADF, INVAL, NOTCAPABLE);
    fails!(pwrite(999, b"x", 0), BADF);
    Ok(())
}

fn seeks(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    so!(ok!(fd_seek(fd, 4, SET)) == 4);
    so!(ok!(fd_seek(fd, 3, CUR)) == 7);
    so!(ok!(fd_seek(fd, -2, CUR)) == 5);
    so!(ok!(fd_seek(fd, -1, END)) == 9);
    so!(ok!(read(fd, 5)) == b"9");
    so!(ok!(fd_seek(fd, 90, END)) == 100);
    so!(ok!(read(fd, 5)).is_empty());
    fails!(fd_seek(fd, -1, SET), INVAL);
    fails!(fd_seek(fd, -101, CUR), INVAL);
    so!(ok!(fd_tell(fd)) == 100);
    so!(ok!(fd_filestat_get(fd)).size == 10);
    ok!(fd_close(fd));
    fails!(fd_seek(place, 0, SET), BADF, ISDIR, NOTCAPABLE);
    fails!(fd_seek(999, 0, SET), BADF);
    Ok(())
}

fn tells(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    so!(ok!(fd_tell(fd)) == 0);
    ok!(read(fd, 6));
    so!(ok!(fd_tell(fd)) == 6);
    ok!(fd_close(fd));
    fails!(fd_tell(999), BADF);
    Ok(())
}

fn advise(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    for advice in 0..6 {
        ok!(fd_advise(fd, 0, 10, advice));
    }
    ok!(fd_close(fd));
    fails!(fd_advise(999, 0, 0, 0), BADF);
    Ok(())
}

fn allocate(place: Fd) -> Check {
    let fd = file(place, "file", b"12")?;
    // A host that cannot says so, and programs take their own way then.
    match fd_allocate(fd, 0, 4096) {
        Ok(()) => so!(ok!(fd_filestat_get(fd)).size == 4096),
        Err(errno) => {
            so!(errno == NOTSUP, errno);
            so!(ok!(fd_filestat_get(fd)).size == 2);
        }
    }
    so!(ok!(pread(fd, 2, 0)) == b"12");
    ok!(fd_close(fd));
    fails!(fd_allocate(999, 0, 1), BADF);
    Ok(())
}

fn sync(place: Fd) -> Check {
    let fd = file(place, "file", b"12")?;
    ok!(fd_sync(fd));
    ok!(fd_close(fd));
    fails!(fd_sync(999), BADF);
    Ok(())
}

fn sync_directory(place: Fd) -> Check {
    // As databases do after they have made a file.
    ok!(fd_close(file(place, "file", b"")?));
    ok!(fd_sync(place));
    Ok(())
}

fn datasync(place: Fd) -> Check {
    let fd = file(place, "file", b"12")?;
    ok!(fd_datasync(fd));
    ok!(fd_close(fd));
    fails!(fd_datasync(999), BADF);
    Ok(())
}

fn filestat(place: Fd) -> Check {
    let fd = file(place, "file", b"12345")?;
    let found = ok!(fd_filestat_get(fd));
    so!(found.kind == REGULAR_FILE && found.size == 5 && found.links == 1 && found.inode != 0, found);
    so!(found.modified > 1_577_836_800_000_000_000 && found.accessed > 0 && found.changed > 0, found);
    let directory = ok!(fd_filestat_get(place));
    so!(directory.kind == DIRECTORY && directory.device == found.device && directory.inode != found.inode, directory);
    let by_path = ok!(stat(place, 0, "file"));
    so!(by_path.inode == found.inode && by_path.size == 5, by_path);
    ok!(fd_close(fd));
    fails!(fd_filestat_get(999), BADF);
    Ok(())
}

fn set_size(place: Fd) -> Check {
    let fd = file(place, "file", b"0123456789")?;
    ok!(fd_filestat_set_size(fd, 4));
    so!(ok!(fd_filestat_get(fd)).size == 4);
    ok!(fd_filestat_set_size(fd, 6));
    so!(ok!(pread(fd, 10, 0)) == b"0123\0\0");
    so!(ok!(fd_tell(fd)) == 0);
    fails!(fd_filestat_set_size(fd, u64::MAX), INVAL, 22);
    ok!(fd_close(fd));
    let reads = ok!(open(place, "file", 0, ALL & !WRITE, 0));
    fails!(fd_filestat_set_size(reads, 0), BADF, INVAL, NOTCAPABLE, PERM);
    ok!(fd_close(reads));
    fails!(fd_filestat_set_size(place, 0), BADF, ISDIR, NOTCAPABLE);
    fails!(fd_filestat_set_size(999, 0), BADF);
    Ok(())
}

fn times(place: Fd) -> Check {
    let fd = file(place, "file", b"")?;
    let before = ok!(fd_filestat_get(fd));
    ok!(fd_filestat_set_times(fd, 1_000_000_007, 2_000_000_009, ATIM | MTIM));
    let found = ok!(fd_filestat_get(fd));
    so!(found.accessed == 1_000_000_007 && found.modified == 2_000_000_009, found);
    ok!(fd_filestat_set_times(fd, 5, 3_000_000_000, MTIM));
    let found = ok!(fd_filestat_get(fd));
    so!(found.accessed == 1_000_000_007 && found.modified == 3_000_000_000, found);
    ok!(fd_filestat_set_times(fd, 5, 5, ATIM_NOW));
    let found = ok!(fd_filestat_get(fd));
    so!(found.accessed >= before.accessed && found.modified == 3_000_000_000, found);
    fails!(fd_filestat_set_times(fd, 0, 0, ATIM | ATIM_NOW), INVAL);
    fails!(fd_filestat_set_times(fd, 0, 0, MTIM | MTIM_NOW), INVAL);
    ok!(fd_close(fd));
    fails!(fd_filestat_set_times(999, 0, 0, ATIM_NOW), BADF);
    Ok(())
}
