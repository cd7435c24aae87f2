//! Files of modules.

use std::fs;

use super::opens;
use crate::guest::testing::Guest;

#[test]
fn files_are_written_by_their_absolute_paths() {
    let guest = Guest::new("(component)");
    let file = guest.path("file");
    let wat = opens(
        file.to_str().unwrap(),
        1,
        "(drop (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))",
    );
    let ended = Guest::new(&wat).run();
    assert_eq!(ended.outcome.exit_code, 0);
    assert_eq!(fs::read(file).unwrap(), b"contents");
}

#[test]
fn missing_files_are_enoent() {
    // 44 is ENOENT of WASI 0.1.
    assert_eq!(Guest::new(&opens("/no/such/file", 0, "")).run().outcome.exit_code, 44);
}

#[test]
fn absolute_symbolic_links_lead_where_they_point() {
    let guest = Guest::new("(component)");
    let (directory, file) = (guest.path("directory"), guest.path("directory/file"));
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(&directory, guest.path("link")).unwrap();
    std::os::unix::fs::symlink(&file, guest.path("link-to-file")).unwrap();
    let write = "(drop (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))";
    // Makes the file below a link, then opens it by a link of its own.
    let ended = Guest::new(&opens(guest.path("link/file").to_str().unwrap(), 1, write)).run();
    assert_eq!(ended.outcome.exit_code, 0, "{}", ended.outcome.message);
    assert_eq!(fs::read(&file).unwrap(), b"contents");
    fs::remove_file(&file).unwrap();
    let ended = Guest::new(&opens(guest.path("link-to-file").to_str().unwrap(), 1, write)).run();
    assert_eq!(ended.outcome.exit_code, 0, "{}", ended.outcome.message);
    assert_eq!(fs::read(&file).unwrap(), b"contents");
    // A link to nowhere is still ENOENT.
    std::os::unix::fs::symlink("/no/such/file", guest.path("broken")).unwrap();
    assert_eq!(Guest::new(&opens(guest.path("broken").to_str().unwrap(), 0, "")).run().outcome.exit_code, 44);
}

/// A module that renames `from` to `to` and exits with the error number.
fn renames(from: &str, to: &str) -> String {
    let (from, to) = (from.trim_start_matches('/'), to.trim_start_matches('/'));
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "{from}")
            (data (i32.const 4096) "{to}")
            (func (export "_start") (call $proc_exit (call $rename
                (i32.const 3) (i32.const 0) (i32.const {}) (i32.const 3) (i32.const 4096) (i32.const {})))))"#,
        from.len(),
        to.len()
    )
}

/// A file system mounted on a new directory of `guest`. `None`, said and counted, where this test may not mount one.
pub(super) fn mounted(guest: &Guest, name: &str, flags: rustix::mount::MountFlags) -> Option<Mounted> {
    let path = guest.path(name);
    fs::create_dir(&path).unwrap();
    if rustix::mount::mount("none", &path, "tmpfs", flags, None).is_ok() {
        return Some(Mounted(path));
    }
    assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "may not mount a file system");
    eprintln!("skipped: may not mount a file system");
    None
}

pub(super) struct Mounted(pub(super) std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn read_only_file_systems_are_erofs() {
    let guest = Guest::new("(component)");
    let Some(mounted) = mounted(&guest, "mount", rustix::mount::MountFlags::RDONLY) else { return };
    let file = mounted.0.join("file");
    assert_eq!(Guest::new(&opens(file.to_str().unwrap(), 1, "")).run().outcome.exit_code, 69);
    fs::write(guest.path("file"), "").unwrap();
    let rename = renames(guest.path("file").to_str().unwrap(), file.to_str().unwrap());
    assert_eq!(Guest::new(&rename).run().outcome.exit_code, 69);
}

#[test]
fn renames_across_file_systems_are_exdev() {
    let guest = Guest::new("(component)");
    let Some(mounted) = mounted(&guest, "mount", rustix::mount::MountFlags::empty()) else { return };
    fs::write(guest.path("file"), "").unwrap();
    let (from, to) = (guest.path("file"), mounted.0.join("file"));
    assert_eq!(Guest::new(&renames(from.to_str().unwrap(), to.to_str().unwrap())).run().outcome.exit_code, 75);
    let to = guest.path("renamed");
    assert_eq!(Guest::new(&renames(from.to_str().unwrap(), to.to_str().unwrap())).run().outcome.exit_code, 0);
    assert!(to.exists());
}
