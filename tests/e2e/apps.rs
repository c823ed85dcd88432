//! Several apps in one repository: each for itself, and the way back.

use serde_json::Value;

use crate::support::site::{IMAGE, NAMESPACE, Site, VISITOR, web};

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

/// A Deployment of the page in a wave of its own.
fn in_wave(name: &str, wave: i32, page: &str, port: u16) -> String {
    let metadata = format!("metadata: {{name: {name}, namespace: shop");
    let text = web(page, 1, port).replace("web", name);
    assert!(text.contains(&metadata), "{text}");
    text.replacen(
        &metadata,
        &format!("{metadata}, annotations: {{windlass.dev/wave: \"{wave}\"}}"),
        1,
    )
}

#[test]
fn commits_wait_for_their_hour_come_in_waves_and_what_became_of_them_is_told() {
    const WINDOWS: &str = "windows: [{kind: allow, schedule: \"0 0 1 1 *\", duration: 1m, timeZone: Europe/Berlin}]\n";
    let Some(mut site) = Site::without_agent("ap-tell-") else { return };
    let listener = site.visitor.run(|| std::net::TcpListener::bind((VISITOR, 0)));
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let told = crate::hooks::listen(listener, ["503 Busy\r\n\r\n"]);
    let path = site.host.dir().join("agent.yaml");
    let text = std::fs::read_to_string(&path).expect("readable");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["notes"] = serde_json::json!({});
    config["hooks"] = serde_json::json!([{"url": format!("http://{VISITOR}:{port}/hook")}]);
    std::fs::write(&path, config.to_string()).expect("written");
    site.start_agent();

    // A fleet's first commit waits for nobody, and comes wave by wave.
    let both = |page: &str| (in_wave("base", 0, page, 30081), in_wave("web", 1, page, 30080));
    let (base, page) = both("one");
    let first = site.push(
        "first",
        &[
            ("windlass.yaml", Some(WINDOWS)),
            ("namespace.yaml", Some(NAMESPACE)),
            ("base.yaml", Some(&base)),
            ("web.yaml", Some(&page)),
        ],
    );
    site.wait_ready("app=web", 1);
    let created = |site: &Site, name: &str| {
        site.pods(&format!("app={name}"))[0]["metadata"]["creationTimestamp"].to_string()
    };
    assert!(created(&site, "base") <= created(&site, "web"));
    site.wait("healthy", |site| {
        app(site, "default")["inForce"]["healthy"].is_string().then_some(())
    });

    let (base, page) = both("two");
    let second = site.push("second", &[("base.yaml", Some(&base)), ("web.yaml", Some(&page))]);
    site.wait("it waits", |site| {
        let waiting = &app(site, "default")["waiting"];
        let is_it = waiting["commit"] == second.as_str() && waiting["isWaiting"] == true;
        is_it.then_some(())
    });
    let (status, _) = site.windlass(&["status"]);
    assert!(status.contains("outside its change windows until 20"), "{status}");
    assert_eq!(site.fetch(30080).as_deref(), Ok("one"));
    let third = site.push("third\n\nWindlass-Now: yes", &[]);
    site.wait("the newest page", |site| (site.fetch(30080).as_deref() == Ok("two")).then_some(()));
    let bad = site.push("fourth", &[("bad.yaml", Some("apiVersion: v1\nkind: ConfgMap\n"))]);
    let story = |site: &Site, commit: &str| {
        let told = ["log", "-1", "--notes=windlass", "--format=%N", commit];
        crate::support::must_git(&site.desired(), &told)
    };
    site.wait("the story in Git", |site| {
        let of_third = story(site, &third);
        let is_told = of_third.contains(" in force")
            && of_third.contains(" healthy after ")
            && story(site, &first).contains(" healthy after ")
            && story(site, &second).is_empty()
            && story(site, &bad).contains(" refused: 1 error in it: bad.yaml:2:7");
        is_told.then_some(())
    });
    // The first call was not taken, and was made again.
    let mut said = Vec::new();
    while !said.iter().any(|state| state == "refused") {
        let (_, body) = told.recv_timeout(std::time::Duration::from_secs(180)).expect("a call");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["app"], "default");
        said.push(body["state"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(said[..2], ["applied", "applied"], "{said:?}");
    for state in ["healthy", "waiting"] {
        assert!(said.iter().any(|known| known == state), "{state}: {said:?}");
    }
}

#[test]
fn a_part_of_an_app_goes_ahead_until_it_has_been_well_for_long_enough() {
    let settings = |hold: &str| {
        format!("apps:\n- {{name: web, path: web, canary: {{share: 1, for: {hold}}}}}\n")
    };
    let Some(site) = Site::start("ap-canary-") else { return };
    site.push(
        "first",
        &[
            ("windlass.yaml", Some(&settings("1h"))),
            ("namespace.yaml", Some(NAMESPACE)),
            ("web/web.yaml", Some(&web("one", 3, 30080))),
        ],
    );
    let first = site.wait_ready("app=web", 3);

    // One of three has what is new, and Services lead to it as to the others.
    site.push("second", &[("web/web.yaml", Some(&web("two", 3, 30080)))]);
    let standing = |site: &Site| app(site, "web")["inForce"]["canary"].clone();
    site.wait("a canary that is well", |site| {
        standing(site).as_str().filter(|said| said.contains("1 of 3 pods, healthy")).map(drop)
    });
    let pods = site.wait_ready("app=web", 3);
    assert_eq!(pods.iter().filter(|pod| first.contains(pod)).count(), 2, "{first:?} {pods:?}");
    for page in ["one", "two"] {
        site.wait(page, |site| (site.fetch(30080).as_deref() == Ok(page)).then_some(()));
    }
    let (said, _) = site.windlass(&["app", "show", "web"]);
    assert!(said.contains("1 of 3 pods"), "{said}");

    // A revert is held back by nothing, and those that stayed stay.
    site.push("revert", &[("web/web.yaml", Some(&web("one", 3, 30080)))]);
    let ahead = pods.iter().find(|pod| !first.contains(pod)).expect("one went ahead");
    let back = site.wait("no canary", |site| {
        let now = site.wait_ready("app=web", 3);
        (standing(site).is_null() && !now.contains(ahead)).then_some(now)
    });
    assert_eq!(back.iter().filter(|pod| first.contains(pod)).count(), 2, "{first:?} {back:?}");
    // Those that end are led to for a moment longer.
    let alone = |page: &str| {
        site.wait(&format!("page {page} alone"), |site| {
            (0..6).all(|_| site.fetch(30080).as_deref() == Ok(page)).then_some(())
        });
    };
    alone("one");

    // What has been well for long enough is followed by the rest.
    let (windows, page) = (settings("2s"), web("three", 3, 30080));
    let files = [("windlass.yaml", Some(&*windows)), ("web/web.yaml", Some(&*page))];
    let third = site.push("third", &files);
    site.wait("the rest follows", |site| {
        let stands = app(site, "web");
        let is_over = stands["inForce"]["commit"] == third.as_str()
            && stands["inForce"]["canary"].is_null()
            && stands["inForce"]["healthy"].is_string();
        is_over.then_some(())
    });
    let last = site.wait_ready("app=web", 3);
    assert!(last.iter().all(|pod| !back.contains(pod)), "{back:?} {last:?}");
    alone("three");
}
