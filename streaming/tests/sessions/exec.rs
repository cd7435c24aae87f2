//! Exec and attach over SPDY, as kubelets speak it.

use crate::support::spdy::{Client, Event};
use crate::support::{ALL, OUT, Rig, Run, TTY, digest, pattern, soon};
use bytes::Bytes;
use streaming::{Kind, Outcome};

const V4: &str = "v4.channel.k8s.io";

#[tokio::test]
async fn stdin_that_ends_reaches_the_command_and_the_client_gets_all_and_then_the_status() {
    let mut rig = Rig::new().await;
    let mut client = Client::open(rig.address, &rig.exec(Run::Cat, ALL), V4).await;
    let mut error = client.typed("error").await;
    let mut stdin = client.typed("stdin").await;
    let (mut stdout, mut stderr) = (client.typed("stdout").await, client.typed("stderr").await);
    stdin.send(b"hello ").await;
    assert_eq!(stdout.event().await, Event::Data(b"hello ".to_vec()));
    stdin.send(b"world").await;
    stdin.fin().await;
    assert_eq!(rig.notice().await, "eof");
    assert_eq!(stdout.text().await, "world");
    assert_eq!(stderr.text().await, "");
    assert_eq!(error.text().await, r#"{"status":"Success"}"#);
    assert_eq!(stdin.text().await, "");
    assert_eq!(client.ended().await, Some(0));
}

#[tokio::test]
async fn every_version_tells_the_outcome_in_its_own_way() {
    let rig = Rig::new().await;
    let failure = || Outcome::Failure { message: "no such file".into() };
    let json = r#"{"status":"Failure","message":"Internal error occurred: no such file","reason":"InternalError","code":500}"#;
    let exit = r#"{"status":"Failure","message":"command terminated with non-zero exit code: 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
    let text = "Internal error occurred: no such file";
    let cases = [
        (V4, failure(), json),
        (V4, Outcome::Exit(7), exit),
        (V4, Outcome::Success, r#"{"status":"Success"}"#),
        ("v3.channel.k8s.io", failure(), text),
        ("v2.channel.k8s.io", Outcome::Exit(7), "command terminated with non-zero exit code: 7"),
        ("v2.channel.k8s.io", Outcome::Success, ""),
        ("channel.k8s.io", failure(), text),
    ];
    for (version, outcome, expected) in cases {
        let path = rig.exec(Run::Say("out", "err", outcome), ALL);
        let mut client = Client::open(rig.address, &path, version).await;
        let (mut error, _stdin) = (client.typed("error").await, client.typed("stdin").await);
        let (mut stdout, mut stderr) = (client.typed("stdout").await, client.typed("stderr").await);
        assert_eq!((stdout.text().await, stderr.text().await), ("out".into(), "err".into()), "{version}");
        assert_eq!(error.text().await, expected, "{version}");
        assert_eq!(client.ended().await, Some(0));
    }
}

#[tokio::test]
async fn twenty_megabytes_in_each_direction_are_unharmed() {
    const BYTES: usize = 20_000_000;
    let rig = Rig::new().await;
    let mut client = Client::open(rig.address, &rig.exec(Run::Source(BYTES), OUT), V4).await;
    let (mut error, mut stdout) = (client.typed("error").await, client.typed("stdout").await);
    let (bytes, end) = stdout.all().await;
    assert_eq!((bytes.len(), end), (BYTES, Event::End));
    assert_eq!(digest([Bytes::from(bytes)].into_iter()), digest(pattern(BYTES)));
    assert_eq!(error.text().await, r#"{"status":"Success"}"#);

    let mut client = Client::open(rig.address, &rig.exec(Run::Digest, ALL), V4).await;
    let (_error, stdin) = (client.typed("error").await, client.typed("stdin").await);
    let (mut stdout, _stderr) = (client.typed("stdout").await, client.typed("stderr").await);
    for piece in pattern(BYTES) {
        stdin.send(&piece).await;
    }
    stdin.fin().await;
    assert_eq!(stdout.all().await.0, digest(pattern(BYTES)));

    // And through both at once, by a client that does both at once.
    let mut client = Client::open(rig.address, &rig.exec(Run::Cat, ALL), V4).await;
    let (_error, stdin) = (client.typed("error").await, client.typed("stdin").await);
    let (mut stdout, _stderr) = (client.typed("stdout").await, client.typed("stderr").await);
    let send = async {
        for piece in pattern(BYTES) {
            stdin.send(&piece).await;
        }
        stdin.fin().await;
    };
    let ((), (bytes, _)) = tokio::join!(send, stdout.all());
    assert_eq!(digest([Bytes::from(bytes)].into_iter()), digest(pattern(BYTES)));
}

#[tokio::test]
async fn attach_resizes_and_the_newest_size_is_seen() {
    let rig = Rig::new().await;
    let path = rig.server.command_url(Kind::Attach, Run::Sizes(2), TTY).unwrap();
    assert!(path.starts_with("/attach/"));
    let mut client = Client::open(rig.address, &path, V4).await;
    let (mut error, _stdin, mut stdout) =
        (client.typed("error").await, client.typed("stdin").await, client.typed("stdout").await);
    let resize = client.typed("resize").await;
    resize.send(b"{\"Width\":80,\"Hei").await;
    resize.send(b"ght\":24}\n").await;
    assert_eq!(stdout.event().await, Event::Data(b"80x24\n".to_vec()));
    resize.send(b"{\"Width\":1,\"Height\":2}\n{\"Width\":100,\"Height\":30}\n").await;
    assert_eq!(stdout.text().await, "100x30\n");
    assert_eq!(error.text().await, r#"{"status":"Success"}"#);
}

#[tokio::test]
async fn streams_that_nobody_asked_for_are_refused_and_the_session_goes_on() {
    let rig = Rig::new().await;
    let mut client = Client::open(rig.address, &rig.exec(Run::Say("x", "", Outcome::Success), OUT), V4).await;
    for wrong in [&[("streamtype", "stdin")][..], &[("streamtype", "nonsense")], &[("other", "stdout")], &[]] {
        assert_eq!(client.ask(wrong).await.event().await, Event::Reset(3));
    }
    let mut error = client.typed("error").await;
    assert_eq!(client.ask(&[("streamtype", "error")]).await.event().await, Event::Reset(3));
    client.ping(1).await;
    let mut stdout = client.typed("stdout").await;
    assert_eq!(stdout.text().await, "x");
    assert_eq!(error.text().await, r#"{"status":"Success"}"#);
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed_also_while_its_input_is_stuck() {
    let mut rig = Rig::new().await;
    for run in [Run::Hang, Run::Deaf] {
        let stuck = matches!(run, Run::Deaf);
        let mut client = Client::open(rig.address, &rig.exec(run, ALL), V4).await;
        let (_error, stdin) = (client.typed("error").await, client.typed("stdin").await);
        let (_stdout, _stderr) = (client.typed("stdout").await, client.typed("stderr").await);
        if stuck {
            // More than the stream and the sockets hold, so the sending does not end.
            let send = async {
                loop {
                    stdin.send(&[0; 32 * 1024]).await;
                }
            };
            assert!(tokio::time::timeout(std::time::Duration::from_millis(300), send).await.is_err());
        }
        drop((client, stdin, _error, _stdout, _stderr));
        assert_eq!(rig.notice().await, "gone");
    }
    // One that writes is told by its writes.
    let mut client = Client::open(rig.address, &rig.exec(Run::Source(1 << 40), OUT), V4).await;
    let (_error, mut stdout) = (client.typed("error").await, client.typed("stdout").await);
    assert!(matches!(stdout.event().await, Event::Data(_)));
    stdout.reset().await;
    assert_eq!(rig.notice().await, "unread");
}

#[tokio::test]
async fn an_idle_session_is_told_so_and_pings_keep_one_alive() {
    let idle = std::time::Duration::from_secs(2);
    let mut rig = Rig::with(streaming::Config { idle, ..Default::default() }).await;
    let mut client = Client::open(rig.address, &rig.exec(Run::Hang, OUT), V4).await;
    let (mut error, mut stdout) = (client.typed("error").await, client.typed("stdout").await);
    for id in 0..6 {
        tokio::time::sleep(idle / 4).await;
        client.ping(2 * id + 1).await;
    }
    assert_eq!(stdout.text().await, "");
    assert!(error.text().await.contains("idle for 2s"));
    assert_eq!(client.ended().await, Some(0));
    assert_eq!(rig.notice().await, "gone");
}

#[tokio::test]
async fn a_client_that_does_not_open_its_streams_is_told_so() {
    let creation = std::time::Duration::from_secs(2);
    let rig = Rig::with(streaming::Config { creation, ..Default::default() }).await;
    let mut client = Client::open(rig.address, &rig.exec(Run::Hang, ALL), V4).await;
    let mut error = client.typed("error").await;
    assert!(error.text().await.contains("did not open its 4 streams"));
    assert_eq!(client.ended().await, Some(0));
}

#[tokio::test]
async fn stopping_the_server_ends_its_sessions_with_a_word() {
    let mut rig = Rig::new().await;
    let mut client = Client::open(rig.address, &rig.exec(Run::Hang, OUT), V4).await;
    let (mut error, _stdout) = (client.typed("error").await, client.typed("stdout").await);
    rig.stop.cancel();
    assert!(error.text().await.contains("stopping"));
    assert_eq!(rig.notice().await, "gone");
    assert_eq!(client.ended().await, Some(0));
    drop(client);
    soon(&mut rig.serving).await.unwrap();
}
