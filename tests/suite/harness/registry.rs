//! A real registry, Debian's docker-registry, on loopback.
//!
//! One serves the whole run of the suites. Its storage is its own; a test inside a network namespace starts a second one over the
//! same storage at the same port of that namespace, so that a reference means the same everywhere.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::http::{self, Answer};
use super::image::{Blob, Image, digest};
use super::missing;
use super::wait::eventually;

/// Ends the registry and removes its files when its input ends: with the test's process, however that ends.
const KEEPER: &str = r#"directory=$1; shift
"$@" >"$directory/log" 2>&1 </dev/null &
pid=$!
read -r _
kill -KILL "$pid"
wait "$pid"
rm -rf "$directory""#;

/// A running registry; dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    keeper: Child,
    pub address: SocketAddr,
    pub storage: PathBuf,
}

/// How a registry is to be started.
#[derive(Debug, Default)]
pub struct Setup<'a> {
    /// Instead of storage of its own.
    pub storage: Option<&'a Path>,
    /// Instead of a free one.
    pub port: u16,
    /// File of a network namespace to run in.
    pub netns: Option<&'a Path>,
    /// A line of an htpasswd file: without these credentials nothing is served.
    pub htpasswd: Option<&'a str>,
}

impl Registry {
    /// The one of this run, or `None` after the test was skipped.
    pub fn shared() -> Option<&'static Registry> {
        static SHARED: OnceLock<Option<Registry>> = OnceLock::new();
        if !missing::has_registry() {
            return None;
        }
        SHARED.get_or_init(|| Some(Registry::start(&Setup::default()))).as_ref()
    }

    /// Starts one and waits until it answers.
    pub fn start(setup: &Setup<'_>) -> Registry {
        let program = missing::find_program("docker-registry").expect("docker-registry in PATH");
        let directory = tempfile::Builder::new().prefix("cri-wasm-registry-").tempdir_in("/var/tmp").expect("a directory").keep();
        let storage = setup.storage.map_or_else(|| directory.join("storage"), Path::to_owned);
        let auth = setup.htpasswd.map_or_else(String::new, |line| {
            let file = directory.join("htpasswd");
            std::fs::write(&file, format!("{line}\n")).expect("a password file");
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display())
        });
        let config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n{auth}storage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\n  maintenance: {{uploadpurging: {{enabled: false}}}}\n\
             http: {{addr: '127.0.0.1:{}', relativeurls: true}}\n",
            storage.display(),
            setup.port
        );
        let file = directory.join("config.yml");
        std::fs::write(&file, config).expect("a configuration");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(&directory);
        if let Some(netns) = setup.netns {
            command.arg("nsenter").arg(format!("--net={}", netns.display()));
        }
        command.arg(program).arg("serve").arg(&file);
        // Ctrl-C is for the test; the keeper ends by the end of its input.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let keeper = command.spawn().expect("a shell");
        let log = directory.join("log");
        let address = eventually("the registry listens", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let rest = text.split("listening on ").nth(1)?;
            rest.split(|end: char| !(end.is_ascii_digit() || end == '.' || end == ':')).next()?.parse().ok()
        });
        Registry { keeper, address, storage }
    }

    /// A reference to something in this registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Pushes an image under `repository:tag` and returns its id.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, image.manifest_type, &image.manifest());
        image.id()
    }

    /// Pushes a manifest or an index whose parts are there.
    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let answer = http::request(self.address, "PUT", &target, &[("Content-Type", media_type)], manifest);
        assert_created(&answer, &target);
    }

    fn push_blob(&self, repository: &str, blob: &Blob) {
        let answer = http::request(self.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]);
        let location = answer.header("Location").expect("where to upload to");
        let target = format!("{location}&digest={}", digest(&blob.bytes));
        let answer = http::request(self.address, "PUT", &target, &[("Content-Type", "application/octet-stream")], &blob.bytes);
        assert_created(&answer, &target);
    }

    /// Puts other bytes in the place of a blob's, as a broken disk or a hostile registry would.
    pub fn corrupt(&self, blob: &Blob, bytes: &[u8]) {
        let hex = digest(&blob.bytes).trim_start_matches("sha256:").to_owned();
        let path = self.storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex).join("data");
        assert!(path.is_file(), "{} is where the registry keeps the blob", path.display());
        std::fs::File::create(path).and_then(|mut file| file.write_all(bytes)).expect("other bytes");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn assert_created(answer: &Answer, target: &str) {
    assert_eq!(answer.status, 201, "{target}: {}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn the_harness_has_a_registry_in_every_network() {
    let Some(shared) = Registry::shared() else { return };
    let image = Image::artifact(b"\0asm\x01\0\0\0");
    let id = shared.push("harness/registry", "v1", &image);
    let manifest =
        |address| http::request(address, "GET", "/v2/harness/registry/manifests/v1", &[("Accept", image.manifest_type)], &[]);
    let answer = manifest(shared.address);
    assert_eq!((answer.status, answer.header("Docker-Content-Digest")), (200, Some(id.as_str())));
    if !missing::is_root() || missing::program("nsenter", "util-linux").is_none() {
        return;
    }
    let place = super::place::Place::new();
    let netns = super::netns::make(&place.name);
    let setup = Setup { storage: Some(&shared.storage), port: shared.address.port(), netns: Some(&netns), htpasswd: None };
    let inside = Registry::start(&setup);
    assert_eq!(inside.address, shared.address);
    let answer = super::netns::inside(&netns, || manifest(inside.address));
    assert_eq!((answer.status, digest(&answer.body)), (200, id));
}
