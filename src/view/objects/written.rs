//! Objects that are shown as they are written, and Secrets, which are not quite.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::{Shown, meta};
use crate::desired::sealed;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::view::json::child;
use crate::view::picture::Picture;

/// What `kubectl apply` leaves on objects: a copy of the manifest, values and all.
const ANNOTATION_LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Why the values of an encrypted Secret are not shown to somebody who may see them.
const ANNOTATION_SEALED: &str = "windlass.dev/sealed";

pub(super) fn list(picture: &Picture, kind: Kind) -> Vec<Shown> {
    let objects = picture.objects_of(kind);
    let shown = objects.map(|found| {
        let mut object = meta::written(&found);
        let mut hidden = None;
        if kind == Kind::Secret {
            conceal(&mut object, &found.object.body);
            hidden = Some(found.object.meaning);
        }
        Shown { key: found.object.key.clone(), json: Value::Object(object), hidden }
    });
    shown.collect()
}

/// Takes the values out of a Secret and leaves its keys.
fn conceal(object: &mut Map<String, Value>, body: &Body) {
    object.remove("stringData");
    let keys: Map<String, Value> = match body {
        Body::Secret(secret) => secret.keys().map(|key| (key.clone(), Value::from(""))).collect(),
        _ => Map::new(),
    };
    object.insert("data".into(), Value::Object(keys));
    child(child(object, "metadata"), "annotations").remove(ANNOTATION_LAST_APPLIED);
}

/// Lays a Secret's values into its JSON: for a caller that asked for this very object, as with
/// `get secret -o yaml`, and for nobody else.
pub fn reveal(picture: &Picture, key: &Key, json: &mut Value) {
    if key.kind != Kind::Secret {
        return;
    }
    let Some(found) = picture.object(key) else {
        return;
    };
    let (Body::Secret(secret), Some(object)) = (&found.object.body, json.as_object_mut()) else {
        return;
    };
    let secret = match sealed::open(secret, &picture.keyring) {
        Ok(opened) => opened,
        Err(why) => {
            let annotations = child(child(object, "metadata"), "annotations");
            annotations.insert(ANNOTATION_SEALED.into(), format!("{why}").into());
            return;
        }
    };
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let data = secret.data.iter().map(|(name, value)| (name.clone(), Value::from(encode(value))));
    object.insert("data".into(), Value::Object(data.collect()));
}
