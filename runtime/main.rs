//! The program: wires the command line to its roles.

use std::process::ExitCode;

use clap::Parser;
use cri_wasm::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        // These two are processes of their own and touch wasmtime; everything else is the daemon or its client. No thread runs yet.
        Command::Host(arguments) => finish(wasm_host::supervisor::main(&arguments.into()).map_err(Into::into)),
        Command::Compile(arguments) => {
            let code = wasm_host::compile::main(&arguments.input, &arguments.output, arguments.limits());
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        // It gives up root while no other thread is there to keep it.
        Command::Ports(arguments) => cri_wasm::network::host_port::main(&arguments),
        command => cri_wasm::cli::run(command),
    }
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cri-wasm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
