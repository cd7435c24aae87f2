//! Clients that mean harm, four hundred at once: memory stays flat, nothing panics, and a good client is served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::OnceLock;
use std::time::Duration;

use streaming::{Config, Outcome};
use support::spdy::{Client, Event, control, data};
use support::{ALL, OUT, Rig, Run, http, pattern, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const V4: &str = "v4.channel.k8s.io";

/// Kilobytes that the process has in memory, the clients included.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Bytes that do harm, sent by a client that then waits for nothing.
fn attacks(client: &mut Client) -> Vec<(&'static str, Vec<u8>)> {
    let syn = |id: u32, block: &[u8]| control(1, 0, &[&id.to_be_bytes()[..], &[0; 6], block].concat());
    let error = client.block(&[("streamtype", "error")]);
    // Made once, by a client of its own: its block is the first of the connection wherever it is sent.
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    let bomb = BOMB.get_or_init(|| Client::on(Box::new(tokio::io::duplex(1).0)).deflate(&vec![0; 20_000_000]));
    let many = client.deflate(&[&u32::MAX.to_be_bytes()[..], &[0, 0, 0, 1, b'x']].concat());
    let random: Vec<u8> = pattern(100_000).next().unwrap().iter().map(|byte| byte.wrapping_mul(31)).collect();
    vec![
        ("random bytes", random),
        ("a version of the past", vec![0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
        ("a huge control frame", [vec![0x80, 3, 0, 8, 0, 0xff, 0xff, 0xff], vec![0; 100_000]].concat()),
        ("data for stream 0", data(0, false, b"x")),
        ("half a frame", error[..4].to_vec()),
        ("a stream of the server", syn(2, &error)),
        ("streams in the wrong order", [syn(5, &error), syn(3, &client.block(&[("streamtype", "stdin")]))].concat()),
        ("a bomb", syn(1, bomb)),
        ("four milliards of headers", syn(1, &many)),
        ("no zlib", syn(1, b"no zlib at all")),
        ("settings that lie", control(4, 0, &[0xff; 12])),
        ("windows that overflow", control(9, 0, &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]).repeat(10_000)),
        ("data for nobody", data(77, false, &[0; 64]).repeat(1000)),
        ("pings without end", control(6, 0, &1u32.to_be_bytes()).repeat(20_000)),
        ("sixteen megabytes for nobody", [&[0, 0, 0, 99, 0, 0xff, 0xff, 0xff][..], &[0; 1_000_000]].concat()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_hostile_sessions_leave_memory_flat_and_others_served() {
    let rig = Rig::with(Config { idle: Duration::from_secs(20), drain: Duration::from_millis(200), ..Config::default() }).await;
    let kinds = attacks(&mut Client::on(Box::new(tokio::io::duplex(1).0))).len();
    let mut before = 0;
    for round in 0..3 {
        let mut sessions = tokio::task::JoinSet::new();
        for number in 0..400 {
            let path = rig.exec(Run::Deaf, ALL);
            let address = rig.address;
            sessions.spawn(async move {
                let mut client = Client::on(Box::new(http::spdy(address, &path, &[V4]).await.tcp));
                let (name, bytes) = attacks(&mut client).swap_remove(number % kinds);
                let writer = client.writer.clone();
                let send = async move {
                    let mut writer = writer.lock().await;
                    let _ = writer.write_all(&bytes).await;
                };
                // The server may have closed the connection, or may not read any more: either is right.
                let _ = tokio::time::timeout(Duration::from_millis(500), send).await;
                (name, client)
            });
        }
        // Meanwhile a good client is served.
        for _ in 0..20 {
            let mut client = Client::open(rig.address, &rig.exec(Run::Say("fine", "", Outcome::Success), OUT), V4).await;
            let (mut error, mut stdout) = (client.typed("error").await, client.typed("stdout").await);
            assert_eq!(stdout.text().await, "fine");
            assert_eq!(error.text().await, r#"{"status":"Success"}"#);
        }
        let mut clients = Vec::new();
        while let Some(client) = sessions.join_next().await {
            clients.push(client.unwrap());
        }
        let with_them = resident();
        drop(clients);
        tokio::time::sleep(Duration::from_millis(300)).await;
        println!("round {round}: {with_them} kB with 400 sessions, {} kB without", resident());
        match round {
            0 => before = with_them,
            // The first round fills the allocator's shelves; the others must do with them.
            _ => assert!(with_them < before + 40_000, "{before} kB before, {with_them} kB now"),
        }
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_answered_with_its_reason() {
    let rig = Rig::new().await;
    let fatal = ["random bytes", "a version of the past", "a huge control frame", "data for stream 0", "a stream of the server"];
    let fatal = [&fatal[..], &["streams in the wrong order", "a bomb", "no zlib", "settings that lie"]].concat();
    let count = attacks(&mut Client::on(Box::new(tokio::io::duplex(1).0))).len();
    for at in 0..count {
        let mut client = Client::open(rig.address, &rig.exec(Run::Deaf, ALL), V4).await;
        let (name, bytes) = attacks(&mut client).swap_remove(at);
        if fatal.contains(&name) {
            client.raw(&bytes).await;
            assert_eq!(client.ended().await, Some(1), "{name}");
        }
    }
    // What concerns one stream leaves the others alone.
    let mut client = Client::open(rig.address, &rig.exec(Run::Cat, ALL), V4).await;
    let (_error, mut stdin) = (client.typed("error").await, client.typed("stdin").await);
    client.raw(&data(99, false, b"for nobody")).await;
    client.raw(&control(77, 0, b"from the future")).await;
    client.raw(&control(9, 0, &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff])).await;
    let block = client.block(&[("some", "header")]);
    client.raw(&control(8, 0, &[&3u32.to_be_bytes()[..], &block].concat())).await;
    let (mut stdout, _stderr) = (client.typed("stdout").await, client.typed("stderr").await);
    client.ping(3).await;
    stdin.send(b"here").await;
    assert_eq!(stdout.event().await, Event::Data(b"here".to_vec()));
    stdin.fin().await;
    assert_eq!(stdout.text().await, "");
    // After its end, a stream takes nothing.
    stdin.send(b"late").await;
    assert!(matches!(stdin.event().await, Event::End | Event::Reset(9)));
}

#[tokio::test]
async fn readers_that_stall_stall_themselves_alone() {
    let mut rig = Rig::new().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        // Opens its streams by hand and then reads nothing.
        let mut tcp = http::spdy(rig.address, &rig.exec(Run::Source(1 << 40), OUT), &[V4]).await.tcp;
        let mut maker = Client::on(Box::new(tokio::io::duplex(1).0));
        for (id, streamtype) in [(1u32, "error"), (3, "stdout")] {
            let block = maker.block(&[("streamtype", streamtype)]);
            tcp.write_all(&control(1, 0, &[&id.to_be_bytes()[..], &[0; 6], &block].concat())).await.unwrap();
        }
        stalled.push(tcp);
    }
    let mut client = Client::open(rig.address, &rig.exec(Run::Source(5_000_000), OUT), V4).await;
    let (_error, mut stdout) = (client.typed("error").await, client.typed("stdout").await);
    assert_eq!(stdout.all().await.0.len(), 5_000_000);
    // Data that waits does not keep an answer waiting, once it is asked for and read.
    let mut tcp = stalled.pop().unwrap();
    tcp.write_all(&control(6, 0, &7u32.to_be_bytes())).await.unwrap();
    let (ping, mut seen) = (control(6, 0, &7u32.to_be_bytes()), Vec::new());
    let mut buffer = vec![0; 65536];
    while !seen.windows(ping.len()).any(|window| window == ping) {
        let read = soon(tcp.read(&mut buffer)).await.unwrap();
        let keep = seen.len().min(ping.len());
        seen.drain(..seen.len() - keep);
        seen.extend_from_slice(&buffer[..read]);
    }
    drop((stalled, tcp));
    for _ in 0..20 {
        assert_eq!(rig.notice().await, "unread");
    }
}
