//! A repository as teams have them: every file of it must pass, with just the warnings that its
//! lines announce.

use super::super::Why;
use super::{announced, differences, read};
use crate::kinds::object::Body;
use crate::kinds::registry::Kind;

/// The files, by path.
pub(super) const FILES: &[(&str, &str)] = &[
    ("00-namespaces.yaml", include_str!("good/00-namespaces.yaml")),
    ("anchors.yaml", include_str!("good/anchors.yaml")),
    ("backend.yaml", include_str!("good/backend.yaml")),
    ("cron.yaml", include_str!("good/cron.yaml")),
    ("deployments.json", include_str!("good/deployments.json")),
    ("exported.yaml", include_str!("good/exported.yaml")),
    ("guestbook.yaml", include_str!("good/guestbook.yaml")),
    ("nginx.yaml", include_str!("good/nginx.yaml")),
    ("pods.yaml", include_str!("good/pods.yaml")),
    ("policies.yaml", include_str!("good/policies.yaml")),
    ("postgres.yaml", include_str!("good/postgres.yaml")),
    ("prometheus.yaml", include_str!("good/prometheus.yaml")),
    ("rbac.yaml", include_str!("good/rbac.yaml")),
    ("redis.yaml", include_str!("good/redis.yaml")),
    ("sets.yml", include_str!("good/sets.yml")),
    ("values.yaml", include_str!("good/values.yaml")),
    ("windlass.yaml", include_str!("good/windlass.yaml")),
];

#[test]
fn a_repository_of_typical_manifests_passes() {
    let (desired, findings) = read(FILES);
    let expected: Vec<_> = FILES.iter().flat_map(|(path, text)| announced(path, text)).collect();
    let differences = differences(&findings, &expected);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
    assert_eq!(desired.objects.len(), 53);
    let skipped: Vec<(&str, Why)> = desired.skipped.iter().map(|s| (&*s.path, s.why)).collect();
    assert_eq!(skipped, [("values.yaml", Why::NotAManifest)]);
    assert_eq!(desired.settings.unenforced.len(), 1);
}

#[test]
fn what_runs_has_a_body_and_what_is_only_shown_has_none() {
    use crate::kinds::registry::Support;
    let (desired, _) = read(FILES);
    for (key, object) in &desired.objects {
        let is_plain = matches!(object.body, Body::Plain);
        let acts = match key.kind {
            Kind::Namespace => false,
            kind => kind.info().support == Support::Runs,
        };
        assert_eq!(is_plain, !acts, "{key}");
    }
}
