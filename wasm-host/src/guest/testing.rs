//! Runs guests in processes of their own, for tests.
//!
//! The test executable starts itself again with the name of one test, which then takes the other role: a forked copy of a
//! process with many threads could hang on a lock that one of them held.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use prost::Message;
use tempfile::TempDir;

use super::{GuestIo, Prepared, load, refuse, run};
use crate::compile::CompileLimits;
use crate::engine;
use crate::protocol::{CodeKind, GuestSpec, Outcome, StreamKind};

const OWN_PROCESS: &str = "CRI_WASM_TEST_OWN_PROCESS";
const GUEST: &str = "CRI_WASM_TEST_GUEST";
const DATA_LIMIT: &str = "CRI_WASM_TEST_DATA_LIMIT";

fn again(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// Runs `body` in a process of its own. `test` is the path of the calling test, from the root of the crate.
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    if env::var_os(OWN_PROCESS).is_some() {
        body();
        return;
    }
    let output = again(test).env(OWN_PROCESS, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The other side of [`Guest`]: becomes the guest process. Not a test of its own.
#[test]
fn becomes_a_guest_process_where_a_test_asks_for_one() {
    let Some(directory) = env::var_os(GUEST).map(PathBuf::from) else { return };
    let spec = GuestSpec::decode(fs::read(directory.join("spec")).unwrap().as_slice()).unwrap();
    let prepared = Prepared::new(engine::new().unwrap()).unwrap();
    if let Ok(bytes) = env::var(DATA_LIMIT) {
        // What the kernel checks where memory becomes writable, as it checks a node that does not overcommit.
        let bytes = Some(bytes.parse().unwrap());
        let limit = rustix::process::Rlimit { current: bytes, maximum: bytes };
        rustix::process::setrlimit(rustix::process::Resource::Data, limit).unwrap();
    }
    let outcome: OwnedFd = File::create(directory.join("outcome")).unwrap().into();
    let status = match load(prepared.engine(), &spec, File::open(directory.join("code")).unwrap().into()) {
        Err(error) => refuse(&outcome, &error.to_string()),
        Ok(code) => {
            let io = GuestIo {
                log: Some(OpenOptions::new().append(true).create(true).open(directory.join("log")).unwrap().into()),
                control: Some(UnixDatagram::bind(directory.join("control")).unwrap().into()),
                stdin: Some(std::io::stdin().as_fd().try_clone_to_owned().unwrap()),
                stdout: Some(std::io::stdout().as_fd().try_clone_to_owned().unwrap()),
                stderr: Some(std::io::stderr().as_fd().try_clone_to_owned().unwrap()),
                terminal: None,
                master: None,
                outcome,
            };
            run(&prepared, &spec, code, io, || fs::write(directory.join("ready"), "").unwrap())
        }
    };
    // SAFETY: as the supervisor's child does, without destructors and exit handlers.
    unsafe { libc::_exit(status) }
}

/// A guest with its files: `log`, `ready`, and what its spec names below its directory.
pub(crate) struct Guest {
    pub(crate) directory: TempDir,
    pub(crate) spec: GuestSpec,
    /// Bytes of memory that the kernel gives the process.
    pub(crate) data_limit: Option<u64>,
}

/// How a guest ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) outcome: Outcome,
    pub(crate) log: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) was_ready: bool,
}

impl Guest {
    /// A command from WAT text, whose output goes to the log.
    pub(crate) fn new(wat: &str) -> Self {
        let engine = engine::new().unwrap();
        let wasm = wat::parse_str(wat).unwrap();
        let (kind, code) = if wasm.starts_with(b"\0asm\x01\0\0\0") {
            (CodeKind::ModuleCommand, engine.precompile_module(&wasm))
        } else {
            (CodeKind::ComponentCommand, engine.precompile_component(&wasm))
        };
        Self::of(kind, &code.unwrap())
    }

    /// The same program as a component of WASI 0.2: a module from WAT text and wasmtime's adapter around it.
    pub(crate) fn adapted(wat: &str) -> Self {
        use wasi_preview1_component_adapter_provider as adapter;
        let component = wit_component::ComponentEncoder::default()
            .module(&wat::parse_str(wat).unwrap())
            .unwrap()
            .adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
            .unwrap()
            .encode()
            .unwrap();
        Self::of(CodeKind::ComponentCommand, &engine::new().unwrap().precompile_component(&component).unwrap())
    }

    /// A command of compiled code.
    pub(crate) fn of(kind: CodeKind, code: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("code"), code).unwrap();
        let log = StreamKind::StreamLog.into();
        let spec =
            GuestSpec { kind: kind.into(), args: vec!["guest".to_owned()], stdout: log, stderr: log, ..GuestSpec::default() };
        Guest { directory, spec, data_limit: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the process.
    pub(crate) fn start(&self, stdin: Stdio) -> Child {
        fs::write(self.path("spec"), self.spec.encode_to_vec()).unwrap();
        again("guest::testing::becomes_a_guest_process_where_a_test_asks_for_one")
            .env(GUEST, self.directory.path())
            .envs(self.data_limit.map(|bytes| (DATA_LIMIT, bytes.to_string())))
            // Errors of the guest must not carry frames of the host, whatever the environment asks for.
            .env("RUST_BACKTRACE", "1")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn wait_for(&self, what: impl Fn(&Path) -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !what(self.directory.path()) {
            assert!(std::time::Instant::now() < deadline, "log: {}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn end(&self, child: Child) -> Ended {
        let output = child.wait_with_output().unwrap();
        let outcome = fs::read(self.path("outcome")).unwrap();
        Ended {
            status: output.status,
            outcome: Outcome::decode(outcome.as_slice()).unwrap(),
            log: self.log(),
            stdout: output.stdout,
            was_ready: self.path("ready").exists(),
        }
    }

    pub(crate) fn run(&self) -> Ended {
        self.end(self.start(Stdio::null()))
    }
}

impl Ended {
    /// Texts of the log's lines of one stream.
    pub(crate) fn lines(&self, stream: &str) -> Vec<&str> {
        self.log.lines().filter_map(|line| line.get(31..)?.strip_prefix(stream)?.get(3..)).collect()
    }
}

const COMPILE: &str = "CRI_WASM_TEST_COMPILE";

/// The other side of [`compile`]. Not a test of its own.
#[test]
fn becomes_a_compiler_where_a_test_asks_for_one() {
    let Some(arguments) = env::var(COMPILE).ok() else { return };
    let [input, output, memory_bytes, cpu_seconds]: [&str; 4] = arguments.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let limits = CompileLimits { memory_bytes: memory_bytes.parse().unwrap(), cpu_seconds: cpu_seconds.parse().unwrap() };
    println!();
    let status = crate::compile::main(Path::new(input), Path::new(output), limits);
    // SAFETY: as the program does, at once.
    unsafe { libc::_exit(status) }
}

/// Compiles in a process of its own. Returns its exit status and the line that it printed.
pub(crate) fn compile(input: &Path, output: &Path, limits: CompileLimits) -> (Option<i32>, serde_json::Value) {
    let CompileLimits { memory_bytes, cpu_seconds } = limits;
    let arguments = format!("{}\n{}\n{memory_bytes}\n{cpu_seconds}", input.display(), output.display());
    let output = again("guest::testing::becomes_a_compiler_where_a_test_asks_for_one").env(COMPILE, arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap_or_default();
    let line = serde_json::from_str(line)
        .unwrap_or_else(|_| panic!("{:?}: {text} {}", output.status, String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), line)
}
