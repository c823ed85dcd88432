use std::net::Ipv4Addr;

use super::*;

fn read(text: &str) -> Result<Loaded, String> {
    let file: File = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    check(file, "Host-1", "x").map_err(|complaints| complaints.join("; "))
}

#[test]
fn only_the_repository_must_be_given() {
    let loaded = read("desired: {url: /srv/git/shop.git}").expect("is enough");
    assert_eq!(loaded.agent.node, "host-1");
    assert_eq!(loaded.agent.settings.dns_ip, Ipv4Addr::new(10, 96, 0, 10));
    assert_eq!(loaded.agent.origin, "main:");
    assert_eq!(loaded.state_url, "/var/lib/windlass/state.git");
    assert!(loaded.agent.source_is_watched);
    assert!(read("{}").is_err());
}

#[test]
fn all_mistakes_are_said_at_once() {
    let text = "
node: {name: Bad_Name, reserved: {cpu: lots}}
desired: {url: /x, poll: soon}
network: {podNetwork: 10.0.0.1/16, packetFilter: pf, nodePorts: 9-1, mode: ipip, vxlanId: 16777216}
";
    let complaints = read(text).expect_err("is wrong");
    for field in [
        "node.name",
        "node.reserved.cpu",
        "desired.poll",
        "podNetwork",
        "packetFilter",
        "nodePorts",
        "network.mode",
        "vxlanId",
    ] {
        assert!(complaints.contains(field), "{field} is missing in: {complaints}");
    }
}

#[test]
fn outcomes_are_told_to_whom_the_file_names_and_to_nobody_else() {
    let loaded = read("desired: {url: /x}").expect("is enough");
    assert!(!loaded.agent.notes && loaded.notes.is_none() && loaded.hooks.is_empty());
    let both = "{desired: {url: 'ssh://git@h/x', credentials: {sshKeyFile: /key}}, notes: {}, \
                hooks: [{url: 'https://chat/x', name: chat}]}";
    let loaded = read(both).expect("is right");
    let (url, credentials) = loaded.notes.expect("they are wanted");
    assert_eq!((url.as_str(), credentials.ssh_key), ("ssh://git@h/x", Some("/key".into())));
    assert!(loaded.agent.notes && loaded.agent.hooks[0].name == "chat" && loaded.hooks.len() == 1);
    let own = "{desired: {url: /x}, notes: {url: /notes, credentials: {tokenFile: /t}}}";
    let (url, credentials) = read(own).expect("is right").notes.expect("they are wanted");
    assert_eq!((url.as_str(), credentials.password_file), ("/notes", Some("/t".into())));
}

#[test]
fn an_unknown_field_is_named() {
    let complaint = read("desired: {url: /x, brnach: main}").expect_err("is wrong");
    assert!(complaint.contains("brnach"), "{complaint}");
}

#[test]
fn a_network_that_the_machine_uses_is_refused() {
    let loaded = read("desired: {url: /x}").expect("is right");
    let routes = ["0.0.0.0/0", "10.244.7.0/24", "192.168.1.0/24"];
    let routes: Vec<Ipv4Network> = routes.iter().map(|r| r.parse().expect("a route")).collect();
    let complaints = overlaps(&loaded.agent.settings, &routes);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("10.244.7.0/24"));
}

#[test]
fn nodes_of_a_fleet_answer_each_other() {
    for (text, port) in [
        ("desired: {url: /x}", None),
        ("{desired: {url: /x}, state: {url: /srv/state.git}}", None),
        ("{desired: {url: /x}, state: {url: 'git@git.example.com:state.git'}}", Some(9474)),
        ("{desired: {url: /x}, state: {url: 'git@x:s.git'}, api: {peerPort: 0}}", None),
        ("{desired: {url: /x}, api: {peerPort: 7000}}", Some(7000)),
    ] {
        assert_eq!(read(text).expect(text).peer_port, port, "{text}");
    }
}

#[test]
fn passwords_are_not_shown() {
    for (address, shown) in [
        ("https://ada:s3cr3t@git.example.com/shop.git", "https://ada@git.example.com/shop.git"),
        ("git@git.example.com:shop.git", "git@git.example.com:shop.git"),
        ("/srv/shop.git", "/srv/shop.git"),
    ] {
        assert_eq!(without_secrets(address), shown);
    }
}

#[test]
fn durations_are_read() {
    for (text, seconds) in [("90s", 90), ("5m", 300), ("1h30m", 5400)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "5", "m", "5x", "-1s"] {
        assert!(parse_duration(text).is_err(), "{text:?}");
    }
}
