//! The command line. Each command has a file; this one has the list of them.

mod client;
mod demo;
mod follow;
mod private;
mod pull;
mod registry;
mod run;
mod serve;
mod serve_http;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::network::host_port::PortsArgs;

/// A CRI runtime that runs WebAssembly pods.
#[derive(Debug, Parser)]
#[command(name = "cri-wasm", version, about, max_term_width = 120)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the CRI to a kubelet (the daemon)
    Serve(ServeArgs),
    /// Run one guest through the CRI, show its output and end with its exit code
    Run(Box<run::RunArgs>),
    /// Serve one component that answers HTTP requests, through the CRI, until ^C
    ServeHttp(Box<serve_http::ServeHttpArgs>),
    /// Pull an image through the daemon, with bars
    Pull(pull::PullArgs),
    /// Show the whole way: a private daemon, an embedded registry, several pods, what each took
    Demo(demo::DemoArgs),
    /// Say what this node lacks, with the remedy and what works without it
    Check(CheckArgs),
    /// Print the effective configuration with its comments
    Config(ConfigArgs),
    /// The supervisor; the daemon starts it
    #[command(hide = true)]
    Host(HostArgs),
    /// Compile one wasm file; the daemon starts it
    #[command(hide = true)]
    Compile(CompileArgs),
    /// Forward the host ports of one pod; the daemon starts it
    #[command(hide = true)]
    Ports(PortsArgs),
    /// Wait for the end of the input; the daemon starts it to keep a scope of systemd's until a guest is in it
    #[command(hide = true)]
    Hold,
    /// Print the CRI's descriptors as a FileDescriptorSet
    #[command(hide = true)]
    Descriptors,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file [default: /etc/cri-wasm/config.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of images, writable layers and the mirror of the records
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory of all that ends with a reboot; on tmpfs
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The CRI socket
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl ConfigArgs {
    /// Defaults, then the file, then the flags.
    pub fn load(&self) -> Result<crate::config::Config, crate::config::ConfigError> {
        let overrides =
            crate::config::Overrides { root: self.root.clone(), state: self.state.clone(), socket: self.socket.clone() };
        crate::config::Config::load(self.config.as_deref(), overrides)
    }
}

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// `check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `host`
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Socket to listen on
    #[arg(long)]
    socket: PathBuf,
    /// Directory of the guests' files
    #[arg(long)]
    guests: PathBuf,
}

impl From<HostArgs> for wasm_host::supervisor::Options {
    fn from(arguments: HostArgs) -> Self {
        Self { socket: arguments.socket, guests: arguments.guests }
    }
}

/// `compile`
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// The wasm file
    #[arg(long)]
    pub input: PathBuf,
    /// Where the code goes
    #[arg(long)]
    pub output: PathBuf,
    /// Memory limit in bytes
    #[arg(long)]
    memory_bytes: u64,
    /// Limit of CPU time in seconds
    #[arg(long)]
    cpu_seconds: u64,
}

impl CompileArgs {
    /// As the compiler takes them.
    pub fn limits(&self) -> wasm_host::compile::CompileLimits {
        wasm_host::compile::CompileLimits { memory_bytes: self.memory_bytes, cpu_seconds: self.cpu_seconds }
    }
}

/// Runs a command that is not one of wasm-host's.
pub fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(arguments) => serve::run(&arguments.config).map(|()| ExitCode::SUCCESS),
        Command::Run(arguments) => run::run(*arguments),
        Command::ServeHttp(arguments) => serve_http::run(*arguments),
        Command::Pull(arguments) => pull::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Config(arguments) => print_config(&arguments),
        Command::Hold => hold(),
        Command::Descriptors => print_descriptors(),
        Command::Host(_) | Command::Compile(_) | Command::Ports(_) => Ok(ExitCode::FAILURE),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cri-wasm: {error:#}");
        ExitCode::FAILURE
    })
}

fn check(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = crate::check::run(&arguments.config.load()?);
    let text = if arguments.json { crate::check::render_json(&findings)? } else { crate::check::render_text(&findings) };
    println!("{}", text.trim_end());
    Ok(if crate::check::is_essential_missing(&findings) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_config(arguments: &ConfigArgs) -> anyhow::Result<ExitCode> {
    print!("{}", arguments.load()?.render());
    Ok(ExitCode::SUCCESS)
}

/// Ends when the daemon lets go of the other end of its input, or has gone.
fn hold() -> anyhow::Result<ExitCode> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(ExitCode::SUCCESS)
}

fn print_descriptors() -> anyhow::Result<ExitCode> {
    std::io::Write::write_all(&mut std::io::stdout(), crate::proto::runtime::v1::DESCRIPTORS)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a future on a runtime of its own.
fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(future))
}
