//! Runs `cri-wasm compile`: how the images crate gets wasm turned into code without the daemon ever parsing it.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use images::{CodeReport, CompileError, Compiler};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tracing::Instrument;

use crate::cgroup::Cgroup;
use crate::metrics::{Outcome, Timed, metrics};

/// Most bytes of the report that are read: it lists imports, and a component may have thousands.
const MAX_REPORT: u64 = 1 << 20;

/// Limits of one compile process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// CPU time over all threads, in seconds.
    pub cpu_seconds: u64,
    /// Time on the clock.
    pub wall: Duration,
}

/// Compiles in processes of their own.
#[derive(Debug, Clone)]
pub struct ProcessCompiler {
    /// The daemon's own executable.
    pub program: PathBuf,
    /// Of the supervisor that will load the code.
    pub fingerprint: String,
    /// For each process.
    pub limits: CompileLimits,
    /// Where they all run: behind the pods when processors are short, and within a bound of memory.
    pub cgroup: Option<Cgroup>,
}

/// The line that the compile process prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Ok(CodeReport),
    Error { code: String, message: String },
}

impl Compiler for ProcessCompiler {
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn compile(&self, wasm: PathBuf, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<CodeReport, CompileError>> + Send>> {
        let compiler = self.clone();
        Box::pin(async move {
            let timed = Timed::new("canceled", |result, taken: Duration| {
                metrics().compiles.get_or_create(&Outcome { result }).inc();
                metrics().compile_duration.observe(taken.as_secs_f64());
            });
            let span = tracing::debug_span!("compile file", wasm = %wasm.display());
            let compiled = compiler.run(wasm, output).instrument(span).await;
            timed.end(match &compiled {
                Ok(_) => "ok",
                Err(CompileError::Rejected(_)) => "rejected",
                Err(CompileError::Limit(_)) => "limit",
                Err(_) => "failed",
            });
            compiled
        })
    }
}

impl ProcessCompiler {
    async fn run(&self, wasm: PathBuf, output: PathBuf) -> Result<CodeReport, CompileError> {
        let internal = |what: &str, error: &dyn std::fmt::Display| CompileError::Failed(format!("{what}: {error}"));
        let mut process = tokio::process::Command::new(&self.program)
            .arg("compile")
            .args(["--memory-bytes", &self.limits.memory_bytes.to_string()])
            .args(["--cpu-seconds", &self.limits.cpu_seconds.to_string()])
            .arg("--input")
            .arg(&wasm)
            .arg("--output")
            .arg(&output)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| internal("starting the compiler", &error))?;
        self.join(process.id()).await;
        let mut text = Vec::new();
        let stdout = process.stdout.take().ok_or_else(|| CompileError::Failed("the compiler has no output".to_owned()))?;
        let finish = async {
            stdout.take(MAX_REPORT).read_to_end(&mut text).await?;
            process.wait().await
        };
        let status = match tokio::time::timeout(self.limits.wall, finish).await {
            Ok(status) => status.map_err(|error| internal("waiting for the compiler", &error))?,
            Err(_) => {
                return Err(CompileError::Limit(format!(
                    "compiling took longer than {} s ([compile] wall_seconds)",
                    self.limits.wall.as_secs()
                )));
            }
        };
        match serde_json::from_slice(&text) {
            Ok(Report::Ok(report)) if status.success() => Ok(report),
            Ok(Report::Error { code, message }) => Err(match code.as_str() {
                "invalid_wasm" | "unknown_import" => CompileError::Rejected(message),
                "limit" => CompileError::Limit(message),
                _ => CompileError::Failed(message),
            }),
            // It was killed: the kernel says by which limit.
            Ok(Report::Ok(_)) | Err(_) => Err(self.ended_early(status)),
        }
    }

    /// The process bounds itself too, so a group that cannot be joined is no reason to compile nothing.
    async fn join(&self, pid: Option<u32>) {
        let (Some(cgroup), Some(pid)) = (self.cgroup.clone(), pid.and_then(|pid| i32::try_from(pid).ok())) else { return };
        // Without favordynmods the kernel makes this wait for some milliseconds.
        let joined = tokio::task::spawn_blocking(move || cgroup.add(pid)).await;
        if let Ok(Err(error)) = joined {
            tracing::warn!(%error, "a compile process stays in the daemon's cgroup");
        }
    }

    fn ended_early(&self, status: std::process::ExitStatus) -> CompileError {
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(libc::SIGXCPU | libc::SIGKILL) => CompileError::Limit(format!(
                "compiling took more than {} s of CPU time ([compile] cpu_seconds) or was killed for memory",
                self.limits.cpu_seconds
            )),
            Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGBUS) => CompileError::Limit(format!(
                "compiling needed more than {} bytes of memory ([compile] memory_bytes)",
                self.limits.memory_bytes
            )),
            Some(libc::SIGXFSZ) => CompileError::Limit("the compiled code is larger than the compiler may write".to_owned()),
            _ => CompileError::Failed(format!("the compiler ended with {status} and said nothing")),
        }
    }
}
