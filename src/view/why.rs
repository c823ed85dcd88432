//! Why something is as it is: the first question of whoever is called at three in the morning. The
//! answer begins with the outcome, gives the reasons with the commit and the line they come from, and
//! ends with what to do next.

mod job;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::describe::{event_age, events_about};
use super::json::{at, is_true, items, number, text};
use super::objects;
use super::picture::Picture;
use super::status::name_of;
use super::{table, weigh};
use crate::kinds::binding::Oid;
use crate::kinds::name::{Name, PodKey};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::time::{Wall, human_duration};
use crate::kinds::workload::StatefulSet;
use crate::plan::Pod;
use crate::plan::storage::claims_of;
use crate::state::records::WaitingRevision;

/// So many events are told, the newest last.
const EVENTS_TOLD: usize = 6;
/// So many pods of an owner are told one by one.
const PODS_TOLD: usize = 10;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The outcome, one sentence.
    pub outcome: String,
    /// The reasons, as headed lists of sentences.
    pub reasons: Vec<Reasons>,
    /// What to do next.
    pub hints: Vec<String>,
}

/// Reasons of one sort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasons {
    /// Which sort.
    pub head: String,
    /// The sentences.
    pub lines: Vec<String>,
}

impl Why {
    fn add(&mut self, head: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.reasons.push(Reasons { head: head.to_owned(), lines });
        }
    }

    fn hint(&mut self, hint: impl Into<String>) {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    /// The answer, for people.
    pub fn text(&self) -> String {
        let mut page = format!("{}\n", self.outcome);
        for reasons in &self.reasons {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "\n{}:", reasons.head);
            for line in &reasons.lines {
                let _ = writeln!(page, "  {line}");
            }
        }
        if !self.hints.is_empty() {
            page.push('\n');
        }
        for hint in &self.hints {
            let _ = writeln!(page, "hint: {hint}");
        }
        page
    }
}

/// Why something is as it is; nothing if nobody has heard of it.
pub fn why(picture: &Picture, key: &Key) -> Option<Why> {
    if key.kind == Kind::Pod
        && let Some(namespace) = &key.namespace
        && let Some(pod) = picture.pod(&PodKey::new(namespace, &key.name))
    {
        return Some(why_pod(picture, key, &pod));
    }
    let mut why = why_written(picture, key)?;
    why.add("What happened to it lately", happenings(picture, key, None));
    Some(why)
}

/// `1a2b3c4 "web: five replicas" by Ada`, as much of it as is known.
fn commit_line(picture: &Picture, commit: &Oid) -> String {
    let inputs = picture.apps.values();
    let revisions = inputs.flat_map(|input| input.applied.iter().chain(&input.candidate));
    let mut commits = revisions
        .flat_map(|revision| std::iter::once(&revision.commit).chain(revision.commits.iter()));
    match commits.find(|known| known.id == *commit) {
        Some(known) => {
            format!("{} \"{}\" by {}", commit.short(), known.subject(), name_of(&known.author))
        }
        None => commit.short().to_owned(),
    }
}

fn happenings(picture: &Picture, key: &Key, uid: Option<&str>) -> Vec<String> {
    let found = picture.object(key).and_then(|found| found.entry);
    let own = found.map_or("", |entry| entry.uid.as_str());
    let events = events_about(picture, key, uid.unwrap_or(own));
    let skipped = events.len().saturating_sub(EVENTS_TOLD);
    let told = events.into_iter().skip(skipped).map(|event| {
        let age = event_age(event, picture.now.wall);
        let message = event.message.trim().replace('\n', " ");
        format!("{age} ago  {}: {message}", event.reason)
    });
    told.collect()
}

fn why_pod(picture: &Picture, key: &Key, pod: &Pod) -> Why {
    let Some(shown) = objects::find(picture, key) else {
        return Why::default();
    };
    let json = &shown.json;
    let summary = table::summary(json);
    let mut why = Why { outcome: pod_outcome(picture, pod, &summary), ..Why::default() };
    why.add("Why it exists", origin(picture, pod));
    let place = place(picture, key, pod, &mut why);
    why.add("Why it is where it is", place);
    why.add("How nodes suit it now, each score by its weight", weigh::lines(picture, pod));
    let containers = containers(picture, json, pod, &mut why);
    why.add("What its containers do", containers);
    why.add("What it lacks", conditions(json));
    let uid = pod.binding.uid.as_str();
    why.add("What happened to it lately", happenings(picture, key, Some(uid)));
    why
}

fn pod_outcome(picture: &Picture, pod: &Pod, summary: &table::Summary) -> String {
    let name = format!("Pod {}", pod.binding.key);
    let now = picture.now.wall;
    if let Some(deletion) = &pod.binding.deletion {
        let since = human_duration(now.since(deletion.since));
        return format!(
            "{name} is being ended since {since} ({}); it may take {} s.",
            ending(&deletion.reason),
            deletion.grace_s
        );
    }
    let Some(node) = &pod.node else {
        return match &pod.binding.message {
            Some(message) => format!("{name} does not run: no node can take it. {message}"),
            None => format!("{name} does not run yet: it waits for the scheduler's next turn."),
        };
    };
    let report = pod.report.as_ref();
    let is_ready = report.is_some_and(|report| report.status.is_ready());
    let word = &summary.word;
    match word.as_str() {
        "Running" if is_ready => format!("{name} runs on {node} and is ready."),
        "Running" => format!(
            "{name} runs on {node} and is not ready: {} of {} containers are.",
            summary.ready, summary.total
        ),
        "Completed" | "Succeeded" => format!("{name} has done its work on {node}."),
        "Pending" if report.is_none() => {
            format!("{name} is placed on {node}, whose agent has not said anything of it yet.")
        }
        _ => format!("{name} is on {node} and does not run: {word}."),
    }
}

/// Which claims of a pod draw it to a node, because their data is there.
fn data(picture: &Picture, pod: &Pod) -> Vec<String> {
    let namespace = &pod.binding.key.namespace;
    let claims = pod.template.iter().flat_map(|template| claims_of(&template.spec));
    let volumes = claims.filter_map(|claim| {
        let volume = picture.state.claim(namespace, claim)?.volume.as_ref()?;
        let node = picture.state.volumes.get(volume)?.node.as_ref()?;
        let at = match &pod.node {
            Some(at) if at == node => format!("it is on {node} because"),
            _ => format!("it can run on {node} only:"),
        };
        Some(format!("{at} the data of its claim {claim} is there, in volume {volume}"))
    });
    volumes.collect()
}

/// What a deletion's word means.
fn ending(reason: &str) -> String {
    match reason {
        "ScaledDown" => "its owner wants fewer pods".to_owned(),
        "NotInGit" | "OwnerGone" => "its owner is gone from the repository".to_owned(),
        "Deleted" => "somebody asked for it".to_owned(),
        "TemplateChanged" => "its manifest has changed".to_owned(),
        "Finished" => "it had finished, and makes room for the next".to_owned(),
        "Preempted" => "a more important pod needs its room".to_owned(),
        "Evicted" => "its node has a taint that it does not put up with".to_owned(),
        "Drained" => "its node is drained".to_owned(),
        "EvictionByEvictionAPI" => "somebody asked for its eviction".to_owned(),
        other => other.to_owned(),
    }
}

/// Who wanted it, in which line of which commit.
fn origin(picture: &Picture, pod: &Pod) -> Vec<String> {
    let binding = &pod.binding;
    let template = &binding.template;
    let place = objects::place(picture, template);
    let mut lines = vec![format!(
        "{} in {} asks for it, as of commit {}",
        template.owner,
        crate::kinds::finding::Place { column: 0, ..place },
        commit_line(picture, &template.revision)
    )];
    if binding.owner != template.owner && binding.owner.kind != Kind::Pod {
        let set = picture.sets().find(|set| {
            set.key.name == binding.owner.name
                && Some(&set.key.namespace) == binding.owner.namespace.as_ref()
        });
        let size = set.map_or_else(String::new, |set| {
            format!(" (revision {}, {} wanted)", set.record.revision, set.record.replicas)
        });
        lines.push(format!("{}{size} made it", binding.owner));
    }
    if pod.template.is_none() {
        lines.push(format!(
            "its template can't be read: {} at {} is not in this node's copy of the repository",
            template.path,
            template.revision.short()
        ));
    }
    let in_force = picture.apps.get(&template.app).and_then(|app| app.applied.as_ref());
    let is_written = picture.object(&template.owner).is_some();
    if in_force.is_some() && !is_written {
        lines.push(format!("{} is not in the revision in force any more", template.owner));
    }
    lines
}

fn place(picture: &Picture, key: &Key, pod: &Pod, why: &mut Why) -> Vec<String> {
    let Some(node) = &pod.node else {
        let Some(message) = &pod.binding.message else {
            return vec!["the scheduler has not looked at it yet".to_owned()];
        };
        why.hint("`windlass describe node` shows what each node has left");
        if message.contains("Insufficient") {
            why.hint("lower what its containers request, or end something else, or add a node");
        }
        if message.contains("untolerated taint") {
            why.hint("give it a toleration, or take the taint off in the Node's manifest");
        }
        if message.contains("affinity rules") {
            why.hint(
                "`windlass get pods -o wide` shows which pods it must be near or must not meet",
            );
        }
        if message.contains("topology spread") {
            why.hint("raise maxSkew, make room in the emptiest domain, or say ScheduleAnyway");
        }
        if message.contains("PersistentVolume") || message.contains("persistentvolumeclaim") {
            why.hint(
                "`windlass get pvc,pv` shows claims and volumes, `describe` which node has them",
            );
        }
        let mut lines = vec![message.clone()];
        lines.extend(data(picture, pod));
        if let Some(node) = &pod.binding.nominated {
            lines.push(format!(
                "it waits for room on {node}: less important pods are being ended there for it"
            ));
        } else if message.contains("preemptionPolicy=Never") {
            why.hint("it ends no other pods, because its preemptionPolicy or its class says Never");
        }
        return lines;
    };
    let mut lines = Vec::new();
    let uid = pod.binding.uid.as_str();
    let placed = events_about(picture, key, uid);
    let placed = placed.iter().find(|event| event.reason == "Scheduled");
    let when = placed.map_or_else(String::new, |event| {
        format!(" {} ago", human_duration(picture.now.wall.since(event.last)))
    });
    let by_name = pod.template.as_ref().and_then(|template| template.spec.node_name.as_ref());
    lines.push(match by_name {
        Some(_) => format!("its manifest names {node}"),
        None if picture.nodes.len() == 1 => {
            format!("the scheduler chose {node}{when}: there is no other node")
        }
        None => format!("the scheduler chose {node}{when} among {} nodes", picture.nodes.len()),
    });
    lines.extend(data(picture, pod));
    if picture.nodes.get(node).is_some_and(|input| !input.is_ready) {
        lines.push(format!("{node} has not been heard of: what follows may be old"));
        why.hint(format!("see to {node}: is it up, does its agent run?"));
    }
    lines
}

fn containers(picture: &Picture, json: &Value, pod: &Pod, why: &mut Why) -> Vec<String> {
    let now = picture.now.wall;
    let mut lines = Vec::new();
    for (path, is_init) in [("initContainerStatuses", true), ("containerStatuses", false)] {
        for status in items(json, &format!("status.{path}")) {
            let name = text(status, "name");
            let title = if is_init { "init container " } else { "" };
            lines.push(format!("{title}{name}: {}", what_it_does(status, now)));
            if let Some(end) = at(status, "lastState.terminated") {
                lines.push(format!("  before that it {}", how_it_ended(end, now)));
            }
            advise(status, name, pod, why);
        }
    }
    lines
}

fn what_it_does(status: &Value, now: Wall) -> String {
    let restarts = match number(status, "restartCount") {
        0 => String::new(),
        1 => ", started again once".to_owned(),
        count => format!(", started again {count} times"),
    };
    if let Some(running) = at(status, "state.running") {
        let since = ago(running, "startedAt", now);
        let ready = if is_true(status, "ready") { "ready" } else { "not ready" };
        return format!("runs for {since}, {ready}{restarts}");
    }
    if let Some(end) = at(status, "state.terminated") {
        return how_it_ended(end, now);
    }
    let reason = match text(status, "state.waiting.reason") {
        "" => "nobody has said why",
        reason => reason,
    };
    match text(status, "state.waiting.message") {
        "" => format!("waits: {reason}{restarts}"),
        message => format!("waits: {reason}: {}{restarts}", message.trim().replace('\n', " ")),
    }
}

fn how_it_ended(end: &Value, now: Wall) -> String {
    let code = number(end, "exitCode");
    let reason = text(end, "reason");
    let mut line =
        format!("ended {} ago with exit code {code} ({reason})", ago(end, "finishedAt", now));
    let words = text(end, "message").trim();
    if !words.is_empty() {
        line.push_str(&format!(": {}", words.replace('\n', " ")));
    }
    line
}

fn ago(object: &Value, path: &str, now: Wall) -> String {
    let moment = Wall::parse(text(object, path));
    moment.map_or_else(|| "some time".to_owned(), |moment| human_duration(now.since(moment)))
}

/// What the node says of a Secret that it has no key to.
const UNDECRYPTED: &str = "can't be decrypted here";

/// What to do about a container's trouble.
fn advise(status: &Value, name: &str, pod: &Pod, why: &mut Why) {
    let key = &pod.binding.key;
    let log =
        |more: &str| format!("windlass logs {} -n {} -c {name}{more}", key.name, key.namespace);
    let source = &pod.binding.template;
    let reason = text(status, "state.waiting.reason");
    match reason {
        "CrashLoopBackOff" => {
            why.hint(format!("its last words: {}", log(" --previous")));
        }
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => {
            why.hint(format!(
                "check the image's name in {} ({}), the registry, and imagePullSecrets; without a registry, put an archive of it into the node's images directory, or apply a bundle",
                source.path, source.owner
            ));
        }
        "ErrImageNeverPull" => why.hint(
            "imagePullPolicy is Never and the image is not on the node: load it there, or allow a pull",
        ),
        "CreateContainerConfigError" if text(status, "state.waiting.message").contains(UNDECRYPTED) => {
            why.hint(
                "`windlass secret keys` shows which nodes open which file: encrypt it for this node's key as well, or keep the pod to nodes that have one",
            );
        }
        "CreateContainerConfigError" => why.hint(format!(
            "a ConfigMap, a Secret or a key of one is missing: add it to the repository, or mark the reference optional in {}",
            source.path
        )),
        "RunContainerError" | "ContainerCannotRun" | "CreateContainerError" => why.hint(format!(
            "check command, args, mounts and user of container {name} in {}",
            source.path
        )),
        _ => {}
    }
    let was_killed = [&status["state"], &status["lastState"]]
        .iter()
        .any(|state| text(state, "terminated.reason") == "OOMKilled");
    if was_killed {
        why.hint(format!(
            "container {name} used more memory than its limit: raise resources.limits.memory in {}, or mend the leak",
            source.path
        ));
    }
    let runs = at(status, "state.running").is_some();
    if runs && !is_true(status, "ready") && !pod.is_leaving() {
        why.hint(format!("it runs and does not get ready: {}", log("")));
    }
}

/// Conditions that do not hold, in their own words, each once. What the scheduler says was told
/// above, and whether containers are ready is part of whether the pod is.
fn conditions(json: &Value) -> Vec<String> {
    let conditions = items(json, "status.conditions").iter();
    conditions
        .filter(|condition| text(condition, "status") != "True")
        .filter(|condition| !text(condition, "message").is_empty())
        .filter(|condition| !["PodScheduled", "ContainersReady"].contains(&text(condition, "type")))
        .map(|condition| {
            let (kind, message) = (text(condition, "type"), text(condition, "message"));
            format!("{kind}: {message}")
        })
        .collect()
}

/// Something written in the repository: in force, waiting, or neither.
fn why_written(picture: &Picture, key: &Key) -> Option<Why> {
    if let Some(found) = picture.object(key) {
        let place = crate::kinds::finding::Place { column: 0, ..found.object.place.clone() };
        let mut why = Why { outcome: format!("{key} is in force."), ..Why::default() };
        let since = found.entry.map_or_else(String::new, |entry| {
            let age = human_duration(picture.now.wall.since(entry.created));
            format!("; it has existed for {age}")
        });
        let commit = commit_line(picture, found.revision.commit_of(key));
        why.add("Why it exists", vec![format!("{place} says so at commit {commit}{since}")]);
        workload(picture, key, &mut why);
        newer(picture, key, &mut why);
        return Some(why);
    }
    if let Some(shown) = objects::find(picture, key) {
        let mut why = Why {
            outcome: format!("{key} exists; it is not written in the repository."),
            ..Why::default()
        };
        if let Some(owner) = items(&shown.json, "metadata.ownerReferences").first() {
            let (kind, name) = (text(owner, "kind"), text(owner, "name"));
            why.add("Why it exists", vec![format!("{kind} {name} made it")]);
        }
        workload(picture, key, &mut why);
        return Some(why);
    }
    not_in_force(picture, key)
}

/// Whom a StatefulSet waits for before it goes on with the next pod.
fn whom_it_awaits(set: &StatefulSet, key: &Key, pods: &[Pod]) -> Vec<String> {
    let of = |number: u32| pods.iter().find(|pod| pod.binding.index == Some(number));
    let mut lines: Vec<String> = pods
        .iter()
        .filter(|pod| pod.is_lost)
        .filter_map(|pod| Some((&pod.binding.key.name, pod.node.as_ref()?)))
        .map(|(name, node)| {
            format!(
                "{name} may still run on {node}, which is not heard of: its name is given to \
                 another only when {node} says that it is gone, or when `windlass fence {node}` \
                 declares it dead"
            )
        })
        .collect();
    if !set.is_parallel {
        let is_ready = |number: &u32| of(*number).is_some_and(Pod::is_ready);
        let first = set.ordinals().find(|number| !is_ready(number));
        let next = first.and_then(|first| set.ordinals().find(|n| *n > first && of(*n).is_none()));
        if let (Some(first), Some(next)) = (first, next) {
            let name = &key.name;
            lines.push(format!("{name}-{next} is made when {name}-{first} is ready"));
        }
    }
    lines
}

/// How a Deployment or a set gets on, and which of its pods don't.
fn workload(picture: &Picture, key: &Key, why: &mut Why) {
    let Some(namespace) = &key.namespace else {
        return;
    };
    if matches!(key.kind, Kind::Job | Kind::CronJob) {
        job::tell(picture, key, why);
        return;
    }
    let owners: Vec<Key> = match key.kind {
        Kind::Deployment => picture
            .sets_of(namespace, &key.name)
            .iter()
            .map(|set| Key::namespaced(Kind::ReplicaSet, namespace, &set.key.name))
            .collect(),
        Kind::ReplicaSet | Kind::ReplicationController | Kind::StatefulSet | Kind::DaemonSet => {
            vec![key.clone()]
        }
        _ => return,
    };
    if let Some(shown) = objects::find(picture, key) {
        let json = &shown.json;
        let (ready, wanted) = match key.kind {
            Kind::DaemonSet => ("status.numberReady", "status.desiredNumberScheduled"),
            _ => ("status.readyReplicas", "spec.replicas"),
        };
        let (ready, wanted) = (number(json, ready), number(json, wanted));
        why.outcome = format!("{} {ready} of {wanted} pods are ready.", why.outcome);
        let conditions = items(json, "status.conditions").iter().map(|condition| {
            let field = |name| text(condition, name);
            format!("{} is {}: {}", field("type"), field("status"), field("message"))
        });
        why.add("How it gets on", conditions.collect());
    }
    let mut pods: Vec<Pod> = owners.iter().flat_map(|owner| picture.pods_of(owner)).collect();
    pods.sort_by_key(|pod| pod.binding.index);
    if let Some(Body::StatefulSet(set)) = picture.object(key).map(|found| &found.object.body) {
        why.add("What it waits for", whom_it_awaits(set, key, &pods));
    }
    let mut lines = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.is_ready()) {
        let name = &pod.binding.key.name;
        let pod_key = Key::namespaced(Kind::Pod, namespace, name);
        if let Some(shown) = objects::find(picture, &pod_key) {
            lines.push(format!("{name}: {}", table::summary(&shown.json).word));
        }
        why.hint(format!("windlass why {name} -n {namespace}"));
    }
    why.hints.truncate(1);
    let more = lines.len().saturating_sub(PODS_TOLD);
    lines.truncate(PODS_TOLD);
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    why.add("Pods that are not ready", lines);
}

/// A newer commit that is not in force, if it says something of this object.
fn newer(picture: &Picture, key: &Key, why: &mut Why) {
    for (app, input) in &picture.apps {
        let head = picture.state.apps.get(app).map(|state| &state.head);
        let waiting = head.and_then(|head| head.waiting.as_ref());
        let (Some(candidate), Some(waiting)) = (&input.candidate, waiting) else {
            continue;
        };
        let now = picture.object(key).map(|found| found.object.meaning);
        let then = candidate.desired.objects.get(key).map(|object| object.meaning);
        if candidate.commit.id == waiting.revision && now != then {
            let what = if then.is_some() { "changes" } else { "removes" };
            why.add(
                "What waits",
                vec![format!(
                    "commit {} {what} it and is not in force: {}",
                    commit_line(picture, &waiting.revision),
                    waiting.verdict.why()
                )],
            );
            why.hint("windlass status");
        }
    }
}

fn not_in_force(picture: &Picture, key: &Key) -> Option<Why> {
    let heads = picture.state.apps.iter();
    let mut waiting = heads.filter_map(|(app, state)| Some((app, state.head.waiting.as_ref()?)));
    waiting.find_map(|(app, waiting)| waits(picture, app, waiting, key))
}

/// An object that only a waiting revision has.
fn waits(picture: &Picture, app: &Name, waiting: &WaitingRevision, key: &Key) -> Option<Why> {
    let name = key.to_string();
    let about: Vec<String> = waiting
        .findings
        .iter()
        .filter(|finding| finding.object.as_deref() == Some(name.as_str()))
        .map(ToString::to_string)
        .collect();
    let candidate = picture.apps.get(app).and_then(|input| input.candidate.as_ref());
    let is_in_it = candidate.is_some_and(|candidate| candidate.desired.objects.contains_key(key));
    if about.is_empty() && !is_in_it {
        return None;
    }
    let word = waiting.verdict.word();
    let commit = commit_line(picture, &waiting.revision);
    let mut why = Why {
        outcome: format!("{key} is not in force: the commit it came with is {word}."),
        ..Why::default()
    };
    why.add("Why it is not in force", vec![format!("commit {commit}: {}", waiting.verdict.why())]);
    why.add("What is wrong with it", about);
    why.hint("windlass status");
    Some(why)
}
