//! A process that pulls is killed at any moment; the store opens, and holds nothing that nobody knows.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use images::{Config, Images};
use serde_json::json;
use support::archive::Archive;
use support::registry::Registry;
use support::{FakeCompiler, Shared, wasm};

const ROOT: &str = "CRI_WASM_IMAGES_KILL_ROOT";
const NAMES: &str = "CRI_WASM_IMAGES_KILL_NAMES";
/// A number that the random points are made from; printed, so that a failure can be had again.
const SEED: &str = "CRI_WASM_IMAGES_KILL_SEED";
/// At random points of the pulls' length, which is measured first.
const KILLS: u32 = 50;

async fn open(root: &std::path::Path) -> Images {
    Images::open(Config::new(root), Arc::new(Shared(FakeCompiler::new()))).await.unwrap()
}

/// What the other test runs in a process of its own; by itself it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_killed() {
    let (Ok(root), Ok(names)) = (std::env::var(ROOT), std::env::var(NAMES)) else { return };
    let images = open(root.as_ref()).await;
    let pulls = names.split(' ').map(|name| images.pull(name, None));
    for image in futures_util::future::join_all(pulls).await {
        image.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_of_pulls_leaves_a_store_that_opens_and_has_no_orphans() {
    let registry = Registry::new();
    let shared = || Archive::default().file("shared.wasm", wasm(&"shared".repeat(20_000))).file("etc/passwd", "root");
    for name in ["a", "b", "c"] {
        let own = Archive::default().file(&format!("{name}.wasm"), wasm(&name.repeat(50_000)));
        registry.image(name, vec![shared(), own], json!({}));
    }
    let names = ["a", "b", "c"].map(|tag| registry.name(&format!("x:{tag}")));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("images");
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_that_is_killed"]).env(ROOT, &root).env(NAMES, names.join(" "));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let begun = Instant::now();
    assert!(child().wait().unwrap().success());
    let whole = begun.elapsed();

    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let mut random = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
    println!("{SEED}={random}");
    let mut cut = 0;
    for kill in 0..KILLS {
        // Each fiftieth of the length once, at a random place in it: no part is left out.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let point = (f64::from(kill) + f64::from(random) / f64::from(u32::MAX)) / f64::from(KILLS);
        let images = open(&root).await;
        for image in images.list() {
            images.remove(&image.id).await.unwrap();
        }
        drop(images);
        let mut process = child();
        std::thread::sleep(whole.mul_f64(point));
        process.kill().unwrap();
        process.wait().unwrap();

        let images = open(&root).await;
        assert!(images.set_aside().is_empty(), "{:?}", images.set_aside());
        let here = images.list();
        cut += usize::from(here.len() < 3);
        let layers = here.iter().flat_map(|image| images.lower_dirs(image)).collect::<std::collections::HashSet<_>>();
        assert_eq!(support::list(&root.join("layers")).len(), layers.len());
        assert_eq!(support::list(&root.join("ingest")).len(), 0);
        for image in &here {
            for file in &image.wasm {
                assert!(images.read_file(image, &file.path, 1 << 20).unwrap().starts_with(b"\0asm"));
                images.code(&file.digest).await.unwrap();
            }
        }
    }
    assert!(cut > 0, "no kill came in time");
    let images = open(&root).await;
    for name in &names {
        tokio::time::timeout(Duration::from_secs(20), images.pull(name, None)).await.unwrap().unwrap();
    }
    drop(images);
    // Nothing is there that no image has, and what is there is whole.
    let images = open(&root).await;
    assert_eq!((images.list().len(), support::list(&root.join("layers")).len()), (3, 4));
    for image in images.list() {
        images.remove(&image.id).await.unwrap();
    }
    drop(images);
    drop(open(&root).await);
    assert_eq!(support::leftovers(&root), Vec::<String>::new());
}
