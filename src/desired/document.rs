//! A file becomes objects and findings, by itself: what other files and `windlass.yaml` have to say
//! to it comes later, in [`super::cross`].

use std::borrow::Cow;
use std::sync::Arc;

use super::admission::{ImagePolicy, Offences};
use super::convert::{self, Check, Mention, TemplateParts};
use super::envelope::{self, Envelope, Refusal};
use super::ignore::Ignore;
use super::meaning;
use super::path::Path;
use super::report::Report;
use super::sealed::{CREATION_FILE, CreationRules, Lock};
use super::settings::{self, Settings};
use super::shape::{SHAPES, Type};
use super::support;
use super::tree::{At, Described, Entries as _, Entry, Node, Value, quoted, to_json};
use super::trust::{self, TRUST_FILE};
use super::walk;
use super::yaml::{self, DEPTH_MAX, Document, Problem, ProblemKind};
use super::{chart, charts};
use super::{defaults, json};
use crate::kinds::digest::Digest;
use crate::kinds::finding::{Finding, Place, Severity};
use crate::kinds::object::{Key, Object};
use crate::kinds::registry::{Kind, Support};
use crate::ports::source::FileContent;

/// A file, read. It depends on the file's path and content alone, so whoever holds it may keep it
/// for as long as a tree has the same blob at the same path.
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    /// The objects in it that can be used, in order.
    pub objects: Vec<Arc<Object>>,
    /// What is wrong with it, whatever other files say.
    pub findings: Vec<Finding>,
    /// Whether any of its documents claims to be a Kubernetes object.
    pub is_manifest: bool,
    /// What each of `objects` needs.
    pub(super) mentions: Vec<Box<[Mention]>>,
    /// What the pods made from each of `objects` offend against, once somebody has asked.
    pub(super) offences: Vec<Offences>,
    /// Objects that were named, but can't be used, and where.
    pub(super) refused: Vec<(Key, Place)>,
    /// Documents whose fate `windlass.yaml` decides.
    pub(super) waivable: Vec<Waivable>,
    /// What it is if no manifest.
    pub(super) role: Role,
}

/// What a file is for.
#[derive(Clone, Debug, Default)]
pub(super) enum Role {
    /// Manifests, or nothing of ours.
    #[default]
    Plain,
    /// `windlass.yaml`.
    Settings(Settings),
    /// `.windlassignore`.
    Ignore(Ignore),
    /// `trust.yaml`: what it says of images; whom it trusts is looked at before anything is read.
    Trust(ImagePolicy),
    /// `.sops.yaml`.
    Creation(CreationRules),
    /// A chart that can't be rendered or a kustomization: what lies below it is not to be read as it is.
    Source,
    /// A Helm chart, rendered.
    Chart,
}

/// A document that is refused unless `windlass.yaml` says otherwise.
#[derive(Clone, Debug)]
pub(super) struct Waivable {
    pub(super) waiver: Waiver,
    pub(super) finding: Finding,
    /// The object, if it can be used once it is let through.
    pub(super) object: Option<Arc<Object>>,
}

/// What `windlass.yaml` would have to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waiver {
    /// Under `foreign`.
    Foreign { group: String, kind: String },
    /// Under `unenforced`.
    Unenforced(Kind),
}

/// Reads a file.
pub(super) fn parse(content: &FileContent) -> ParsedFile {
    let path = Arc::clone(&content.path);
    let out = ParsedFile::default();
    let mut reader = Reader { path, text: Arc::from(""), namespace: None, out };
    if let Some(directory) = charts::directory(&content.path)
        && charts::is_packed(&content.bytes)
    {
        reader.chart(directory, &content.bytes);
        return reader.out;
    }
    match reader.text(&content.bytes) {
        Ok(text) => reader.file(text),
        Err(finding) => {
            reader.out.is_manifest = true;
            reader.out.findings.push(*finding);
        }
    }
    reader.out
}

struct Reader {
    path: Arc<str>,
    /// The text, if anything in it is encrypted.
    text: Arc<str>,
    /// The namespace of objects that say none, where that is not `default`.
    namespace: Option<String>,
    out: ParsedFile,
}

/// An object that can't be used for what is wrong with its encryption.
struct Locked;

/// A file with more findings than this is not read to its end.
const FILE_FINDINGS_MAX: usize = 1000;

/// How Git LFS begins the file that stands in for a large one.
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";

impl Reader {
    fn place(&self, at: At) -> Place {
        Place { path: Arc::clone(&self.path), line: at.line, column: at.column }
    }

    /// The file's text, without a byte order mark.
    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Box<Finding>> {
        let refuse = |line, message: &str| {
            let at = At { line, column: 0 };
            Err(Box::new(Finding::error(self.place(at), message)))
        };
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return refuse(1, "this file is UTF-16: save it as UTF-8");
        }
        let line_of = |at: usize| {
            let breaks = bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
            u32::try_from(breaks + 1).unwrap_or(u32::MAX)
        };
        let bare = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match std::str::from_utf8(bare) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to() + (bytes.len() - bare.len());
                return refuse(line_of(at), "this file is not UTF-8");
            }
        };
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            return refuse(line_of(at), "this file has a NUL byte in it");
        }
        if text.starts_with(LFS_POINTER) {
            let message = "this is a Git LFS pointer, and what it points to is not in the commit";
            return refuse(1, message);
        }
        Ok(text)
    }

    fn file(&mut self, text: &str) {
        let name = self.path.rsplit('/').next().unwrap_or_default().to_owned();
        match (&*self.path, name.as_str()) {
            (super::IGNORE_FILE, _) => self.out.role = Role::Ignore(Ignore::parse(text)),
            (super::SETTINGS_FILE, _) => {
                let mut report = Report::new(&self.path);
                let settings = settings::read(yaml::read(text), &mut report);
                self.out.findings = report.finish();
                self.out.role = Role::Settings(settings);
            }
            (TRUST_FILE, _) => {
                let mut report = Report::new(&self.path);
                let policy = trust::read_policy(text, &mut report);
                self.out.findings = report.finish();
                self.out.role = Role::Trust(policy.images);
            }
            (CREATION_FILE, _) => {
                let mut report = Report::new(&self.path);
                let (rules, wrong) = CreationRules::read(text);
                for (at, message) in wrong {
                    report.add(Severity::Error, at, &Path::Root, message, None);
                }
                self.out.findings = report.finish();
                self.out.role = Role::Creation(rules);
            }
            ("windlass.yml", _) => {
                let message = "this file is not read: Windlass looks for windlass.yaml";
                let finding = Finding::error(self.place(At { line: 1, column: 1 }), message);
                self.out.findings.push(finding);
            }
            (_, name) if super::CHARTS.contains(&name) => {
                self.source(envelope::chart(At { line: 1, column: 1 }));
            }
            (_, name) if super::KUSTOMIZATIONS.contains(&name) => {
                self.source(envelope::kustomization(At { line: 1, column: 1 }));
            }
            _ => self.documents(text, &name, None),
        }
    }

    fn source(&mut self, refusal: Refusal) {
        self.refuse(refusal, None);
        self.out.is_manifest = true;
        self.out.role = Role::Source;
    }

    /// What a chart becomes.
    fn chart(&mut self, directory: &str, packed: &[u8]) {
        self.out.is_manifest = true;
        self.out.role = Role::Chart;
        let rendering = match chart::render(directory, packed) {
            Ok(rendering) => rendering,
            Err(wrong) => return self.out.findings.push(wrong.finding()),
        };
        self.namespace = Some(rendering.namespace);
        for page in rendering.pages {
            let name = page.path.rsplit('/').next().unwrap_or_default().to_owned();
            self.path = page.path.into();
            self.documents(&page.text, &name, Some(&page.lines));
        }
    }

    /// The documents of a text; of one that was rendered, with the template's line for each of its lines.
    fn documents(&mut self, text: &str, name: &str, lines: Option<&[u32]>) {
        let mut documents = read_text(text, name);
        if let Some(lines) = lines {
            for document in &mut documents {
                chart::settle(document, lines);
            }
        }
        if lines.is_none()
            && documents.iter().filter_map(|document| document.root.as_ref()).any(Lock::is_on)
        {
            self.text = text.into();
        }
        let mut bare = Vec::new();
        for document in &mut documents {
            let problems = std::mem::take(&mut document.problems);
            let (fatal, slips): (Vec<_>, Vec<_>) =
                problems.into_iter().partition(|problem| problem.kind == ProblemKind::Fatal);
            if !fatal.is_empty() {
                self.out.is_manifest = true;
            }
            for problem in fatal {
                self.problem(problem, text);
            }
            let Some(root) = document.root.take() else {
                continue;
            };
            if self.out.findings.len() + self.out.waivable.len() > FILE_FINDINGS_MAX {
                let message = format!("this file has more than {FILE_FINDINGS_MAX} findings");
                let hint = "if it is no manifest, list it in .windlassignore";
                let finding = Finding::error(self.place(root.at), message).hint(hint);
                self.out.findings.push(finding);
                return;
            }
            if root.value == Value::Null {
                continue;
            }
            if lines.is_some() && Lock::is_on(&root) {
                let message = "an encrypted object can't come from a chart: nodes decrypt files as \
                               they stand in Git";
                let hint = "put the Secret beside the chart, and let the chart use it by its name";
                let finding = Finding::error(self.place(root.at), message).hint(hint);
                self.out.findings.push(finding);
                continue;
            }
            if let Some((at, message)) = Lock::hides_what_it_is(&root) {
                self.out.is_manifest = true;
                self.out.findings.push(Finding::error(self.place(at), message));
                continue;
            }
            match envelope::read(&root) {
                // What is no manifest may be as odd as it likes.
                Envelope::Bare => bare.push(root.at),
                envelope => {
                    self.out.is_manifest = true;
                    for problem in slips {
                        self.problem(problem, text);
                    }
                    self.document(root, envelope, 0);
                }
            }
        }
        if self.out.is_manifest {
            for at in bare {
                let message = "this document has neither apiVersion nor kind, while others of the \
                               file are manifests";
                self.out.findings.push(Finding::error(self.place(at), message));
            }
        }
    }

    fn problem(&mut self, problem: Problem, text: &str) {
        let severity = match problem.kind {
            ProblemKind::Warning => Severity::Warning,
            ProblemKind::Fatal | ProblemKind::Error => Severity::Error,
        };
        let hint = problem.hint.or_else(|| {
            match problem.kind {
                ProblemKind::Warning => None,
                _ if text.contains("{{") => Some(
                    "it looks like a template: commit what it renders to, or list it in \
                 .windlassignore",
                ),
                ProblemKind::Fatal => Some("if it is no manifest, list it in .windlassignore"),
                ProblemKind::Error => None,
            }
            .map(str::to_owned)
        });
        self.out.findings.push(Finding {
            severity,
            hint,
            ..Finding::error(self.place(problem.at), problem.message)
        });
    }

    fn refuse(&mut self, refusal: Refusal, object: Option<String>) {
        let finding = Finding {
            object,
            field: refusal.field.map(str::to_owned),
            hint: refusal.hint,
            ..Finding::error(self.place(refusal.at), refusal.message)
        };
        match refusal.foreign {
            None => self.out.findings.push(finding),
            Some((group, kind)) => self.out.waivable.push(Waivable {
                waiver: Waiver::Foreign { group, kind },
                finding,
                object: None,
            }),
        }
    }

    fn document(&mut self, root: Node<'_>, envelope: Envelope, depth: usize) {
        match envelope {
            Envelope::Bare => {}
            Envelope::Refused(refusal) => self.refuse(refusal, None),
            Envelope::Object { kind, api_version } => self.object(root, kind, &api_version),
            Envelope::List { .. } if depth == DEPTH_MAX => {}
            Envelope::List { item_kind, api_version } => {
                self.list(root, item_kind, &api_version, depth);
            }
        }
    }

    /// The items of a list; those of a `DeploymentList` need not say that they are Deployments.
    fn list(&mut self, root: Node<'_>, kind: Option<&str>, api_version: &str, depth: usize) {
        const FIELDS: [&str; 4] = ["apiVersion", "items", "kind", "metadata"];
        let Value::Map(entries) = root.value else {
            return;
        };
        for entry in entries {
            if !FIELDS.contains(&&*entry.key) {
                let message = format!("unknown field {} in a list", quoted(&entry.key));
                let finding = Finding::error(self.place(entry.at), message);
                self.out.findings.push(finding);
            }
            let items = match entry.node.value {
                Value::List(items) => items,
                Value::Null => continue,
                other if entry.key == "items" => {
                    let message = format!("expected a list, found {}", Described(&other, true));
                    let finding = Finding::error(self.place(entry.at), message).at("items");
                    self.out.findings.push(finding);
                    continue;
                }
                _ => continue,
            };
            for mut item in items {
                let at = item.at;
                if self.out.findings.len() > FILE_FINDINGS_MAX {
                    return;
                }
                let Some(fields) = item.as_map_mut() else {
                    let finding = Finding::error(self.place(at), "expected an object");
                    self.out.findings.push(finding);
                    continue;
                };
                if let Some(kind) = kind {
                    for (field, text) in [("apiVersion", api_version), ("kind", kind)] {
                        if !fields.has(field) {
                            fields.put(at, field, Node::text(at, text.to_owned()));
                        }
                    }
                }
                match envelope::read(&item) {
                    Envelope::Bare => {
                        let message = "this item has neither apiVersion nor kind";
                        self.out.findings.push(Finding::error(self.place(at), message));
                    }
                    envelope => self.document(item, envelope, depth + 1),
                }
            }
        }
    }

    fn object(&mut self, mut root: Node<'_>, kind: Kind, api_version: &str) {
        let info = kind.info();
        let at = root.at;
        let mut report = Report::new(&self.path);
        report.quiet = kind == Kind::Secret;
        report.object = Some(label(kind, &root));
        if info.support == Support::Made {
            report.add(Severity::Error, at, &Path::Root, support::refusal(kind), None);
            self.out.findings.extend(report.finish());
            return;
        }
        let Ok(lock) = self.unlock(kind, &mut root, &mut report) else {
            self.out.findings.extend(report.finish());
            return;
        };
        let Some(shape) = SHAPES.root(api_version, info.name) else {
            return;
        };
        let written = Template::of(kind, &root).map(|template| template.written());
        settle(kind, &mut root, self.namespace.as_deref(), &mut report);
        let runs = info.support == Support::Runs;
        walk::check(&mut root, shape, runs, &mut report);
        let shape = match kind {
            Kind::Pod => {
                defaults::pod(&mut root);
                shape
            }
            Kind::HorizontalPodAutoscaler => defaults::autoscaler(&mut root).unwrap_or(shape),
            _ => shape,
        };
        let json = to_json(&root);
        let mut check = Check::new(&root, &mut report);
        let meta = convert::meta(kind, &root, &mut check);
        let parts = written.and_then(|written| Template::of(kind, &root)?.parts(kind, written));
        let mut body = convert::body(kind, &json, &meta, parts, &mut check);
        let mentions = check.into_mentions();
        let json = match &lock {
            Some(lock) => {
                lock.lay_in(&mut root, &mut body);
                to_json(&root)
            }
            None => json,
        };
        let key = Key { kind, namespace: meta.namespace, name: meta.name };
        report.object = Some(key.to_string());
        let object = (!report.has_errors()).then(|| {
            Arc::new(Object {
                key: key.clone(),
                labels: meta.labels,
                annotations: meta.annotations,
                place: self.place(at),
                json: json.into(),
                meaning: meaning::digest(&root, shape),
                body,
            })
        });
        if info.support == Support::Refused {
            self.refuse_kind(&report, at, kind, object);
            self.out.refused.push((key, self.place(at)));
        } else if let Some(object) = object {
            self.out.objects.push(object);
            self.out.mentions.push(mentions.into());
            self.out.offences.push(Offences::default());
        } else if !key.name.as_str().is_empty() {
            self.out.refused.push((key, self.place(at)));
        }
        self.out.findings.extend(report.finish());
    }

    /// Takes what SOPS says of an object out of it, and what is encrypted of a Secret; what is wrong with
    /// that is reported.
    fn unlock(
        &self,
        kind: Kind,
        root: &mut Node<'_>,
        report: &mut Report,
    ) -> Result<Option<Lock>, Locked> {
        let lock = match Lock::take(kind, root) {
            Ok(lock) => lock,
            Err(wrong) => {
                for (at, message) in wrong {
                    report.add(Severity::Error, at, &Path::Root, message, None);
                }
                return Err(Locked);
            }
        };
        let Some(mut lock) = lock else { return Ok(None) };
        (lock.path, lock.text) = (Arc::clone(&self.path), Arc::clone(&self.text));
        Ok(Some(lock).filter(|lock| kind == Kind::Secret && !lock.keys().is_empty()))
    }

    /// An object of a kind that is refused unless `windlass.yaml` lets it through.
    fn refuse_kind(&mut self, report: &Report, at: At, kind: Kind, object: Option<Arc<Object>>) {
        let finding = Finding {
            object: report.object.clone(),
            hint: Some(format!(
                "to accept it all the same, list {kind} under 'unenforced' in windlass.yaml"
            )),
            ..Finding::error(self.place(at), support::refusal(kind))
        };
        self.out.waivable.push(Waivable { waiver: Waiver::Unenforced(kind), finding, object });
    }
}

/// The documents of a text. JSON is told by the file's name, or by being JSON.
pub(super) fn read_text<'a>(text: &'a str, name: &str) -> Vec<Document<'a>> {
    let is_json_file =
        name.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("json"));
    let begins_as_json = text.trim_start().starts_with(['{', '[']);
    if is_json_file || begins_as_json {
        let (values, mut problems) = json::read(text);
        let is_json = problems.iter().all(|p| p.kind != ProblemKind::Fatal);
        if is_json_file || is_json {
            let mut documents: Vec<Document<'_>> = values
                .into_iter()
                .map(|value| Document { root: Some(value), problems: Vec::new() })
                .collect();
            match documents.first_mut() {
                // A problem that stops the reading has no document of its own.
                Some(first) if is_json => first.problems.append(&mut problems),
                _ => documents.push(Document { root: None, problems }),
            }
            return documents;
        }
    }
    yaml::read(text)
}

/// `Deployment shop/web`, as far as the manifest says.
fn label(kind: Kind, root: &Node<'_>) -> String {
    let metadata = root.get("metadata");
    let text = |field: &str| metadata.and_then(|node| node.get_text(field));
    match (text("name").or_else(|| text("generateName")), kind.info().namespaced) {
        (None, _) => kind.to_string(),
        (Some(name), false) => format!("{kind} {name}"),
        (Some(name), true) => format!("{kind} {}/{name}", text("namespace").unwrap_or("default")),
    }
}

/// What `kubectl apply` writes onto an object: the object itself, for a Secret its values.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes out what an API server or `kubectl` has put in, and settles the namespace.
fn settle(kind: Kind, root: &mut Node<'_>, namespace: Option<&str>, report: &mut Report) {
    let Some(entries) = root.as_map_mut() else {
        return;
    };
    if let Some(index) = entries.iter().position(|entry| entry.key == "status") {
        let status = entries.remove(index);
        if !status.node.is_empty() {
            let message = "is what a cluster reports; it is left out";
            let path = Path::Root.field("status");
            report.add(Severity::Warning, status.at, &path, message, None);
        }
    }
    let Some(metadata) = entries.get_mut("metadata") else {
        return;
    };
    let at = metadata.at;
    let Some(metadata) = metadata.as_map_mut() else {
        return;
    };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Node::as_map_mut) {
        annotations.retain(|entry| entry.key != LAST_APPLIED);
    }
    let is_given = |entry: &Entry<'_>| {
        entry.key == "namespace" && entry.node.as_text().is_none_or(|text| !text.is_empty())
    };
    let given = metadata
        .iter()
        .find(|entry| is_given(entry) && entry.node.value != Value::Null)
        .map(Entry::shown_at);
    match (kind.info().namespaced, given) {
        (true, None) => {
            let namespace = namespace.unwrap_or("default").to_owned();
            metadata.put(at, "namespace", Node::text(at, namespace));
        }
        (false, Some(at)) => {
            metadata.retain(|entry| entry.key != "namespace");
            let message = format!("is left out: a {kind} belongs to no namespace");
            let metadata_path = Path::Root.field("metadata");
            let path = metadata_path.field("namespace");
            report.add(Severity::Warning, at, &path, message, None);
        }
        _ => {}
    }
}

/// The pod template of a workload. A Pod's own is what of it a template would hold.
struct Template<'n, 't>(Cow<'n, Node<'t>>);

impl<'n, 't> Template<'n, 't> {
    fn of(kind: Kind, root: &'n Node<'t>) -> Option<Self> {
        match kind {
            Kind::Deployment
            | Kind::ReplicaSet
            | Kind::ReplicationController
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::Job => {
                let template = root.get("spec")?.get("template")?;
                Some(Self(Cow::Borrowed(template)))
            }
            Kind::CronJob => {
                let job = root.get("spec")?.get("jobTemplate")?;
                Some(Self(Cow::Borrowed(job.get("spec")?.get("template")?)))
            }
            Kind::Pod => {
                let mut metadata = Node::new(root.at, Value::Map(Vec::new()));
                let mut template = Node::new(root.at, Value::Map(Vec::new()));
                let given = root.get("metadata").and_then(Node::as_map);
                let kept = |entry: &&Entry<'_>| matches!(&*entry.key, "annotations" | "labels");
                let kept = given.into_iter().flatten().filter(kept).cloned();
                metadata.as_map_mut()?.extend(kept);
                let entries = template.as_map_mut()?;
                entries.put(root.at, "metadata", metadata);
                entries.extend(root.entry("spec").cloned());
                Some(Self(Cow::Owned(template)))
            }
            _ => None,
        }
    }

    /// The digest of what was written.
    fn written(&self) -> Digest {
        Digest::of(to_json(&self.0).as_bytes())
    }

    /// What goes with the template, once it is checked and completed. Labels and annotations of a
    /// Pod written by hand can be changed while it runs, as in Kubernetes, so they are no part of
    /// what it means to run it; those of a workload's template are.
    fn parts(&self, kind: Kind, written: Digest) -> Option<TemplateParts> {
        let deployment = SHAPES.root("apps/v1", "Deployment")?;
        let shape: Type = SHAPES.child(SHAPES.child(deployment, "spec"), "template");
        let meaning = match kind {
            Kind::Pod => match self.0.get("spec") {
                Some(spec) => meaning::digest(spec, SHAPES.child(shape, "spec")),
                None => written,
            },
            _ => meaning::digest(&self.0, shape),
        };
        Some(TemplateParts { json: to_json(&self.0).into(), meaning, written })
    }
}
