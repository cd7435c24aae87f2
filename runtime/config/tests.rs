//! What a file may say, what the daemon says back, and that words and keys agree.

use super::*;
use std::path::Path;

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), Overrides::default())
}

fn message(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

#[test]
fn without_a_file_there_are_defaults() {
    let config = load::load(None, Path::new("/nonexistent/config.toml"), Overrides::default()).unwrap();
    assert_eq!(config.socket(), Path::new("/run/cri-wasm/cri-wasm.sock"));
    assert_eq!(config.netns_dir(), Path::new("/run/cri-wasm/netns"));
    assert_eq!(config.cni_cache_dir(), Path::new("/var/lib/cri-wasm/cni"));
    assert_eq!(config.socket_mode(), 0o660);
    assert_eq!(config.handlers.keys().collect::<Vec<_>>(), ["", "wasm", "wasm-compat"]);
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let error = Config::load(Some(Path::new("/nonexistent/config.toml")), Overrides::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/config.toml"), "{error}");
}

#[test]
fn the_command_line_goes_before_the_file_and_the_file_before_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "root = '/a'\nstate = '/b'\n[log]\nlevel = 'debug'\n").unwrap();
    let overrides = Overrides { state: Some("/c".into()), ..Overrides::default() };
    // Both as the named file and as the default one.
    for config in [Config::load(Some(&file), overrides.clone()), load::load(None, &file, overrides)] {
        let config = config.unwrap();
        assert_eq!((config.root.as_path(), config.state.as_path()), (Path::new("/a"), Path::new("/c")));
        assert_eq!(config.socket(), Path::new("/c/cri-wasm.sock"));
        assert_eq!(config.log, Log { level: LogLevel::Debug, format: LogFormat::Text });
    }
}

#[test]
fn an_unknown_key_is_named_with_the_file_the_line_and_the_known_ones() {
    let text = message("v1alpha2 = true\n\n[images]\nmax_layer_byte = 1\n");
    for part in ["config.toml:4: ", "images.max_layer_byte", "unknown field", "`max_layer_bytes`", "`max_entries`"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = message("[handlers.wasm]\nshiny = 1\n");
    assert!(text.contains(":2: handlers.wasm.shiny: unknown field `shiny`"), "{text}");
    let text = message("[image]\n");
    assert!(text.contains(":1: image: unknown field `image`") && text.contains("`images`"), "{text}");
}

#[test]
fn a_value_of_a_wrong_kind_is_named_with_what_is_accepted() {
    let text = message("[log]\nformat = \"xml\"\n");
    assert!(text.contains(":2: log.format: unknown variant `xml`, expected `text` or `json`"), "{text}");
    let text = message("[compile]\ncpu_seconds = \"many\"\n");
    assert!(text.contains(":2: compile.cpu_seconds: invalid type: string \"many\", expected u64"), "{text}");
    let text = message("[images]\nmax_entries = -1\n");
    assert!(text.contains("images.max_entries: invalid value: integer `-1`"), "{text}");
    let text = message("root = \n");
    assert!(text.contains("config.toml:1: root: "), "{text}");
}

#[test]
fn a_value_out_of_bounds_is_named_with_what_is_accepted() {
    let cases = [
        ("root = 'relative'", "root = \"relative\": the path must be absolute"),
        ("state = '/var/lib/cri-wasm/state'", "state = "),
        ("socket_mode = '0999'", "socket_mode = \"0999\": it is an octal number"),
        ("socket_mode = '7777'", "socket_mode"),
        ("[handlers]", "handlers = \"\": at least one handler"),
        ("[cgroup]\ndriver = 'other'", "the driver is \"auto\", \"cgroupfs\" or \"systemd\""),
        ("[cgroup]\ndriver = 'cgroupfs'\ndefault_parent = 'kube.slice'", "cgroup.default_parent = \"kube.slice\": cgroup parent"),
        ("[cgroup]\ndefault_parent = ''", "cgroup.default_parent"),
        ("[images]\nmax_parallel_compiles = 0", "images.max_parallel_compiles = 0: it is at least 1"),
        ("[compile]\nmemory_bytes = 1024", "compile.memory_bytes = 1024: it is at least 67108864"),
        ("[network]\nbin_dirs = ['bin']", "network.bin_dirs = \"bin\""),
    ];
    for (text, expected) in cases {
        let message = message(text);
        assert!(message.contains(expected) && message.contains("config.toml: "), "{expected} in {message}");
    }
    let long = message(&format!("socket = '/{}'", "x".repeat(107)));
    assert!(long.contains("at most 107 bytes"), "{long}");
}

#[test]
fn rules_about_images_are_checked_before_the_daemon_starts() {
    for (text, key) in [
        ("[trust]\nallow = ['ghcr.io/org:tag']", "trust.allow"),
        ("[trust]\ndeny = ['']", "trust.deny"),
        ("[[trust.verifiers]]\nscope = 'ghcr.io'\nprogram = 'relative'", "trust.verifiers"),
        ("[images]\npinned = ['A B']", "images.pinned"),
        ("[images]\ncerts_dirs = ['relative']", "images.certs_dirs"),
    ] {
        let text = message(text);
        assert!(text.contains(key), "{key}: {text}");
    }
}

#[test]
fn the_rendered_text_parses_back_to_the_same_configuration() {
    let changed = "root = '/srv/a b'\nsocket_group = 'kube\"\\'\nv1alpha2 = true\n[handlers.'we\"ird']\n\
                   [images]\ninsecure_registries = ['one:5000', 'two']\n[log]\nformat = 'json'\n";
    for config in [Config::default(), load_text("").unwrap(), load_text(changed).unwrap()] {
        let text = config.render();
        let parsed = load::parse(&text, Path::new("rendered")).unwrap();
        assert_eq!(parsed, config, "{text}");
    }
}

#[test]
fn every_key_is_rendered_under_its_comment() {
    fn leaves(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) if key != "handlers" => leaves(&format!("{key}."), inner, found),
                toml::Value::Table(_) => {}
                _ => found.push(format!("{prefix}{key}")),
            }
        }
    }
    let config = load_text("").unwrap();
    let mut keys = Vec::new();
    leaves("", &toml::Table::try_from(&config).unwrap(), &mut keys);
    assert!(keys.len() > 25, "{keys:?}");
    let text = config.render();
    let lines: Vec<&str> = text.lines().collect();
    for key in keys {
        let name = key.rsplit('.').next().unwrap();
        let at = lines.iter().position(|line| line.starts_with(&format!("{name} = "))).expect(&key);
        assert!(lines[at - 1].starts_with("# "), "{key}");
    }
}

#[test]
fn the_page_about_the_configuration_carries_every_key_with_its_default() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains(&reference()), "docs/configuration.md does not carry this text:\n{}", reference());
}
