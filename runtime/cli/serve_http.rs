//! `cri-wasm serve-http`: a component that answers HTTP requests, at a desk, as a pod would serve it.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::run::{self, RunArgs};

/// `serve-http`
#[derive(Debug, Args)]
pub struct ServeHttpArgs {
    /// Where it listens: PORT, :PORT or ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    addr: String,
    /// How long requests may take to end after ^C, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    grace: u32,
    #[command(flatten)]
    guest: RunArgs,
}

/// What is particular about a guest that serves.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// As it was asked for.
    pub(super) address: String,
    /// From the first ^C to the guest's end by force.
    pub(super) grace: Duration,
}

impl Served {
    /// For people, where it can be reached.
    pub(super) fn url(&self) -> String {
        let address = self.address.strip_prefix(':').unwrap_or(&self.address);
        if address.contains(':') { format!("http://{address}/") } else { format!("http://localhost:{address}/") }
    }
}

/// Runs the command on a runtime of its own.
pub(super) fn run(arguments: ServeHttpArgs) -> anyhow::Result<ExitCode> {
    let ServeHttpArgs { addr, grace, guest } = arguments;
    run::serve(guest, Served { address: addr, grace: Duration::from_secs(grace.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_one_for_people() {
        let url = |address: &str| Served { address: address.to_owned(), grace: Duration::ZERO }.url();
        assert_eq!(url("127.0.0.1:80"), "http://127.0.0.1:80/");
        assert_eq!(url("[::1]:80"), "http://[::1]:80/");
        assert_eq!((url("81"), url(":81")), ("http://localhost:81/".to_owned(), "http://localhost:81/".to_owned()));
    }
}
