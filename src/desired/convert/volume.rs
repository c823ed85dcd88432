//! Volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::Check;
use super::container::field_ref;
use super::resources::resource_ref;
use super::security::check_relative;
use super::storage::claim_template;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::registry::Kind;
use crate::kinds::volume::{
    ConfigFiles, DownwardFile, DownwardValue, FileSource, FileVolume, HostPathKind, KeyToPath,
    Volume, VolumeSource,
};

/// `ValidateVolumes`: the volumes, and the names that mounts may use.
pub(super) fn volumes(
    path: &Path<'_>,
    volumes: &[api::Volume],
    check: &mut Check<'_, '_>,
) -> (Vec<Volume>, BTreeSet<String>) {
    let mut names = BTreeSet::new();
    let mut result = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name_path = path.field("name");
        let name = check.name(&name_path, &volume.name, NameRule::Label);
        if !volume.name.is_empty() && !names.insert(volume.name.clone()) {
            let message = format!("{} is the name of another volume already", quoted(&volume.name));
            check.error(&name_path, message);
        }
        if let Some(source) = source(&path, volume, &name, check) {
            result.push(Volume { name, source });
        }
    }
    (result, names)
}

fn source(
    path: &Path<'_>,
    volume: &api::Volume,
    name: &Name,
    check: &mut Check<'_, '_>,
) -> Option<VolumeSource> {
    let mut sources = Vec::new();
    if let Some(empty_dir) = &volume.empty_dir {
        sources.push(self::empty_dir(&path.field("emptyDir"), empty_dir, check));
    }
    if let Some(host_path) = &volume.host_path {
        sources.push(self::host_path(&path.field("hostPath"), host_path, check));
    }
    if let Some(map) = &volume.config_map {
        let path = path.field("configMap");
        let named = Named {
            kind: Kind::ConfigMap,
            field: "name",
            name: &map.name,
            items: map.items.as_deref(),
            optional: map.optional,
        };
        let source = FileSource::ConfigMap(config_files(&path, &named, check));
        sources.push(files(&path, vec![source], map.default_mode, check));
    }
    if let Some(secret) = &volume.secret {
        let path = path.field("secret");
        let named = Named {
            kind: Kind::Secret,
            field: "secretName",
            name: secret.secret_name.as_deref().unwrap_or_default(),
            items: secret.items.as_deref(),
            optional: secret.optional,
        };
        let source = FileSource::Secret(config_files(&path, &named, check));
        sources.push(files(&path, vec![source], secret.default_mode, check));
    }
    if let Some(downward) = &volume.downward_api {
        let path = path.field("downwardAPI");
        let source = downward_files(&path, downward.items.as_deref(), check);
        sources.push(files(&path, vec![source], downward.default_mode, check));
    }
    if let Some(projected) = &volume.projected {
        sources.push(self::projected(&path.field("projected"), projected, check));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let path = path.field("persistentVolumeClaim");
        let name_path = path.field("claimName");
        let name = check.name(&name_path, &claim.claim_name, NameRule::Subdomain);
        check.mention(Kind::PersistentVolumeClaim, &name, &name_path);
        let read_only = claim.read_only.unwrap_or(false);
        sources.push(VolumeSource::Claim { name, read_only, scratch: None });
    }
    if let Some(ephemeral) = &volume.ephemeral {
        let path = path.field("ephemeral");
        let path = path.field("volumeClaimTemplate");
        let Some(template) = &ephemeral.volume_claim_template else {
            check.error(&path, "is required");
            return None;
        };
        let metadata = template.metadata.clone().unwrap_or_default();
        let template = claim_template(&path, name.clone(), metadata, &template.spec, check);
        sources.push(VolumeSource::Scratch(template.into()));
    }
    if sources.len() > 1 {
        check.error(path, "can be of one type only");
    } else if sources.is_empty() {
        // A volume without any source is an emptyDir by default, so its source was taken out
        // because it was refused.
        check.error(path, "has no type that is supported");
    }
    sources.pop()
}

fn empty_dir(
    path: &Path<'_>,
    empty_dir: &api::EmptyDirVolumeSource,
    check: &mut Check<'_, '_>,
) -> VolumeSource {
    let medium = empty_dir.medium.as_deref().unwrap_or_default();
    let medium_path = path.field("medium");
    if medium.starts_with("HugePages") {
        check.error(&medium_path, "huge pages are not supported");
    } else if !medium.is_empty() {
        check.word(&medium_path, medium, &[("Memory", ())]);
    }
    let limit_path = path.field("sizeLimit");
    let size_limit = empty_dir.size_limit.as_ref().map(|limit| check.quantity(&limit_path, limit));
    if size_limit.is_some_and(|limit| limit.is_negative()) {
        check.error(&limit_path, "must not be negative");
    }
    VolumeSource::EmptyDir {
        memory: medium == "Memory",
        // Nothing is no limit, as in Kubernetes.
        size_limit: size_limit.filter(|limit| !limit.is_zero()),
    }
}

const HOST_PATH_KINDS: &[(&str, HostPathKind)] = &[
    ("", HostPathKind::Unchecked),
    ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
    ("Directory", HostPathKind::Directory),
    ("FileOrCreate", HostPathKind::FileOrCreate),
    ("File", HostPathKind::File),
    ("Socket", HostPathKind::Socket),
    ("CharDevice", HostPathKind::CharDevice),
    ("BlockDevice", HostPathKind::BlockDevice),
];

pub(super) fn host_path(
    path: &Path<'_>,
    host_path: &api::HostPathVolumeSource,
    check: &mut Check<'_, '_>,
) -> VolumeSource {
    let text = host_path.path.as_str();
    let target_path = path.field("path");
    if text.is_empty() {
        check.error(&target_path, "is required");
    } else if !text.starts_with('/') {
        check.error(&target_path, format!("{} must be an absolute path", quoted(text)));
    }
    if text.split('/').any(|part| part == "..") {
        check.error(&target_path, format!("{} must not contain '..'", quoted(text)));
    }
    let kind = host_path.type_.as_deref();
    let unchecked = HostPathKind::Unchecked;
    VolumeSource::HostPath {
        path: text.to_owned(),
        kind: check.word_or(&path.field("type"), kind, HOST_PATH_KINDS, unchecked),
    }
}

fn files(
    path: &Path<'_>,
    sources: Vec<FileSource>,
    default_mode: Option<i32>,
    check: &mut Check<'_, '_>,
) -> VolumeSource {
    let mode = mode(&path.field("defaultMode"), default_mode, check);
    VolumeSource::Files(FileVolume { sources, mode: mode.unwrap_or(0o644) })
}

/// `fileModeErrorMsg`: 0 to 0777.
fn mode(path: &Path<'_>, mode: Option<i32>, check: &mut Check<'_, '_>) -> Option<u32> {
    let mode = mode?;
    if !(0..=0o777).contains(&mode) {
        let message = format!("{mode} is not a mode: modes are 0 to 0777, which is 511");
        // `defaultMode: 644` was meant octal.
        let octal = i32::from_str_radix(&mode.to_string(), 8).ok();
        match octal.filter(|octal| (0..=0o777).contains(octal)) {
            Some(_) => check.error_hint(path, message, format!("write it in octal: 0{mode}")),
            None => check.error(path, message),
        }
    }
    u32::try_from(mode).ok()
}

/// A ConfigMap or Secret as a volume names it.
struct Named<'a> {
    kind: Kind,
    field: &'static str,
    name: &'a str,
    items: Option<&'a [api::KeyToPath]>,
    optional: Option<bool>,
}

fn config_files(path: &Path<'_>, named: &Named<'_>, check: &mut Check<'_, '_>) -> ConfigFiles {
    let name_path = path.field(named.field);
    let name = check.name(&name_path, named.name, NameRule::Subdomain);
    let optional = named.optional.unwrap_or(false);
    if !optional {
        check.mention(named.kind, &name, &name_path);
    }
    let items_path = path.field("items");
    let items = named.items.map(|items| {
        let items = items.iter().enumerate();
        items
            .map(|(index, item)| {
                let path = items_path.index(index);
                if item.key.is_empty() {
                    check.error(&path.field("key"), "is required");
                }
                KeyToPath {
                    key: item.key.clone(),
                    path: file_path(&path.field("path"), &item.path, check),
                    mode: mode(&path.field("mode"), item.mode, check),
                }
            })
            .collect()
    });
    ConfigFiles { name, items, optional }
}

/// `ValidateLocalNonReservedPath`: within the volume, and not one of the names by which a volume
/// is swapped.
fn file_path(path: &Path<'_>, text: &str, check: &mut Check<'_, '_>) -> String {
    if text.is_empty() {
        check.error(path, "is required");
    }
    check_relative(path, text, check);
    if text.starts_with("..") && !text.split('/').any(|part| part == "..") {
        check.error(path, format!("{} must not begin with '..'", quoted(text)));
    }
    text.to_owned()
}

/// What a file may take from its pod (`validVolumeDownwardAPIFieldPathExpressions`).
const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

fn downward_files(
    path: &Path<'_>,
    items: Option<&[api::DownwardAPIVolumeFile]>,
    check: &mut Check<'_, '_>,
) -> FileSource {
    let items_path = path.field("items");
    let mut result = Vec::new();
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = items_path.index(index);
        let field = item.field_ref.as_ref();
        let field = field.map(|field| {
            let path = path.field("fieldRef");
            DownwardValue::Field(field_ref(&path, field, VOLUME_FIELDS, check))
        });
        let resource = item.resource_field_ref.as_ref();
        let resource = resource.map(|resource| {
            let path = path.field("resourceFieldRef");
            DownwardValue::Resource(resource_ref(&path, resource, true, check))
        });
        let value = match (field, resource) {
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => {
                check.error(&path, "needs one of fieldRef or resourceFieldRef");
                continue;
            }
            (Some(_), Some(_)) => {
                check.error(&path, "can have only one of fieldRef or resourceFieldRef");
                continue;
            }
        };
        result.push(DownwardFile {
            path: file_path(&path.field("path"), &item.path, check),
            value,
            mode: mode(&path.field("mode"), item.mode, check),
        });
    }
    FileSource::Downward(result)
}

/// `validateProjectedVolumeSource`.
fn projected(
    path: &Path<'_>,
    projected: &api::ProjectedVolumeSource,
    check: &mut Check<'_, '_>,
) -> VolumeSource {
    let sources_path = path.field("sources");
    let mut sources = Vec::new();
    let mut paths = BTreeSet::new();
    for (index, projection) in projected.sources.iter().flatten().enumerate() {
        let path = sources_path.index(index);
        let Some(source) = projection_source(&path, projection, check) else {
            continue;
        };
        for file in named_files(&source) {
            if !paths.insert(file.to_owned()) {
                check.error(&path, format!("another source has a file {} too", quoted(file)));
            }
        }
        sources.push(source);
    }
    files(path, sources, projected.default_mode, check)
}

fn projection_source(
    path: &Path<'_>,
    projection: &api::VolumeProjection,
    check: &mut Check<'_, '_>,
) -> Option<FileSource> {
    let mut sources = Vec::new();
    if let Some(map) = &projection.config_map {
        let named = Named {
            kind: Kind::ConfigMap,
            field: "name",
            name: &map.name,
            items: map.items.as_deref(),
            optional: map.optional,
        };
        let files = config_files(&path.field("configMap"), &named, check);
        sources.push(FileSource::ConfigMap(files));
    }
    if let Some(secret) = &projection.secret {
        let named = Named {
            kind: Kind::Secret,
            field: "name",
            name: &secret.name,
            items: secret.items.as_deref(),
            optional: secret.optional,
        };
        let files = config_files(&path.field("secret"), &named, check);
        sources.push(FileSource::Secret(files));
    }
    if let Some(downward) = &projection.downward_api {
        let path = path.field("downwardAPI");
        sources.push(downward_files(&path, downward.items.as_deref(), check));
    }
    if let Some(token) = &projection.service_account_token {
        let path = path.field("serviceAccountToken");
        let path = file_path(&path.field("path"), &token.path, check);
        sources.push(FileSource::Token { path });
    }
    match sources.len() {
        0 => check.error(path, "has no type that is supported"),
        1 => {}
        _ => check.error(path, "can be of one type only"),
    }
    sources.pop()
}

/// The files of a source whose names are known beforehand.
fn named_files(source: &FileSource) -> Vec<&str> {
    match source {
        FileSource::ConfigMap(files) | FileSource::Secret(files) => {
            files.items.iter().flatten().map(|item| item.path.as_str()).collect()
        }
        FileSource::Downward(files) => files.iter().map(|file| file.path.as_str()).collect(),
        FileSource::Token { path } => vec![path],
    }
}
