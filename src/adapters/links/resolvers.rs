//! The machine's resolvers, as `resolv.conf(5)` names them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Where systemd-resolved listens on the machine itself. A pod can't ask there, and what it would
/// say is in a file of its own.
const STUBS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];

/// Resolvers and search domains of the first file that names any but the stub. No file, no
/// resolvers: the cluster's own names work without.
pub(super) fn read(files: &[PathBuf]) -> (Vec<IpAddr>, Vec<String>) {
    let mut searches_found = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(file) else {
            continue;
        };
        let (resolvers, searches) = parse(&text);
        if searches_found.is_empty() {
            searches_found = searches;
        }
        if !resolvers.is_empty() {
            return (resolvers, searches_found);
        }
    }
    (Vec::new(), searches_found)
}

fn parse(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut resolvers, mut searches) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let address = words.next().and_then(|word| word.parse().ok());
                resolvers.extend(address.filter(|ip| !STUBS.contains(ip)));
            }
            // The last one counts, and `domain` is a `search` of one.
            Some("search" | "domain") => {
                searches = words.filter(|word| *word != ".").map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    (resolvers, searches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_is_passed_over_for_what_stands_behind_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("writes");
            path
        };
        let stub = file("stub", "nameserver 127.0.0.53\noptions edns0\nsearch lan\n");
        let real = file(
            "real",
            "# comment\nnameserver 192.168.0.254 ; mine\nnameserver fe80::1%eth0\n\
             nameserver 2001:db8::1\nsearch a b\n",
        );
        let own = file("own", "nameserver 127.0.0.1\ndomain example.org\n");
        let missing = dir.path().join("missing");
        let shown = |files: &[&PathBuf]| {
            let files: Vec<PathBuf> = files.iter().map(|file| (*file).clone()).collect();
            let (resolvers, searches) = read(&files);
            let resolvers: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
            format!("{} | {}", resolvers.join(" "), searches.join(" "))
        };
        assert_eq!(shown(&[&stub, &real]), "192.168.0.254 2001:db8::1 | lan");
        assert_eq!(shown(&[&own, &real]), "127.0.0.1 | example.org");
        assert_eq!(shown(&[&stub]), " | lan");
        assert_eq!(shown(&[&missing]), " | ");
    }
}
