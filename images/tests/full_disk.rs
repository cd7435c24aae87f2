//! Pulls into a file system without room, made for the test: needs root.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use images::PullError;
use serde_json::json;
use support::archive::Archive;
use support::registry::{Registry, Trouble, digest};
use support::{Node, list, noise, wasm};

/// A tmpfs, gone with this.
struct Small {
    directory: tempfile::TempDir,
}

impl Small {
    /// Nothing where this process may not mount.
    fn new(size: &str) -> Option<Small> {
        let small = Small { directory: tempfile::tempdir().unwrap() };
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(small.path()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("not tested: a full disk, which needs the right to mount");
            return None;
        }
        Some(small)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    fn resize(&self, size: &str) {
        let resized = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(self.path()).status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

fn is_full(error: &PullError) {
    let text = error.to_string();
    assert!(matches!(error, PullError::Io { io, .. } if io.is_full()), "{text}");
    assert!(text.contains("full") && text.contains("bytes free") && text.contains("remove images"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_leaves_nothing_and_the_store_works_when_there_is_room() {
    let Some(small) = Small::new("12m") else { return };
    let (registry, node) = (Registry::new(), Node::with(|config| config.root = small.path().join("images")).await);
    // It runs out while the layer is unpacked, beside another one that is finished.
    let zeros = Archive::default().file("zeros", vec![0; 24 << 20]);
    registry.image("1", vec![Archive::default().file("a.wasm", wasm("a")), zeros], json!({}));
    let name = registry.name("a:1");
    is_full(&node.images.pull(&name, None).await.unwrap_err());
    node.becomes_empty().await;
    assert!(list(&node.root().join("partial")).is_empty());
    // While a blob is written: the room goes after it was looked at.
    let module = wasm(&String::from_utf8(vec![b'x'; 4 << 20]).unwrap());
    registry.artifact("m", &module, None);
    let fill = small.path().join("fill");
    registry.trouble(&format!("blobs/{}", digest(&module)), Trouble::CutTimes(2 << 20, 1));
    let cut = registry.name("a:m");
    let fills = async {
        let partial = node.root().join("partial").join(digest(&module).split_off(7));
        while !fs::metadata(&partial).is_ok_and(|file| file.len() == 2 << 20) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        fs::write(&fill, vec![1; 9 << 20]).unwrap();
    };
    let (pulled, ()) = tokio::join!(node.images.pull(&cut, None), fills);
    is_full(&pulled.unwrap_err());
    node.becomes_empty().await;
    assert!(list(&node.root().join("partial")).is_empty());

    fs::remove_file(&fill).unwrap();
    node.images.pull(&cut, None).await.unwrap();
    node.images.remove(&cut).await.unwrap();
    small.resize("64m");
    node.images.pull(&name, None).await.unwrap();
    let node = node.reopen().await;
    assert_eq!(node.images.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_cannot_fit_are_not_fetched_and_images_are_removed_from_a_full_disk() {
    let Some(small) = Small::new("8m") else { return };
    let (registry, node) = (Registry::new(), Node::with(|config| config.root = small.path().join("images")).await);
    let large = noise(9 << 20);
    registry.artifact("large", &large, None);
    let error = node.images.pull(&registry.name("a:large"), None).await.unwrap_err();
    is_full(&error);
    assert!(error.to_string().contains(&large.len().to_string()), "{error}");
    assert_eq!(registry.requests(&digest(&large)), 0);

    registry.artifact("v1", &wasm(&"x".repeat(1 << 20)), None);
    let name = registry.name("a:v1");
    node.images.pull(&name, None).await.unwrap();
    let mut fill = fs::File::create(small.path().join("fill")).unwrap();
    while fill.write_all(&[1; 4096]).is_ok() {}
    node.images.remove(&name).await.unwrap();
    node.becomes_empty().await;
    let node = node.reopen().await;
    assert!(node.images.list().is_empty() && node.images.set_aside().is_empty());
    fill.set_len(2 << 20).unwrap();
    node.images.pull(&name, None).await.unwrap();
}
