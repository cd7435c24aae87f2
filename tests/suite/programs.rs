//! Programs that others have made and published do real work in pods: an interpreter runs a script, a database is made and asked, a
//! compiler makes what the next container runs, a service answers. `tests/programs` fetches them.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::harness::guests::{CLANG, CPYTHON, HELLO_HTTP, PROBE, QUICKJS, SQLITE};
use crate::harness::image::Layered;
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, container, cri, http, image_spec, missing};

fn mount(host: &Path, inside: &str, readonly: bool) -> cri::Mount {
    cri::Mount { host_path: host.display().to_string(), container_path: inside.to_owned(), readonly, ..Default::default() }
}

/// Runs one to its end, and returns its exit code and what it wrote.
fn done(node: &Node, pod: &Pod, config: &cri::ContainerConfig) -> (i32, String, String) {
    let ended = node.run(pod, config);
    (ended.status.exit_code, ended.log.stdout(), ended.log.stderr())
}

#[test]
fn cpython_runs_a_script_over_a_mounted_file() {
    let Some(node) = Node::with(&[CPYTHON]) else { return };
    let pod = node.pod("python");
    let (job, out) = (node.place.directory("job"), node.place.directory("out"));
    std::fs::write(job.join("sales.csv"), "region,units\nnorth,19\nsouth,11\nnorth,23\n").unwrap();
    std::fs::write(
        job.join("sum.py"),
        "import collections, csv, json, os, sys\n\
         units = collections.Counter()\n\
         with open('/job/sales.csv', newline='') as file:\n\
         \x20   for row in csv.DictReader(file):\n\
         \x20       units[row['region']] += int(row['units'])\n\
         with open('/out/sum.json', 'w') as file:\n\
         \x20   json.dump(units, file, sort_keys=True)\n\
         print(sys.platform, sys.argv[1:], os.environ['SEASON'], f'{sum(units.values())} units')\n\
         sys.exit(3 if len(units) != 2 else 0)\n",
    )
    .unwrap();
    let run = |name: &str, args: &[&str], season: &str| {
        let config = cri::ContainerConfig {
            mounts: vec![mount(&job, "/job", true), mount(&out, "/out", false)],
            envs: vec![cri::KeyValue { key: "SEASON".into(), value: season.into() }],
            ..CPYTHON.container(name, args)
        };
        done(&node, &pod, &config)
    };
    assert_eq!(run("sum", &["/job/sum.py", "a b"], "autumn"), (0, "wasi ['a b'] autumn 53 units\n".into(), String::new()));
    assert_eq!(std::fs::read_to_string(out.join("sum.json")).unwrap(), r#"{"north": 42, "south": 11}"#);
    // A script that fails says where, and its exit code is the container's.
    std::fs::write(job.join("sales.csv"), "region,units\nnorth,many\n").unwrap();
    let (code, _, stderr) = run("fails", &["/job/sum.py"], "");
    assert!(code == 1 && stderr.contains("sum.py\", line 5") && stderr.contains("ValueError"), "{code}: {stderr}");
    std::fs::write(job.join("sales.csv"), "region,units\nnorth,1\n").unwrap();
    assert_eq!(run("three", &["/job/sum.py"], "").0, 3);
    // Its mount is read-only also for the open of an interpreter.
    let (code, _, stderr) = run("writes", &["-c", "open('/job/new', 'w')"], "");
    assert!(code == 1 && stderr.contains("Read-only file system"), "{code}: {stderr}");
    node.finish();
}

#[test]
fn quickjs_runs_a_script_with_its_modules() {
    let Some(node) = Node::with(&[QUICKJS]) else { return };
    let pod = node.pod("quickjs");
    let job = node.place.directory("job");
    std::fs::write(job.join("words.mjs"), "export const words = text => text.split(/\\s+/u).filter(Boolean);\n").unwrap();
    std::fs::write(
        job.join("count.mjs"),
        "import * as std from 'qjs:std';\n\
         import { words } from './words.mjs';\n\
         const counts = new Map();\n\
         for (const word of words(std.loadFile('/job/text'))) counts.set(word, (counts.get(word) ?? 0n) + 1n);\n\
         await null;\n\
         console.log([...counts].sort().map(([word, count]) => `${word} ${count}`).join(', '));\n\
         std.exit(scriptArgs.length);\n",
    )
    .unwrap();
    std::fs::write(job.join("text"), "to be or\nnot to be\n").unwrap();
    let config = cri::ContainerConfig {
        mounts: vec![mount(&job, "/job", true)],
        ..QUICKJS.container("count", &["--std", "/job/count.mjs", "x", "y"])
    };
    assert_eq!(done(&node, &pod, &config), (3, "be 2, not 1, or 1, to 2\n".into(), String::new()));
    node.finish();
}

#[test]
fn sqlite_makes_a_database_on_a_volume_and_another_container_asks_it() {
    let Some(node) = Node::with(&[SQLITE]) else { return };
    let pod = node.pod("sqlite");
    let volume = node.place.directory("volume");
    let run = |name: &str, readonly: bool, args: &[&str]| {
        let config = cri::ContainerConfig { mounts: vec![mount(&volume, "/data", readonly)], ..SQLITE.container(name, args) };
        done(&node, &pod, &config)
    };
    let make = "create table reading (room text not null, degrees real); create index by_room on reading (room);\n\
        begin; insert into reading values ('kitchen', 19.5), ('cellar', 11.25), ('kitchen', 21); commit;\n\
        begin; delete from reading; rollback; vacuum;";
    assert_eq!(run("make", false, &["-bail", "/data/rooms.db", make]), (0, String::new(), String::new()));
    let ask = "select room, count(*), avg(degrees) from reading group by room order by room;";
    assert_eq!(
        run("ask", false, &["-csv", "/data/rooms.db", ask]),
        (0, "cellar,1,11.25\nkitchen,2,20.25\n".into(), String::new())
    );
    assert!(std::fs::read(volume.join("rooms.db")).unwrap().starts_with(b"SQLite format 3\0"));
    let left: Vec<_> = std::fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["rooms.db"], "no journal is left behind");
    let fixed = |name: &str, statement: &str| run(name, true, &["-bail", "-readonly", "/data/rooms.db", statement]);
    assert_eq!(fixed("reads", "select max(degrees) from reading;"), (0, "21.0\n".into(), String::new()));
    let (code, _, stderr) = fixed("writes", "delete from reading;");
    assert!(code == 8 && stderr.contains("attempt to write a readonly database"), "{code}: {stderr}");
    node.finish();
}

/// The compiler as an image: the program, and in /usr what it compiles against, for C.
fn push_clang() -> Option<String> {
    let program = CLANG.wasm()?;
    let resources = missing::cache().join("programs/clang-resources.tar");
    let Ok(resources) = std::fs::File::open(&resources) else {
        missing::skip(&format!("{} (tests/programs fetches it)", resources.display()));
        return None;
    };
    let mut image = Layered::new().file("/usr/bin/clang", &program).link("/usr/bin/wasm-ld", "clang").env(&["PATH=/usr/bin"]);
    for entry in tar::Archive::new(resources).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        if path.starts_with("include/c++") || path.starts_with("share/") || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        image = image.file_of(&format!("/usr/{path}"), &bytes, 0o644, 0);
    }
    let registry = Registry::shared()?;
    registry.push("programs/clang", "1", &image.entrypoint(&["clang"]).build());
    Some(registry.reference("programs/clang:1"))
}

#[test]
fn clang_compiles_a_file_that_the_next_container_of_the_pod_runs() {
    let Some(image) = push_clang() else { return };
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    // 75 MB of code: more than a minute of a processor. The daemon's defaults allow it, and so does a kubelet, which waits for a pull as
    // long as that takes.
    let request = cri::PullImageRequest { image: Some(image_spec(&image)), ..Default::default() };
    node.client.pull_image_within(Duration::from_secs(300), request).expect("the compiler is compiled");
    let pod = node.pod("clang");
    let (source, work) = (node.place.directory("source"), node.place.directory("work"));
    std::fs::write(
        source.join("sieve.c"),
        "#include <stdio.h>\n#include <stdlib.h>\n#include \"sieve.h\"\n\
         int main(int count, char **words) {\n\
         \x20   int limit = count > 1 ? atoi(words[1]) : 0, found = 0;\n\
         \x20   char *composite = calloc(limit + 1, 1);\n\
         \x20   for (int n = 2; n <= limit; n++) {\n\
         \x20       if (composite[n]) continue;\n\
         \x20       found++;\n\
         \x20       for (long long m = (long long)n * n; m <= limit; m += n) composite[m] = 1;\n\
         \x20   }\n\
         \x20   printf(FORMAT, found, limit);\n\
         \x20   return found == 0;\n\
         }\n",
    )
    .unwrap();
    std::fs::write(source.join("sieve.h"), "#define FORMAT \"%d primes up to %d\\n\"\n").unwrap();
    let step = |name: &str, tool: &str, args: &[&str]| {
        let mounts = vec![mount(&source, "/source", true), mount(&work, "/work", false)];
        let config = cri::ContainerConfig { mounts, command: vec![tool.to_owned()], ..container(&image, name, args) };
        done(&node, &pod, &config)
    };
    // The driver would start the compiler and the linker as processes, which WASI has not; so a container for each, as its `-###` says.
    let translate = |name: &str, file: &str| {
        let object = format!("/work/{name}.o");
        let words = "-cc1 -triple wasm32-unknown-wasip1 -O2 -Wall -Werror -emit-obj -resource-dir /usr -isysroot /usr \
            -internal-isystem /usr/include -internal-isystem /usr/include/wasm32-wasip1";
        step(name, "clang", &[&words.split_whitespace().collect::<Vec<_>>()[..], &["-o", &object, "-x", "c", file]].concat())
    };
    assert_eq!(translate("sieve", "/source/sieve.c"), (0, String::new(), String::new()));
    let library = "/usr/lib/wasm32-wasip1";
    let (start, builtins) = (format!("{library}/crt1-command.o"), "/usr/lib/wasm32-unknown-wasip1/libclang_rt.builtins.a");
    let words = ["-L", library, &start, "/work/sieve.o", "-lc", builtins, "-s", "-o", "/work/sieve"];
    assert_eq!(step("link", "wasm-ld", &words), (0, String::new(), String::new()));
    // What it has made is no image's, so it is run as a command in a container.
    let config =
        cri::ContainerConfig { mounts: vec![mount(&work, "/work", true)], ..PROBE.container("next", &["sleep", "forever"]) };
    let next = node.launch(&pod, &config);
    let said = node.exec(&next, &["/work/sieve", "100000"]);
    let [stdout, stderr] = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!((said.exit_code, stdout.as_str(), stderr.as_str()), (0, "9592 primes up to 100000\n", ""));
    assert_eq!(node.exec(&next, &["/work/sieve"]).exit_code, 1);
    std::fs::write(source.join("wrong.c"), "int main(void) { return missing; }\n").unwrap();
    let (code, _, stderr) = translate("wrong", "/source/wrong.c");
    assert!(code == 1 && stderr.contains("/source/wrong.c:1:25: error:"), "{code}: {stderr}");
    // The code of what no image brought goes with the daemon.
    node.restart_daemon();
    node.finish();
}

#[test]
fn a_component_from_a_crates_test_data_answers_requests() {
    let Some(node) = Node::with(&[HELLO_HTTP]) else { return };
    let pod = node.pod("http");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = format!(r#"[{{"name":"web","containerPort":{port},"protocol":"TCP"}}]"#);
    let config = cri::ContainerConfig {
        annotations: [("io.kubernetes.container.ports".to_owned(), ports)].into(),
        ..HELLO_HTTP.container("web", &[])
    };
    // It listens when StartContainer has answered.
    let id = node.launch(&pod, &config);
    for _ in 0..3 {
        let answer = http::request(([127, 0, 0, 1], port).into(), "GET", "/", &[], b"");
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).trim_end()), (200, "Hello from Rust!"));
    }
    node.stop_container(&id, 10).unwrap();
    assert_eq!(node.wait_exit(&id).status.exit_code, 0);
    node.finish();
}
