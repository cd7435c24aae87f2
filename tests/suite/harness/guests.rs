//! The guests, a constant each, and the images that the suites run them from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cri_wasm::proto::runtime::v1::{ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig};

use super::image::Image;
use super::missing;
use super::registry::Registry;

/// A guest program, pushed as a wasm artifact of its own when a test first asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    name: &'static str,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// A file that examples/build makes.
    Built,
    /// A program that others have published and tests/programs fetches.
    Fetched,
    /// WebAssembly text.
    Text(&'static str),
}

/// The guest of most tests: its arguments say what it does (tests/guests/probe).
pub const PROBE: Guest = Guest { name: "probe", source: Source::Built };
/// The same program as a command component of WASI 0.2.
pub const PROBE_P2: Guest = Guest { name: "probe.p2", source: Source::Built };
/// Checks each function of WASI preview 1 (tests/guests/p1).
pub const P1: Guest = Guest { name: "p1", source: Source::Built };
/// The same checks in a component, through wasmtime's adapter.
pub const P1_P2: Guest = Guest { name: "p1.p2", source: Source::Built };
/// Serves and connects through the sockets of WASI 0.2 (tests/guests/sockets).
pub const SOCKETS: Guest = Guest { name: "sockets.p2", source: Source::Built };
/// A TCP server of Rust's standard library, on the sockets of WASI 0.1 (tests/guests/accept).
pub const ACCEPT: Guest = Guest { name: "accept", source: Source::Built };
/// The same in C, with poll, and every call by itself (tests/guests/net).
pub const NET: Guest = Guest { name: "net", source: Source::Built };
/// Go's web server (tests/guests/http-go).
pub const HTTP_GO: Guest = Guest { name: "http-go", source: Source::Built };
/// A Go program of some megabytes, slow to compile (tests/guests/large).
pub const LARGE: Guest = Guest { name: "large", source: Source::Built };
/// The shell and the tools of examples/toolbox.
pub const TOOLBOX: Guest = Guest { name: "toolbox", source: Source::Built };
/// A command component of WASI 0.3 (tests/guests/p3).
pub const P3: Guest = Guest { name: "p3", source: Source::Built };
/// A service of wasi:http 0.2 (tests/guests/web).
pub const WEB: Guest = Guest { name: "web.p2", source: Source::Built };
/// A service of wasi:http 0.3 (tests/guests/web3).
pub const WEB_P3: Guest = Guest { name: "web.p3", source: Source::Built };
/// Commands over wasi:config, wasi:keyvalue, wasi:logging and wasi:tls (tests/guests/interfaces).
pub const INTERFACES: Guest = Guest { name: "interfaces.p2", source: Source::Built };
/// The same as a service: a request's path has the words.
pub const INTERFACES_WEB: Guest = Guest { name: "interfaces-web.p2", source: Source::Built };
/// CPython 3.12 with its library in it.
pub const CPYTHON: Guest = Guest { name: "cpython", source: Source::Fetched };
/// The interpreter `qjs` of QuickJS-ng.
pub const QUICKJS: Guest = Guest { name: "quickjs", source: Source::Fetched };
/// The shell of SQLite, a module of preview 0.
pub const SQLITE: Guest = Guest { name: "sqlite", source: Source::Fetched };
/// clang and lld in one module, which goes by its argv[0].
pub const CLANG: Guest = Guest { name: "clang", source: Source::Fetched };
/// A service of wasi:http 0.2 that says hello.
pub const HELLO_HTTP: Guest = Guest { name: "hello-http", source: Source::Fetched };

macro_rules! text {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Guest = Guest {
            name: $name,
            source: Source::Text(include_str!(concat!("../../guests/text/", $name, ".wat"))),
        };)*
    };
}

text! {
    /// Calls proc_exit with its argument, whatever number of 32 bits that is.
    EXIT_CODE = "exit-code";
    /// Writes `hello` and ends.
    FIRST_LINE = "first-line";
    /// A command of WASI 0.3 that writes to memory until it is refused (then it ends with 1) or killed.
    EAT_MEMORY_P3 = "eat-memory.p3";
    /// Grows its memory until it is refused (then it ends with 3) or killed.
    GROW = "grow";
    /// Has no `_start`.
    NO_START = "no-start";
    /// Functions to be called one by one.
    REACTOR = "reactor";
    /// The same of a component.
    REACTOR_P2 = "reactor.p2";
    /// Computes for ever.
    SPIN = "spin";
    TRAP_BOUNDS = "trap-bounds";
    TRAP_CALL_TYPE = "trap-call-type";
    TRAP_DIVIDE = "trap-divide";
    TRAP_STACK = "trap-stack";
    TRAP_START = "trap-start";
    /// Writes `before the trap`, then `unreachable` below `outer` and `middle`.
    TRAP_UNREACHABLE = "trap-unreachable";
}

impl Guest {
    /// Its binary, or `None` after the test was skipped.
    pub fn wasm(&self) -> Option<Vec<u8>> {
        match self.source {
            Source::Text(text) => Some(wat::parse_str(text).expect("valid WebAssembly text")),
            Source::Built => self.read(&built_directory(), "examples/build makes it"),
            Source::Fetched => self.read(&missing::cache().join("programs"), "tests/programs fetches it"),
        }
    }

    fn read(&self, directory: &Path, remedy: &str) -> Option<Vec<u8>> {
        let path = directory.join(format!("{}.wasm", self.name));
        let bytes = std::fs::read(&path).ok();
        if bytes.is_none() {
            missing::skip(&format!("the guest {} ({remedy})", path.display()));
        }
        bytes
    }

    /// Pushes it unless that has been done. `None`: the test was skipped.
    pub fn push(&self) -> Option<()> {
        static PUSHED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
        let registry = Registry::shared()?;
        let wasm = self.wasm()?;
        let mut pushed = PUSHED.lock().unwrap_or_else(PoisonError::into_inner);
        if pushed.insert(self.name) {
            registry.push(&self.repository(), "1", &Image::artifact(&wasm));
        }
        Some(())
    }

    fn repository(&self) -> String {
        format!("guests/{}", self.name)
    }

    /// What it is pulled as. To be asked for only after [`Guest::push`].
    pub fn reference(&self) -> String {
        Registry::shared().expect("the guest was pushed").reference(&format!("{}:1", self.repository()))
    }

    /// A container of it, with these arguments and a log of the container's name.
    pub fn container(&self, name: &str, args: &[&str]) -> ContainerConfig {
        container(&self.reference(), name, args)
    }
}

/// A container of an image, with these arguments and a log of the container's name.
pub fn container(image: &str, name: &str, args: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
        args: args.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig::default()),
        ..ContainerConfig::default()
    }
}

/// Where examples/build puts what it makes.
fn built_directory() -> PathBuf {
    let named = std::env::var_os("CRI_WASM_GUESTS").filter(|value| !value.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| missing::cache().join("guests"))
}

/// The words of a line, for arguments that have no spaces in them.
pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
