//! Which objects a person means: kubectl's words for them.
//!
//! `pods`, `po web api`, `deploy,svc`, `all`, `pod/web svc/web`.

use super::client::segment;
use super::fault::Failure;
use crate::kinds::registry::{KINDS, Kind};

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The kind.
    pub(super) kind: Kind,
    /// The object; all that are chosen where absent.
    pub(super) name: Option<String>,
}

impl Target {
    fn all(kind: Kind) -> Self {
        Self { kind, name: None }
    }

    fn one(kind: Kind, name: &str) -> Self {
        Self { kind, name: Some(name.to_owned()) }
    }

    /// Where the agent has it. Everywhere, if no namespace is given.
    pub(super) fn path(&self, namespace: Option<&str>) -> String {
        let collection = collection(self.kind, namespace);
        match &self.name {
            Some(name) => format!("{collection}/{}", segment(name)),
            None => collection,
        }
    }
}

/// Where the agent has the objects of a kind.
pub(super) fn collection(kind: Kind, namespace: Option<&str>) -> String {
    let info = kind.info();
    let group = match info.group {
        "" => format!("/api/{}", info.version),
        group => format!("/apis/{group}/{}", info.version),
    };
    match namespace.filter(|_| info.namespaced) {
        Some(namespace) => format!("{group}/namespaces/{}/{}", segment(namespace), info.plural),
        None => format!("{group}/{}", info.plural),
    }
}

/// What `all` stands for, in kubectl's order.
const ALL: [Kind; 10] = [
    Kind::Pod,
    Kind::ReplicationController,
    Kind::Service,
    Kind::DaemonSet,
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::StatefulSet,
    Kind::HorizontalPodAutoscaler,
    Kind::CronJob,
    Kind::Job,
];

/// The objects that the words of a command mean.
pub(super) fn parse(words: &[String]) -> Result<Vec<Target>, Failure> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::Usage(
            "say which objects: windlass get pods, windlass get deploy/web, windlass get all\n\
             hint: windlass api-resources lists the kinds there are"
                .to_owned(),
        ));
    };
    if first.contains('/') {
        return words.iter().map(|word| named(word)).collect();
    }
    let kinds = kinds(first)?;
    if let Some(word) = rest.iter().find(|word| word.contains('/')) {
        return Err(Failure::usage(format!(
            "a kind is given twice: write either '{first} NAME' or '{word}'"
        )));
    }
    if rest.is_empty() {
        return Ok(kinds.into_iter().map(Target::all).collect());
    }
    let each = kinds.iter().flat_map(|kind| rest.iter().map(|name| Target::one(*kind, name)));
    Ok(each.collect())
}

/// The one object that the words of a command mean; of this kind, if they name none.
pub(super) fn parse_one(words: &[String], kind: Option<Kind>) -> Result<(Kind, String), Failure> {
    match (words, kind) {
        ([word], _) if word.contains('/') => {
            let Target { kind, name } = named(word)?;
            Ok((kind, name.unwrap_or_default()))
        }
        ([name], Some(kind)) => Ok((kind, name.clone())),
        ([word, name], _) if !name.contains('/') => Ok((self::kind(word)?, name.clone())),
        _ => Err(Failure::usage("name one object: KIND/NAME, or KIND NAME")),
    }
}

fn named(word: &str) -> Result<Target, Failure> {
    match word.split_once('/') {
        Some((resource, name)) if !name.is_empty() && !name.contains('/') => {
            Ok(Target::one(kind(resource)?, name))
        }
        _ => Err(Failure::usage(format!("'{word}' is not KIND/NAME, such as deploy/web"))),
    }
}

fn kinds(words: &str) -> Result<Vec<Kind>, Failure> {
    let mut kinds = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        if word == "all" {
            kinds.extend(ALL);
        } else {
            kinds.push(kind(word)?);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    kinds.retain(|kind| seen.insert(*kind));
    Ok(kinds)
}

fn kind(word: &str) -> Result<Kind, Failure> {
    let found = Kind::parse_resource(word).or_else(|| {
        // `deployments.v1.apps`: the version says nothing, there is but one.
        let (name, rest) = word.split_once('.')?;
        let (_, group) = rest.split_once('.')?;
        Kind::parse_resource(&format!("{name}.{group}"))
    });
    found.ok_or_else(|| {
        let word_lower = word.to_lowercase();
        let near = KINDS.iter().flat_map(|info| [info.plural, info.singular]);
        let near = near.filter(|name| is_near(name, &word_lower)).min_by_key(|name| name.len());
        let hint = match near {
            Some(near) => format!("did you mean {near}? windlass api-resources lists all"),
            None => "windlass api-resources lists all".to_owned(),
        };
        Failure::Usage(format!("the agent doesn't have a resource type \"{word}\"\nhint: {hint}"))
    })
}

/// Whether a word is one slip of the finger away: a letter more, less, other, or two swapped.
fn is_near(name: &str, word: &str) -> bool {
    let (name, word) = (name.as_bytes(), word.as_bytes());
    let same = |one: &[u8], other: &[u8]| one == other;
    let head = name.iter().zip(word).take_while(|(one, other)| one == other).count();
    let (name, word) = (&name[head..], &word[head..]);
    match (name, word) {
        ([_, name_rest @ ..], [_, word_rest @ ..]) if same(name_rest, word_rest) => true,
        ([a, b, name_rest @ ..], [c, d, word_rest @ ..]) if a == d && b == c => {
            same(name_rest, word_rest)
        }
        ([_, name_rest @ ..], _) if same(name_rest, word) => true,
        (_, [_, word_rest @ ..]) => same(name, word_rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pod` for all of a kind, `pod/web` for one.
    fn read(words: &str) -> String {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(targets) => {
                let texts = targets.iter().map(|target| {
                    let kind = target.kind.info().singular;
                    target.name.as_ref().map_or(kind.to_owned(), |name| format!("{kind}/{name}"))
                });
                texts.collect::<Vec<_>>().join(" ")
            }
            Err(Failure::Usage(message)) => format!("? {message}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_read_as_kubectl_reads_them() {
        let table = [
            ("pods", "pod"),
            ("po", "pod"),
            ("Pod", "pod"),
            ("deployments.apps", "deployment"),
            ("deployments.v1.apps", "deployment"),
            ("pods web api", "pod/web pod/api"),
            ("pod/web", "pod/web"),
            ("pod/web svc/api", "pod/web service/api"),
            ("deploy,svc", "deployment service"),
            ("deploy,svc web", "deployment/web service/web"),
            ("po,pods", "pod"),
        ];
        for (words, targets) in table {
            assert_eq!(read(words), targets, "{words}");
        }
        assert!(read("all").starts_with("pod replicationcontroller service "));
        assert_eq!(read("all,cm").split(' ').count(), ALL.len() + 1);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let table = [
            ("", "say which objects"),
            ("gadgets", "resource type \"gadgets\""),
            ("deploymnet", "did you mean deployment?"),
            ("pdos", "did you mean pods?"),
            ("pod pod/web", "a kind is given twice"),
            ("pod/web svc", "'svc' is not KIND/NAME"),
            ("pod/", "'pod/' is not KIND/NAME"),
            ("pod/a/b", "'pod/a/b' is not KIND/NAME"),
        ];
        for (words, message) in table {
            let said = read(words);
            assert!(said.starts_with("? ") && said.contains(message), "{words}: {said}");
        }
    }

    #[test]
    fn all_has_every_kind_that_get_all_lists() {
        for info in KINDS {
            assert_eq!(ALL.contains(&info.kind), info.in_all, "{}", info.name);
        }
    }

    #[test]
    fn objects_are_where_kubernetes_has_them() {
        let pod = Target::one(Kind::Pod, "web");
        assert_eq!(pod.path(Some("shop")), "/api/v1/namespaces/shop/pods/web");
        assert_eq!(collection(Kind::Deployment, None), "/apis/apps/v1/deployments");
        assert_eq!(Target::one(Kind::Node, "a").path(Some("shop")), "/api/v1/nodes/a");
    }
}
