//! What a component is for, by the names of its exports, before it is compiled: services are compiled with other settings.

use wasmparser::{Parser, Payload};

/// The world of a component.
pub(super) fn of(exports: &[&str]) -> &'static str {
    let exported = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    match () {
        () if exported("wasi:cli/run@") => "command",
        () if exported("wasi:http/incoming-handler@0.2.") || exported("wasi:http/handler@0.3.") => "http",
        () if exports.is_empty() => "library",
        () => "reactor",
    }
}

/// Whether it answers HTTP requests. A file that cannot be read is none; the compiler says what is wrong with it.
pub(super) fn is_service(wasm: &[u8]) -> bool {
    of(&exports(wasm)) == "http"
}

/// Names of the component's own exports, not of those within it.
fn exports(wasm: &[u8]) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::Version { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(section)) if depth == 1 => {
                exports.extend(section.into_iter().filter_map(Result::ok).map(|export| export.name.name));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    exports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_exports_is_not_exported_by_the_whole() {
        let inner = r#"(component $inner (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))"#;
        let whole = |export: &str| wat::parse_str(format!("(component {inner} {export})")).unwrap();
        assert!(!is_service(&whole("")));
        let again = r#"(instance $i) (export "wasi:http/incoming-handler@0.2.4" (instance $i))"#;
        assert!(is_service(&whole(again)));
        let command = format!(r#"{again} (export "wasi:cli/run@0.2.0" (instance $i))"#);
        assert!(!is_service(&whole(&command)));
        assert!(!is_service(b"\0asm\x0d\0\x01\0 and nothing that could be read"));
    }
}
