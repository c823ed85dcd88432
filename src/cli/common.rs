//! What must be the same on every node, as `agent.yaml` has it: a list of fields, by which it is
//! compared, carried to others in the token of `windlass join`, and written down there.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::config::File;
use crate::agent::config::Config;
use crate::kinds::fleet::FleetSettings;

/// How a field stands in `agent.yaml`.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Number,
    Truth,
}

struct Field {
    path: &'static str,
    form: Form,
    of: fn(&File, &Config) -> String,
}

const fn field(path: &'static str, form: Form, of: fn(&File, &Config) -> String) -> Field {
    Field { path, form, of }
}

/// Whom the nodes trust. It is never taken from the state store, only compared.
pub(super) const TRUST: &str = "desired.trust";

/// Not among them: addresses of repositories, which may be others on other networks, and what is a
/// machine's own.
const FIELDS: [Field; 18] = [
    field("desired.branch", Form::Text, |file, _| file.desired.branch.clone()),
    field("desired.directory", Form::Text, |file, _| file.desired.directory.clone()),
    field("desired.followRewrites", Form::Truth, |file, _| {
        file.desired.follow_rewrites.to_string()
    }),
    field(TRUST, Form::Text, |_, agent| {
        agent.trust.map_or_else(String::new, |pin| format!("sha256:{pin}"))
    }),
    field("fleet.lease", Form::Text, |_, agent| duration_text(agent.lease)),
    field("fleet.beat", Form::Text, |_, agent| duration_text(agent.beat)),
    field("fleet.notReadyAfter", Form::Text, |_, agent| duration_text(agent.not_ready_after)),
    field("fleet.evictAfter", Form::Text, |_, agent| {
        duration_text(Duration::from_secs(agent.settings.eviction_s.into()))
    }),
    field("fleet.foldAbove", Form::Number, |_, agent| agent.folds_above.to_string()),
    field("network.podNetwork", Form::Text, |_, agent| agent.settings.pod_network.to_string()),
    field("network.nodePrefix", Form::Number, |_, agent| agent.settings.node_prefix.to_string()),
    field("network.serviceNetwork", Form::Text, |_, agent| {
        agent.settings.service_network.to_string()
    }),
    field("network.dnsAddress", Form::Text, |_, agent| agent.settings.dns_ip.to_string()),
    field("network.clusterDomain", Form::Text, |_, agent| agent.domain.clone()),
    field("network.nodePorts", Form::Text, |_, agent| {
        let (first, last) = agent.settings.node_ports;
        format!("{first}-{last}")
    }),
    field("network.mode", Form::Text, |file, _| file.network.mode.clone()),
    field("network.vxlanId", Form::Number, |_, agent| agent.overlay.id.to_string()),
    field("network.vxlanPort", Form::Number, |_, agent| agent.overlay.port.to_string()),
];

/// What of a configuration must be the same on every node.
pub(super) fn of(file: &File, agent: &Config) -> FleetSettings {
    let fields = FIELDS.iter().map(|field| (field.path.to_owned(), (field.of)(file, agent)));
    FleetSettings { version: file.fleet.version, fields: fields.collect() }
}

/// The same as it stands in `agent.yaml`. Fields of a later version are left out.
pub(super) fn config(settings: &FleetSettings) -> Value {
    let mut config = json!({"fleet": {"version": settings.version}});
    for field in &FIELDS {
        let (Some(text), Some((part, name))) =
            (settings.fields.get(field.path), field.path.split_once('.'))
        else {
            continue;
        };
        let value = match field.form {
            Form::Text => Value::from(text.as_str()),
            // What is none is said to be none by whoever reads the file.
            Form::Number | Form::Truth => {
                serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())
            }
        };
        let part = &mut config[part];
        if part.is_null() {
            *part = Value::Object(Map::new());
        }
        part[name] = value;
    }
    config
}

/// A duration in the one form in which it is compared: `1h30m`, `5m`, `15s`, `500ms`.
fn duration_text(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts = [
        (u64::from(millis), "ms"),
        (seconds % 60, "s"),
        (seconds / 60 % 60, "m"),
        (seconds / 3600, "h"),
    ];
    let text: String = parts
        .iter()
        .rev()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::config::{load, parse_duration};
    use super::*;

    fn loaded(text: &str) -> super::super::config::Loaded {
        let path = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(path.path(), text).expect("written");
        load(path.path(), "n1", "x").expect("is right")
    }

    #[test]
    fn the_same_said_in_another_way_is_the_same() {
        let one = loaded("desired: {url: /x}");
        let other = loaded(
            "desired: {url: ssh://elsewhere/x, poll: 5s}
fleet: {evictAfter: 300s, lease: 15000ms}
network: {dnsAddress: 10.96.0.10, nodePorts: 30000 - 32767}
node: {name: other}",
        );
        assert_eq!(one.agent.fleet, other.agent.fleet);
        assert_eq!(one.agent.fleet.fields["fleet.evictAfter"], "5m");
        let third = loaded("desired: {url: /x}\nfleet: {evictAfter: 301s}");
        let said: Vec<String> = third
            .agent
            .fleet
            .differences(&one.agent.fleet)
            .iter()
            .map(|found| found.told("here"))
            .collect();
        assert_eq!(said, ["fleet.evictAfter is 5m1s here and 5m in the fleet"]);
    }

    #[test]
    fn what_is_written_down_is_read_back_whatever_was_set() {
        let text = "
desired:
  url: /x
  branch: live
  directory: shop
  followRewrites: true
  trust: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
fleet: {version: 3, lease: 1m30s, beat: 2500ms, notReadyAfter: 1h0m1s, evictAfter: 7m, foldAbove: 20}
network:
  podNetwork: 10.77.0.0/17
  nodePrefix: 25
  serviceNetwork: 10.98.0.0/20
  dnsAddress: 10.98.0.53
  clusterDomain: shop.example
  nodePorts: 31000-31999
  mode: vxlan
  vxlanId: 77
  vxlanPort: 4789
";
        let before = loaded(text).agent.fleet;
        let defaults = loaded("desired: {url: /x}").agent.fleet;
        assert_eq!(
            before.differences(&defaults).len(),
            FIELDS.len(),
            "each is set to another value"
        );
        let mut again = config(&before);
        again["desired"]["url"] = "/y".into();
        let again = loaded(&serde_yaml::to_string(&again).expect("yaml")).agent.fleet;
        assert_eq!(again, before);
    }

    #[test]
    fn durations_have_one_form() {
        for (text, expected) in
            [("90s", "1m30s"), ("300s", "5m"), ("1500ms", "1s500ms"), ("0s", "0s"), ("36h", "36h")]
        {
            let duration = parse_duration(text).expect(text);
            assert_eq!(duration_text(duration), expected);
            assert_eq!(parse_duration(expected), Ok(duration));
        }
    }
}
