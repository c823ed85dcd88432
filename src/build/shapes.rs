//! Writes down the shapes of Kubernetes' types, from the JSON schemas that come with k8s-openapi, so
//! that the agent carries them as some compressed text. The code that makes schemas would be a
//! seventh of the program, and would run once.
//!
//! ```text
//!   roots.rs      API version, kind, name of its schema: a list to include
//!   shapes.zz     the schemas without descriptions: what manifests are checked by
//!   openapi.zz    all of them, as they are: what `kubectl explain` asks for
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use k8s_openapi::api::{
    apps, autoscaling, batch, core, discovery, networking, policy, rbac, scheduling, storage,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value as Json;

/// The schemas to write, and how each is called in a manifest.
struct Roots {
    generator: SchemaGenerator,
    names: Vec<(&'static str, &'static str, String)>,
}

impl Roots {
    fn add<T: JsonSchema>(&mut self, api_version: &'static str, kind: &'static str) {
        self.generator.subschema_for::<T>();
        self.names.push((api_version, kind, T::schema_name().into_owned()));
    }
}

/// Every kind that a manifest may hold, with each API version in which Kubernetes still serves it.
fn roots_of(generator: SchemaGenerator) -> Roots {
    let mut roots = Roots { generator, names: Vec::new() };
    roots.add::<core::v1::Namespace>("v1", "Namespace");
    roots.add::<core::v1::Node>("v1", "Node");
    roots.add::<scheduling::v1::PriorityClass>("scheduling.k8s.io/v1", "PriorityClass");
    roots.add::<storage::v1::StorageClass>("storage.k8s.io/v1", "StorageClass");
    roots.add::<storage::v1::CSIDriver>("storage.k8s.io/v1", "CSIDriver");
    roots.add::<core::v1::PersistentVolume>("v1", "PersistentVolume");
    roots.add::<networking::v1::IngressClass>("networking.k8s.io/v1", "IngressClass");
    let rbac_v1 = "rbac.authorization.k8s.io/v1";
    roots.add::<rbac::v1::ClusterRole>(rbac_v1, "ClusterRole");
    roots.add::<rbac::v1::ClusterRoleBinding>(rbac_v1, "ClusterRoleBinding");
    roots.add::<rbac::v1::Role>(rbac_v1, "Role");
    roots.add::<rbac::v1::RoleBinding>(rbac_v1, "RoleBinding");
    roots.add::<core::v1::ServiceAccount>("v1", "ServiceAccount");
    roots.add::<core::v1::LimitRange>("v1", "LimitRange");
    roots.add::<core::v1::ResourceQuota>("v1", "ResourceQuota");
    roots.add::<core::v1::ConfigMap>("v1", "ConfigMap");
    roots.add::<core::v1::Secret>("v1", "Secret");
    roots.add::<core::v1::PersistentVolumeClaim>("v1", "PersistentVolumeClaim");
    roots.add::<core::v1::Service>("v1", "Service");
    roots.add::<core::v1::Endpoints>("v1", "Endpoints");
    roots.add::<discovery::v1::EndpointSlice>("discovery.k8s.io/v1", "EndpointSlice");
    roots.add::<networking::v1::Ingress>("networking.k8s.io/v1", "Ingress");
    roots.add::<networking::v1::NetworkPolicy>("networking.k8s.io/v1", "NetworkPolicy");
    roots.add::<policy::v1::PodDisruptionBudget>("policy/v1", "PodDisruptionBudget");
    roots.add::<core::v1::Pod>("v1", "Pod");
    roots.add::<core::v1::ReplicationController>("v1", "ReplicationController");
    roots.add::<apps::v1::ReplicaSet>("apps/v1", "ReplicaSet");
    roots.add::<apps::v1::Deployment>("apps/v1", "Deployment");
    roots.add::<apps::v1::StatefulSet>("apps/v1", "StatefulSet");
    roots.add::<apps::v1::DaemonSet>("apps/v1", "DaemonSet");
    roots.add::<batch::v1::Job>("batch/v1", "Job");
    roots.add::<batch::v1::CronJob>("batch/v1", "CronJob");
    let autoscaler = "HorizontalPodAutoscaler";
    roots.add::<autoscaling::v1::HorizontalPodAutoscaler>("autoscaling/v1", autoscaler);
    roots.add::<autoscaling::v2::HorizontalPodAutoscaler>("autoscaling/v2", autoscaler);
    roots
}

/// Writes the three files into `dir`.
pub(crate) fn make(dir: &Path) -> Result<(), String> {
    let mut settings = SchemaSettings::openapi3();
    settings.transforms.clear();
    let Roots { mut generator, names } = roots_of(settings.into_generator());
    let mut list = String::from("&[\n");
    for (api_version, kind, name) in &names {
        let _ = writeln!(list, "    ({api_version:?}, {kind:?}, {name:?}),");
    }
    list.push(']');
    write(&dir.join("roots.rs"), list.as_bytes())?;
    let mut schemas = Json::Object(generator.take_definitions(false));
    write(&dir.join("openapi.zz"), &compressed(&schemas)?)?;
    if let Some(schemas) = schemas.as_object_mut() {
        schemas.values_mut().for_each(strip);
    }
    write(&dir.join("shapes.zz"), &compressed(&schemas)?)
}

/// Takes away the words for people. A field may be called `description` too: it is a schema then.
fn strip(schema: &mut Json) {
    match schema {
        Json::Object(members) => {
            members.retain(|name, value| name != "description" || !value.is_string());
            members.values_mut().for_each(strip);
        }
        Json::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn compressed(schemas: &Json) -> Result<Vec<u8>, String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(schemas.to_string().as_bytes()).and_then(|()| encoder.finish());
    written.map_err(|error| format!("can't compress the shapes of Kubernetes' types: {error}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("can't write {}: {error}", path.display()))
}
