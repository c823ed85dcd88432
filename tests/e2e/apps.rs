//! Several apps in one repository: each for itself, and the way back.

use serde_json::Value;

use crate::support::site::{IMAGE, NAMESPACE, Site, web};

const APPS: &str = "apps:
- {name: base, path: base}
- {name: web, path: web, dependsOn: [base], autoRevert: true, wait: {timeout: 20s}}
- {name: conf, path: conf}
";
const CONF: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf, namespace: shop}\n";

/// What the status says of an app.
fn app(site: &Site, name: &str) -> Value {
    let status = site.status();
    let apps = status["apps"].as_array().cloned().unwrap_or_default();
    apps.into_iter().find(|app| app["name"] == name).unwrap_or_default()
}

#[test]
fn apps_stand_for_themselves_and_one_goes_back_by_itself() {
    let Some(site) = Site::start("ap-apps-") else { return };
    let first = site.push(
        "first",
        &[
            ("windlass.yaml", Some(APPS)),
            ("base/namespace.yaml", Some(NAMESPACE)),
            ("web/web.yaml", Some(&web("one", 2, 30080))),
            ("conf/conf.yaml", Some(CONF)),
        ],
    );
    site.wait_ready("app=web", 2);
    site.wait("a healthy app", |site| {
        let web = app(site, "web");
        (web["inForce"]["commit"] == first.as_str() && web["inForce"]["healthy"].is_string())
            .then_some(())
    });

    // One team's typo does not hold up another.
    let second = site.push(
        "second",
        &[
            ("web/web.yaml", Some(&web("one", 3, 30080))),
            ("conf/conf.yaml", Some(&CONF.replace("metadata", "metdata"))),
        ],
    );
    site.wait_ready("app=web", 3);
    let conf = site.wait("a refusal", |site| {
        let conf = app(site, "conf");
        (conf["waiting"]["commit"] == second.as_str()).then_some(conf)
    });
    assert_eq!(conf["inForce"]["commit"], first.as_str(), "{conf:#}");
    assert_eq!(conf["waiting"]["findings"][0]["place"]["path"], "conf/conf.yaml", "{conf:#}");
    assert_eq!(app(&site, "web")["inForce"]["commit"], second.as_str());
    assert_eq!(app(&site, "base")["inForce"]["commit"], first.as_str(), "nothing of it changed");
    let (page, _) = site.windlass(&["status"]);
    assert!(page.contains("Refused (conf):"), "{page}");
    site.wait("all of it healthy", |site| {
        app(site, "web")["inForce"]["healthy"].is_string().then_some(())
    });
    let containers = site.containers("web");

    // What does not become healthy goes back, and is not tried again.
    let worse = web("two", 3, 30080).replace(IMAGE, "registry.example.com/test/none:1");
    let third = site.push("third", &[("web/web.yaml", Some(&worse))]);
    let reverted = site.wait("a return", |site| {
        let web = app(site, "web");
        (web["waiting"]["isReverted"] == true).then_some(web)
    });
    assert_eq!(reverted["inForce"]["commit"], second.as_str(), "{reverted:#}");
    assert_eq!(reverted["waiting"]["commit"], third.as_str(), "{reverted:#}");
    site.wait_ready("app=web", 3);
    site.wait("what ran before, and nothing else", |site| {
        (site.containers("web") == containers).then_some(())
    });
    assert_eq!(site.fetch(30080).as_deref(), Ok("one"));
    let mended = site.push("mended", &[("conf/conf.yaml", Some(CONF))]);
    site.wait("the other app is in step", |site| {
        app(site, "conf")["waiting"].is_null().then_some(())
    });
    assert_eq!(app(&site, "web")["inForce"]["commit"], second.as_str(), "{mended} changes nothing");

    // A person holds it still, and lets it go on: the next push is tried.
    let (said, is_well) = site.windlass(&["app", "suspend", "web"]);
    assert!(is_well && said.contains("app/web suspended"), "{said}");
    let next = site.push("next", &[("web/web.yaml", Some(&web("three", 2, 30080)))]);
    site.wait("it waits", |site| {
        let web = app(site, "web");
        let is_it =
            web["waiting"]["commit"] == next.as_str() && web["waiting"]["isWaiting"] == true;
        is_it.then_some(())
    });
    let (said, is_well) = site.windlass(&["app", "resume", "web"]);
    assert!(is_well && said.contains("app/web resumed"), "{said}");
    site.wait("the newest page", |site| {
        (site.fetch(30080).as_deref() == Ok("three")).then_some(())
    });
    let (said, is_well) = site.windlass(&["app", "suspend", "nobody"]);
    assert!(!is_well && said.contains("there is no app nobody"), "{said}");
}
