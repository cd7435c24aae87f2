//! What WASI gives a guest: its arguments, environment, files, network and streams; nothing else.
//!
//! The process is already in the container's root filesystem, network namespace and user, so the kernel decides what a
//! path or an address may do, and WASI passes it all through.

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::protocol::GuestSpec;
use crate::stdio::Streams;

/// The root directory cannot be handed to the guest.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the root directory of the container: {message}")]
pub(crate) struct RootError {
    message: String,
}

/// The WASI context of a guest.
///
/// Only a guest process calls this, after the fork: the random generators in it are seeded from the kernel then.
pub(crate) fn context(spec: &GuestSpec, streams: &Streams) -> Result<WasiCtxBuilder, RootError> {
    let mut context = WasiCtxBuilder::new();
    context
        .stdin(streams.stdin.clone())
        .stdout(streams.stdout.clone())
        .stderr(streams.stderr.clone())
        // A guest has its process for itself: file operations and plain sleeps block its thread instead of costing it
        // a pool of threads. Must come before the directory, which remembers it.
        .allow_blocking_current_thread(true)
        .args(&spec.args)
        .inherit_network()
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true);
    let mut has_pwd = false;
    for entry in &spec.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        has_pwd |= name == "PWD";
        context.env(name, value);
    }
    if !spec.working_dir.is_empty() {
        // WASI 0.1 has no working directory; Go reads it from the environment, as does what asks a shell's way.
        if !has_pwd {
            context.env("PWD", &spec.working_dir);
        }
        context.initial_cwd(&spec.working_dir);
    }
    context.preopened_dir("/", "/", FsPerms::ReadWrite).map_err(|error| RootError { message: format!("{error:#}") })?;
    Ok(context)
}
