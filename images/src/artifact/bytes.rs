//! What a file is, by its first bytes: the only witness that no tool can mislabel.
//!
//! Text is the exception, since every Lisp program begins with a parenthesis too: it counts as wasm only where the
//! file is also named `.wat`.

use std::path::Path;

/// As many first bytes as are ever looked at: comments may come before the first parenthesis of a text.
pub(crate) const START: usize = 64 * 1024;
/// Bytes of a text file that is taken for wasm. 16 MiB: texts are written by people and for tests, and a text takes its
/// compiler some ten times its size in memory.
pub(crate) const MAX_TEXT: u64 = 16 << 20;

/// ELF's mark, and the OS/ABI byte that wasmtime gives its serialized code (`ELFOSABI_WASMTIME`).
const ELF: &[u8] = b"\x7fELF";
const ABI_AT: usize = 7;
const WASMTIME_ABI: u8 = 200;
/// Code of WAMR's compiler and of Wasmer.
const OTHER_CODE: [&[u8]; 2] = [b"\0aot", b"WASMER\0\0"];

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// A module or a component.
    Wasm,
    /// It may be WebAssembly text.
    Text,
    /// Machine code that a wasm engine has made.
    Precompiled,
    /// A native program or library.
    Elf,
    /// `#!`
    Script,
    Other,
}

impl Start {
    /// From up to [`START`] bytes; eight are enough for all but text.
    pub(crate) fn of(start: &[u8]) -> Start {
        if start.starts_with(b"\0asm") {
            Start::Wasm
        } else if start.starts_with(ELF) {
            if start.get(ABI_AT) == Some(&WASMTIME_ABI) { Start::Precompiled } else { Start::Elf }
        } else if OTHER_CODE.iter().any(|magic| start.starts_with(magic)) {
            Start::Precompiled
        } else if start.starts_with(b"#!") {
            Start::Script
        } else if begins_as_text(start) {
            Start::Text
        } else {
            Start::Other
        }
    }

    /// Whether some name could make this a wasm file.
    pub(crate) fn may_be_wasm(self) -> bool {
        matches!(self, Start::Wasm | Start::Text)
    }

    /// Whether a file that begins so, of this name and this size, is wasm.
    pub(crate) fn is_wasm(self, name: &Path, size: u64) -> bool {
        match self {
            Start::Wasm => true,
            Start::Text => is_named_text(name) && size <= MAX_TEXT,
            _ => false,
        }
    }
}

pub(crate) fn is_named_text(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "wat")
}

/// Skips blanks, `;; line comments` and `(; block comments, which nest ;)`, and looks for a parenthesis.
fn begins_as_text(mut rest: &[u8]) -> bool {
    loop {
        rest = match rest {
            [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] => rest,
            [b';', b';', rest @ ..] => match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => rest.get(end..).unwrap_or_default(),
                None => return false,
            },
            [b'(', b';', rest @ ..] => match after_comment(rest) {
                Some(rest) => rest,
                None => return false,
            },
            [b'(', ..] => return true,
            _ => return false,
        };
    }
}

fn after_comment(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 1usize;
    while depth > 0 {
        rest = match rest {
            [b'(', b';', rest @ ..] => {
                depth += 1;
                rest
            }
            [b';', b')', rest @ ..] => {
                depth -= 1;
                rest
            }
            [_, rest @ ..] => rest,
            [] => return None,
        };
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_wasm_from_precompiled_code_and_from_native_programs() {
        for (bytes, what) in [
            (&b"\0asm\x01\0\0\0"[..], Start::Wasm),
            (b"\0asm\x0d\0\x01\0", Start::Wasm),
            (b"\x7fELF\x02\x01\x01\x00\0\0\0\0", Start::Elf),
            (b"\x7fELF\x02\x01\x01\x03\0\0\0\0", Start::Elf),
            (b"\x7fELF\x02\x01\x01\xc8\0\0\0\0", Start::Precompiled),
            (b"\x7fELF", Start::Elf),
            (b"\0aot\x05\0\0\0", Start::Precompiled),
            (b"WASMER\0\0\x0a\0\0\0", Start::Precompiled),
            (b"#!/bin/sh\n", Start::Script),
            (b"", Start::Other),
            (b"\0as", Start::Other),
            (b"\x1f\x8b\x08", Start::Other),
        ] {
            assert_eq!(Start::of(bytes), what, "{bytes:?}");
        }
    }

    #[test]
    fn text_may_begin_with_blanks_and_comments() {
        for text in ["(module)", " \r\n\t(component)", ";; a\n;; b\n(module)", "(; a (; b ;) c ;)(module)", "(func)"] {
            assert_eq!(Start::of(text.as_bytes()), Start::Text, "{text}");
        }
        for text in ["", ";; (module)", "(; (module)", "(; a (; b ;)(module)", "module", "; (module)", "; ; (", ")", "\u{feff}("]
        {
            assert_eq!(Start::of(text.as_bytes()), Start::Other, "{text}");
        }
    }

    #[test]
    fn text_counts_only_under_its_name_and_up_to_its_size() {
        let text = Start::of(b"(module)");
        assert!(text.is_wasm(Path::new("a/b.wat"), 8));
        assert!(text.is_wasm(Path::new("b.wat"), MAX_TEXT));
        assert!(!text.is_wasm(Path::new("b.wat"), MAX_TEXT + 1));
        for name in ["b.wast", "b.lisp", "b", ".wat", "wat", "b.wasm"] {
            assert!(!text.is_wasm(Path::new(name), 8), "{name}");
            assert!(Start::Wasm.is_wasm(Path::new(name), u64::MAX), "{name}");
        }
    }
}
