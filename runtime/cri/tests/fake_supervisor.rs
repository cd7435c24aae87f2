//! A supervisor that speaks the protocol and runs `sleep` for every guest.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use wasm_host::exit_record::{Directory, start_ticks};
use wasm_host::protocol::{
    self, DescriptorKind, ExitRecord, Exited, Launch, Reply, Request, Started, Stopping, Welcome, reply, request,
};

/// Serves connections one after the other, as the real one does, for as long as the process of the test lives.
pub struct FakeSupervisor {
    children: Arc<Mutex<HashMap<String, i32>>>,
}

struct Shared {
    guests: Directory,
    /// The daemon that is connected.
    daemon: Mutex<Option<OwnedFd>>,
    children: Arc<Mutex<HashMap<String, i32>>>,
}

impl FakeSupervisor {
    pub fn start(state: &Path) -> Self {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(state.join("host-0.sock")).unwrap()).unwrap();
        rustix::net::listen(&socket, 8).unwrap();
        let children = Arc::default();
        let guests = Directory::open(state.join("guests")).unwrap();
        let shared = Arc::new(Shared { guests, daemon: Mutex::default(), children: Arc::clone(&children) });
        std::thread::spawn(move || {
            while let Ok(connection) = rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&shared, &connection));
            }
        });
        Self { children }
    }
}

impl Drop for FakeSupervisor {
    fn drop(&mut self) {
        for pid in self.children.lock().unwrap().values() {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(*pid).unwrap(), rustix::process::Signal::KILL);
        }
    }
}

fn serve(shared: &Arc<Shared>, connection: &OwnedFd) {
    *shared.daemon.lock().unwrap() = Some(connection.try_clone().unwrap());
    while let Ok(Some((request, descriptors))) = protocol::receive::<Request>(connection) {
        let body = match request.body.unwrap() {
            request::Body::Hello(_) => reply::Body::Welcome(Welcome {
                protocol: protocol::PROTOCOL,
                pid: 1,
                engine_fingerprint: "none".into(),
                guests: 0,
                build: protocol::build(),
            }),
            request::Body::Launch(launch) => reply::Body::Started(start(shared, launch, descriptors)),
            request::Body::Shutdown(_) => reply::Body::Stopping(Stopping {}),
        };
        if protocol::send(connection, &Reply { id: request.id, body: Some(body) }, &[]).is_err() {
            return;
        }
    }
}

fn start(shared: &Arc<Shared>, launch: Launch, descriptors: Vec<OwnedFd>) -> Started {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    for (kind, descriptor) in launch.descriptors.iter().zip(&descriptors) {
        if *kind == i32::from(DescriptorKind::CgroupProcs) {
            rustix::io::write(descriptor, pid.to_string().as_bytes()).unwrap();
        }
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let started = Started { pid, start_ticks: start_ticks(&stat).unwrap(), started_at: protocol::now() };
    shared.guests.write_started(&launch.guest, &started).unwrap();
    shared.children.lock().unwrap().insert(launch.guest.clone(), pid);
    let shared = Arc::clone(shared);
    std::thread::spawn(move || reap(&shared, launch.guest, started, &mut child));
    started
}

fn reap(shared: &Shared, guest: String, started: Started, child: &mut Child) {
    let status = child.wait().unwrap();
    shared.children.lock().unwrap().remove(&guest);
    let record = ExitRecord {
        pid: started.pid,
        start_ticks: started.start_ticks,
        started_at: started.started_at,
        finished_at: protocol::now(),
        exit_code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap()),
        reason: "Error".into(),
        message: String::new(),
    };
    // The directory of a test that is over is gone.
    let _ = shared.guests.write_exit(&guest, &record);
    let event = Reply { id: 0, body: Some(reply::Body::Exited(Exited { guest, record: Some(record) })) };
    if let Some(daemon) = shared.daemon.lock().unwrap().as_ref() {
        let _ = protocol::send(daemon, &event, &[]);
    }
}
