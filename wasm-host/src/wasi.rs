//! What WASI gives a guest: its arguments, environment, files, network and streams; nothing else.
//!
//! The process is already in the container's root filesystem, network namespace and user, so the kernel decides what a
//! path or an address may do, and WASI passes it all through.

use wasmtime::component::Component;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::egress::Allowed;

use crate::protocol::GuestSpec;
use crate::stdio::{Lines, Streams};

/// The root directory cannot be handed to the guest.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the root directory of the container: {message}")]
pub(crate) struct RootError {
    message: String,
}

/// The WASI context of a command.
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
        .allow_blocking_current_thread(true);
    environment(&mut context, spec);
    network(&mut context, Allowed::of(&spec.egress));
    root(&mut context)?;
    Ok(context)
}

/// What a component imports of what costs time to make for each of its instances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    environment: bool,
    files: bool,
}

impl Needs {
    pub(crate) fn of(component: &Component) -> Self {
        let engine = component.engine();
        let imported = component.component_type();
        let imports = |name: &str| imported.imports(engine).any(|(import, _)| import.starts_with(name));
        Needs { environment: imports("wasi:cli/environment@"), files: imports("wasi:filesystem/preopens@") }
    }
}

/// The WASI context of one of several instances in a process. File operations block a thread of theirs, as in commands: to hand
/// each to a pool of threads costs more than it takes.
pub(crate) fn of_instance(spec: &GuestSpec, needs: Needs, outputs: [Lines; 2], allowed: &Allowed) -> wasmtime::Result<WasiCtx> {
    let mut context = WasiCtxBuilder::new();
    let [stdout, stderr] = outputs;
    // Before the directory, which remembers it.
    context.stdout(stdout).stderr(stderr).allow_blocking_current_thread(true);
    if needs.environment {
        environment(&mut context, spec);
    }
    network(&mut context, allowed.clone());
    if needs.files {
        root(&mut context)?;
    }
    Ok(context.build())
}

fn network(context: &mut WasiCtxBuilder, allowed: Allowed) {
    context.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true);
    if allowed.everything() {
        context.inherit_network();
        return;
    }
    context.socket_addr_check(move |address, purpose| {
        let is_allowed = match purpose {
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => allowed.address(address),
            // Where it listens, and who speaks to it, is the pod's own affair.
            _ => true,
        };
        Box::pin(std::future::ready(is_allowed))
    });
}

fn root(context: &mut WasiCtxBuilder) -> Result<(), RootError> {
    let opened = context.preopened_dir("/", "/", FsPerms::ReadWrite);
    opened.map(drop).map_err(|error| RootError { message: format!("{error:#}") })
}

fn environment(context: &mut WasiCtxBuilder, spec: &GuestSpec) {
    context.args(&spec.args);
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
}
