//! Where packets go: Services and what is behind them, Ingresses, policies.

use serde_json::Value;

use super::cells::{NONE, UNSET, age, joined, labels, or_none, selector};
use super::{Column, name, shown, wide};
use crate::kinds::time::Wall;
use crate::view::json::{at, items, number, text};

/// Kubernetes shows so many endpoints in a cell.
const ENDPOINTS_SHOWN: usize = 3;
/// Without `-o wide`, an address column is cut to this (`loadBalancerWidth`).
const ADDRESS_WIDTH: usize = 16;

pub(super) const SERVICES: &[Column] = &[
    shown("Name"),
    shown("Type"),
    shown("Cluster-IP"),
    shown("External-IP"),
    shown("Port(s)"),
    shown("Age"),
    wide("Selector"),
];

pub(super) fn service(service: &Value, now: Wall) -> Vec<Value> {
    vec![
        name(service),
        text(service, "spec.type").into(),
        or_none(text(service, "spec.clusterIP")).into(),
        external(service).into(),
        ports(service).into(),
        age(service, now).into(),
        labels(service, "spec.selector").into(),
    ]
}

fn external(service: &Value) -> String {
    let given: Vec<&str> =
        items(service, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match text(service, "spec.type") {
        "LoadBalancer" => {
            let published = balancer(service);
            let all: Vec<&str> = published.into_iter().chain(given).collect();
            if all.is_empty() {
                return "<pending>".to_owned();
            }
            let text = all.join(",");
            if text.len() > ADDRESS_WIDTH {
                format!("{}...", &text[..ADDRESS_WIDTH - 3])
            } else {
                text
            }
        }
        "ExternalName" => text(service, "spec.externalName").to_owned(),
        _ => joined(given),
    }
}

fn balancer(object: &Value) -> Vec<&str> {
    let ingress = items(object, "status.loadBalancer.ingress").iter();
    let address = |one| match text(one, "ip") {
        "" => text(one, "hostname"),
        ip => ip,
    };
    ingress.map(address).filter(|text| !text.is_empty()).collect()
}

/// `80:30080/TCP,443/TCP`.
fn ports(service: &Value) -> String {
    let ports: Vec<String> = items(service, "spec.ports")
        .iter()
        .map(|port| {
            let (number_, protocol) = (number(port, "port"), text(port, "protocol"));
            match number(port, "nodePort") {
                0 => format!("{number_}/{protocol}"),
                node => format!("{number_}:{node}/{protocol}"),
            }
        })
        .collect();
    or_none(&ports.join(","))
}

pub(super) const ENDPOINTS: &[Column] = &[shown("Name"), shown("Endpoints"), shown("Age")];

pub(super) fn endpoints(endpoints: &Value, now: Wall) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(endpoints, "subsets") {
        let (ports, addresses) = (items(subset, "ports"), items(subset, "addresses"));
        let ips = addresses.iter().map(|address| text(address, "ip"));
        if ports.is_empty() {
            all.extend(ips.clone().map(str::to_owned));
        }
        for port in ports {
            all.extend(ips.clone().map(|ip| format!("{ip}:{}", number(port, "port"))));
        }
    }
    vec![name(endpoints), some_of(&all).into(), age(endpoints, now).into()]
}

fn some_of(all: &[String]) -> String {
    let shown = all.iter().take(ENDPOINTS_SHOWN).map(String::as_str);
    let text = joined(shown);
    match all.len().saturating_sub(ENDPOINTS_SHOWN) {
        0 => text,
        more => format!("{text} + {more} more..."),
    }
}

pub(super) const SLICES: &[Column] =
    &[shown("Name"), shown("AddressType"), shown("Ports"), shown("Endpoints"), shown("Age")];

pub(super) fn slice(slice: &Value, now: Wall) -> Vec<Value> {
    let numbers: Vec<String> =
        items(slice, "ports").iter().map(|port| number(port, "port").to_string()).collect();
    let ports = if numbers.is_empty() { UNSET.to_owned() } else { some_of(&numbers) };
    let all: Vec<String> = items(slice, "endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let endpoints = if all.is_empty() { UNSET.to_owned() } else { some_of(&all) };
    vec![
        name(slice),
        text(slice, "addressType").into(),
        ports.into(),
        endpoints.into(),
        age(slice, now).into(),
    ]
}

pub(super) const INGRESSES: &[Column] = &[
    shown("Name"),
    shown("Class"),
    shown("Hosts"),
    shown("Address"),
    shown("Ports"),
    shown("Age"),
];

pub(super) fn ingress(ingress: &Value, now: Wall) -> Vec<Value> {
    let hosts: Vec<String> = items(ingress, "spec.rules")
        .iter()
        .map(|rule| text(rule, "host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { some_of(&hosts) };
    let ports = if items(ingress, "spec.tls").is_empty() { "80" } else { "80, 443" };
    vec![
        name(ingress),
        or_none(text(ingress, "spec.ingressClassName")).into(),
        hosts.into(),
        balancer(ingress).join(",").into(),
        ports.into(),
        age(ingress, now).into(),
    ]
}

pub(super) const INGRESS_CLASSES: &[Column] =
    &[shown("Name"), shown("Controller"), shown("Parameters"), shown("Age")];

pub(super) fn ingress_class(class: &Value, now: Wall) -> Vec<Value> {
    let parameters = at(class, "spec.parameters").map_or_else(
        || NONE.to_owned(),
        |parameters| {
            let kind = text(parameters, "kind");
            let group = match text(parameters, "apiGroup") {
                "" => String::new(),
                group => format!(".{group}"),
            };
            format!("{kind}{group}/{}", text(parameters, "name"))
        },
    );
    vec![
        name(class),
        text(class, "spec.controller").into(),
        parameters.into(),
        age(class, now).into(),
    ]
}

pub(super) const POLICIES: &[Column] = &[shown("Name"), shown("Pod-Selector"), shown("Age")];

pub(super) fn policy(policy: &Value, now: Wall) -> Vec<Value> {
    vec![name(policy), selector(policy, "spec.podSelector").into(), age(policy, now).into()]
}
