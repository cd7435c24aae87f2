//! Directories: made, listed, removed.

use crate::abi::*;
use crate::calls::*;
use crate::{fails, file, ok, so};

pub const CHECKS: &[(&str, fn(Fd) -> Check)] = &[
    ("path_create_directory", create),
    ("path_remove_directory", remove),
    ("fd_readdir", list),
    ("fd_readdir_in_pieces", pieces),
    ("fd_readdir_refused", refused),
];

fn create(place: Fd) -> Check {
    ok!(mkdir(place, "one"));
    so!(ok!(stat(place, 0, "one")).kind == DIRECTORY);
    ok!(mkdir(place, "one/two"));
    ok!(mkdir(place, "slash/"));
    fails!(mkdir(place, "one"), EXIST);
    fails!(mkdir(place, "none/two"), NOENT);
    fails!(mkdir(place, ""), NOENT, INVAL);
    fails!(mkdir(place, "../outside"), NOTCAPABLE, PERM);
    fails!(mkdir(place, "one/../../outside"), NOTCAPABLE, PERM);
    ok!(fd_close(file(place, "file", b"")?));
    fails!(mkdir(place, "file"), EXIST);
    fails!(mkdir(place, "file/x"), NOTDIR);
    fails!(mkdir(999, "x"), BADF);
    fails!(mkdir(place, "a\0b"), INVAL, ILSEQ);
    Ok(())
}

fn remove(place: Fd) -> Check {
    ok!(mkdir(place, "one"));
    ok!(fd_close(file(place, "one/file", b"")?));
    fails!(rmdir(place, "one"), NOTEMPTY);
    fails!(rmdir(place, "one/file"), NOTDIR);
    ok!(unlink(place, "one/file"));
    ok!(rmdir(place, "one"));
    fails!(rmdir(place, "one"), NOENT);
    ok!(mkdir(place, "slash"));
    ok!(rmdir(place, "slash/"));
    ok!(mkdir(place, "real"));
    ok!(symlink("real", place, "link"));
    fails!(rmdir(place, "link"), NOTDIR);
    fails!(rmdir(999, "x"), BADF);
    Ok(())
}

#[derive(Debug)]
struct Entry {
    next: u64,
    inode: u64,
    kind: u8,
    name: String,
}

/// The whole entries of a buffer.
fn entries(mut buffer: &[u8]) -> Vec<Entry> {
    let mut all = Vec::new();
    while let Some((head, rest)) = buffer.split_at_checked(24) {
        let number = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("eight bytes"));
        let length = u32::from_le_bytes(head[16..20].try_into().expect("four bytes")) as usize;
        let Some((name, after)) = rest.split_at_checked(length) else { break };
        let name = String::from_utf8_lossy(name).into_owned();
        all.push(Entry { next: number(0), inode: number(8), kind: head[20], name });
        buffer = after;
    }
    all
}

fn filled(place: Fd, files: usize) -> Check {
    for index in 0..files {
        ok!(fd_close(file(place, &format!("file-{index:03}"), b"")?));
    }
    Ok(())
}

fn list(place: Fd) -> Check {
    let names = |found: &[Entry]| {
        let mut names: Vec<String> = found.iter().map(|entry| entry.name.clone()).collect();
        names.sort();
        names
    };
    so!(names(&entries(&ok!(readdir(place, 4096, 0)))) == [".", ".."]);
    filled(place, 1)?;
    ok!(mkdir(place, "directory"));
    ok!(symlink("nowhere", place, "link"));
    let found = entries(&ok!(readdir(place, 4096, 0)));
    so!(names(&found) == [".", "..", "directory", "file-000", "link"], found);
    for (name, kind) in [(".", DIRECTORY), ("directory", DIRECTORY), ("file-000", REGULAR_FILE), ("link", SYMBOLIC_LINK)] {
        let entry = found.iter().find(|entry| entry.name == name);
        so!(entry.is_some_and(|entry| entry.kind == kind), found);
    }
    let entry = found.iter().find(|entry| entry.name == "file-000").map(|entry| entry.inode);
    so!(entry == Some(ok!(stat(place, 0, "file-000")).inode), found);
    // What is made later is there when it is read from the start.
    ok!(fd_close(file(place, "later", b"")?));
    so!(names(&entries(&ok!(readdir(place, 4096, 0)))).contains(&"later".to_owned()));
    ok!(unlink(place, "later"));
    so!(!names(&entries(&ok!(readdir(place, 4096, 0)))).contains(&"later".to_owned()));
    Ok(())
}

fn pieces(place: Fd) -> Check {
    filled(place, 100)?;
    // So small that each call ends within an entry.
    let (mut cookie, mut names) = (0, Vec::new());
    for _ in 0..1000 {
        let buffer = ok!(readdir(place, 100, cookie));
        let found = entries(&buffer);
        for entry in &found {
            names.push(entry.name.clone());
            cookie = entry.next;
        }
        // A buffer that is not full is the last.
        if buffer.len() < 100 {
            break;
        }
        so!(!found.is_empty(), buffer.len());
    }
    names.sort();
    names.dedup();
    so!(names.len() == 102, names.len());
    // From any cookie on the rest follows.
    let all = entries(&ok!(readdir(place, 1 << 16, 0)));
    so!(all.len() == 102, all.len());
    let rest = entries(&ok!(readdir(place, 1 << 16, all[50].next)));
    so!(rest.len() == 51 && rest[0].name == all[51].name, rest.len());
    so!(ok!(readdir(place, 1 << 16, all[101].next)).is_empty());
    Ok(())
}

fn refused(place: Fd) -> Check {
    let fd = file(place, "file", b"")?;
    fails!(readdir(fd, 100, 0), NOTDIR, BADF, NOTCAPABLE);
    fails!(readdir(999, 100, 0), BADF);
    ok!(fd_close(fd));
    Ok(())
}
