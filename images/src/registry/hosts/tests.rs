use super::*;

fn read(text: &str) -> Vec<HostConfig> {
    parse(text, Path::new("/certs.d/r")).unwrap()
}

fn address(host: &HostConfig) -> String {
    let server = host.server.as_ref().unwrap();
    format!("{}://{}{}", if server.secure { "https" } else { "http" }, server.host, server.path)
}

#[test]
fn the_example_of_containerds_manual_is_read_in_the_order_of_the_file() {
    let hosts = read(
        r#"
server = "https://docker.io"
[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "/etc/certs/mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    x-custom-2 = ["value1", "value2"]
[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true
[host."http://a.registry:5000"]
  capabilities = ["pull", "RESOLVE", "push"]
  ca = ["test-1-ca.pem", "/etc/certs/special.pem"]
  client = [["/etc/certs/client.cert", "client.key"],["/etc/certs/client.pem", ""]]
  dial_timeout = "1m1.5s"
[host."https://test-2.registry/"]
  client = "client.pem"
[host."test-3.registry:443"]
  client = ["/etc/certs/client-1.pem", "client-2.pem"]
[host."https://non-compliant-mirror.registry//v2/upstream/"]
  capabilities = ["pull"]
  override_path = true
[host."https://compliant/v2/"]
[host."https://0.override"]
  override_path = true
"#,
    );
    let addresses: Vec<String> = hosts.iter().map(address).collect();
    assert_eq!(
        addresses,
        [
            "https://mirror.registry/v2",
            "https://mirror-bak.registry/us/v2",
            "http://a.registry:5000/v2",
            "https://test-2.registry/v2",
            "https://test-3.registry:443/v2",
            "https://non-compliant-mirror.registry/v2/upstream",
            "https://compliant/v2",
            "https://0.override",
            "https://registry-1.docker.io/v2",
        ]
    );
    assert_eq!(hosts[0].can, Capabilities { pull: true, resolve: false });
    assert_eq!(hosts[0].header.iter().map(|(_, value)| value.to_str().unwrap()).collect::<Vec<_>>(), ["value1", "value2"]);
    assert!(hosts[1].skip_verify && !hosts[0].skip_verify);
    assert_eq!(hosts[2].can, Capabilities::default());
    assert_eq!(hosts[2].ca, [PathBuf::from("/certs.d/r/test-1-ca.pem"), "/etc/certs/special.pem".into()]);
    let pairs = [("/etc/certs/client.cert".into(), Some("/certs.d/r/client.key".into())), ("/etc/certs/client.pem".into(), None)];
    assert_eq!(hosts[2].client, pairs);
    assert_eq!(hosts[2].dial_timeout, Some(Duration::from_millis(61_500)));
    assert_eq!(hosts[3].client, [("/certs.d/r/client.pem".into(), None)]);
    assert_eq!(hosts[4].client.len(), 2);
}

#[test]
fn without_a_server_the_last_host_is_the_references_registry_with_all_capabilities() {
    let hosts = read("capabilities = ['pull']\nca = 'x'\n[host.'http://m']\n");
    assert_eq!(hosts.len(), 2);
    assert!(hosts[1].server.is_none() && hosts[1].can.resolve);
    assert_eq!(hosts[1].ca, [PathBuf::from("/certs.d/r/x")]);
}

#[test]
fn a_broken_file_is_an_error_with_its_line() {
    for (text, line, says) in [
        ("server = \n", 1, ""),
        ("\n\nserver = 5", 3, "server is to be a string"),
        ("[host.'https://m']\ncapabilities = ['pul']", 2, "unknown capability \"pul\""),
        ("[host.'https://m']\n\nskip_verify = 'yes'", 3, "true or false"),
        ("[host.'ftp://m']\n", 1, "is no address"),
        ("[host.'https://']\n", 1, "is no address"),
        ("[host.'https://m']\n[host.'https://m']\n", 2, ""),
        ("host = 5", 1, "table"),
        ("client = [['a']]", 1, "pairs"),
        ("client = [['a', 'b', 'c']]", 1, "pairs"),
        ("ca = [1]", 1, "each of ca is to be a string"),
        ("dial_timeout = '1 minute'", 1, "500ms"),
        ("dial_timeout = '-1s'", 1, "500ms"),
        ("[header]\n'a b' = 'x'", 2, "no name of a header"),
        ("[header]\na = \"x\\ny\"", 2, "cannot carry"),
        ("[header]\na = 5", 2, "string"),
    ] {
        let error = parse(text, Path::new("/")).unwrap_err();
        assert!(error.starts_with(&format!("line {line}: ")) && error.contains(says), "{text}: {error}");
    }
}

#[test]
fn keys_that_are_not_known_are_passed_over() {
    assert_eq!(read("future = true\n[host.'https://m']\nfuture = [1]").len(), 2);
}
