//! Blobs in parts, which only a pull that resumes asks for.

#[path = "../../tests/support/stub.rs"]
#[allow(dead_code, reason = "each suite uses a part")]
mod stub;

use std::path::Path;

use super::*;
use crate::auth::Auth;
use crate::digest::Digest;
use stub::{Reply, Shelf, Stub};

const READ: std::time::Duration = std::time::Duration::from_secs(10);

async fn session(stub: &Stub) -> Session {
    let registries = Registries::new(&[stub.address.to_string()], &[], READ).unwrap();
    let reference = Reference::parse(&stub.name("a:v1")).unwrap();
    registries.session(&reference, Auth::default().read().unwrap()).await.unwrap()
}

async fn all(body: &mut Body) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_blob_begins_where_it_was_asked_to_and_a_registry_that_ignores_that_is_told_apart() {
    let shelf = Shelf::new(b"0123456789");
    let (digest, kept) = (Digest::parse(&shelf.blob).unwrap(), shelf.clone());
    let parts = Stub::new(move |seen| kept.reply(seen));
    let session_in_parts = session(&parts).await;
    let mut body = session_in_parts.blob(&digest, 10, 4).await.unwrap();
    assert_eq!((body.start(), all(&mut body).await.unwrap()), (4, b"456789".to_vec()));
    let mut body = session_in_parts.blob(&digest, 10, 0).await.unwrap();
    assert_eq!((body.start(), all(&mut body).await.unwrap()), (0, b"0123456789".to_vec()));
    assert!(matches!(session_in_parts.blob(&digest, 10, 10).await, Err(RegistryError::Range(_))));
    assert!(matches!(session_in_parts.blob(&digest, 6, 2).await, Err(RegistryError::TooLarge { .. })));

    let whole = Stub::new(|_| Reply::new(200, b"0123456789"));
    let mut body = session(&whole).await.blob(&digest, 10, 4).await.unwrap();
    assert_eq!((body.start(), all(&mut body).await.unwrap().len()), (0, 10));

    let other = Stub::new(|_| Reply::new(206, b"789").header("Content-Range", "bytes 7-9/10"));
    assert!(matches!(session(&other).await.blob(&digest, 10, 4).await, Err(RegistryError::Range(_))));
    let unasked = Stub::new(|_| Reply::new(206, b"789").header("Content-Range", "bytes 0-2/10"));
    assert!(matches!(session(&unasked).await.blob(&digest, 10, 0).await, Err(RegistryError::Unavailable(_))));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_from_a_refusal() {
    let digest = Digest::of(b"0123456789");
    let cutting = Stub::new(|_| Reply::new(200, b"0123456789").cut(5));
    let mut body = session(&cutting).await.blob(&digest, 10, 0).await.unwrap();
    assert!(matches!(all(&mut body).await, Err(RegistryError::Cut(_))));
    let refusing = Stub::new(|_| Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#));
    let Err(RegistryError::Unauthorized(text)) = session(&refusing).await.blob(&digest, 10, 0).await else { panic!() };
    assert!(text.contains("DENIED not yours"), "{text}");
}

#[tokio::test]
async fn a_mirror_whose_bodies_break_off_is_asked_last_after_a_while() {
    let shelf = Shelf::new(b"0123456789");
    let (digest, kept) = (Digest::parse(&shelf.blob).unwrap(), shelf.clone());
    let cutting = Stub::new(|_| Reply::new(200, b"0123456789").cut(5));
    let good = Stub::new(move |seen| kept.reply(seen));
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &good, &format!("[host.'http://{}']\n", cutting.address));
    let registries = Registries::new(&[good.address.to_string()], &[directory.path().to_owned()], READ).unwrap();
    let reference = Reference::parse(&good.name("a:v1")).unwrap();
    let session = registries.session(&reference, Auth::default().read().unwrap()).await.unwrap();
    for _ in 0..3 {
        let mut body = session.blob(&digest, 10, 0).await.unwrap();
        assert!(matches!(all(&mut body).await, Err(RegistryError::Cut(_))));
    }
    let mut body = session.blob(&digest, 10, 5).await.unwrap();
    assert_eq!((body.start(), all(&mut body).await.unwrap()), (5, b"56789".to_vec()));
}

#[tokio::test]
async fn clients_are_shared_by_pulls_with_the_same_settings() {
    let registries = Registries::new(&[], &[], READ).unwrap();
    let first = registries.clients.clients(TlsSettings::default());
    assert!(Arc::ptr_eq(&first, &registries.clients.clients(TlsSettings::default())));
    let other = TlsSettings { skip_verify: true, ..TlsSettings::default() };
    assert!(!Arc::ptr_eq(&first, &registries.clients.clients(other)));
}

fn put(certs_dir: &Path, registry: &Stub, text: &str) {
    let directory = certs_dir.join(registry.address.to_string());
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
}

#[test]
fn ports_are_taken_off_hosts() {
    assert_eq!(without_port("a.b:5000"), "a.b");
    assert_eq!(without_port("[::1]:5000"), "[::1]");
    assert_eq!(without_port("[::1]"), "[::1]");
}
