//! Against Debian's docker-registry, which is what a user has. Without it the test says that it was skipped; with
//! `CRI_WASM_REQUIRE_ALL=1` that is a failure.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use images::{ArtifactKind, Auth};
use oci_distribution::client::{Client, ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_distribution::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE};
use oci_distribution::secrets::RegistryAuth;
use serde_json::json;
use support::archive::{Archive, gzip};
use support::registry::digest;
use support::{Node, wasm};

struct Real {
    process: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The registry on a port that was free a moment ago; with this password file if one is given.
async fn start(htpasswd: Option<&str>) -> Option<Real> {
    if Command::new("docker-registry").arg("--version").output().is_err() {
        assert!(std::env::var("CRI_WASM_REQUIRE_ALL").is_err(), "docker-registry is not installed");
        eprintln!("skipped: docker-registry is not installed (apt-get install docker-registry)");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut config = json!({"version": 0.1, "storage": {"filesystem": {"rootdirectory": directory.path().join("data")}},
        "http": {"addr": address}, "log": {"level": "error"}});
    if let Some(htpasswd) = htpasswd {
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, htpasswd).unwrap();
        config["auth"] = json!({"htpasswd": {"realm": "test", "path": path}});
    }
    // JSON is YAML.
    let path = directory.path().join("config.yml");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
    let process = command.spawn().unwrap();
    let real = Real { process, address, _directory: directory };
    for _ in 0..250 {
        if std::net::TcpStream::connect(&real.address).is_ok() {
            return Some(real);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("docker-registry does not listen");
}

async fn push(real: &Real, name: &str, layers: &[ImageLayer], config: Config, auth: &RegistryAuth) {
    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let reference = format!("{}/{name}", real.address).parse().unwrap();
    client.push(&reference, layers, config, auth, None).await.unwrap();
}

fn artifact(module: &[u8]) -> (Vec<ImageLayer>, Config) {
    let title = BTreeMap::from([("org.opencontainers.image.title".to_owned(), "app.wasm".to_owned())]);
    let layer = ImageLayer::new(module.to_vec(), "application/wasm".to_owned(), Some(title));
    let config = Config::new(b"{}".to_vec(), "application/vnd.wasm.config.v0+json".to_owned(), None);
    (vec![layer], config)
}

#[tokio::test]
async fn artifacts_and_images_are_pulled_from_a_real_registry() {
    let Some(real) = start(None).await else { return };
    let node = Node::new().await;
    // Above the size that comes in one piece.
    let module = wasm(&"big".repeat(2_000_000));
    let (layers, config) = artifact(&module);
    push(&real, "some/app:v1", &layers, config, &RegistryAuth::Anonymous).await;
    let image = node.images.pull(&format!("{}/some/app:v1", real.address), None).await.unwrap();
    assert_eq!(image.kind, ArtifactKind::Artifact { module: Some("/app.wasm".into()) });
    assert_eq!(image.wasm[0].digest, digest(&module));

    let layer = Archive::default().file("a/b.wasm", wasm("in a layer")).bytes();
    let config = json!({"os": "wasip1", "architecture": "wasm", "config": {"Entrypoint": ["/a/b.wasm"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = Config::new(config.to_string().into_bytes(), IMAGE_CONFIG_MEDIA_TYPE.to_owned(), None);
    let layer = ImageLayer::new(gzip(&layer), IMAGE_LAYER_GZIP_MEDIA_TYPE.to_owned(), None);
    push(&real, "image:v1", &[layer], config, &RegistryAuth::Anonymous).await;
    let image = node.images.pull(&format!("{}/image:v1", real.address), None).await.unwrap();
    assert_eq!((image.config.entrypoint[0].as_str(), image.wasm.len()), ("/a/b.wasm", 1));
    let again = node.images.pull(&format!("{}/image@{}", real.address, image.id), None).await.unwrap();
    assert_eq!(again.id, image.id);
}

#[tokio::test]
async fn a_real_registry_with_passwords_wants_the_right_one() {
    // user:secret, as `htpasswd -Bbn user secret` prints it.
    let Some(real) = start(Some("user:$2b$05$WKB0k6EqNLeWmMmqXT0Wlevq38/s5WeC1s8nnusuj/A8GzOlRZaTi\n")).await else { return };
    let node = Node::new().await;
    let (layers, config) = artifact(&wasm("closed"));
    let basic = RegistryAuth::Basic("user".to_owned(), "secret".to_owned());
    push(&real, "closed:v1", &layers, config, &basic).await;
    let name = format!("{}/closed:v1", real.address);
    let error = node.images.pull(&name, None).await.unwrap_err();
    assert!(matches!(error, images::PullError::Unauthorized { .. }), "{error}");
    let auth = Auth { username: "user".into(), password: "secret".into(), ..Auth::default() };
    node.images.pull(&name, Some(auth)).await.unwrap();
}
