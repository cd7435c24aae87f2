//! Paths: opened, looked at, linked, renamed, removed.

use crate::abi::*;
use crate::calls::*;
use crate::{ROOT, fails, file, ok, so};

pub const CHECKS: &[(&str, fn(Fd) -> Check)] = &[
    ("path_open", opens),
    ("path_open_flags", open_flags),
    ("path_open_refused", open_refused),
    ("path_open_not_text", open_not_text),
    ("path_open_links", open_links),
    ("path_open_descriptors", open_descriptors),
    ("path_filestat_get", filestat),
    ("path_filestat_set_times", times),
    ("path_link", links),
    ("path_symlink", symlinks),
    ("path_readlink", readlinks),
    ("path_rename", renames),
    ("path_rename_directories", rename_directories),
    ("path_unlink_file", unlinks),
];

fn opens(place: Fd) -> Check {
    ok!(fd_close(file(place, "file", b"content")?));
    let fd = ok!(open(place, "file", 0, ALL, 0));
    so!(ok!(read(fd, 10)) == b"content");
    ok!(fd_close(fd));
    ok!(mkdir(place, "one"));
    for path in ["./file", "one/../file", "one//../file", ".//file"] {
        ok!(fd_close(ok!(open(place, path, 0, READ, 0))));
    }
    for path in ["one", "one/", "one/.", ".", "one/.."] {
        let fd = ok!(open_dir(place, path));
        so!(ok!(fd_fdstat_get(fd)).kind == DIRECTORY);
        ok!(fd_close(fd));
    }
    // A directory may be opened without the flag that it must be one.
    let fd = ok!(open(place, "one", 0, READ, 0));
    so!(ok!(fd_fdstat_get(fd)).kind == DIRECTORY);
    ok!(fd_close(fd));
    let long = "x".repeat(255);
    ok!(fd_close(file(place, &long, b"")?));
    fails!(open(place, &"x".repeat(256), CREAT, ALL, 0), NAMETOOLONG);
    ok!(fd_close(file(place, "ünïcode 日本", b"")?));
    so!(ok!(stat(place, 0, "ünïcode 日本")).kind == REGULAR_FILE);
    Ok(())
}

fn open_flags(place: Fd) -> Check {
    fails!(open(place, "file", 0, ALL, 0), NOENT);
    ok!(fd_close(ok!(open(place, "file", CREAT | EXCL, ALL, 0))));
    fails!(open(place, "file", CREAT | EXCL, ALL, 0), EXIST);
    let fd = ok!(open(place, "file", CREAT, ALL, 0));
    so!(ok!(write(fd, b"content")) == 7);
    ok!(fd_close(fd));
    let fd = ok!(open(place, "file", TRUNC, ALL, 0));
    so!(ok!(fd_filestat_get(fd)).size == 0);
    ok!(fd_close(fd));
    fails!(open(place, "file", O_DIRECTORY, READ, 0), NOTDIR);
    fails!(open(place, "file/", 0, READ, 0), NOTDIR);
    fails!(open(place, "new/", CREAT, ALL, 0), ISDIR, INVAL, NOTDIR, NOENT);
    ok!(mkdir(place, "one"));
    fails!(open(place, "one", CREAT | EXCL, ALL, 0), EXIST);
    fails!(open(place, "one", TRUNC, ALL, 0), ISDIR, INVAL);
    fails!(open(place, "one", CREAT | O_DIRECTORY, READ, 0), INVAL, EXIST, NOTDIR, ISDIR);
    fails!(open(place, "one", 0, READ | WRITE, 0), ISDIR);
    let fd = ok!(open(place, "file", 0, ALL, NONBLOCK));
    ok!(fd_close(fd));
    Ok(())
}

fn open_refused(place: Fd) -> Check {
    fails!(open(place, "../x", CREAT, ALL, 0), NOTCAPABLE, PERM);
    fails!(open(place, "..", O_DIRECTORY, READ, 0), NOTCAPABLE, PERM);
    ok!(mkdir(place, "one"));
    fails!(open(place, "one/../..", O_DIRECTORY, READ, 0), NOTCAPABLE, PERM);
    fails!(open(ROOT, "..", O_DIRECTORY, READ, 0), NOTCAPABLE, PERM);
    fails!(open(place, "/data", O_DIRECTORY, READ, 0), NOTCAPABLE, PERM);
    fails!(open(place, "", 0, READ, 0), NOENT, INVAL);
    fails!(open(place, "none/file", CREAT, ALL, 0), NOENT);
    fails!(open(999, "file", 0, READ, 0), BADF);
    fails!(open_with(place, 0, b"a\0b", CREAT, ALL, 0), INVAL, ILSEQ);
    let fd = file(place, "file", b"")?;
    fails!(open(fd, "x", CREAT, ALL, 0), NOTDIR, BADF, NOTCAPABLE);
    fails!(open(place, "file/x", CREAT, ALL, 0), NOTDIR);
    ok!(fd_close(fd));
    Ok(())
}

fn open_not_text(place: Fd) -> Check {
    fails!(open_with(place, 0, b"\xff\xfe", CREAT, ALL, 0), ILSEQ, INVAL);
    Ok(())
}

fn open_links(place: Fd) -> Check {
    ok!(fd_close(file(place, "file", b"content")?));
    ok!(symlink("file", place, "link"));
    fails!(open(place, "link", 0, READ, 0), LOOP);
    let fd = ok!(open_with(place, FOLLOW, b"link", 0, READ, 0));
    so!(ok!(read(fd, 10)) == b"content");
    ok!(fd_close(fd));
    ok!(symlink("nowhere", place, "dangling"));
    fails!(open_with(place, FOLLOW, b"dangling", 0, READ, 0), NOENT);
    fails!(open_with(place, 0, b"dangling", CREAT | EXCL, ALL, 0), EXIST, LOOP);
    ok!(symlink("loop", place, "loop"));
    fails!(open_with(place, FOLLOW, b"loop", 0, READ, 0), LOOP);
    // Links within a path are followed in any case.
    ok!(mkdir(place, "one"));
    ok!(fd_close(file(place, "one/inner", b"")?));
    ok!(symlink("one", place, "way"));
    ok!(fd_close(ok!(open(place, "way/inner", 0, READ, 0))));
    Ok(())
}

fn open_descriptors(place: Fd) -> Check {
    // Which is not said, but each its own.
    let mut all = Vec::new();
    for index in 0..100 {
        all.push(file(place, &index.to_string(), b"")?);
    }
    for (index, fd) in all.iter().enumerate() {
        so!(*fd > ROOT && *fd < 1 << 31 && all.iter().filter(|other| *other == fd).count() == 1, all);
        so!(ok!(fd_filestat_get(*fd)).inode == ok!(stat(place, 0, &index.to_string())).inode);
    }
    for fd in all {
        ok!(fd_close(fd));
    }
    Ok(())
}

fn filestat(place: Fd) -> Check {
    ok!(fd_close(file(place, "file", b"12345")?));
    ok!(symlink("file", place, "link"));
    let found = ok!(stat(place, 0, "file"));
    so!(found.kind == REGULAR_FILE && found.size == 5 && found.links == 1, found);
    so!(ok!(stat(place, FOLLOW, "link")).inode == found.inode);
    let link = ok!(stat(place, 0, "link"));
    so!(link.kind == SYMBOLIC_LINK && link.size == 4, link);
    so!(ok!(stat(place, 0, ".")).kind == DIRECTORY);
    fails!(stat(place, 0, "none"), NOENT);
    fails!(stat(place, 0, "file/x"), NOTDIR);
    fails!(stat(place, 0, "file/"), NOTDIR);
    fails!(stat(place, 0, ".."), NOTCAPABLE, PERM);
    fails!(stat(place, 0, ""), NOENT, INVAL);
    fails!(stat(999, 0, "file"), BADF);
    Ok(())
}

fn times(place: Fd) -> Check {
    ok!(fd_close(file(place, "file", b"")?));
    ok!(symlink("file", place, "link"));
    ok!(set_times(place, 0, "file", 1_000_000_007, 2_000_000_009, ATIM | MTIM));
    let found = ok!(stat(place, 0, "file"));
    so!(found.accessed == 1_000_000_007 && found.modified == 2_000_000_009, found);
    ok!(set_times(place, 0, "link", 3_000_000_000, 4_000_000_000, ATIM | MTIM));
    so!(ok!(stat(place, 0, "file")).modified == 2_000_000_009);
    so!(ok!(stat(place, 0, "link")).modified == 4_000_000_000);
    ok!(set_times(place, FOLLOW, "link", 0, 5_000_000_000, MTIM));
    so!(ok!(stat(place, 0, "file")).modified == 5_000_000_000);
    fails!(set_times(place, 0, "file", 0, 0, ATIM | ATIM_NOW), INVAL);
    fails!(set_times(place, 0, "none", 0, 0, ATIM_NOW), NOENT);
    fails!(set_times(999, 0, "file", 0, 0, ATIM_NOW), BADF);
    Ok(())
}

fn links(place: Fd) -> Check {
    ok!(fd_close(file(place, "file", b"12345")?));
    ok!(mkdir(place, "one"));
    ok!(link(place, 0, "file", place, "one/other"));
    let (one, two) = (ok!(stat(place, 0, "file")), ok!(stat(place, 0, "one/other")));
    so!(one.inode == two.inode && one.links == 2, (one, two));
    ok!(unlink(place, "file"));
    so!(ok!(stat(place, 0, "one/other")).links == 1);
    fails!(link(place, 0, "file", place, "x"), NOENT);
    fails!(link(place, 0, "one/other", place, "one/other"), EXIST);
    fails!(link(place, 0, "one", place, "x"), PERM, 2, ISDIR);
    fails!(link(place, 0, "one/other", place, "x/"), NOENT, NOTDIR);
    ok!(symlink("one/other", place, "link"));
    ok!(link(place, 0, "link", place, "link2"));
    so!(ok!(stat(place, 0, "link2")).kind == SYMBOLIC_LINK);
    fails!(link(place, 0, "one/other", place, "../x"), NOTCAPABLE, PERM);
    fails!(link(999, 0, "one/other", place, "x"), BADF);
    fails!(link(place, 0, "one/other", 999, "x"), BADF);
    Ok(())
}

fn symlinks(place: Fd) -> Check {
    ok!(symlink("any text, wherever", place, "link"));
    so!(ok!(readlink(place, "link", 100)) == "any text, wherever");
    fails!(symlink("x", place, "link"), EXIST);
    fails!(symlink("", place, "empty"), NOENT, INVAL);
    fails!(symlink("x", place, "none/link"), NOENT);
    fails!(symlink("x", place, "../link"), NOTCAPABLE, PERM);
    fails!(symlink("x", place, "slash/"), NOENT, NOTDIR, ISDIR);
    fails!(symlink("x", 999, "link"), BADF);
    Ok(())
}

fn readlinks(place: Fd) -> Check {
    ok!(symlink("target", place, "link"));
    so!(ok!(readlink(place, "link", 6)) == "target");
    // What does not fit is cut off, as readlink(2) does.
    so!(ok!(readlink(place, "link", 3)) == "tar");
    so!(ok!(readlink(place, "link", 0)).is_empty());
    ok!(fd_close(file(place, "file", b"")?));
    fails!(readlink(place, "file", 10), INVAL);
    fails!(readlink(place, "none", 10), NOENT);
    fails!(readlink(999, "link", 10), BADF);
    Ok(())
}

fn renames(place: Fd) -> Check {
    ok!(fd_close(file(place, "one", b"one")?));
    ok!(fd_close(file(place, "two", b"second")?));
    ok!(mkdir(place, "directory"));
    let inode = ok!(stat(place, 0, "one")).inode;
    ok!(rename(place, "one", place, "directory/three"));
    fails!(stat(place, 0, "one"), NOENT);
    so!(ok!(stat(place, 0, "directory/three")).inode == inode);
    // One that is there is replaced.
    ok!(rename(place, "directory/three", place, "two"));
    so!(ok!(stat(place, 0, "two")).size == 3);
    fails!(rename(place, "none", place, "x"), NOENT);
    fails!(rename(place, "two", place, "none/x"), NOENT);
    fails!(rename(place, "two", place, "directory"), ISDIR);
    fails!(rename(place, "directory", place, "two"), NOTDIR);
    fails!(rename(place, "two/", place, "x"), NOTDIR);
    fails!(rename(place, "two", place, "../x"), NOTCAPABLE, PERM);
    fails!(rename(999, "two", place, "x"), BADF);
    fails!(rename(place, "two", 999, "x"), BADF);
    ok!(rename(place, "two", place, "two"));
    Ok(())
}

fn rename_directories(place: Fd) -> Check {
    for path in ["one", "one/inner", "empty", "full", "full/x"] {
        ok!(mkdir(place, path));
    }
    ok!(rename(place, "one", place, "empty"));
    so!(ok!(stat(place, 0, "empty/inner")).kind == DIRECTORY);
    fails!(rename(place, "empty", place, "full"), NOTEMPTY, EXIST);
    fails!(rename(place, "empty", place, "empty/inner/below"), INVAL);
    ok!(rename(place, "empty/", place, "slash/"));
    so!(ok!(stat(place, 0, "slash/inner")).kind == DIRECTORY);
    Ok(())
}

fn unlinks(place: Fd) -> Check {
    let fd = file(place, "file", b"content")?;
    ok!(unlink(place, "file"));
    fails!(stat(place, 0, "file"), NOENT);
    // What is open stays.
    so!(ok!(read(fd, 10)) == b"content");
    so!(ok!(fd_filestat_get(fd)).links == 0);
    ok!(fd_close(fd));
    fails!(unlink(place, "file"), NOENT);
    ok!(mkdir(place, "one"));
    fails!(unlink(place, "one"), ISDIR, PERM);
    fails!(unlink(place, "one/"), ISDIR, PERM);
    ok!(fd_close(file(place, "file", b"")?));
    fails!(unlink(place, "file/"), NOTDIR);
    ok!(symlink("file", place, "link"));
    ok!(unlink(place, "link"));
    so!(ok!(stat(place, 0, "file")).kind == REGULAR_FILE);
    fails!(unlink(place, "../x"), NOTCAPABLE, PERM);
    fails!(unlink(999, "x"), BADF);
    Ok(())
}
