//! Tokens: how they are asked for, renewed, and refused.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use images::{Auth, PullError};
use support::stub::{Reply, Seen, Shelf, Stub};
use support::{Node, wasm};

/// A registry with a token service on its own port. `token` answers it; `good` says which tokens are taken.
fn registry(
    shelf: &Shelf,
    token: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Stub {
    let shelf = shelf.clone();
    Stub::new(move |seen| {
        if seen.target.starts_with("/token") {
            return token(seen);
        }
        match seen.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if good(token) => shelf.reply(seen),
            _ => {
                let host = seen.header("host").unwrap();
                let scope = "repository:team/app:pull";
                let challenge = format!("Bearer realm=\"http://{host}/token?a=b\",service=\"s 1\",scope=\"{scope}\"");
                Reply::new(401, "").header("WWW-Authenticate", challenge)
            }
        }
    })
}

fn basic() -> Auth {
    Auth { username: "u".into(), password: "p".into(), ..Auth::default() }
}

#[tokio::test]
async fn a_token_is_asked_for_with_service_and_scope_and_either_name_of_it_is_read() {
    for answer in [r#"{"token":"t","expires_in":300}"#, r#"{"access_token":"t","expires_in":"x"}"#] {
        let (shelf, node) = (Shelf::new(&wasm("tokens")), Node::new().await);
        let registry = registry(&shelf, move |_| Reply::new(200, answer), |token| token == "t");
        node.images.pull(&registry.name("team/app:v1"), Some(basic())).await.unwrap();
        let asked = registry.seen_at("/token");
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].target, "/token?a=b&service=s+1&scope=repository%3Ateam%2Fapp%3Apull");
        assert_eq!(asked[0].header("authorization"), Some("Basic dTpw"));
    }
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let (shelf, node) = (Shelf::new(&wasm("identity")), Node::new().await);
    let registry = registry(&shelf, |_| Reply::new(200, r#"{"access_token":"t"}"#), |token| token == "t");
    let auth = Auth { identity_token: "i d".into(), ..Auth::default() };
    node.images.pull(&registry.name("team/app:v1"), Some(auth)).await.unwrap();
    let asked = &registry.seen_at("/token")[0];
    assert_eq!((asked.method.as_str(), asked.header("authorization")), ("POST", None));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    for field in ["grant_type=refresh_token", "refresh_token=i+d", "service=s+1", "scope=repository%3Ateam%2Fapp%3Apull"] {
        assert!(asked.body.contains(field), "{}", asked.body);
    }
}

#[tokio::test]
async fn a_password_is_posted_where_it_cannot_be_sent_otherwise() {
    for status in [404, 405] {
        let (shelf, node) = (Shelf::new(&wasm("posted")), Node::new().await);
        let token = move |seen: &Seen| match seen.method.as_str() {
            "POST" => Reply::new(200, r#"{"access_token":"t"}"#),
            _ => Reply::new(status, ""),
        };
        let registry = registry(&shelf, token, |token| token == "t");
        node.images.pull(&registry.name("team/app:v1"), Some(basic())).await.unwrap();
        let asked = registry.seen_at("/token").pop().unwrap();
        assert!(asked.body.contains("grant_type=password&username=u&password=p"), "{}", asked.body);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_in_mid_pull_is_fetched_again() {
    let (shelf, node) = (Shelf::new(&wasm("expired")), Node::new().await);
    let (given, uses) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let newest = given.clone();
    let token = move |_: &Seen| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::new(200, format!(r#"{{"token":"t{number}"}}"#))
    };
    // Each token is good for one request.
    let good = move |token: &str| {
        let number = newest.load(Ordering::SeqCst);
        token == format!("t{number}") && uses.fetch_max(number, Ordering::SeqCst) < number
    };
    let registry = registry(&shelf, token, good);
    node.images.pull(&registry.name("team/app:v1"), None).await.unwrap();
    assert!(registry.seen_at("/token").len() >= 3);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_runs_out() {
    let (shelf, node) = (Shelf::new(&wasm("soon")), Node::new().await);
    let first = Arc::new(AtomicUsize::new(0));
    let given = first.clone();
    let token = move |_: &Seen| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":1}}"#))
    };
    let shelf_kept = shelf.clone();
    let inner = registry(&shelf, token, |_| true);
    // Before the blobs a token's time passes.
    let address = inner.address;
    let slow = Stub::new(move |seen| {
        if seen.target.contains("/manifests/") && seen.header("authorization").is_some() {
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        match seen.header("authorization") {
            Some(_) => shelf_kept.reply(seen),
            None => Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"http://{address}/token\"")),
        }
    });
    node.images.pull(&slow.name("team/app:v1"), None).await.unwrap();
    assert!(first.load(Ordering::SeqCst) >= 2);
    let refused =
        slow.seen().iter().filter(|seen| seen.target.contains("/team/") && seen.header("authorization").is_none()).count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn token_services_that_misbehave_are_told_apart() {
    let pull = |reply: Reply| async move {
        let (shelf, node) = (Shelf::new(&wasm("bad")), Node::new().await);
        let registry = registry(&shelf, move |_| reply.clone(), |token| token == "t");
        node.images.pull(&registry.name("team/app:v1"), Some(basic())).await.unwrap_err()
    };
    let endless = format!("{{\"token\":\"{}\"}}", "t".repeat(70_000));
    for (reply, says) in [
        (Reply::new(200, endless), "more than 65536 bytes"),
        (Reply::new(200, "{}"), "without a token"),
        (Reply::new(200, "no json"), "no token"),
        (Reply::new(200, r#"{"token":"t"}"#).cut(5), "broke off"),
    ] {
        let error = pull(reply).await;
        assert!(matches!(&error, PullError::RegistryUnavailable { detail, .. } if detail.contains(says)), "{error}");
    }
    let error = pull(Reply::new(401, r#"{"errors":[{"code":"DENIED","message":"wrong\npassword"}]}"#)).await;
    assert!(matches!(&error, PullError::Unauthorized { detail, .. } if detail.contains("DENIED wrong password")), "{error}");
    // A token that the registry does not take is fetched once, not for ever.
    let error = pull(Reply::new(200, r#"{"token":"other"}"#)).await;
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn challenges_that_lead_nowhere_are_refused_in_words() {
    for (challenge, says) in [
        ("Bearer realm=\"ftp://x/\"", "neither HTTP nor HTTPS"),
        ("Bearer realm=\"nowhere\"", "is no address"),
        ("Negotiate", "neither Basic nor Bearer"),
        ("Bearer", "neither Basic nor Bearer"),
        ("Basic realm=x", "none were given"),
    ] {
        let node = Node::new().await;
        let registry = Stub::new(move |_| Reply::new(401, "").header("WWW-Authenticate", challenge));
        let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
        assert!(matches!(&error, PullError::Unauthorized { detail, .. } if detail.contains(says)), "{error}");
    }
}
