//! The cluster's names, gathered into one table: a telephone book, printed anew when anybody moves.
//!
//! The names are those of the Kubernetes DNS specification
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>). A name that only has
//! names below it stands here too, empty: it exists, and says so (RFC 8020).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::input::ServiceView;
use crate::kinds::name::Name;
use crate::kinds::service::{Endpoint, EndpointState, Reach, ServicePort};
use crate::kinds::zone::{Records, Zone};

/// What the names follow from.
#[derive(Clone, Copy, Debug)]
pub struct ZoneInput<'a> {
    /// The cluster's domain, `cluster.local`.
    pub domain: &'a str,
    /// The Services, in any order.
    pub services: &'a [ServiceView],
    /// Namespace and address of every pod that has one.
    pub pods: &'a [(Name, Ipv4Addr)],
    /// The networks of Services and pods.
    pub networks: &'a [Ipv4Network],
}

/// Gathers every name below the cluster's domain.
pub fn zone(input: &ZoneInput<'_>) -> Zone {
    let domain = input.domain.trim_matches('.').to_ascii_lowercase();
    let mut book = Book { names: BTreeMap::new(), reverse: BTreeMap::new(), domain: &domain };
    book.names.entry(domain.clone()).or_default();
    for (namespace, ip) in input.pods {
        let name = format!("{}.{namespace}.pod.{domain}", dashed(*ip));
        book.records(&name).a = vec![*ip];
        book.reverse.entry(*ip).or_insert(name);
    }
    let mut services: Vec<&ServiceView> = input.services.iter().collect();
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    // What a pod is called as a member of a headless Service says more than its address, and the
    // first Service by name has the first word.
    let mut members = BTreeMap::new();
    for view in services {
        book.service(view, &mut members);
    }
    book.reverse.append(&mut members);
    let (names, reverse) = (book.names, book.reverse);
    let mut networks = input.networks.to_vec();
    networks.sort_unstable();
    Zone { names, reverse, networks, domain }
}

struct Book<'a> {
    names: BTreeMap<String, Records>,
    reverse: BTreeMap<Ipv4Addr, String>,
    domain: &'a str,
}

impl Book<'_> {
    /// The records of a name, which is entered with all the names above it.
    fn records(&mut self, name: &str) -> &mut Records {
        let mut above = name;
        while let Some((_, rest)) = above.split_once('.') {
            if rest.len() <= self.domain.len() || self.names.contains_key(rest) {
                break;
            }
            self.names.insert(rest.to_owned(), Records::default());
            above = rest;
        }
        self.names.entry(name.to_owned()).or_default()
    }

    fn service(&mut self, view: &ServiceView, members: &mut BTreeMap<Ipv4Addr, String>) {
        let name = format!("{}.{}.svc.{}", view.name, view.namespace, self.domain);
        match &view.spec.reach {
            Reach::ExternalName(target) => {
                let target = target.trim_end_matches('.').to_ascii_lowercase();
                self.records(&name).cname = Some(target);
            }
            Reach::Headless => self.headless(view, &name, members),
            Reach::ClusterIp | Reach::NodePort | Reach::LoadBalancer => {
                // Until it has an address it exists without one.
                let records = self.records(&name);
                records.a = view.ip.into_iter().collect();
                for port in &view.spec.ports {
                    self.port(&name, port, port.port, &name);
                }
                self.reverse.extend(view.ip.map(|ip| (ip, name)));
            }
        }
    }

    fn headless(
        &mut self,
        view: &ServiceView,
        name: &str,
        members: &mut BTreeMap<Ipv4Addr, String>,
    ) {
        self.records(name);
        let mut ready: Vec<&Endpoint> = view
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.state == EndpointState::Ready)
            .collect();
        ready.sort();
        for endpoint in ready {
            add(&mut self.records(name).a, endpoint.ip);
            let label = match &endpoint.hostname {
                Some(hostname) => hostname.to_ascii_lowercase(),
                None => dashed(endpoint.ip),
            };
            let member = format!("{label}.{name}");
            add(&mut self.records(&member).a, endpoint.ip);
            for (port, number) in view.spec.ports.iter().zip(&endpoint.ports) {
                if let Some(number) = number {
                    self.port(name, port, *number, &member);
                }
            }
            members.entry(endpoint.ip).or_insert(member);
        }
    }

    /// `_http._tcp.web.shop.svc.cluster.local`: where a named port is.
    fn port(&mut self, name: &str, port: &ServicePort, number: u16, target: &str) {
        if let Some(label) = &port.name {
            let name = format!("_{label}._{}.{name}", port.protocol.lower());
            add(&mut self.records(&name).srv, (number, target.to_owned()));
        }
    }
}

/// Each once: an endpoint may be named twice.
fn add<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
    }
}

fn dashed(ip: Ipv4Addr) -> String {
    ip.to_string().replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::words;

    fn book(services: &[&str]) -> Zone {
        let services: Vec<ServiceView> =
            services.iter().map(|text| words::service(text).expect(text)).collect();
        zone(&ZoneInput {
            domain: "Cluster.Local.",
            services: &services,
            pods: &[(Name::trusted("shop"), [10, 1, 0, 1].into())],
            networks: &["10.1.0.0/16".parse().expect("a network")],
        })
    }

    fn shown(zone: &Zone) -> String {
        let mut text = String::new();
        for (name, records) in &zone.names {
            text.push_str(name.trim_end_matches("cluster.local"));
            for ip in &records.a {
                text.push_str(&format!(" {ip}"));
            }
            for (port, target) in &records.srv {
                text.push_str(&format!(" {port}@{}", target.trim_end_matches("cluster.local")));
            }
            if let Some(target) = &records.cname {
                text.push_str(&format!(" ={target}"));
            }
            text.push('\n');
        }
        text
    }

    #[test]
    fn every_kind_of_service_has_its_names() {
        let zone = book(&[
            "shop/web ip=10.96.0.10 tcp:80/http udp:53 -> 10.1.0.1:8080@a",
            "shop/db headless tcp:5432/sql -> 10.1.0.2:5432@a#db-0 10.1.0.3:5432@b 10.1.0.4:1@b!",
            "shop/empty headless tcp:80/http",
            "lab/out alias=Example.org. tcp:80/http",
            "lab/new tcp:80/http",
        ]);
        assert_eq!(
            shown(&zone),
            "\
10-1-0-1.shop.pod. 10.1.0.1
10-1-0-3.db.shop.svc. 10.1.0.3
_http._tcp.new.lab.svc. 80@new.lab.svc.
_http._tcp.web.shop.svc. 80@web.shop.svc.
_sql._tcp.db.shop.svc. 5432@db-0.db.shop.svc. 5432@10-1-0-3.db.shop.svc.
_tcp.db.shop.svc.
_tcp.new.lab.svc.
_tcp.web.shop.svc.

db-0.db.shop.svc. 10.1.0.2
db.shop.svc. 10.1.0.2 10.1.0.3
empty.shop.svc.
lab.svc.
new.lab.svc.
out.lab.svc. =example.org
pod.
shop.pod.
shop.svc.
svc.
web.shop.svc. 10.96.0.10
"
        );
        let reverse: Vec<String> =
            zone.reverse.iter().map(|(ip, name)| format!("{ip} {name}")).collect();
        assert_eq!(
            reverse,
            [
                "10.1.0.1 10-1-0-1.shop.pod.cluster.local",
                "10.1.0.2 db-0.db.shop.svc.cluster.local",
                "10.1.0.3 10-1-0-3.db.shop.svc.cluster.local",
                "10.96.0.10 web.shop.svc.cluster.local",
            ]
        );
    }

    #[test]
    fn the_order_of_services_says_nothing() {
        let texts = [
            "shop/a headless tcp:80/x -> 10.1.0.2:80@a#one 10.1.0.3:80@a",
            "shop/b headless tcp:80/x -> 10.1.0.3:80@a 10.1.0.2:80@a#one",
        ];
        let mut turned = texts;
        turned.reverse();
        assert_eq!(book(&texts), book(&turned));
        assert!(book(&texts).reverse[&Ipv4Addr::new(10, 1, 0, 2)].starts_with("one.a."));
    }
}
