//! Errors and symbolic links of files in components of 0.3, and that both versions have the corrected functions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::MountFlags;

use super::files::mounted;
use super::place;
use crate::guest::testing::Guest;

/// Codes of errors in 0.3, by their place in the variant.
const CODES: [&str; 37] = [
    "access",
    "already",
    "bad-descriptor",
    "busy",
    "deadlock",
    "quota",
    "exist",
    "file-too-large",
    "illegal-byte-sequence",
    "in-progress",
    "interrupted",
    "invalid",
    "io",
    "is-directory",
    "loop",
    "too-many-links",
    "message-size",
    "name-too-long",
    "no-device",
    "no-entry",
    "no-lock",
    "insufficient-memory",
    "insufficient-space",
    "not-directory",
    "not-empty",
    "not-recoverable",
    "unsupported",
    "no-tty",
    "no-such-device",
    "overflow",
    "not-permitted",
    "pipe",
    "read-only",
    "invalid-seek",
    "text-file-busy",
    "cross-device",
    "other",
];

/// Memory and its allocator, for strings that go to and fro.
const MEMORY: &str = r#"(core module $memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (local.get 3)))))
    (core instance $memory (instantiate $memory))"#;

/// A component of 0.3 that makes one call below its only preopened directory. It exits with 0, or 100 and the code's place.
fn tells(call: &str, paths: &[&Path]) -> String {
    let (call, data) = place(call, paths);
    let codes: String = CODES.iter().filter(|code| **code != "other").map(|code| format!("(case \"{code}\")")).collect();
    format!(
        r#"(component
            (import "wasi:cli/exit@0.3.0" (instance $exit (export "exit-with-code" (func (param "status-code" u8)))))
            (import "wasi:filesystem/types@0.3.0" (instance $types
                (export "descriptor" (type $descriptor (sub resource)))
                (type $lookup' (flags "symlink-follow"))
                (export "path-flags" (type $lookup (eq $lookup')))
                (type $open' (flags "create" "directory" "exclusive" "truncate"))
                (export "open-flags" (type $open (eq $open')))
                (type $flags' (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
                    "mutate-directory"))
                (export "descriptor-flags" (type $flags (eq $flags')))
                (type $code' (variant {codes} (case "other" (option string))))
                (export "error-code" (type $code (eq $code')))
                (type $done (result (error $code)))
                (export "[method]descriptor.open-at" (func async
                    (param "self" (borrow $descriptor)) (param "path-flags" $lookup) (param "path" string)
                    (param "open-flags" $open) (param "flags" $flags) (result (result (own $descriptor) (error $code)))))
                (export "[method]descriptor.create-directory-at" (func async
                    (param "self" (borrow $descriptor)) (param "path" string) (result $done)))
                (export "[method]descriptor.rename-at" (func async
                    (param "self" (borrow $descriptor)) (param "old-path" string)
                    (param "new-descriptor" (borrow $descriptor)) (param "new-path" string) (result $done)))
                (export "[method]descriptor.symlink-at" (func async
                    (param "self" (borrow $descriptor)) (param "old-path" string) (param "new-path" string) (result $done)))))
            (alias export $types "descriptor" (type $descriptor))
            (import "wasi:filesystem/preopens@0.3.0" (instance $preopens
                (alias outer 1 $descriptor (type $descriptor'))
                (export "descriptor" (type $descriptor (eq $descriptor')))
                (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
            {MEMORY}
            (alias core export $memory "memory" (core memory $m))
            (alias core export $memory "realloc" (core func $realloc))
            (core func $exit (canon lower (func $exit "exit-with-code")))
            (core func $preopens (canon lower (func $preopens "get-directories") (memory $m) (realloc $realloc)))
            (core func $open (canon lower (func $types "[method]descriptor.open-at") (memory $m) (realloc $realloc)))
            (core func $mkdir (canon lower (func $types "[method]descriptor.create-directory-at") (memory $m) (realloc $realloc)))
            (core func $rename (canon lower (func $types "[method]descriptor.rename-at") (memory $m) (realloc $realloc)))
            (core func $symlink (canon lower (func $types "[method]descriptor.symlink-at") (memory $m) (realloc $realloc)))
            (core module $main
                (import "memory" "memory" (memory 1))
                (import "host" "exit" (func $exit (param i32)))
                (import "host" "preopens" (func $preopens (param i32)))
                (import "host" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
                (import "host" "mkdir" (func $mkdir (param i32 i32 i32 i32)))
                (import "host" "rename" (func $rename (param i32 i32 i32 i32 i32 i32 i32)))
                (import "host" "symlink" (func $symlink (param i32 i32 i32 i32 i32 i32)))
                {data}
                (func (export "run") (result i32) (local $root i32)
                    (call $preopens (i32.const 0))
                    (local.set $root (i32.load (i32.load (i32.const 0))))
                    {call}
                    (if (i32.load8_u (i32.const 16))
                        (then (call $exit (i32.add (i32.const 100) (i32.load8_u (i32.const 20))))))
                    (i32.const 0)))
            (core instance $main (instantiate $main
                (with "memory" (instance $memory))
                (with "host" (instance
                    (export "exit" (func $exit))
                    (export "preopens" (func $preopens))
                    (export "open" (func $open))
                    (export "mkdir" (func $mkdir))
                    (export "rename" (func $rename))
                    (export "symlink" (func $symlink))))))
            (func $run async (result (result)) (canon lift (core func $main "run")))
            (instance $run' (export "run" (func $run)))
            (export "wasi:cli/run@0.3.0" (instance $run')))"#
    )
}

/// Makes, or opens, a file for writing; links are followed.
const CREATE: &str = "(call $open (local.get $root) (i32.const 1) {0} (i32.const 1) (i32.const 3) (i32.const 16))";
const MKDIR: &str = "(call $mkdir (local.get $root) {0} (i32.const 16))";
const RENAME: &str = "(call $rename (local.get $root) {0} (local.get $root) {1} (i32.const 16))";
const SYMLINK: &str = "(call $symlink (local.get $root) {0} {1} (i32.const 16))";

fn ask(call: &str, paths: &[&Path]) -> &'static str {
    let ended = Guest::new(&tells(call, paths)).run();
    match ended.outcome.exit_code {
        0 => "done",
        code @ 100..=136 => CODES[usize::try_from(code).unwrap() - 100],
        code => panic!("{code}: {}", ended.outcome.message),
    }
}

#[test]
fn components_of_0_3_go_through_absolute_symbolic_links() {
    let home = Guest::new("(component)");
    let at = |name: &str| home.path(name);
    fs::create_dir(at("real")).unwrap();
    symlink(at("real"), at("link")).unwrap();
    symlink(at("real/made"), at("made")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    assert_eq!(ask(CREATE, &[&at("made")]), "done");
    assert_eq!(ask(MKDIR, &[&at("link/directory")]), "done");
    assert_eq!(ask(RENAME, &[&at("link/made"), &at("link/directory/moved")]), "done");
    assert!(at("real/directory/moved").is_file());
    assert_eq!(ask(SYMLINK, &[Path::new("target"), &at("link/soft")]), "done");
    assert_eq!(fs::read_link(at("real/soft")).unwrap(), Path::new("target"));
    assert_eq!(ask(MKDIR, &[&at("link/none/new")]), "no-entry");
    assert_eq!(ask(MKDIR, &[&at("link/directory")]), "exist");
    assert_eq!(ask(CREATE, &[&at("loop")]), "loop");
    assert_eq!(ask(CREATE, &[Path::new("//etc")]), "not-permitted");
    assert_eq!(ask(CREATE, &[Path::new("../etc")]), "not-permitted");
    assert_eq!(ask(SYMLINK, &[Path::new("//target"), &at("new")]), "not-permitted");
}

#[test]
fn components_of_0_3_are_told_of_mounts() {
    let home = Guest::new("(component)");
    fs::write(home.path("file"), "").unwrap();
    let Some(written) = mounted(&home, "written", MountFlags::empty()) else { return };
    assert_eq!(ask(RENAME, &[&home.path("file"), &written.0.join("file")]), "cross-device");
    let Some(mounted) = mounted(&home, "mount", MountFlags::RDONLY) else { return };
    assert_eq!(ask(CREATE, &[&mounted.0.join("file")]), "read-only");
    assert_eq!(ask(MKDIR, &[&mounted.0.join("directory")]), "read-only");
    assert_eq!(ask(RENAME, &[&home.path("file"), &mounted.0.join("file")]), "read-only");
    symlink(mounted.0.join("new"), home.path("link")).unwrap();
    assert_eq!(ask(CREATE, &[&home.path("link")]), "read-only");
}
