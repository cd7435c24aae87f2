//! One pull in a process of its own, so that its memory can be told from the test's; and a directory tree around the
//! store that must stay as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use images::{Config, Images};
use serde::{Deserialize, Serialize};

use super::{FakeCompiler, Shared, leftovers};

const ROOT: &str = "CRI_WASM_IMAGES_CHILD_ROOT";
const NAMES: &str = "CRI_WASM_IMAGES_CHILD_NAMES";
/// Pulled first, so that the client and its threads are there before memory is measured.
pub const WARM: &str = "warm:1";

/// What came of a pull.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The error's text; nothing where the image is there.
    pub error: Option<String>,
    /// Bytes above what the process had before, at the most.
    pub grown: u64,
    /// What the store holds of it, a second or some after.
    pub left: Vec<String>,
}

/// Small caps, so that a bomb is one soon, and short waits.
fn config(root: &Path) -> Config {
    let mut config = Config::new(root);
    config.read_timeout = Duration::from_millis(700);
    config.limits.unpacked_bytes = 48 << 20;
    config.limits.entries = 20_000;
    config
}

/// To be called by a test named `the_process_that_pulls`; by itself it has nothing to do.
pub async fn main() {
    let (Ok(root), Ok(names)) = (std::env::var(ROOT), std::env::var(NAMES)) else { return };
    let root = PathBuf::from(root);
    let (warm, name) = names.split_once(' ').unwrap();
    let images = Images::open(config(&root), Arc::new(Shared(FakeCompiler::new()))).await.unwrap();
    let image = images.pull(warm, None).await.unwrap();
    images.remove(&image.id).await.unwrap();
    drop(image);
    // Sets the high-water mark to what is in use now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let error = images.pull(name, None).await.err().map(|error| error.to_string());
    let grown = memory("VmHWM:").saturating_sub(before);
    if error.is_none() {
        images.remove(name).await.unwrap();
    }
    // Threads clean up after a pull that has failed already.
    let mut left = leftovers(&root);
    for _ in 0..200 {
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = leftovers(&root);
    }
    std::fs::write(root.with_extension("outcome"), serde_json::to_vec(&Outcome { error, grown, left }).unwrap()).unwrap();
}

fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A store amid other files. Absolute links of a test may lead to [`Yard::outside`].
pub struct Yard {
    directory: tempfile::TempDir,
}

impl Yard {
    pub fn new() -> Yard {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("outside/a")).unwrap();
        for file in ["outside/victim", "outside/a/victim", "victim"] {
            std::fs::write(directory.path().join(file), "as it was").unwrap();
        }
        Yard { directory }
    }

    pub fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// Pulls `name` from a registry that has [`WARM`] too, and checks that nothing outside of the store has changed.
    pub fn pull(&self, registry: &super::registry::Registry, name: &str) -> Outcome {
        let root = self.directory.path().join("images");
        let before = self.look();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_that_pulls", "--nocapture"]).env(ROOT, &root);
        command.env(NAMES, format!("{} {}", registry.name(WARM), registry.name(name)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        let path = root.with_extension("outcome");
        let outcome = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(self.look(), before, "{name} changed something outside of the store");
        outcome
    }

    /// Everything but the store.
    fn look(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut seen = BTreeMap::new();
        let mut pending = vec![self.directory.path().to_owned()];
        while let Some(path) = pending.pop() {
            if path == self.directory.path().join("images") {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                seen.insert(path, None);
            } else {
                seen.insert(path.clone(), std::fs::read(path).ok());
            }
        }
        seen
    }
}
