//! systemd's manager as tests need it: the calls that the runtime makes, over a real bus, with real groups.
//!
//! As systemd it makes a unit's directories in every hierarchy, moves the processes that were named into them, and tells the end of
//! each job. It writes down what it was asked for. Also compiled into the black-box suite.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::wire::{Call, FIXED_HEADER, Kind, Message, Reader, Value, Writer, remaining, service};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PATH: &str = "/org/freedesktop/systemd1";

/// What is known of a unit.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    directories: Vec<PathBuf>,
    properties: BTreeMap<String, Value>,
}

impl Unit {
    /// A property that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.properties.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A property that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.properties.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A property that is yes or no.
    pub fn flag(&self, name: &str) -> bool {
        self.properties.get(name) == Some(&Value::Flag(true))
    }

    /// The processes that systemd sees in it.
    pub fn processes(&self) -> Vec<i32> {
        let tracked =
            self.directories.iter().find(|path| path.starts_with("/sys/fs/cgroup/systemd")).or(self.directories.first());
        let text = tracked.map(|path| std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default());
        text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }
}

#[derive(Debug, Default)]
struct State {
    units: BTreeMap<String, Unit>,
    /// Names of calls, with their units.
    calls: Vec<String>,
    /// The result of the next job.
    next_result: Option<&'static str>,
}

/// A bus with a manager on it. Dropping it ends both, and removes what is left of the units.
#[derive(Debug)]
pub struct Mock {
    daemon: Child,
    /// For `DBUS_SYSTEM_BUS_ADDRESS`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Mock {
    /// Starts both, with a socket in this directory. `None`: there is no dbus-daemon here.
    pub fn start(directory: &Path) -> Option<Mock> {
        let socket = directory.join("bus.sock");
        let config = directory.join("bus.conf");
        let text = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/><allow user=\"*\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg("--nopidfile").arg(format!("--config-file={}", config.display()));
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "the bus does not start: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let state = Arc::new(Mutex::new(State::default()));
        let manager = Manager { stream, serial: 0, jobs: 0, state: Arc::clone(&state) };
        let manager = manager.on_the_bus();
        std::thread::spawn(move || manager.serve());
        Some(Mock { daemon, address: format!("unix:path={}", socket.display()), state })
    }

    /// A unit that is there.
    pub fn unit(&self, name: &str) -> Option<Unit> {
        self.state.lock().unwrap().units.get(name).cloned()
    }

    /// The names of all that are there.
    pub fn units(&self) -> Vec<String> {
        self.state.lock().unwrap().units.keys().cloned().collect()
    }

    /// What it was asked for, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// From now on a scope that is empty goes at once, as a real one does: before anybody has looked at its counters.
    pub fn collect(&self) {
        let state = Arc::downgrade(&self.state);
        std::thread::spawn(move || {
            while let Some(state) = state.upgrade() {
                let mut state = state.lock().unwrap();
                let empty = |unit: &Unit| unit.directories.iter().all(|path| path.is_dir()) && unit.processes().is_empty();
                state.units.retain(|name, unit| {
                    let gone = name.ends_with(".scope") && empty(unit);
                    if gone {
                        unit.directories.iter().for_each(|path| remove(path));
                    }
                    !gone
                });
                drop(state);
                std::thread::sleep(Duration::from_micros(100));
            }
        });
    }

    /// Lets the next job fail.
    pub fn fail_next(&self) {
        self.state.lock().unwrap().next_result = Some("failed");
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let units = std::mem::take(&mut self.state.lock().unwrap().units);
        let mut directories: Vec<PathBuf> = units.into_values().flat_map(|unit| unit.directories).collect();
        directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        directories.iter().for_each(|path| remove(path));
    }
}

/// Removes a group, and the slices above it that are empty then.
fn remove(path: &Path) {
    let mut path = path.to_owned();
    while std::fs::remove_dir(&path).is_ok() && path.pop() && path.extension().is_some_and(|kind| kind == "slice") {}
}

struct Manager {
    stream: UnixStream,
    serial: u32,
    jobs: u32,
    state: Arc<Mutex<State>>,
}

impl Manager {
    fn on_the_bus(mut self) -> Manager {
        let uid: String = rustix::process::geteuid().as_raw().to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 256];
        let length = self.stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"OK "));
        self.stream.write_all(b"BEGIN\r\n").unwrap();
        let bus = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            signature: "",
        };
        self.send(|serial| bus.encode(serial, &[]));
        let mut body = Writer::default();
        body.text("org.freedesktop.systemd1");
        body.u32(0);
        let body = body.finish();
        self.send(|serial| Call { member: "RequestName", signature: "su", ..bus }.encode(serial, &body));
        // Nobody may call before the name is there.
        while self.receive().unwrap().reply_to != Some(2) {}
        self
    }

    fn send(&mut self, message: impl FnOnce(u32) -> Vec<u8>) {
        self.serial += 1;
        let _ = self.stream.write_all(&message(self.serial));
    }

    fn receive(&mut self) -> Option<Message> {
        let mut fixed = [0; FIXED_HEADER];
        self.stream.read_exact(&mut fixed).ok()?;
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED_HEADER + remaining(&fixed).unwrap(), 0);
        self.stream.read_exact(&mut bytes[FIXED_HEADER..]).ok()?;
        Some(Message::decode(&bytes).unwrap())
    }

    fn serve(mut self) {
        while let Some(message) = self.receive() {
            if message.kind == Kind::Call {
                self.answer(&message);
            }
        }
    }

    fn answer(&mut self, call: &Message) {
        let mut body = Reader::new(&call.body);
        let unit = body.text().unwrap_or_default();
        let state = Arc::clone(&self.state);
        state.lock().unwrap().calls.push(format!("{} {unit}", call.member));
        let known = state.lock().unwrap().units.contains_key(&unit);
        let refuse = |manager: &mut Manager, name: &str| {
            manager.send(|serial| service::refusal(call, serial, &format!("org.freedesktop.systemd1.{name}"), "as asked"));
        };
        match call.member.as_str() {
            "Subscribe" => self.send(|serial| service::answer(call, serial, "", &[])),
            "GetUnit" => {
                let mut path = Writer::default();
                path.text("/org/freedesktop/systemd1/unit/_2d_2eslice");
                self.send(|serial| service::answer(call, serial, "o", &path.finish()));
            }
            "StartTransientUnit" if known => refuse(self, "UnitExists"),
            "StartTransientUnit" => {
                body.text().unwrap();
                let properties: BTreeMap<String, Value> = body.properties().into_iter().collect();
                let fails = state.lock().unwrap().next_result.take();
                if fails.is_none() {
                    let made = make(&unit, &properties);
                    state.lock().unwrap().units.insert(unit.clone(), Unit { directories: made, properties });
                }
                self.job(call, &unit, fails.unwrap_or("done"));
            }
            "SetUnitProperties" if known => {
                body.u32().unwrap();
                let properties = body.properties();
                state.lock().unwrap().units.get_mut(&unit).unwrap().properties.extend(properties);
                self.send(|serial| service::answer(call, serial, "", &[]));
            }
            "StopUnit" if known => {
                let stopped = state.lock().unwrap().units.remove(&unit).unwrap();
                stopped.directories.iter().for_each(|path| remove(path));
                self.job(call, &unit, "done");
            }
            _ => refuse(self, "NoSuchUnit"),
        }
    }

    fn job(&mut self, call: &Message, unit: &str, result: &str) {
        self.jobs += 1;
        let number = self.jobs;
        let job = format!("/org/freedesktop/systemd1/job/{number}");
        let mut path = Writer::default();
        path.text(&job);
        self.send(|serial| service::answer(call, serial, "o", &path.finish()));
        let mut removed = Writer::default();
        removed.u32(number);
        [job.as_str(), unit, result].iter().for_each(|text| removed.text(text));
        self.send(|serial| service::signal(serial, PATH, MANAGER, "JobRemoved", "uoss", &removed.finish()));
    }
}

/// A unit's directories, in the hierarchies that systemd uses: its own, and those of the controllers that it knows.
fn make(unit: &str, properties: &BTreeMap<String, Value>) -> Vec<PathBuf> {
    let slice = match properties.get("Slice") {
        Some(Value::Text(slice)) => slice.clone(),
        _ => unit.to_owned(),
    };
    let stem = slice.strip_suffix(".slice").unwrap();
    let mut path: PathBuf = stem.match_indices('-').map(|(end, _)| format!("{}.slice", &stem[..end])).collect();
    path.push(&slice);
    if slice != unit {
        path.push(unit);
    }
    let mut made = Vec::new();
    for hierarchy in ["systemd", "unified", "cpu", "cpuacct", "memory", "pids", ""] {
        let mount = Path::new("/sys/fs/cgroup").join(hierarchy);
        if !mount.join("cgroup.procs").exists() {
            continue;
        }
        let directory = mount.join(&path);
        std::fs::create_dir_all(&directory).unwrap();
        if let Some(Value::Numbers(pids)) = properties.get("PIDs") {
            pids.iter().for_each(|pid| std::fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap());
        }
        made.push(directory);
    }
    made
}
