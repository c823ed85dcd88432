//! LimitRanges: what each container, pod and claim of a namespace may be.
//!
//! A doorway as wide and as high as it is: whoever would not fit is told at the gate, not when he stands
//! before it. So what Kubernetes would say to each pod is said to the workload, once a commit has it,
//! after what LimitRanges give to containers that say nothing; the commit is refused, as with a
//! ResourceQuota.
//!
//! The limits: pods are judged as this commit's templates and LimitRanges would make them. One made
//! anew from an earlier template (below a StatefulSet's partition, held back by a canary) is not turned
//! away, since that would leave it nowhere.
//!
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use std::collections::BTreeMap;

use crate::kinds::finding::Finding;
use crate::kinds::limits::{Gift, LIMIT_TYPES, Limit, LimitOf, LimitRange};
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::pod::{PodSpec, ResourceList};
use crate::kinds::quantity::Quantity;
use crate::kinds::volume::VolumeSource;

/// A LimitRange, and where it is written.
type Judged<'o> = (&'o Object, &'o LimitRange);

/// LimitRanges by namespace, in the order of their names.
type ByNamespace<'o> = BTreeMap<&'o Name, Vec<Judged<'o>>>;

fn by_namespace<'o>(objects: &[&'o Object]) -> ByNamespace<'o> {
    let mut ranges = ByNamespace::new();
    for object in objects {
        if let (Some(namespace), Some(range)) = (&object.key.namespace, object.body.limit_range()) {
            ranges.entry(namespace).or_default().push((object, range));
        }
    }
    ranges.values_mut().for_each(|own| own.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key)));
    ranges
}

/// Pods as they are made once LimitRanges have given them what they don't say.
pub(super) struct Filled<'o> {
    ranges: ByNamespace<'o>,
    specs: BTreeMap<&'o Key, PodSpec>,
    /// What could not be given, by workload: the LimitRange's name, and why.
    unfit: Vec<(&'o Object, &'o Object, Gift, Quantity)>,
}

impl<'o> Filled<'o> {
    /// Of all that a commit has, or of all of some namespaces.
    pub(super) fn of(objects: &[&'o Object]) -> Self {
        let ranges = by_namespace(objects);
        let (mut specs, mut unfit) = (BTreeMap::new(), Vec::new());
        for object in objects {
            let own = object.key.namespace.as_ref().and_then(|namespace| ranges.get(namespace));
            let (Some(own), Some(template)) = (own, object.body.template()) else { continue };
            let mut giving = own.iter().filter(|(_, range)| range.gives()).peekable();
            if giving.peek().is_none() {
                continue;
            }
            let mut spec = PodSpec::clone(&template.spec);
            for (of, range) in giving {
                let left = range.give(&mut spec).unfit.into_iter();
                unfit.extend(left.map(|(gift, said)| (*object, *of, gift, said)));
            }
            specs.insert(&object.key, spec);
        }
        Self { ranges, specs, unfit }
    }

    /// A workload's pods.
    pub(super) fn spec<'s>(&'s self, object: &'s Object) -> Option<&'s PodSpec> {
        let written = &object.body.template()?.spec;
        Some(self.specs.get(&object.key).unwrap_or(written))
    }
}

/// Judges what stands in namespaces by their LimitRanges.
pub(super) fn check(objects: &[&Object], filled: &Filled<'_>, found: &mut Vec<Finding>) {
    let mut say = |object: &Object, of: &Object, whose: &str, what: String| {
        let (name, place) = (&of.key.name, &of.place);
        let message = format!("forbidden by LimitRange {name} ({place}): {whose}{what}");
        found.push(Finding::error(object.place.clone(), message).of(&object.key));
    };
    for (object, of, gift, said) in &filled.unfit {
        let Gift { container, resource, amount, is_limit, .. } = gift;
        let what = match is_limit {
            true => format!("{resource} request {said} is more than the default limit, {amount}"),
            false => format!("{resource} limit {said} is less than the default request, {amount}"),
        };
        say(object, of, &format!("container {container}: "), what);
    }
    for object in objects {
        let own = object.key.namespace.as_ref().and_then(|own| filled.ranges.get(own));
        for (of, range) in own.into_iter().flatten() {
            if let Some(spec) = filled.spec(object) {
                for limit in range.of(LimitOf::Container) {
                    for container in spec.containers.iter().chain(&spec.init_containers) {
                        let whose = format!("container {}: ", container.name);
                        let resources = &container.resources;
                        for what in limit.broken_by(&resources.requests, &resources.limits) {
                            say(object, of, &whose, what);
                        }
                    }
                }
                for limit in range.of(LimitOf::Pod) {
                    // What a pod costs beside its containers is none of theirs.
                    let spec = PodSpec { overhead: ResourceList::new(), ..spec.clone() };
                    for what in limit.broken_by(&spec.requests(), &spec.limits()) {
                        say(object, of, "", what);
                    }
                }
            }
            for limit in range.of(LimitOf::Claim) {
                for (whose, asked) in claims(object) {
                    for what in limit.broken_by_claim(asked) {
                        say(object, of, &whose, what);
                    }
                }
            }
        }
    }
}

/// What the claims ask for that an object is, or that are made for its pods.
fn claims(object: &Object) -> Vec<(String, Quantity)> {
    let mut claims = Vec::new();
    match &object.body {
        Body::Claim(claim) => claims.push((String::new(), claim.request)),
        Body::StatefulSet(set) => {
            let each = set.claims.iter();
            claims.extend(each.map(|own| (format!("claim {}: ", own.name), own.spec.request)));
        }
        _ => {}
    }
    let volumes = object.body.template().into_iter().flat_map(|template| &template.spec.volumes);
    claims.extend(volumes.filter_map(|volume| match &volume.source {
        VolumeSource::Scratch(own) => Some((format!("volume {}: ", volume.name), own.spec.request)),
        _ => None,
    }));
    claims
}

impl Limit {
    fn type_name(&self) -> &'static str {
        LIMIT_TYPES.iter().find(|(_, of)| *of == self.of).map_or("", |(name, _)| name)
    }

    /// What is wrong with what is asked for, in Kubernetes' words (`minConstraint`, `maxConstraint`,
    /// `limitRequestRatioConstraint`).
    fn broken_by(&self, requests: &ResourceList, limits: &ResourceList) -> Vec<String> {
        let of = self.type_name();
        let mut said = Vec::new();
        for (name, min) in &self.min {
            let rule = format!("minimum {name} usage per {of} is {min}");
            match (requests.get(name), limits.get(name)) {
                (None, _) => said.push(format!("{rule}, but no request is specified")),
                (Some(its), _) if its < min => said.push(format!("{rule}, but request is {its}")),
                (_, Some(its)) if its < min => said.push(format!("{rule}, but limit is {its}")),
                _ => {}
            }
        }
        for (name, max) in &self.max {
            let rule = format!("maximum {name} usage per {of} is {max}");
            match (limits.get(name), requests.get(name)) {
                (None, _) => said.push(format!("{rule}, but no limit is specified")),
                (Some(its), _) if its > max => said.push(format!("{rule}, but limit is {its}")),
                (_, Some(its)) if its > max => said.push(format!("{rule}, but request is {its}")),
                _ => {}
            }
        }
        for (name, ratio) in &self.ratio {
            let rule = format!("{name} max limit to request ratio per {of} is {ratio}");
            let given = |list: &ResourceList| list.get(name).copied().filter(|its| !its.is_zero());
            match (given(requests), given(limits)) {
                (None, _) => said.push(format!("{rule}, but no request is specified or it is 0")),
                (_, None) => said.push(format!("{rule}, but no limit is specified or it is 0")),
                (Some(request), Some(limit)) if limit.cmp_times(ratio, &request).is_gt() => {
                    said.push(format!("{rule}, but limit is {limit} and request is {request}"));
                }
                _ => {}
            }
        }
        said
    }

    /// The same of a claim, which has a request only.
    fn broken_by_claim(&self, asked: Quantity) -> Vec<String> {
        let of = self.type_name();
        let less = self.min.iter().filter(|(_, min)| asked < **min);
        let less = less.map(|(name, min)| ("minimum", name, min));
        let more = self.max.iter().filter(|(_, max)| asked > **max);
        let more = more.map(|(name, max)| ("maximum", name, max));
        let say = |(bound, name, its)| {
            format!("{bound} {name} usage per {of} is {its}, but request is {asked}")
        };
        less.chain(more).map(say).collect()
    }
}
