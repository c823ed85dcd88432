//! What one container, one pod, one claim of a namespace may be: `kind: LimitRange`.
//!
//! A menu for guests who order nothing: whoever does not say what he takes gets the house's portion.
//! It is served when a pod is made, and nobody's plate is changed later. So what a LimitRange gives is
//! no part of a template: a [`Binding`](super::binding::Binding) says which LimitRanges its pod was made
//! under, and the coordinator and the node work out the same from them.
//!
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use std::sync::Arc;

use super::container::Container;
use super::digest::Digest;
use super::name::Name;
use super::pod::{PodSpec, PodTemplate, ResourceList};
use super::quantity::Quantity;

/// The annotation in which a pod says what LimitRanges gave it (`limitRangerAnnotation`).
pub const ANNOTATION_GIVEN: &str = "kubernetes.io/limit-ranger";

/// Of what a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOf {
    /// Each container.
    Container,
    /// All containers of a pod together.
    Pod,
    /// Each claim for storage.
    Claim,
}

/// The types as they are written.
pub const LIMIT_TYPES: [(&str, LimitOf); 3] = [
    ("Container", LimitOf::Container),
    ("Pod", LimitOf::Pod),
    ("PersistentVolumeClaim", LimitOf::Claim),
];

/// What is allowed, and what is given to who does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub of: LimitOf,
    /// So much at least.
    pub min: ResourceList,
    /// So much at most.
    pub max: ResourceList,
    /// The limits of a container that has none.
    pub default: ResourceList,
    /// The requests of a container that has none.
    pub default_request: ResourceList,
    /// So many times its request a limit may be.
    pub ratio: ResourceList,
}

/// A LimitRange, valid, with Kubernetes' defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRange {
    /// Each of another type.
    pub limits: Vec<Limit>,
}

/// Something that a container did not say and was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gift {
    /// The container.
    pub container: Name,
    /// Whether it runs before the others.
    is_init: bool,
    /// Whether it is a limit; otherwise a request.
    pub is_limit: bool,
    /// Of which resource.
    pub resource: String,
    /// So much.
    pub amount: Quantity,
}

/// What a LimitRange does to the containers of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gifts {
    /// What they were given.
    pub given: Vec<Gift>,
    /// What they were not given since it contradicts what they say, and what that is: a limit below a
    /// request. Kubernetes turns such a pod away.
    pub unfit: Vec<(Gift, Quantity)>,
}

impl LimitRange {
    /// Whether it gives anything to containers.
    pub fn gives(&self) -> bool {
        self.of(LimitOf::Container)
            .any(|limit| !limit.default.is_empty() || !limit.default_request.is_empty())
    }

    /// What it says of these.
    pub fn of(&self, of: LimitOf) -> impl Iterator<Item = &Limit> {
        self.limits.iter().filter(move |limit| limit.of == of)
    }

    /// Gives containers what they don't say (`mergePodResourceRequirements`).
    pub fn give(&self, spec: &mut PodSpec) -> Gifts {
        let mut gifts = Gifts::default();
        for limit in self.of(LimitOf::Container) {
            for container in &mut spec.containers {
                limit.give(container, false, &mut gifts);
            }
            for container in &mut spec.init_containers {
                limit.give(container, true, &mut gifts);
            }
        }
        gifts
    }
}

impl Limit {
    fn give(&self, container: &mut Container, is_init: bool, gifts: &mut Gifts) {
        let resources = &mut container.resources;
        for (defaults, is_limit) in [(&self.default, true), (&self.default_request, false)] {
            for (resource, amount) in defaults {
                let (own, other) = match is_limit {
                    true => (&mut resources.limits, &resources.requests),
                    false => (&mut resources.requests, &resources.limits),
                };
                if own.contains_key(resource) {
                    continue;
                }
                let gift = Gift {
                    container: container.name.clone(),
                    is_init,
                    is_limit,
                    resource: resource.clone(),
                    amount: *amount,
                };
                let fits = |said: &Quantity| if is_limit { amount >= said } else { amount <= said };
                match other.get(resource) {
                    Some(said) if !fits(said) => gifts.unfit.push((gift, *said)),
                    _ => {
                        own.insert(resource.clone(), *amount);
                        gifts.given.push(gift);
                    }
                }
            }
        }
    }
}

/// A template as pods have it that are made under these LimitRanges; the template itself where they
/// give nothing. What it means stays what is written: a pod is not replaced for what it was given.
pub fn under(template: &Arc<PodTemplate>, ranges: &[Arc<LimitRange>]) -> Arc<PodTemplate> {
    if !ranges.iter().any(|range| range.gives()) {
        return template.clone();
    }
    let mut spec = PodSpec::clone(&template.spec);
    let given: Vec<Gift> = ranges.iter().flat_map(|range| range.give(&mut spec).given).collect();
    if given.is_empty() {
        return template.clone();
    }
    let mut own = PodTemplate { spec: Arc::new(spec), ..PodTemplate::clone(template) };
    own.annotations.insert(ANNOTATION_GIVEN.to_owned(), told(&given));
    own.given = Some(digest(&given));
    Arc::new(own)
}

/// As Kubernetes tells it: `LimitRanger plugin set: cpu, memory request for container web`.
fn told(given: &[Gift]) -> String {
    let mut told: Vec<(&Gift, Vec<&str>)> = Vec::new();
    for gift in given {
        let is_like =
            |other: &Gift| (&other.container, other.is_limit) == (&gift.container, gift.is_limit);
        match told.iter_mut().find(|(first, _)| is_like(first)) {
            Some((_, resources)) => resources.push(&gift.resource),
            None => told.push((gift, vec![&gift.resource])),
        }
    }
    told.sort_by_key(|(gift, _)| (gift.is_init, gift.container.clone(), gift.is_limit));
    let each = told.into_iter().map(|(gift, mut resources)| {
        resources.sort_unstable();
        let what = if gift.is_limit { "limit" } else { "request" };
        let whose = if gift.is_init { "init container" } else { "container" };
        format!("{} {what} for {whose} {}", resources.join(", "), gift.container)
    });
    format!("LimitRanger plugin set: {}", each.collect::<Vec<_>>().join("; "))
}

fn digest(given: &[Gift]) -> Digest {
    let line = |gift: &Gift| {
        let Gift { container, is_limit, resource, amount, .. } = gift;
        format!("{container} {is_limit} {resource} {}\n", amount.in_decimal())
    };
    Digest::of(given.iter().map(line).collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(amounts: &str) -> ResourceList {
        let each = amounts.split(' ').filter(|word| !word.is_empty());
        let pair = |word: &str| {
            let (name, amount) = word.split_once('=').expect("name=amount");
            (name.to_owned(), Quantity::parse(amount).expect("an amount"))
        };
        each.map(pair).collect()
    }

    fn range(default: &str, default_request: &str) -> LimitRange {
        let limit = Limit {
            of: LimitOf::Container,
            min: ResourceList::new(),
            max: ResourceList::new(),
            default: list(default),
            default_request: list(default_request),
            ratio: ResourceList::new(),
        };
        LimitRange { limits: vec![limit] }
    }

    fn container(requests: &str, limits: &str) -> Container {
        let mut container = Container::new(Name::trusted("c"), "image");
        container.resources.requests = list(requests);
        container.resources.limits = list(limits);
        container
    }

    fn shown(list: &ResourceList) -> String {
        let each = list.iter().map(|(name, amount)| format!("{name}={amount}"));
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_not_said_is_given() {
        // (default, defaultRequest), what a container says, what it has then: requests | limits
        type Pair = (&'static str, &'static str);
        let table: [(Pair, Pair, &str); 8] = [
            // The examples of Kubernetes' documentation: default memory and CPU of a namespace.
            (("memory=512Mi", "memory=256Mi"), ("", ""), "memory=256Mi | memory=512Mi"),
            (("memory=512Mi", "memory=256Mi"), ("memory=128Mi", ""), "memory=128Mi | memory=512Mi"),
            (("cpu=1", "cpu=500m"), ("cpu=750m", ""), "cpu=750m | cpu=1"),
            // A limit that is written has become the request before (`SetDefaults_Pod`).
            (
                ("memory=512Mi", "memory=256Mi"),
                ("memory=1Gi", "memory=1Gi"),
                "memory=1Gi | memory=1Gi",
            ),
            (
                ("cpu=1 memory=1Gi", "cpu=1"),
                ("memory=1Mi", ""),
                "cpu=1 memory=1Mi | cpu=1 memory=1Gi",
            ),
            (("", "cpu=100m"), ("", ""), "cpu=100m | "),
            // `example-conflict-with-limitrange-cpu`: the pod would be turned away.
            (("cpu=500m", "cpu=500m"), ("cpu=700m", ""), "cpu=700m | "),
            (("", "cpu=700m"), ("", "cpu=500m"), " | cpu=500m"),
        ];
        for ((default, request), (requests, limits), expected) in table {
            let containers = vec![container(requests, limits)];
            let mut spec = PodSpec { containers, ..PodSpec::default() };
            let gifts = range(default, request).give(&mut spec);
            let resources = &spec.containers[0].resources;
            let has = format!("{} | {}", shown(&resources.requests), shown(&resources.limits));
            assert_eq!(has, expected, "{default} {request}");
            let is_unfit = default.starts_with("cpu=500m") || limits == "cpu=500m";
            assert_eq!(gifts.unfit.len(), usize::from(is_unfit), "{default} {request}");
        }
    }

    #[test]
    fn a_template_means_the_same_and_says_what_its_pods_were_given() {
        let mut first = container("", "");
        first.name = Name::trusted("i");
        let spec = PodSpec {
            containers: vec![container("", "")],
            init_containers: vec![first],
            ..PodSpec::default()
        };
        let template = Arc::new(PodTemplate {
            labels: Default::default(),
            annotations: Default::default(),
            spec: Arc::new(spec),
            json: "{}".into(),
            meaning: Digest::of(b"meaning"),
            written: Digest::of(b"written"),
            given: None,
        });
        let first = Arc::new(range("memory=1Gi cpu=1", "cpu=1"));
        let second = Arc::new(range("memory=2Gi", "memory=2Gi"));
        let own = under(&template, &[first.clone(), second.clone()]);
        assert_eq!((own.meaning, own.written), (template.meaning, template.written));
        let resources = &own.spec.containers[0].resources;
        // The first word counts; what would contradict it is not given.
        assert_eq!(shown(&resources.limits), "cpu=1 memory=1Gi");
        assert_eq!(shown(&resources.requests), "cpu=1");
        assert_eq!(own.spec.init_containers[0].resources, *resources);
        assert_eq!(
            own.annotations[ANNOTATION_GIVEN],
            "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container \
             c; cpu request for init container i; cpu, memory limit for init container i"
        );
        assert_ne!(own.given, under(&template, &[second]).given);
        let nothing = Arc::new(range("", ""));
        assert!(Arc::ptr_eq(&template, &under(&template, &[nothing])));
        assert!(Arc::ptr_eq(&own, &under(&own, &[first])), "nobody is given anything twice");
    }

    prop_compose! {
        fn amounts()(cpu in proptest::option::of(1_i64..9), memory in proptest::option::of(1_i64..9)) -> ResourceList {
            let cpu = cpu.map(|cpu| ("cpu".to_owned(), Quantity::units(cpu)));
            let memory = memory.map(|memory| ("memory".to_owned(), Quantity::units(memory)));
            cpu.into_iter().chain(memory).collect()
        }
    }

    proptest! {
        #[test]
        fn what_is_said_stands_and_no_limit_is_below_its_request(
            ranges in proptest::collection::vec((amounts(), amounts()), 0..3),
            mut requests in amounts(),
            limits in amounts(),
        ) {
            for (name, limit) in &limits {
                let request = requests.entry(name.clone()).or_insert(*limit);
                *request = (*request).min(*limit);
            }
            let mut own = container("", "");
            (own.resources.requests, own.resources.limits) = (requests, limits);
            let said = own.resources.clone();
            let mut spec = PodSpec { containers: vec![own], ..PodSpec::default() };
            for (default, default_request) in ranges {
                let mut range = range("", "");
                (range.limits[0].default, range.limits[0].default_request) = (default, default_request);
                range.give(&mut spec);
            }
            let has = &spec.containers[0].resources;
            for (name, amount) in &said.requests {
                prop_assert_eq!(has.requests.get(name), Some(amount));
            }
            for (name, amount) in &said.limits {
                prop_assert_eq!(has.limits.get(name), Some(amount));
            }
            for (name, request) in &has.requests {
                prop_assert!(has.limits.get(name).is_none_or(|limit| limit >= request));
            }
        }
    }
}
