//! Interfaces that a handler does not let its pods import.
//!
//! A program whose import is not there cannot be linked, so one that imports what is forbidden is refused before anything runs:
//! by name at CreateContainer, and for commands at their exec. The record of compiled code lists every import.

use images::CodeReport;

use crate::config::Handler;

/// A program imports what its pod's handler forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it imports {import}, which the runtime handler {handler:?} forbids (forbidden_interfaces has {entry:?}): run it under another \
     RuntimeClass, or have the node's administrator take that off the list"
)]
pub struct Forbidden {
    import: String,
    handler: String,
    entry: String,
}

/// Whether a program may run under a handler.
///
/// # Errors
/// The first import that is forbidden.
pub fn check(report: &CodeReport, name: &str, handler: &Handler) -> Result<(), Forbidden> {
    for import in &report.imports {
        if let Some(entry) = handler.forbidden_interfaces.iter().find(|entry| names(entry, import)) {
            return Err(Forbidden { import: import.clone(), handler: name.to_owned(), entry: entry.clone() });
        }
    }
    Ok(())
}

/// Whether an entry names an import: the whole of it, or a part that ends where a package, an interface, a module or a version does.
fn names(entry: &str, import: &str) -> bool {
    import.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(ENDS))
}

const ENDS: [char; 4] = [':', '/', '@', '.'];

/// Whether an entry can name anything; one that cannot would forbid nothing without saying so.
pub fn is_name(entry: &str) -> bool {
    let known = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character) || ENDS.contains(&character);
    entry.starts_with(|character: char| character.is_ascii_alphanumeric()) && entry.chars().all(known) && !entry.ends_with(ENDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_a_package_an_interface_or_a_function() {
        let component = ["wasi:sockets/tcp-create-socket@0.2.0", "wasi:http/outgoing-handler@0.2.3"];
        let module = ["wasi_snapshot_preview1.sock_accept", "wasi_snapshot_preview1.fd_write"];
        for (entry, forbidden) in [
            ("wasi:sockets", Some(component[0])),
            ("wasi:sockets/tcp-create-socket", Some(component[0])),
            ("wasi:sockets/tcp-create-socket@0.2.0", Some(component[0])),
            ("wasi:http/outgoing-handler@0.2", Some(component[1])),
            ("wasi", Some(component[0])),
            ("wasi:sockets/tcp", None),
            ("wasi:http/outgoing-handler@0.3", None),
            ("wasi:sock", None),
            ("wasi_snapshot_preview1.sock_accept", Some(module[0])),
            ("wasi_snapshot_preview1", Some(module[0])),
            ("wasi_snapshot_preview1.sock", None),
        ] {
            let handler =
                Handler { forbidden_interfaces: vec!["other:package".to_owned(), entry.to_owned()], ..Handler::default() };
            let imports = component.into_iter().chain(module).map(str::to_owned).collect();
            let report = CodeReport { kind: "component".into(), world: "command".into(), wasi: "p2".into(), imports };
            let found = check(&report, "wasm", &handler).err().map(|refused| refused.import);
            assert_eq!(found.as_deref(), forbidden, "{entry}");
            assert!(is_name(entry), "{entry}");
        }
    }

    #[test]
    fn entries_that_would_forbid_nothing_are_no_names() {
        for entry in ["", "wasi:", "wasi:sockets/", "wasi:sockets/*", " wasi:sockets", "wasi:http/types@", ".a"] {
            assert!(!is_name(entry), "{entry}");
        }
    }
}
