//! What a push does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::site::{NAMESPACE, Site, fetch, web};

/// The ReplicaSet of a pod, by its name: the set's name and five letters.
fn set_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(set, _)| set)
}

#[test]
fn a_push_deploys_scales_rolls_and_a_revert_goes_back() {
    let Some(site) = Site::start("we2e-deploy-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web: one", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    let first = site.wait_ready("app=web", 2);
    site.wait("a page", |site| (site.fetch(30080) == Ok("one".into())).then_some(()));

    site.push("web: four of it", &[("web.yaml", Some(&web("one", 4, 30080)))]);
    let four = site.wait_ready("app=web", 4);
    assert!(first.iter().all(|pod| four.contains(pod)), "{first:?} stay, {four:?}");

    site.push("web: two", &[("web.yaml", Some(&web("two", 4, 30080)))]);
    let rolled = site.wait("new pods only", |site| {
        let now = site.wait_ready("app=web", 4);
        now.iter().all(|pod| !four.contains(pod)).then_some(now)
    });
    assert_eq!(site.fetch(30080), Ok("two".into()));

    site.git(&["revert", "--no-edit", "HEAD"]);
    site.push("and on", &[]);
    let back = site.wait("old template only", |site| {
        let now = site.wait_ready("app=web", 4);
        now.iter().all(|pod| !rolled.contains(pod)).then_some(now)
    });
    assert_eq!(set_of(&back[0]), set_of(&four[0]), "the old ReplicaSet came back");
    assert_eq!(site.fetch(30080), Ok("one".into()));
}

#[test]
fn a_rolling_update_loses_no_request() {
    let Some(site) = Site::start("we2e-roll-") else { return };
    let files = [("namespace.yaml", Some(NAMESPACE))];
    site.push("The shop", &files);
    site.push("web: one", &[("web.yaml", Some(&web("one", 4, 30080)))]);
    let before = site.wait_ready("app=web", 4);
    site.wait("a page", |site| site.fetch(30080).ok());

    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = std::sync::mpsc::channel();
    for _ in 0..4 {
        let (stop, tell) = (stop.clone(), tell.clone());
        site.visitor.spawn(move || {
            let (mut pages, mut lost) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match fetch(30080) {
                    Ok(_) => pages += 1,
                    Err(error) => lost.push(error),
                }
            }
            let _ = tell.send((pages, lost));
        });
    }
    site.push("web: two", &[("web.yaml", Some(&web("two", 4, 30080)))]);
    site.wait("new pods only", |site| {
        let now = site.wait_ready("app=web", 4);
        now.iter().all(|pod| !before.contains(pod)).then_some(())
    });
    // Those that end go on ending for a moment.
    site.wait("old ones gone", |site| {
        before.iter().all(|pod| site.containers(pod).is_empty()).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let mut pages = 0;
    for (some, lost) in told.iter().take(4) {
        pages += some;
        assert_eq!(lost, Vec::<String>::new(), "of {some} requests");
    }
    assert!(pages > 100, "only {pages} requests were made");
    assert_eq!(site.fetch(30080), Ok("two".into()));
}

#[test]
fn an_undo_by_commit_and_push_brings_the_old_set_back_and_a_namespace_goes_with_its_pods() {
    let Some(site) = Site::start("we2e-undo-") else { return };
    for (name, value) in [("user.name", "Bo"), ("user.email", "bo@example.org")] {
        site.git(&["config", name, value]);
    }
    let work = site.host.dir().join("work").display().to_string();
    let ask = |words: &str| {
        let mut args: Vec<&str> = words.split(' ').collect();
        args.extend(["-n", "shop", "--repo", &work]);
        let (said, done) = site.windlass(&args);
        assert!(done, "{words}: {said}");
        said
    };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web: one", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    let first = site.wait_ready("app=web", 2);
    let cat = "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace";
    let line = format!("exec {} -n shop -- {cat}", first[0]);
    let (said, _) = site.windlass(&line.split(' ').collect::<Vec<_>>());
    assert_eq!(said, "shop", "what its ServiceAccount tells it");
    site.push("web: two", &[("web.yaml", Some(&web("two", 2, 30080)))]);
    let second = site.wait("new pods only", |site| {
        let now = site.wait_ready("app=web", 2);
        now.iter().all(|pod| !first.contains(pod)).then_some(now)
    });

    let said = ask("rollout undo deploy/web");
    assert!(said.contains("git revert --no-edit ") && said.contains("# web: two"), "{said}");
    ask("rollout undo deploy/web --commit --push");
    let log = site.git(&["log", "-1", "--format=%an: %s"]);
    assert_eq!(log, "Bo: Revert \"web: two\"");
    let back = site.wait("the old template only", |site| {
        let now = site.wait_ready("app=web", 2);
        now.iter().all(|pod| !second.contains(pod)).then_some(now)
    });
    assert_eq!(set_of(&back[0]), set_of(&first[0]), "the old ReplicaSet came back");
    assert_eq!(site.fetch(30080), Ok("one".into()));

    // While it is paused a new template waits, and the number of pods follows.
    ask("rollout pause deploy/web --commit --push");
    site.push(
        "web: three",
        &[(
            "web.yaml",
            Some(
                &web("three", 2, 30080)
                    .replace("spec:\n  replicas: 2", "spec:\n  paused: true\n  replicas: 2"),
            ),
        )],
    );
    ask("scale deploy/web --replicas 3 --commit --push");
    let three = site.wait_ready("app=web", 3);
    assert!(three.iter().all(|pod| set_of(pod) == set_of(&first[0])), "{three:?}");
    let (said, _) =
        site.windlass(&["rollout", "status", "deploy/web", "-n", "shop", "--watch=false"]);
    assert!(said.contains("0 out of 3 new replicas have been updated"), "{said}");
    ask("rollout resume deploy/web --commit --push");
    site.wait("the third template", |site| {
        let now = site.wait_ready("app=web", 3);
        now.iter().all(|pod| !three.contains(pod)).then_some(())
    });

    // The namespace goes: its objects with it, and it is seen to end for as long as its pods do.
    site.push(
        "Nothing",
        &[
            ("web.yaml", None),
            ("namespace.yaml", None),
            ("other.yaml", Some("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n")),
        ],
    );
    let held = site.wait("it is held", |site| {
        let waiting = site.status()["apps"][0]["waiting"].clone();
        (!waiting.is_null()).then_some(waiting.to_string())
    });
    assert!(held.contains("Namespace shop"), "{held}");
    site.push("Nothing\n\nWindlass-Allow-Prune: yes", &[]);
    let phase = |site: &Site| site.get("/api/v1/namespaces/shop")["status"]["phase"].clone();
    site.wait("it ends", |site| (phase(site) == "Terminating").then_some(()));
    site.wait("it is gone", |site| phase(site).is_null().then_some(()));
    assert_eq!(
        site.get("/apis/apps/v1/namespaces/shop/replicasets")["items"],
        serde_json::json!([])
    );
    assert_eq!(site.get("/api/v1/namespaces/default")["status"]["phase"], "Active");
}
