//! Core dumps of traps, for those who ask for them: a file of the WebAssembly core dump format, with the guest's memories.
//!
//! The guest's own process writes them, with its own rights, into a directory that its container has. A dump is made in memory
//! first, and counts there for the container.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::{Store, WasmCoreDump};

use crate::protocol::GuestSpec;

/// Bytes of linear memory of which a dump is made, at most.
const MEMORY_BYTES: usize = 512 << 20;

/// Dumps that a process makes, at most: a service traps once a request.
const DUMPS: u32 = 10;

/// Characters of a guest's name in that of a file.
const NAME: usize = 64;

/// Where dumps go.
pub(super) struct Dumps {
    directory: PathBuf,
    name: String,
    made: AtomicU32,
}

impl Dumps {
    /// `None`: nobody asks for them.
    pub(super) fn of(spec: &GuestSpec) -> Option<Self> {
        let name = spec.args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".wasm").unwrap_or(&name);
        let safe = |character: char| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' };
        let name: String = name.chars().take(NAME).map(safe).collect();
        let name = if name.is_empty() { "guest".to_owned() } else { name };
        let directory = PathBuf::from(&spec.core_dump_dir);
        (!spec.core_dump_dir.is_empty()).then(|| Dumps { directory, name, made: AtomicU32::new(0) })
    }

    /// Writes a dump of what has failed, if it has one. Returns what there is to say of it.
    pub(super) fn write<T: 'static>(&self, store: &mut Store<T>, error: &wasmtime::Error) -> Option<String> {
        let dump = error.downcast_ref::<WasmCoreDump>()?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        if number >= DUMPS {
            return None;
        }
        let bytes: usize = dump.memories().iter().map(|memory| memory.data_size(&*store)).sum();
        if bytes > MEMORY_BYTES {
            return Some(format!("no core dump: its memory of {bytes} bytes is larger than {MEMORY_BYTES}"));
        }
        let id = std::process::id();
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        let path = self.directory.join(format!("core.{}.{id}{number}.wasm", self.name));
        Some(match create(&path, &dump.serialize(store, &self.name)) {
            Ok(()) => format!("core dump: {}", path.display()),
            Err(error) => format!("no core dump: {}: {error}", path.display()),
        })
    }
}

/// Half of a dump is none.
fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}
