//! Which configuration counts, and how it is read.

use std::fs;

use serde_json::{Value, json};

use super::super::list::{load, parse};
use super::Node;

fn version_of(config: Value) -> Result<String, String> {
    let mut list = json!({ "name": "net", "plugins": [{ "type": "first" }] });
    list.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    parse(list.to_string().as_bytes(), None).map(|list| list.version.to_string()).map_err(|error| super::super::full_text(&error))
}

#[test]
fn the_highest_version_that_both_know_is_used() {
    let cases = [
        (json!({ "cniVersion": "0.3.1" }), "0.3.1"),
        (json!({ "cniVersion": "0.4.0", "cniVersions": ["1.0.0", "0.3.1"] }), "1.0.0"),
        (json!({ "cniVersion": "1.1.0", "cniVersions": ["0.4.0"] }), "1.1.0"),
        (json!({ "cniVersions": ["1.0.0", "1.1.0", "1.2.0", "2.0.0"] }), "1.1.0"),
        (json!({ "cniVersion": "0.2.0", "cniVersions": ["0.4.0"] }), "0.4.0"),
        (json!({ "cniVersion": "1.0" }), "1.0.0"),
    ];
    for (config, version) in cases {
        assert_eq!(version_of(config.clone()).unwrap(), version, "{config}");
    }
}

#[test]
fn versions_that_are_unknown_or_no_versions_are_refused() {
    let cases = [
        (json!({}), r#"no "cniVersion""#),
        (json!({ "cniVersion": "0.2.0" }), "version 0.2.0 is not one from 0.3.0 to 1.1.0"),
        (json!({ "cniVersion": "1.2.0", "cniVersions": ["0.1.0"] }), "version 1.2.0 is not one from 0.3.0 to 1.1.0"),
        (json!({ "cniVersion": "new" }), r#""new" is no CNI version"#),
        (json!({ "cniVersion": 1 }), r#""cniVersion" must be a string"#),
        (json!({ "cniVersions": [1] }), r#""cniVersions" must be an array of strings"#),
    ];
    for (config, error) in cases {
        assert_eq!(version_of(config.clone()).unwrap_err(), error, "{config}");
    }
}

#[test]
fn flags_may_be_words() {
    for (value, expected) in [(json!(true), true), (json!("TRUE"), true), (json!("false"), false), (json!(false), false)] {
        let list = json!({
            "cniVersion": "1.0.0", "name": "net", "plugins": [{ "type": "first" }],
            "disableCheck": value, "disableGC": value,
        });
        let list = parse(list.to_string().as_bytes(), None).unwrap();
        assert_eq!((list.disable_check, list.disable_gc), (expected, expected));
    }
    assert!(version_of(json!({ "cniVersion": "1.0.0", "disableGC": "yes" })).is_err());
}

#[test]
fn plugin_files_of_the_network_follow_those_of_the_list_unless_forbidden() {
    let node = Node::new();
    let list = |only: Value| json!({ "cniVersion": "1.0.0", "name": "net", "loadOnlyInlinedPlugins": only, "plugins": [{ "type": "first" }] });
    fs::create_dir(node.path("conf/net")).unwrap();
    node.conf("net/20-b.conf", &json!({ "type": "third" }));
    node.conf("net/10-a.conf", &json!({ "type": "second", "x": 1 }));
    node.conf("net/30-c.conflist", &json!({ "type": "ignored" }));
    let kinds = || -> Vec<String> {
        let loaded = load(&node.path("conf"));
        let network = loaded.network.unwrap_or_else(|| panic!("{:?}", loaded.broken));
        // The copy in the cache must say the same without the directory.
        let cached = parse(&network.config, None).unwrap();
        assert_eq!(cached.plugins, network.plugins);
        network.plugins.iter().map(|plugin| plugin.kind.clone()).collect()
    };
    node.conf("10-net.conflist", &list(json!(false)));
    assert_eq!(kinds(), ["first", "second", "third"]);
    node.conf("10-net.conflist", &json!({ "cniVersion": "1.0.0", "name": "net" }));
    assert_eq!(kinds(), ["second", "third"]);
    node.conf("10-net.conflist", &list(json!("true")));
    assert_eq!(kinds(), ["first"]);

    node.conf("10-net.conflist", &list(json!(false)));
    fs::write(node.path("conf/net/20-b.conf"), "{").unwrap();
    let loaded = load(&node.path("conf"));
    assert!(loaded.network.is_none());
    assert!(loaded.broken[0].contains("20-b.conf"), "{:?}", loaded.broken);
}

#[test]
fn the_first_valid_file_counts_and_broken_ones_before_it_are_told() {
    let node = Node::new();
    let single = |name: &str| json!({ "cniVersion": "1.0.0", "name": name, "type": "first", "capabilities": { "dns": true } });
    fs::write(node.path("conf/00-notes.txt"), "{").unwrap();
    fs::write(node.path("conf/01-broken.conflist"), "{").unwrap();
    node.conf("02-list.conf", &json!({ "cniVersion": "1.0.0", "name": "x", "plugins": [{ "type": "first" }] }));
    fs::create_dir(node.path("conf/03-directory.conflist")).unwrap();
    node.conf("10-single.conf", &single("single"));
    node.conf("20-other.json", &single("other"));
    fs::write(node.path("conf/30-later.conf"), "{").unwrap();
    let loaded = load(&node.path("conf"));
    let network = loaded.network.unwrap();
    assert_eq!(network.name, "single");
    assert_eq!(network.plugins[0].capabilities, ["dns"]);
    assert_eq!(loaded.broken.len(), 2, "{:?}", loaded.broken);
    assert!(loaded.broken[0].contains("01-broken.conflist: not JSON"));
    assert!(loaded.broken[1].contains("02-list.conf") && loaded.broken[1].contains(".conflist"));
    // In the cache a single plugin is a list, as libcni has it.
    let cached: Value = serde_json::from_slice(&network.config).unwrap();
    assert_eq!(cached["plugins"][0]["capabilities"], json!({ "dns": true }));
}

#[test]
fn lists_that_cannot_be_run_are_refused() {
    let list = |change: Value| {
        let mut list = json!({ "cniVersion": "1.0.0", "name": "net", "plugins": [{ "type": "first" }] });
        list.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        list.to_string()
    };
    let broken = [
        "[]".to_owned(),
        "null".to_owned(),
        json!({ "cniVersion": "1.0.0", "plugins": [{ "type": "first" }] }).to_string(),
        json!({ "cniVersion": "1.0.0", "name": "net" }).to_string(),
        list(json!({ "name": "../net" })),
        list(json!({ "name": "" })),
        list(json!({ "plugins": [] })),
        list(json!({ "plugins": {} })),
        list(json!({ "plugins": ["first"] })),
        list(json!({ "plugins": [{}] })),
        list(json!({ "plugins": [{ "type": "" }] })),
        list(json!({ "plugins": [{ "type": "first", "capabilities": ["dns"] }] })),
    ];
    for text in broken {
        assert!(parse(text.as_bytes(), None).is_err(), "{text}");
    }
    assert!(parse(list(json!({})).as_bytes(), None).is_ok());
}
