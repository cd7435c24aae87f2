use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use tar::EntryType;

use super::*;

#[path = "../../tests/support/archive.rs"]
mod archive;

use archive::{Archive, gzip};

impl Archive {
    fn unpack_with(self, limits: &Limits) -> (tempfile::TempDir, Result<Survey, UnpackError>) {
        let bytes = self.bytes();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("fs")).unwrap();
        let result = unpack(bytes.as_slice(), &directory.path().join("fs"), &Digest::of(&bytes), limits, &AtomicBool::new(false));
        (directory, result)
    }

    fn unpack(self) -> (tempfile::TempDir, Survey) {
        let (directory, result) = self.unpack_with(&Limits::default());
        (directory, result.unwrap())
    }

    fn refused(self) -> String {
        let (directory, result) = self.unpack_with(&Limits::default());
        // Nothing beside the layer's own directory.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        match result.unwrap_err() {
            UnpackError::Invalid(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn files_keep_owner_time_and_mode_but_no_setuid() {
    let (directory, survey) = Archive::default()
        .directory("bin/")
        .entry(EntryType::Regular, "bin/su", "", 0o6755, b"x")
        .entry(EntryType::Directory, "tmp", "", 0o1777, b"")
        .symlink("bin/sh", "su")
        .unpack();
    let metadata = fs::metadata(directory.path().join("fs/bin/su")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime()), (0o755, 1000, 1001, 1_600_000_000));
    assert_eq!(fs::metadata(directory.path().join("fs/tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata(directory.path().join("fs/bin")).unwrap().mtime(), 1_600_000_000);
    let link = fs::symlink_metadata(directory.path().join("fs/bin/sh")).unwrap();
    assert_eq!((link.uid(), link.mtime()), (1000, 1_600_000_000));
    assert_eq!(survey.inodes, 5);
    assert!(survey.bytes > 0);
}

#[test]
fn a_layer_with_more_wasm_files_than_an_image_may_have_is_refused_links_counted() {
    let limits = Limits { modules: 3, ..Limits::default() };
    let files = |count: usize| {
        let first = Archive::default().file("0.wasm", b"\0asm\x01\0\0\0");
        (1..count).fold(first, |archive, number| archive.entry(EntryType::Link, &format!("{number}.wasm"), "0.wasm", 0o644, b""))
    };
    assert_eq!(files(3).unpack_with(&limits).1.unwrap().wasm.len(), 3);
    let Err(UnpackError::TooLarge { option, .. }) = files(4).unpack_with(&limits).1 else { panic!("it was taken") };
    assert_eq!(option, "max_modules");
}

#[test]
fn a_directory_of_thousands_gives_way_to_a_file() {
    let archive = (0..3000).fold(Archive::default(), |archive, number| archive.file(&format!("d/{number}"), b"x"));
    let (directory, survey) = archive.file("d", b"now a file").unpack();
    assert_eq!(fs::read(directory.path().join("fs/d")).unwrap(), b"now a file");
    assert_eq!(survey.inodes, 2);
}

#[test]
fn empty_numbers_of_a_header_are_zero() {
    let mut header = tar::Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_size(1);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(4 * 512, 0);
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("fs")).unwrap();
    let (into, digest) = (directory.path().join("fs"), Digest::of(&bytes));
    unpack(bytes.as_slice(), &into, &digest, &Limits::default(), &AtomicBool::new(false)).unwrap();
    let metadata = fs::metadata(into.join("file")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.mtime()), (0, 0, 0, 0));
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../evil", "a/../../evil", "/../evil", "a/.."] {
        let reason = Archive::default().file(name, b"x").refused();
        assert!(reason.contains(name) && reason.contains(".."), "{reason}");
    }
    let reason = Archive::default().hard_link("a", "../../etc/passwd").refused();
    assert!(reason.contains(".."), "{reason}");
}

#[test]
fn absolute_names_lie_below_the_layer() {
    let (directory, _) = Archive::default().file("/etc/passwd", b"root").unpack();
    assert_eq!(fs::read(directory.path().join("fs/etc/passwd")).unwrap(), b"root");
}

#[test]
fn links_never_lead_a_write_out() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    // Through an absolute link, a relative one, and a link that was made over a directory.
    for link in [target, "../../../../../../../../../../tmp"] {
        let (directory, result) = Archive::default().symlink("a", link).file("a/evil", b"x").unpack_with(&Limits::default());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(!std::path::Path::new("/tmp/evil").exists());
        assert!(result.is_err() || directory.path().join("fs/tmp/evil").exists());
    }
    // An absolute link to a directory of the layer itself is followed inside it.
    let (directory, _) = Archive::default().directory("lib").symlink("l", "/lib").file("l/x", b"in").unpack();
    assert_eq!(fs::read(directory.path().join("fs/lib/x")).unwrap(), b"in");
    // A file in the place of a link replaces the link, not what it leads to.
    let victim = outside.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let (directory, _) = Archive::default().symlink("a", victim.to_str().unwrap()).file("a", b"new").unpack();
    assert_eq!(
        (fs::read(&victim).unwrap(), fs::read(directory.path().join("fs/a")).unwrap()),
        (b"safe".to_vec(), b"new".to_vec())
    );
    // A hard link to a link is a link to the link, and a write to its name replaces it.
    let archive = Archive::default().symlink("a", victim.to_str().unwrap()).hard_link("b", "a").file("b", b"new");
    let (_directory, _) = archive.unpack();
    assert_eq!(fs::read(&victim).unwrap(), b"safe");
}

#[test]
fn a_hard_link_to_what_is_not_in_the_layer_is_refused() {
    let reason = Archive::default().hard_link("a", "/etc/passwd").refused();
    assert!(reason.contains("/passwd") && reason.contains("not in the layer"), "{reason}");
}

#[test]
fn hard_links_share_one_inode_and_count_once() {
    let (directory, survey) = Archive::default().file("a", b"\0asm1").hard_link("d/b", "./a").unpack();
    let inode = |name: &str| fs::metadata(directory.path().join("fs").join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("d/b"));
    assert_eq!(survey.inodes, 3);
    let digest = Digest::of(b"\0asm1");
    assert_eq!(survey.wasm, [("a".to_owned(), digest.clone()), ("d/b".to_owned(), digest)]);
}

#[test]
fn the_last_of_two_entries_stays() {
    let (directory, survey) = Archive::default()
        .file("x", b"\0asm")
        .file("x", b"text")
        .file("d/inner/y", b"1")
        .file("d", b"file")
        .file("f", b"1")
        .directory("f")
        .unpack();
    let path = directory.path().join("fs");
    assert_eq!(fs::read(path.join("x")).unwrap(), b"text");
    assert_eq!(fs::read(path.join("d")).unwrap(), b"file");
    assert!(path.join("f").is_dir());
    assert!(survey.wasm.is_empty());
}

#[test]
fn whiteouts_and_opaque_marks_become_those_of_overlayfs() {
    let (directory, survey) = Archive::default()
        .file("a/.wh.gone", b"")
        .file("b/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"")
        .file("own", b"stays")
        .file(".wh.own", b"")
        .file(".wh.later", b"")
        .file("later/file", b"x")
        .unpack();
    let path = directory.path().join("fs");
    let gone = fs::symlink_metadata(path.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = |name: &str| rustix::fs::lgetxattr(path.join(name), OPAQUE, &mut [0u8; 8]).is_ok();
    assert!(opaque("b") && opaque("later") && !opaque("a"));
    assert_eq!(fs::read(path.join("own")).unwrap(), b"stays");
    assert!(!path.join(".wh..wh.plnk").exists());
    assert!(!survey.opaque);
    let (_directory, survey) = Archive::default().file(".wh..wh..opq", b"").unpack();
    assert!(survey.opaque);
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        Archive::default().file(name, b"").refused();
    }
}

#[test]
fn device_nodes_and_fifos_are_left_out() {
    let (directory, survey) = Archive::default()
        .entry(EntryType::Char, "null", "", 0o666, b"")
        .entry(EntryType::Block, "sda", "", 0o666, b"")
        .entry(EntryType::Fifo, "fifo", "", 0o666, b"")
        .unpack();
    assert_eq!(fs::read_dir(directory.path().join("fs")).unwrap().count(), 0);
    assert_eq!(survey.inodes, 1);
}

#[test]
fn every_compression_is_seen_from_the_bytes() {
    let plain = Archive::default().file("a", b"content").bytes();
    let zstd = zstd::stream::encode_all(plain.as_slice(), 3).unwrap();
    for blob in [plain.clone(), gzip(&plain), zstd] {
        let directory = tempfile::tempdir().unwrap();
        let survey = unpack(blob.as_slice(), directory.path(), &Digest::of(&plain), &Limits::default(), &AtomicBool::new(false));
        survey.unwrap();
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"content");
    }
}

#[test]
fn another_diff_id_is_refused() {
    let bytes = Archive::default().file("a", b"x").bytes();
    let directory = tempfile::tempdir().unwrap();
    let other = Digest::of(b"other");
    let result = unpack(bytes.as_slice(), directory.path(), &other, &Limits::default(), &AtomicBool::new(false));
    assert!(matches!(result, Err(UnpackError::DiffId { .. })), "{result:?}");
}

#[test]
fn each_cap_stops_what_exceeds_it() {
    let option = |archive: Archive, limits: Limits| match archive.unpack_with(&limits).1.unwrap_err() {
        UnpackError::TooLarge { option, .. } => option,
        other => panic!("{other:?}"),
    };
    let three = || Archive::default().file("a", b"xx").file("b", b"xx").file("c", b"xx");
    assert_eq!(option(three(), Limits { entries: 2, ..Limits::default() }), "max_entries");
    assert_eq!(option(three(), Limits { unpacked_bytes: 5, ..Limits::default() }), "max_unpacked_bytes");
    assert_eq!(option(Archive::default().file("a/b/c", b""), Limits { depth: 2, ..Limits::default() }), "depth");
    assert_eq!(option(Archive::default().file("abcdef", b""), Limits { path_bytes: 5, ..Limits::default() }), "max_path_bytes");
}

#[test]
fn links_cannot_build_a_tree_deeper_than_the_cap() {
    let deep = "d/".repeat(12);
    let archive = Archive::default().directory(&deep).symlink("s", &deep).directory(&format!("s/{deep}"));
    let (_directory, result) = archive.unpack_with(&Limits { depth: 14, ..Limits::default() });
    assert!(result.is_err(), "{result:?}");
}

#[test]
fn a_long_name_without_end_is_not_held_in_memory() {
    let name = vec![b'a'; 3 << 20];
    let archive = Archive::default().entry(EntryType::GNULongName, "././@LongLink", "", 0, &name).file("a", b"x");
    let reason = archive.refused();
    assert!(reason.contains("headers"), "{reason}");
}

#[test]
fn a_broken_archive_is_refused_and_a_cancelled_one_stops() {
    let mut bytes = Archive::default().file("a", [7; 2000]).bytes();
    bytes.truncate(1000);
    let directory = tempfile::tempdir().unwrap();
    let (digest, limits) = (Digest::of(&bytes), Limits::default());
    let result = unpack(bytes.as_slice(), directory.path(), &digest, &limits, &AtomicBool::new(false));
    assert!(matches!(result, Err(UnpackError::Invalid(_))), "{result:?}");
    let result = unpack(bytes.as_slice(), directory.path(), &digest, &limits, &AtomicBool::new(true));
    assert!(matches!(result, Err(UnpackError::Cancelled)), "{result:?}");
}

/// A PAX header for the next entry.
fn pax(archive: Archive, records: &[(&str, &str)]) -> Archive {
    let mut content = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        // The length counts its own digits.
        let length = (1..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        content.push_str(&format!("{length}{rest}"));
    }
    archive.entry(EntryType::XHeader, "pax", "", 0o644, content.as_bytes())
}

#[test]
fn of_extended_attributes_those_of_users_are_kept() {
    let records = [
        ("SCHILY.xattr.user.note", "kept"),
        ("SCHILY.xattr.user.overlay.opaque", "y"),
        ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ("SCHILY.xattr.security.capability", "all"),
        ("SCHILY.xattr.user.", "nothing"),
    ];
    let archive = pax(Archive::default(), &records).file("a", b"x");
    let archive = pax(archive, &records).directory("d");
    let many: Vec<String> = (0..40).map(|number| format!("SCHILY.xattr.user.n{number}")).collect();
    let archive = pax(archive, &many.iter().map(|key| (key.as_str(), "v")).collect::<Vec<_>>()).file("many", b"x");
    let (directory, _) = pax(archive, &[("SCHILY.xattr.user.large", &"v".repeat(3000))]).file("large", b"x").unpack();
    let names = |name: &str| {
        let mut list = vec![0; 4096];
        let length = rustix::fs::llistxattr(directory.path().join("fs").join(name), &mut list).unwrap();
        String::from_utf8_lossy(&list[..length]).into_owned()
    };
    // Labels may come from the system itself.
    for name in ["a", "d"] {
        assert!(names(name).contains("user.note\0") && !names(name).contains("overlay") && !names(name).contains("capability"));
        let mut value = [0; 16];
        let length = rustix::fs::lgetxattr(directory.path().join("fs").join(name), "user.note", &mut value).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
    assert!(!names("many").contains("user.") && !names("large").contains("user."));
}

#[test]
fn what_unpacks_to_too_many_times_its_size_is_stopped() {
    let zeros = gzip(&Archive::default().file("zeros", vec![0; 80 << 20]).bytes());
    let run = |blob: &[u8], ratio| {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { ratio, ..Limits::default() };
        unpack(blob, directory.path(), &Digest::of(b""), &limits, &AtomicBool::new(false)).unwrap_err()
    };
    assert!(matches!(run(&zeros, 10), UnpackError::TooLarge { limit: 10, option: "max_ratio", .. }));
    assert!(matches!(run(&zeros, 10_000), UnpackError::DiffId { .. }));
    // Small ones may compress as well as they can.
    let few = gzip(&Archive::default().file("zeros", vec![0; 4 << 20]).bytes());
    assert!(matches!(run(&few, 10), UnpackError::DiffId { .. }));
}

#[test]
fn a_summary_tells_whether_a_layer_is_still_the_same() {
    let archive = || Archive::default().file("d/a", b"1").file("w", b"\0asm").symlink("l", "w").hard_link("h", "d/a");
    let (one, first) = archive().unpack();
    let (_two, second) = archive().unpack();
    assert_eq!(first.content, second.content);
    let path = one.path().join("fs");
    // Read again from the disk, it is what was written.
    let again = survey(&path, &Known::default()).unwrap();
    assert_eq!(again, first);
    assert_eq!(stamps(&path).unwrap(), first.stamps);
    fs::write(path.join("d/a"), "2").unwrap();
    assert_ne!(stamps(&path).unwrap(), first.stamps);
    assert_ne!(survey(&path, &Known::default()).unwrap().content, first.content);
}

#[test]
fn the_name_of_a_text_says_whether_it_is_wasm_also_where_it_has_several() {
    let text = b"(module)";
    let (directory, survey) =
        Archive::default().file("a.lisp", text).hard_link("b.wat", "a.lisp").hard_link("c", "b.wat").unpack();
    assert_eq!(survey.wasm, [("b.wat".to_owned(), Digest::of(text))]);
    assert_eq!(super::survey(&directory.path().join("fs"), &Known::default()).unwrap(), survey);
}
