//! The import that a module's author may have meant: the nearest of those that guests are given.

use std::collections::BTreeSet;

/// Interfaces of WASI that components are given, without versions: a linker of components does not list what it has.
/// A test links each of them.
pub(super) const INTERFACES: [&str; 39] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/wall-clock",
    "wasi:config/store",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:keyvalue/atomics",
    "wasi:keyvalue/batch",
    "wasi:keyvalue/store",
    "wasi:logging/logging",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/types",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "wasi:tls/client",
    "wasi:tls/types",
];

/// Names longer than this are compared by nobody: the comparison takes the product of both lengths, and a hostile module
/// has names of megabytes.
const LONGEST: usize = 128;

/// The nearest of `known` to `name`, both as `module.field`; none where nothing is near.
///
/// The same field of another module is what a module built for an older or another host asks for; else a typing error
/// is taken to change at most a quarter of the name.
pub(super) fn nearest<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let field = |name: &str| name.split_once('.').map(|(_, field)| field.to_owned());
    let wanted = field(name);
    if let Some(same) = known.iter().find(|other| wanted.is_some() && field(other) == wanted) {
        return Some(same);
    }
    let distances = known.iter().map(|other| (strsim::damerau_levenshtein(name, other), other));
    let (distance, other) = distances.min()?;
    (distance <= name.len() / 4).then_some(other.as_str())
}

/// What to say of a component's import that nobody offers, an interface with its version.
pub(super) fn interface(name: &str) -> Option<&'static str> {
    let bare = name.split('@').next().unwrap_or(name);
    if bare.len() > LONGEST {
        return None;
    }
    let distances = INTERFACES.iter().map(|other| (strsim::damerau_levenshtein(bare, other), *other));
    let (distance, other) = distances.min()?;
    // The same interface: it is the version, or a function of it, that is not there.
    (distance > 0 && distance <= bare.len() / 4).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_field_of_another_module_goes_before_a_similar_name() {
        let known = ["wasi_snapshot_preview1.fd_write", "wasi_unstable.fd_read", "wasi_snapshot_preview1.fd_read"];
        let known = known.map(str::to_owned).into();
        assert_eq!(nearest("env.fd_write", &known), Some("wasi_snapshot_preview1.fd_write"));
        assert_eq!(nearest("wasi_snapshot_preview1.fd_wriet", &known), Some("wasi_snapshot_preview1.fd_write"));
        assert_eq!(nearest("env.memory", &known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
    }

    #[test]
    fn an_interface_is_compared_without_its_version() {
        assert_eq!(interface("wasi:cli/enviroment@0.2.0"), Some("wasi:cli/environment"));
        assert_eq!(interface("wasi:cli/environment@0.9.0"), None);
        assert_eq!(interface("example:app/thing"), None);
    }
}
