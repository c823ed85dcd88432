//! Which images may run: `images` of `trust.yaml`.
//!
//! ```text
//! images:
//!   allowed: [registry.example.com/shop, docker.io/library]   # registries, or repositories in them
//!   digest: required                                          # image: name@sha256:…
//! ```
//! A tag can be moved by whoever may write the registry; a digest can't, so with both what runs is what
//! was signed.

use super::super::path::Path;
use super::super::report::Report;
use super::super::tree::{Described, Node, quoted};
use crate::kinds::finding::{Finding, Severity};
use crate::kinds::image::{ImageName, Reference, Version};
use crate::kinds::object::Object;

/// Which images may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::desired) struct ImagePolicy {
    /// Registries, or repositories in them; all if absent.
    allowed: Option<Vec<String>>,
    /// Whether each must be named by its digest.
    needs_digest: bool,
}

fn error(report: &mut Report, node: &Node<'_>, path: &Path<'_>, message: impl Into<String>) {
    report.add(Severity::Error, node.at, path, message, None);
}

/// Reads `images`.
pub(in crate::desired) fn read(
    node: &Node<'_>,
    path: &Path<'_>,
    report: &mut Report,
) -> ImagePolicy {
    let mut policy = ImagePolicy::default();
    let unfit = |expected: &str, node: &Node<'_>, path: &Path<'_>, report: &mut Report| {
        let found = Described(&node.value, false).to_string();
        error(report, node, path, format!("expected {expected}, found {found}"));
    };
    let Some(entries) = node.as_map() else {
        unfit("a map with allowed and digest", node, path, report);
        return policy;
    };
    for entry in entries {
        let path = path.field(&entry.key);
        let node = &entry.node;
        match &*entry.key {
            "allowed" => match node.as_list() {
                Some(items) => {
                    let mut allowed = Vec::new();
                    for (index, item) in items.iter().enumerate() {
                        let path = path.index(index);
                        match item.as_text().map(repository) {
                            Some(Ok(repository)) => allowed.push(repository),
                            Some(Err(why)) => error(report, item, &path, why),
                            None => unfit("a registry", item, &path, report),
                        }
                    }
                    policy.allowed = Some(allowed);
                }
                None => unfit("a list of registries", node, &path, report),
            },
            "digest" => match node.as_text() {
                Some("required") => policy.needs_digest = true,
                Some("optional") => policy.needs_digest = false,
                _ => unfit("required or optional", node, &path, report),
            },
            _ => {
                let hint = Some("there are \"allowed\" and \"digest\"".to_owned());
                report.add(Severity::Error, entry.at, &path, "unknown setting", hint);
            }
        }
    }
    policy
}

/// A registry, or a repository with it, written in full.
fn repository(text: &str) -> Result<String, String> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let domain = bare.split('/').next().unwrap_or_default();
    let is_host = domain.contains(['.', ':']) || domain == "localhost";
    let is_plain = bare.split('/').all(|part| !part.is_empty())
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"./:_-".contains(&b));
    if is_host && is_plain {
        return Ok(bare.to_owned());
    }
    Err(format!(
        "{} is no registry: write it in full, as in docker.io/library or registry.example.com/shop",
        quoted(text)
    ))
}

/// Says which images of an object's pods may not run.
pub(super) fn check(object: &Object, policy: &ImagePolicy, found: &mut Vec<Finding>) {
    let Some(template) = object.body.template() else { return };
    for container in template.spec.all_containers() {
        // What is no name of an image was told already.
        let Ok(name) = ImageName::parse(&container.image) else { continue };
        for complaint in complaints(&name, policy) {
            let message = format!(
                "the image {} of container {} {complaint}",
                container.image, container.name
            );
            let finding = Finding::error(object.place.clone(), message).of(&object.key);
            found.push(finding.hint("trust.yaml, images"));
        }
    }
}

fn complaints(name: &ImageName, policy: &ImagePolicy) -> Vec<String> {
    let is_pinned = match name {
        ImageName::Id(_) => true,
        ImageName::Reference(reference) => matches!(reference.version, Version::Digest(_)),
    };
    let mut complaints = Vec::new();
    if let Some(allowed) = &policy.allowed {
        let is_allowed = match name {
            ImageName::Id(_) => false,
            ImageName::Reference(reference) => allowed.iter().any(|one| has(one, reference)),
        };
        if !is_allowed {
            let list = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            complaints.push(format!("is from no registry that is allowed ({list})"));
        }
    }
    if policy.needs_digest && !is_pinned {
        complaints.push("must be named by its digest (name@sha256:…)".to_owned());
    }
    complaints
}

/// Whether a repository is the allowed one or lies below it.
fn has(allowed: &str, reference: &Reference) -> bool {
    let repository = reference.repository();
    let rest = repository.strip_prefix(allowed);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: Option<&[&str]>, needs_digest: bool) -> ImagePolicy {
        let allowed =
            allowed.map(|list| list.iter().map(|one| repository(one).expect(one)).collect());
        ImagePolicy { allowed, needs_digest }
    }

    #[test]
    fn an_image_is_judged_by_where_it_comes_from_and_how_it_is_named() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        let shop = Some(["registry.example.com:5000/shop", "docker.io/library/"].as_slice());
        for (image, allowed, needs_digest, expected) in [
            ("nginx", None, false, 0),
            ("nginx", shop, false, 0),
            ("nginx:1.27", None, true, 1),
            ("nginx@DIGEST", shop, true, 0),
            ("nginx:1.27@DIGEST", shop, true, 0),
            ("docker.io/library/nginx", shop, false, 0),
            ("ghcr.io/library/nginx", shop, false, 1),
            ("someone/nginx", shop, false, 1),
            ("registry.example.com:5000/shop/web:1", shop, false, 0),
            ("registry.example.com:5000/shop", shop, false, 0),
            ("registry.example.com:5000/shopping/web", shop, false, 1),
            ("registry.example.com/shop/web", shop, true, 2),
            ("sha256:DIGITS", None, true, 0),
            ("sha256:DIGITS", shop, true, 1),
            ("nginx", Some([].as_slice()), false, 1),
        ] {
            let image = image.replace("@DIGEST", &digest).replace("DIGITS", &"a".repeat(64));
            let name = ImageName::parse(&image).expect(&image);
            let found = complaints(&name, &policy(allowed, needs_digest));
            assert_eq!(found.len(), expected, "{image}: {found:?}");
        }
    }

    #[test]
    fn a_registry_is_written_in_full() {
        for wrong in ["library", "nginx", "", "docker.io//x", "docker.io/x*", "https://docker.io"] {
            assert!(repository(wrong).is_err(), "{wrong}");
        }
        assert_eq!(repository("localhost/x/"), Ok("localhost/x".into()));
    }
}
