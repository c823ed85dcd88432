//! How far the image has come that a container waits for. A pull takes longer than everything else
//! together, and whoever looks at the pod should not have to wonder whether it stands still.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::meta::ANNOTATION_PULLED;
use crate::kinds::name::Name;
use crate::ports::runtime::PullProgress;
use crate::view::json::{child, text};

/// Says so in the status of the containers that wait, and in an annotation for the tables.
pub(super) fn tell(
    pulling: &BTreeMap<Name, PullProgress>,
    status: &mut Value,
    object: &mut Map<String, Value>,
) {
    // The table has one word for a pod: that of the last container to wait.
    let mut word = None;
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let progress = pulling.iter().find(|(name, _)| *name == text(container, "name"));
            let image = text(container, "image").to_owned();
            let Some(waiting) = container.pointer_mut("/state/waiting") else { continue };
            let Some((_, progress)) = progress else { continue };
            let before = text(waiting, "message").to_owned();
            waiting["message"] = message(&image, progress, &before).into();
            word = short(progress);
        }
    }
    if let Some(word) = word {
        child(child(object, "metadata"), "annotations")
            .insert(ANNOTATION_PULLED.into(), word.into());
    }
}

/// `pulling image web:1: 12.3 of 45.6 MB, 3 of 7 layers`
fn message(image: &str, progress: &PullProgress, before: &str) -> String {
    let layers = format!("{} of {} layers", progress.layers_done, progress.layers_total);
    let how_far = if progress.is_queued {
        "waits until other pulls have ended".to_owned()
    } else if progress.layers_total == 0 {
        "the registry is asked".to_owned()
    } else if progress.layers_unsized > 0 {
        let (done, total) = (megabytes(progress.bytes_done), megabytes(progress.bytes_total));
        format!("{done} of at least {total} MB, {layers}")
    } else if progress.bytes_done < progress.bytes_total {
        let (done, total) = (megabytes(progress.bytes_done), megabytes(progress.bytes_total));
        format!("{done} of {total} MB, {layers}")
    } else {
        format!("{} MB have come and are unpacked, {layers}", megabytes(progress.bytes_total))
    };
    match before {
        "" => format!("pulling image {image}: {how_far}"),
        before => format!("pulling image {image} again: {how_far}; before: {before}"),
    }
}

/// `27%`, or `3/7` layers while their sizes are not known.
fn short(progress: &PullProgress) -> Option<String> {
    let layers = format!("{}/{}", progress.layers_done, progress.layers_total);
    match progress.percent() {
        Some(percent) => Some(format!("{percent}%")),
        None => (progress.layers_total > 0).then_some(layers),
    }
}

/// Millions of bytes, as registries count: `12.3`.
pub(in crate::view) fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_says_how_far_a_pull_is() {
        let nothing = PullProgress::default();
        let begun = PullProgress {
            bytes_done: 12_345_678,
            bytes_total: 45_600_000,
            layers_done: 3,
            layers_total: 7,
            ..nothing
        };
        let all = PullProgress { bytes_done: 45_600_000, ..begun };
        let table = [
            (
                PullProgress { is_queued: true, ..nothing },
                "waits until other pulls have ended",
                None,
            ),
            (nothing, "the registry is asked", None),
            (begun, "12.3 of 45.6 MB, 3 of 7 layers", Some("27%")),
            (
                PullProgress { layers_unsized: 1, ..begun },
                "12.3 of at least 45.6 MB, 3 of 7 layers",
                Some("3/7"),
            ),
            (all, "45.6 MB have come and are unpacked, 3 of 7 layers", Some("100%")),
        ];
        for (progress, said, word) in table {
            assert_eq!(message("web:1", &progress, ""), format!("pulling image web:1: {said}"));
            assert_eq!(short(&progress).as_deref(), word, "{progress:?}");
        }
    }

    #[test]
    fn only_who_waits_for_an_image_is_told() {
        let waiting = |name: &str, message: &str| {
            json!({"name": name, "image": "web:1",
                   "state": {"waiting": {"reason": "ContainerCreating", "message": message}}})
        };
        let mut status = json!({"containerStatuses": [
            waiting("one", ""), waiting("two", "no route"), waiting("three", ""),
            {"name": "four", "image": "web:1", "state": {"running": {}}},
        ]});
        let progress = PullProgress {
            bytes_done: 1,
            bytes_total: 4,
            layers_total: 1,
            ..PullProgress::default()
        };
        let pulling = ["one", "two", "four"]
            .map(|name| (Name::trusted(name), progress))
            .into_iter()
            .collect();
        let mut object = Map::new();
        tell(&pulling, &mut status, &mut object);
        let said =
            |at: usize| text(&status["containerStatuses"][at], "state.waiting.message").to_owned();
        assert_eq!(said(0), "pulling image web:1: 0.0 of 0.0 MB, 0 of 1 layers");
        assert!(said(1).ends_with("; before: no route"), "{}", said(1));
        assert_eq!((said(2), said(3)), (String::new(), String::new()));
        assert_eq!(object["metadata"]["annotations"][ANNOTATION_PULLED], "25%");
    }
}
