//! A Service, told.

use serde_json::Value;

use super::Page;
use crate::kinds::object::Key;
use crate::kinds::service::{Endpoint, EndpointState};
use crate::net::ServiceView;
use crate::view::json::{at, items, number, text};
use crate::view::picture::Picture;
use crate::view::table::labels;

/// kubectl shows so many endpoints of a port.
const ENDPOINTS_SHOWN: usize = 3;

pub(super) fn describe(page: &mut Page, picture: &Picture, key: &Key, service: &Value) {
    page.head(service);
    page.source(service);
    page.labels("Labels", service, "metadata.labels");
    page.annotations(service);
    page.field(0, "Selector", labels(service, "spec.selector"));
    page.field(0, "Type", text(service, "spec.type"));
    page.field(0, "IP Family Policy", or_none(text(service, "spec.ipFamilyPolicy")));
    page.field(0, "IP Families", or_none(&texts(service, "spec.ipFamilies")));
    page.field(0, "IP", text(service, "spec.clusterIP"));
    page.field(0, "IPs", or_none(&texts(service, "spec.clusterIPs")));
    page.field_if(0, "External IPs", &texts(service, "spec.externalIPs"));
    page.field_if(0, "External Name", text(service, "spec.externalName"));
    let balancer: Vec<&str> =
        items(service, "status.loadBalancer.ingress").iter().map(|one| text(one, "ip")).collect();
    page.field_if(0, "LoadBalancer Ingress", &balancer.join(", "));
    let mut views = picture.services.iter();
    let view = views
        .rfind(|view| Some(&view.namespace) == key.namespace.as_ref() && view.name == key.name);
    for (at, port) in items(service, "spec.ports").iter().enumerate() {
        describe_port(page, port, at, view);
    }
    page.field(0, "Session Affinity", or_none(text(service, "spec.sessionAffinity")));
    page.field_if(0, "External Traffic Policy", text(service, "spec.externalTrafficPolicy"));
    page.field_if(0, "Internal Traffic Policy", text(service, "spec.internalTrafficPolicy"));
    if at(service, "spec.healthCheckNodePort").is_some() {
        let port = number(service, "spec.healthCheckNodePort");
        page.field(0, "HealthCheck NodePort", port.to_string());
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>" } else { text }.to_owned()
}

fn texts(object: &Value, path: &str) -> String {
    let texts: Vec<&str> = items(object, path).iter().filter_map(Value::as_str).collect();
    texts.join(",")
}

fn describe_port(page: &mut Page, port: &Value, at_port: usize, view: Option<&ServiceView>) {
    let name = match text(port, "name") {
        "" => "<unset>",
        name => name,
    };
    let protocol = text(port, "protocol");
    page.field(0, "Port", format!("{name}  {}/{protocol}", number(port, "port")));
    let target = match at(port, "targetPort") {
        Some(Value::String(name)) => name.clone(),
        Some(number) => number.to_string(),
        None => number(port, "port").to_string(),
    };
    page.field(0, "TargetPort", format!("{target}/{protocol}"));
    if number(port, "nodePort") != 0 {
        let text = format!("{name}  {}/{protocol}", number(port, "nodePort"));
        page.field(0, "NodePort", text);
    }
    if let Some(view) = view.filter(|view| view.spec.selector.is_some()) {
        page.field(0, "Endpoints", endpoints(view, at_port));
    }
}

fn endpoints(view: &ServiceView, port: usize) -> String {
    let ready: Vec<&Endpoint> =
        view.endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready).collect();
    let all: Vec<String> = ready
        .iter()
        .filter_map(|endpoint| {
            let number = endpoint.ports.get(port).copied().flatten()?;
            Some(format!("{}:{number}", endpoint.ip))
        })
        .collect();
    let shown = all.iter().take(ENDPOINTS_SHOWN).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(ENDPOINTS_SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}
