//! Errors and symbolic links of every call that takes a path: in modules, and in components of 0.2 made from the same text.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;

use rustix::mount::{MountFlags, mount_bind, unmount};

use super::files::mounted;
use super::place;
use crate::guest::testing::Guest;
use crate::protocol::StreamKind;

/// A module that makes one call and prints its error number. `{0}` and `{1}` in the call are the paths, below descriptor 3.
fn tells(call: &str, paths: &[&Path]) -> String {
    let (call, data) = place(call, paths);
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_readlink" (func $readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_remove_directory" (func $rmdir (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_filestat_set_times"
                (func $times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            {data}
            (func $print (param $length i32)
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (local $error i32)
                (local.set $error {call})
                (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.div_u (local.get $error) (i32.const 10))))
                (i32.store8 (i32.const 17) (i32.add (i32.const 48) (i32.rem_u (local.get $error) (i32.const 10))))
                (i32.store8 (i32.const 18) (i32.const 10))
                (call $print (i32.const 3))))"#
    )
}

const OPEN: &str =
    "(call $open (i32.const 3) (i32.const 1) {0} (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16))";
const CREATE: &str =
    "(call $open (i32.const 3) (i32.const 1) {0} (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16))";
const RENAME: &str = "(call $rename (i32.const 3) {0} (i32.const 3) {1})";
const LINK: &str = "(call $link (i32.const 3) (i32.const 0) {0} (i32.const 3) {1})";
const SYMLINK: &str = "(call $symlink {0} (i32.const 3) {1})";
const READLINK: &str = "(call $readlink (i32.const 3) {0} (i32.const 512) (i32.const 512) (i32.const 16))";
const MKDIR: &str = "(call $mkdir (i32.const 3) {0})";
const RMDIR: &str = "(call $rmdir (i32.const 3) {0})";
const UNLINK: &str = "(call $unlink (i32.const 3) {0})";
const STAT: &str = "(call $stat (i32.const 3) (i32.const 1) {0} (i32.const 512))";
const LSTAT: &str = "(call $stat (i32.const 3) (i32.const 0) {0} (i32.const 512))";
const TOUCH: &str = "(call $times (i32.const 3) (i32.const 1) {0} (i64.const 0) (i64.const 1000000000) (i32.const 5))";

type Make = fn(&str) -> Guest;

const KINDS: [(&str, Make); 2] = [("module", Guest::new), ("component", Guest::adapted)];

fn ask(make: Make, call: &str, paths: &[&Path]) -> String {
    let ended = make(&tells(call, paths)).run();
    ended.lines("stdout").first().map_or(ended.outcome.message.clone(), |line| (*line).to_owned())
}

#[test]
fn every_call_goes_through_absolute_symbolic_links() {
    for (kind, make) in KINDS {
        let home = Guest::new("(component)");
        let at = |name: &str| home.path(name);
        fs::create_dir(at("real")).unwrap();
        symlink(at("real"), at("link")).unwrap();
        symlink(at("real/made"), at("made")).unwrap();
        let ok = |call: &str, paths: &[&str]| {
            // After a `=` comes a text that is no path.
            let path = |name: &&str| name.strip_prefix('=').map_or_else(|| at(name), Into::into);
            let paths: Vec<_> = paths.iter().map(path).collect();
            let paths: Vec<_> = paths.iter().map(|path| path.as_path()).collect();
            assert_eq!(ask(make, call, &paths), "00", "{kind}: {call} {paths:?}");
        };
        ok(CREATE, &["made"]);
        assert!(at("real/made").is_file());
        ok(OPEN, &["link/made"]);
        ok(STAT, &["link/made"]);
        ok(LSTAT, &["link/made"]);
        ok(TOUCH, &["made"]);
        assert_eq!(at("real/made").metadata().unwrap().mtime(), 1);
        ok(MKDIR, &["link/directory"]);
        assert!(at("real/directory").is_dir());
        ok(RENAME, &["link/made", "link/directory/moved"]);
        ok(RENAME, &["real/directory/moved", "link/back"]);
        assert!(at("real/back").is_file());
        ok(LINK, &["link/back", "link/directory/linked"]);
        assert_eq!(at("real/directory/linked").metadata().unwrap().nlink(), 2);
        ok(UNLINK, &["link/directory/linked"]);
        ok(RMDIR, &["link/directory"]);
        assert!(!at("real/directory").exists());
        ok(SYMLINK, &["=back", "link/soft"]);
        assert_eq!(fs::read_link(at("real/soft")).unwrap(), Path::new("back"));
        ok(READLINK, &["link/soft"]);
        // The link itself goes, not what it leads to.
        ok(UNLINK, &["made"]);
        ok(RENAME, &["link", "renamed"]);
        assert_eq!(fs::read_link(at("renamed")).unwrap(), at("real"));
    }
}

#[test]
fn links_to_nowhere_and_to_themselves_are_told() {
    for (kind, make) in KINDS {
        let home = Guest::new("(component)");
        symlink("/no/such/file", home.path("broken")).unwrap();
        symlink(home.path("loop"), home.path("loop")).unwrap();
        assert_eq!(ask(make, OPEN, &[&home.path("broken")]), "44", "{kind}");
        assert_eq!(ask(make, STAT, &[&home.path("broken")]), "44", "{kind}");
        assert_eq!(ask(make, LSTAT, &[&home.path("broken")]), "00", "{kind}");
        assert_eq!(ask(make, OPEN, &[&home.path("loop")]), "32", "{kind}");
        assert_eq!(ask(make, UNLINK, &[&home.path("loop/x")]), "32", "{kind}");
    }
}

#[test]
fn what_wasi_forbids_stays_forbidden() {
    for (kind, make) in KINDS {
        let home = Guest::new("(component)");
        assert_eq!(ask(make, OPEN, &[Path::new("//etc")]), "63", "{kind}");
        assert_eq!(ask(make, OPEN, &[Path::new("../etc")]), "63", "{kind}");
        assert_eq!(ask(make, SYMLINK, &[Path::new("//etc"), &home.path("new")]), "63", "{kind}");
        assert!(!home.path("new").is_symlink());
    }
}

#[test]
fn modules_read_absolute_links_and_0_2_refuses_to() {
    let home = Guest::new("(component)");
    symlink(home.path("real"), home.path("link")).unwrap();
    symlink("/target", home.path("short")).unwrap();
    fs::create_dir(home.path("real")).unwrap();
    symlink("/target", home.path("real/short")).unwrap();
    // Prints what has been read, then the error number.
    let print = |path: &str| {
        let wat = tells(READLINK, &[&home.path(path)])
            .replace("(i32.store8 (i32.const 16)", "(call $shows) (i32.store8 (i32.const 16)");
        let shows = "(func $shows (i32.store (i32.const 0) (i32.const 512)) (i32.store (i32.const 4) (i32.load (i32.const 16)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))";
        Guest::new(&wat.replace("(func $print", &format!("{shows} (func $print"))).run().lines("stdout").join("")
    };
    assert_eq!(print("short"), "/target00");
    assert_eq!(print("link/short"), "/target00");
    let short = READLINK.replace("(i32.const 512) (i32.const 512)", "(i32.const 512) (i32.const 3)");
    assert_eq!(ask(Guest::new, &short, &[&home.path("short")]), "00");
    assert_eq!(ask(Guest::new, READLINK, &[&home.path("link/none")]), "44");
    assert_eq!(ask(Guest::new, READLINK, &[&home.path("link/.")]), "28");
    assert_eq!(ask(Guest::adapted, READLINK, &[&home.path("short")]), "63");
}

#[test]
fn every_change_on_a_read_only_mount_is_told_as_such() {
    for (kind, make) in KINDS {
        let home = Guest::new("(component)");
        let Some(mounted) = mounted(&home, "mount", MountFlags::empty()) else { return };
        let at = |name: &str| mounted.0.join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        rustix::mount::mount_remount(&mounted.0, MountFlags::RDONLY, "").unwrap();
        fs::write(home.path("file"), "").unwrap();
        symlink(at("new"), home.path("link")).unwrap();
        symlink("mount/new", home.path("relative")).unwrap();
        let outside = home.path("file");
        for (call, paths) in [
            (CREATE, [at("new"), at("")]),
            (CREATE, [at("file"), at("")]),
            (CREATE, [home.path("link"), at("")]),
            (CREATE, [home.path("relative"), at("")]),
            (MKDIR, [at("new"), at("")]),
            (RMDIR, [at("directory"), at("")]),
            (UNLINK, [at("file"), at("")]),
            (TOUCH, [at("file"), at("")]),
            (RENAME, [at("file"), at("new")]),
            (LINK, [at("file"), at("new")]),
            (SYMLINK, ["file".into(), at("new")]),
            (RENAME, [outside, at("new")]),
        ] {
            assert_eq!(ask(make, call, &[&paths[0], &paths[1]]), "69", "{kind}: {call} {paths:?}");
        }
        assert_eq!(ask(make, STAT, &[&at("file")]), "00");
        assert_eq!(ask(make, OPEN, &[&at("file")]), "00");
    }
}

#[test]
fn nothing_moves_from_mount_to_mount_even_of_one_file_system() {
    for (kind, make) in KINDS {
        let home = Guest::new("(component)");
        let Some(mounted) = mounted(&home, "mount", MountFlags::empty()) else { return };
        let (inside, outside) = (mounted.0.join("file"), home.path("file"));
        fs::write(&outside, "").unwrap();
        assert_eq!(ask(make, RENAME, &[&outside, &inside]), "75", "{kind}");
        assert_eq!(ask(make, LINK, &[&outside, &inside]), "75", "{kind}");
        // As two volumes of a pod may be.
        let (one, two) = (mounted.0.join("one"), home.path("two"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        mount_bind(&one, &two).unwrap();
        fs::write(one.join("file"), "").unwrap();
        let told = ask(make, RENAME, &[&one.join("file"), &two.join("moved")]);
        unmount(&two, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(told, "75", "{kind}");
    }
}

#[test]
fn too_many_open_files_are_emfile() {
    // Waits for a line, so that the limit can be lowered when everything has been loaded.
    let wait =
        format!("(block (result i32) (drop (call $read (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 8))) {OPEN})");
    let mut guest = Guest::new(
        &tells(&wait, &[Path::new("/etc")]).replace("(memory", "(data (i32.const 600) \"\\00\\04\\00\\00\\01\") (memory"),
    );
    guest.spec.stdin = StreamKind::StreamDescriptor.into();
    let mut child = guest.start(Stdio::piped());
    guest.wait_for(|directory| directory.join("ready").exists());
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::prlimit(Some(rustix::process::Pid::from_child(&child)), rustix::process::Resource::Nofile, limit).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(guest.end(child).lines("stdout"), ["33"]);
}
