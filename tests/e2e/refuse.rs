//! What a push must not do.

use crate::support::site::{NAMESPACE, Site, web};

#[test]
fn a_bad_commit_changes_nothing_and_says_where() {
    let Some(site) = Site::start("we2e-bad-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    let good = site.push("web", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    site.wait_ready("app=web", 2);
    let containers = site.containers("web");

    let broken = web("two", 3, 30080).replace("replicas:", "replicsa:");
    let bad = site.push("a slip", &[("web.yaml", Some(&broken))]);
    let waiting = site.wait("a refusal", |site| {
        let app = &site.status()["apps"][0];
        (app["waiting"]["commit"] == bad.as_str()).then(|| app.clone())
    });
    assert_eq!(waiting["inForce"]["commit"], good.as_str());
    let finding = &waiting["waiting"]["findings"][0];
    assert_eq!(finding["place"]["path"], "web.yaml", "{waiting:#}");
    assert_eq!(finding["place"]["line"], 5, "{waiting:#}");
    assert!(finding["hint"].as_str().is_some_and(|hint| hint.contains("replicas")), "{finding:#}");
    assert_eq!(site.containers("web"), containers, "nothing was touched");

    let mended = site.push("mended", &[("web.yaml", Some(&web("one", 3, 30080)))]);
    site.wait_in_force(&mended);
    site.wait_ready("app=web", 3);
}

#[test]
fn a_prune_waits_for_the_trailer() {
    let Some(site) = Site::start("we2e-prune-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    site.wait_ready("app=web", 2);
    let containers = site.containers("web");

    let empty = site.push("oops", &[("web.yaml", None), ("namespace.yaml", None)]);
    let waiting = site.wait("a held revision", |site| {
        let waiting = site.status()["apps"][0]["waiting"].clone();
        (waiting["commit"] == empty.as_str()).then_some(waiting)
    });
    assert_eq!(waiting["isHeld"], true, "{waiting:#}");
    assert!(waiting["why"].as_str().is_some_and(|why| why.contains("Windlass-Allow-Prune")));
    assert_eq!(site.containers("web"), containers, "nothing was touched");

    site.push("meant\n\nWindlass-Allow-Prune: yes", &[]);
    site.wait("everything gone", |site| site.containers("web").is_empty().then_some(()));

    // One Deployment of few is not held.
    site.git(&["revert", "--no-edit", "HEAD~1"]);
    site.push("again", &[]);
    site.wait_ready("app=web", 2);
    site.push("no web", &[("web.yaml", None)]);
    site.wait("web gone", |site| site.containers("web").is_empty().then_some(()));
}
