//! Fuzz targets of what registries send and operators write; see `crate::fuzzing`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a broken property is a panic")]

use std::path::Path;

use reqwest::Url;

use super::{challenge, hosts};

/// A file is refused with the line of what is wrong, or gives hosts whose addresses lead where they say.
pub fn hosts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let hosts = match hosts::parse(text, Path::new("/certs.d/host")) {
        Ok(hosts) => hosts,
        Err(reason) => {
            let line = reason.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
            let (line, words) = line.unwrap_or_else(|| panic!("{reason:?} has no line"));
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            return assert!((1..=lines).contains(&line.parse().unwrap()) && !words.is_empty(), "{reason:?}");
        }
    };
    assert!(!hosts.is_empty());
    for host in hosts {
        let files = host.ca.iter().chain(host.client.iter().flat_map(|(certificate, key)| key.iter().chain([certificate])));
        assert!(files.into_iter().all(|file| file.is_absolute()));
        let Some(server) = host.server else { continue };
        let text = format!("{}://{}{}/a/manifests/b", if server.secure { "https" } else { "http" }, server.host, server.path);
        let url = Url::parse(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(url.username().is_empty() && url.password().is_none(), "{text:?}");
        assert!(url.query().is_none() && url.fragment().is_none(), "{text:?}");
        assert!(url.path().ends_with("/a/manifests/b") && !server.path.ends_with('/'), "{text:?}");
    }
}

/// A header gives a bounded list, and what was read means the same when it is written again.
pub fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let challenges = challenge::parse(text);
    assert!(challenges.len() <= challenge::MOST);
    let mut again = String::new();
    for challenge in &challenges {
        assert!(!challenge.scheme.is_empty() && !challenge.scheme.contains(|letter: char| letter.is_ascii_uppercase()));
        assert!(challenge.parameters.len() <= challenge::MOST);
        let parameter =
            |(name, value): &(String, String)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let parameters: Vec<String> = challenge.parameters.iter().map(parameter).collect();
        again = format!("{again}{} {}, ", challenge.scheme, parameters.join(", "));
    }
    assert_eq!(challenge::parse(&again), challenges, "{text:?} was written as {again:?}");
}
