//! A plain client: what clients other than kubectl rely on, and what must not happen.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass::adapters::api::{Limits, Server};
use windlass::kinds::registry::{KINDS, Kind};
use windlass::state::RequestKind;

use super::server::{REPOSITORY, Served, serve, serve_with};
use crate::support::http::{Connection, Events};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn get(served: &Served, path: &str) -> Value {
    served.connect().get(path).expect("an answer").expect(200).json()
}

fn get_as(served: &Served, path: &str, accept: &str) -> Value {
    let accept = [("Accept", accept.to_owned())];
    let answer = served.connect().send("GET", path, &accept, b"").expect("an answer");
    answer.expect(200).json()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items").iter();
    items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[test]
fn everything_that_discovery_names_can_be_listed() {
    let served = serve();
    let mut found = 0;
    let groups = get(&served, "/apis")["groups"].clone();
    let versions = groups.as_array().expect("groups").iter();
    let versions = versions.map(|group| {
        format!("/apis/{}", group["preferredVersion"]["groupVersion"].as_str().expect("one"))
    });
    for root in versions.chain(["/api/v1".to_owned()]) {
        for resource in get(&served, &root)["resources"].as_array().expect("resources") {
            let name = resource["name"].as_str().expect("a name");
            let verbs = resource["verbs"].as_array().expect("verbs");
            if name.contains('/') || !verbs.contains(&"list".into()) {
                continue;
            }
            let list = get(&served, &format!("{root}/{name}"));
            assert_eq!(list["kind"], format!("{}List", resource["kind"].as_str().expect("a kind")));
            assert!(list["metadata"]["resourceVersion"].is_string());
            found += 1;
        }
    }
    assert_eq!(found, KINDS.len());
}

#[test]
fn lists_are_chosen_and_cut_into_pages() {
    let served = serve();
    let pods = "/api/v1/namespaces/shop/pods";
    let all = get(&served, pods);
    let web = get(&served, &format!("{pods}?labelSelector=app%3Dweb"));
    assert_eq!(names(&web).len(), 3, "{web}");
    let running = get(&served, &format!("{pods}?fieldSelector=status.phase%3DPending"));
    assert!(names(&running).len() < names(&all).len());
    let mut paged: Vec<String> = Vec::new();
    let mut token = String::new();
    for _ in 0..100 {
        let page = get(&served, &format!("{pods}?limit=2&continue={token}"));
        assert!(names(&page).len() <= 2);
        paged.extend(names(&page).into_iter().map(str::to_owned));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, names(&all));
    assert!(names(&get(&served, "/api/v1/namespaces/none/pods")).is_empty());
    served.connect().get(&format!("{pods}?fieldSelector=x%3D1")).expect("an answer").expect(400);
}

#[test]
fn tables_and_bare_metadata_are_given_to_who_wants_them() {
    let served = serve();
    let table = get_as(&served, "/apis/apps/v1/deployments", TABLE);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let width = table["columnDefinitions"].as_array().expect("columns").len();
    assert_eq!(table["rows"][0]["cells"].as_array().expect("cells").len(), width);
    let path = "/apis/apps/v1/namespaces/shop/deployments/web?includeObject=Object";
    let table = get_as(&served, path, TABLE);
    assert_eq!(table["rows"][0]["object"]["spec"]["replicas"], 3);
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = get_as(&served, "/api/v1/pods", accept);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("spec").is_none());
}

#[test]
fn a_secret_is_given_to_who_names_it_and_in_no_list() {
    let served = serve();
    let path = "/api/v1/namespaces/shop/secrets";
    assert_eq!(get(&served, &format!("{path}/web-keys"))["data"]["password"], "aHVudGVyMg==");
    for text in [
        get(&served, path).to_string(),
        get_as(&served, &format!("{path}?includeObject=Object"), TABLE).to_string(),
        get_as(&served, &format!("{path}/web-keys?includeObject=Object"), TABLE).to_string(),
        served.connect().get("/metrics").expect("an answer").text(),
    ] {
        assert!(!text.contains("aHVudGVyMg") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_watch_begins_with_what_there_is_and_goes_on_with_what_changes() {
    let mut served = serve();
    let pods = "/api/v1/namespaces/shop/pods?watch=true&labelSelector=app%3Dweb";
    let mut events = Events::of(
        &served.socket,
        &format!("{pods}&sendInitialEvents=true&allowWatchBookmarks=true"),
    );
    for _ in 0..3 {
        assert_eq!(events.next().expect("a pod")["type"], "ADDED");
    }
    let end = events.next().expect("a bookmark");
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let version = end["object"]["metadata"]["resourceVersion"].as_str().expect("one").to_owned();
    let mut late = Events::of(&served.socket, &format!("{pods}&resourceVersion={version}"));
    let mut files = crate::support::fleet::shop();
    crate::support::fleet::edit_web(&mut files, "replicas: 3", "replicas: 4");
    served.world.remote.commit("web: four", files);
    served.go_on(160);
    let added = events.next().expect("a change");
    assert_eq!(added["type"], "ADDED", "{added}");
    assert_eq!(late.next().expect("the same")["object"], added["object"]);
}

#[test]
fn a_watch_ends_when_it_was_said_to() {
    let served = serve();
    let version = get(&served, "/api/v1/nodes")["metadata"]["resourceVersion"].clone();
    let version = version.as_str().expect("one");
    let path = format!("/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion={version}");
    assert_eq!(Events::of(&served.socket, &path).next(), None);
}

#[test]
fn who_comes_with_an_unknown_version_is_told_to_list_again() {
    let served = serve();
    for version in ["1", "99999999999"] {
        let path = format!("/api/v1/pods?watch=true&resourceVersion={version}");
        let event = Events::of(&served.socket, &path).next().expect("an event");
        assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
    }
}

#[test]
fn a_reader_that_stops_is_disconnected_and_the_others_are_not() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let served = serve_with(limits);
    let mut stuck = UnixStream::connect(&served.socket).expect("connects");
    stuck.set_write_timeout(Some(Duration::from_secs(10))).expect("a bound");
    // Asks for a lot, over and over, and reads nothing of it.
    let request = b"GET /openapi/v3/api/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(10) && stuck.write_all(request).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "it is still listened to");
    assert_eq!(get(&served, "/api/v1/nodes")["kind"], "NodeList");
}

#[test]
fn connections_and_streams_are_bounded() {
    let served = serve_with(Limits { connections: 3, streams: 1, ..Limits::default() });
    let mut first = Events::of(&served.socket, "/api/v1/nodes?watch=true");
    first.next().expect("a node");
    let second = served.connect().get("/api/v1/nodes?watch=true").expect("an answer");
    assert_eq!(second.status, 429, "{}", second.text());
    // The server needs a moment to see that the connection of the second is closed.
    let held = [admitted(&served), admitted(&served)];
    let mut full = String::new();
    let mut stream = UnixStream::connect(&served.socket).expect("connects");
    stream.read_to_string(&mut full).expect("an answer");
    assert!(full.starts_with("HTTP/1.1 429"), "{full}");
    drop((first, held));
    admitted(&served);
}

/// A connection for which there is room, as soon as there is.
fn admitted(served: &Served) -> Connection {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let mut connection = served.connect();
        if connection.get("/version").is_ok_and(|answer| answer.status == 200) {
            return connection;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("there is no room within ten seconds");
}

#[test]
fn a_body_is_bounded() {
    let served = serve();
    let body = vec![b' '; 2 * 1024 * 1024];
    let path = "/api/v1/namespaces/shop/pods/x";
    match served.connect().send("DELETE", path, &[], &body) {
        Ok(answer) => assert_eq!(answer.status, 413, "{}", answer.text()),
        // It was not even read to its end.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}"),
    }
}

/// Whatever the answer: who is still sending when the line closes does not hear it.
#[test]
fn a_body_that_comes_late_is_waited_for() {
    let served = serve();
    let pod = served.named(Kind::Pod, "web-").name.to_string();
    let pod = format!("/api/v1/namespaces/shop/pods/{pod}");
    let as_ada = [("Impersonate-User", "ada".to_owned())];
    for (method, path, headers, status) in [
        ("POST", format!("{pod}/exec?command=true"), &[][..], 400),
        ("POST", format!("{pod}/attach"), &[], 400),
        ("POST", format!("{pod}/portforward"), &[], 400),
        ("POST", "/windlass/v1/status".to_owned(), &[], 405),
        ("POST", "/version".to_owned(), &[], 405),
        ("POST", "/nowhere".to_owned(), &[], 404),
        ("DELETE", pod.clone(), &as_ada, 403),
        ("GET", pod.clone(), &[], 200),
    ] {
        let mut connection = served.connect();
        connection.begin(method, &path, headers, 2).expect("begins");
        std::thread::sleep(Duration::from_millis(50));
        let answer = connection.go_on(b"{}");
        let said = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}")).status;
        assert_eq!(said, status, "{method} {path}");
    }
}

#[test]
fn a_pod_is_deleted_through_the_agent_in_the_callers_name() {
    let served = serve();
    let name = served.named(Kind::Pod, "web-").name;
    let path = format!("/api/v1/namespaces/shop/pods/{name}");
    let options = json!({"gracePeriodSeconds": 5}).to_string();
    let answer = served.connect().send("DELETE", &path, &[], options.as_bytes());
    let answer = answer.expect("an answer").expect(200).json();
    assert_eq!(answer["status"], "Success");
    assert!(answer["details"]["uid"].is_string());
    let asked = served.asked.lock().expect("unbroken");
    let (RequestKind::DeletePod { pod, uid, grace_s }, by) = &asked.requests[0] else {
        panic!("{:?}", asked.requests);
    };
    assert_eq!((pod.name.as_str(), *grace_s), (name.as_str(), Some(5)));
    assert!(uid.is_some() && !by.is_empty());
    served.connect().get(&path).expect("an answer").expect(404);
    let wrong = json!({"preconditions": {"uid": "other"}}).to_string();
    let path = format!("/api/v1/namespaces/shop/pods/{}", served.named(Kind::Pod, "web-").name);
    let answer = served.connect().send("DELETE", &path, &[], wrong.as_bytes());
    answer.expect("an answer").expect(409);
}

#[test]
fn nodes_are_cordoned_and_pods_evicted_as_kubectl_does_it() {
    let served = serve();
    let send = |method: &str, path: &str, body: Value, code: u16| {
        let answer = served.connect().send(method, path, &[], body.to_string().as_bytes());
        answer.expect("an answer").expect(code).json()
    };
    let node = "/api/v1/nodes/n0";
    let patched = send("PATCH", node, json!({"spec": {"unschedulable": true}}), 200);
    assert_eq!(patched["spec"]["unschedulable"], true);
    // It is uncordoned already, and so is this a trial: neither asks for anything.
    send("PATCH", node, json!({"spec": {"unschedulable": null}}), 200);
    let trial = format!("{node}?dryRun=All");
    send("PATCH", &trial, json!({"spec": {"unschedulable": true}}), 200);
    send("PATCH", node, json!({"spec": {"taints": []}}), 403);
    send("PATCH", "/api/v1/nodes/n9", json!({"spec": {"unschedulable": true}}), 404);
    send("DELETE", node, Value::Null, 200);
    let path = |pod: &str| format!("/api/v1/namespaces/shop/pods/{pod}/eviction");
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "deleteOptions": {"gracePeriodSeconds": 3},
    });
    let web = served.named(Kind::Pod, "web-").name;
    send("POST", &path("nobody"), eviction.clone(), 404);
    send("POST", &path(web.as_str()), eviction.clone(), 201);
    send("POST", "/windlass/v1/drain?node=n0&force=true", Value::Null, 200);
    let asked = served.asked.lock().expect("unbroken");
    let kinds: Vec<String> = asked.requests.iter().map(|(what, _)| format!("{what:?}")).collect();
    let begins = ["Cordon { node: \"n0\"", "Fence {", "EvictPod {", "Drain {"];
    assert_eq!(kinds.len(), begins.len(), "{kinds:?}");
    for (kind, begin) in kinds.iter().zip(begins) {
        assert!(kind.starts_with(begin), "{kinds:?}");
    }
    assert!(kinds[1].contains("forget: true") && kinds[2].contains("grace_s: Some(3)"));
    assert!(kinds[3].contains("force: true"), "{kinds:?}");
}

#[test]
fn an_eviction_that_would_break_a_budget_is_refused() {
    let served = serve();
    served.show(|picture| {
        let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: g, namespace: \
                      shop}\nspec: {maxUnavailable: 0, selector: {matchLabels: {app: web}}}\n";
        let files = windlass::sim::Files::from([("budget.yaml".to_owned(), budget.to_owned())]);
        let (more, _) = windlass::sim::read(&files);
        for app in picture.apps.values_mut() {
            let revision = Arc::make_mut(app.applied.as_mut().expect("in force"));
            let objects = more.objects.iter().map(|(key, object)| (key.clone(), object.clone()));
            Arc::make_mut(&mut revision.desired).objects.extend(objects);
        }
    });
    let web = served.named(Kind::Pod, "web-").name;
    let path = format!("/api/v1/namespaces/shop/pods/{web}/eviction");
    let answer = served.connect().send("POST", &path, &[], b"{}").expect("an answer");
    let status = answer.expect(429).json();
    assert_eq!(status["reason"], "TooManyRequests");
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!(status["message"], why);
    assert!(served.asked.lock().expect("unbroken").requests.is_empty());
}

#[test]
fn who_writes_is_told_which_file_to_change() {
    let served = serve();
    let pod = served.named(Kind::Pod, "web-").name;
    let set = served.named(Kind::ReplicaSet, "web-").name;
    let table = [
        ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web".to_owned(), "shop/web.yaml:2"),
        ("DELETE", "/apis/apps/v1/namespaces/shop/deployments/web".to_owned(), "shop/web.yaml:2"),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/shop/deployments/web/scale".to_owned(),
            "shop/web.yaml",
        ),
        ("PATCH", format!("/api/v1/namespaces/shop/pods/{pod}"), "Deployment shop/web"),
        (
            "DELETE",
            format!("/apis/apps/v1/namespaces/shop/replicasets/{set}"),
            "Deployment shop/web",
        ),
        ("POST", "/api/v1/namespaces/shop/configmaps".to_owned(), REPOSITORY),
    ];
    for (method, path, told) in table {
        let answer = served.connect().send(method, &path, &[], b"{}").expect("an answer");
        let status = answer.expect(403).json();
        let message = status["message"].as_str().unwrap_or_default();
        assert!(
            message.contains(told) && message.contains(REPOSITORY),
            "{method} {path}: {message}"
        );
        assert_eq!(status["kind"], "Status");
    }
    served.connect().send("PUT", "/version", &[], b"").expect("an answer").expect(405);
}

#[test]
fn our_own_doors_answer_programs_and_people() {
    let served = serve();
    let pod = served.named(Kind::Pod, "back-").name;
    let status = get(&served, "/windlass/v1/status");
    assert_eq!(status["node"], "n0");
    let text = |method: &str, path: &str| {
        let accept = [("Accept", "text/plain".to_owned())];
        served.connect().send(method, path, &accept, b"").expect("an answer").expect(200).text()
    };
    assert!(text("GET", "/windlass/v1/status").contains("In force:"));
    let why = format!("/windlass/v1/why?kind=Pod&namespace=shop&name={pod}");
    assert!(get(&served, &why)["outcome"].is_string());
    assert!(text("GET", &why).contains("back"));
    let page = text("GET", "/windlass/v1/describe?kind=deploy&namespace=shop&name=web");
    assert!(page.starts_with("Name:"), "{page}");
    assert_eq!(text("POST", "/windlass/v1/sync"), "nothing new\n");
    served.connect().get("/windlass/v1/sync").expect("an answer").expect(405);
    assert_eq!(get(&served, "/windlass/v1/diff?commit=main")["changes"], json!([]));
    assert!(text("GET", "/windlass/v1/diff?commit=main").contains("changes nothing"));
    assert_eq!(get(&served, "/windlass/v1/images")["images"], json!([]));
    assert!(text("GET", "/windlass/v1/images?wide=true").contains("ID   "));
    assert_eq!(get(&served, "/windlass/v1/history?limit=2").as_array().map(Vec::len), Some(2));
    assert!(text("GET", "/windlass/v1/history").contains("    web: 3 pods"));
    served.connect().get("/windlass/v1/why?kind=Pod&name=none").expect("an answer").expect(404);
    served.connect().get("/windlass/v1/why?kind=Gadget&name=x").expect("an answer").expect(400);
}

#[test]
fn logs_are_sent_as_they_were_asked_for() {
    let served = serve();
    let pod = served.named(Kind::Pod, "web-").name;
    let path = format!("/api/v1/namespaces/shop/pods/{pod}/log");
    let log = |query: &str| served.connect().get(&format!("{path}?{query}")).expect("an answer");
    assert_eq!(log("").expect(200).text(), "line 1\nline 2\nline 3\n");
    assert_eq!(log("limitBytes=8").expect(200).text(), "line 1\nl");
    log("container=web&tailLines=2&timestamps=true&sinceTime=2026-01-01T00:00:00Z").expect(200);
    {
        let asked = served.asked.lock().expect("unbroken");
        let (_, options) = asked.logs.last().expect("asked");
        assert_eq!((options.tail, options.timestamps), (Some(2), true));
        assert_eq!(
            options.since.map(|since| since.to_string()).as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
    }
    for (query, code) in [
        ("container=none", 400),
        ("previous=true", 400),
        ("sinceTime=yesterday", 400),
        ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 400),
        ("tailLines=x", 400),
    ] {
        let answer = log(query).expect(code).json();
        assert_eq!(answer["kind"], "Status", "{query}");
    }
    // It has crashed: its last words, and those before them.
    let back = served.named(Kind::Pod, "back-").name;
    let path = format!("/api/v1/namespaces/shop/pods/{back}/log?previous=true");
    served.connect().get(&path).expect("an answer").expect(200);
}

#[test]
fn metrics_have_the_names_that_dashboards_know() {
    let served = serve();
    let text = served.connect().get("/metrics").expect("an answer").expect(200).text();
    for line in [
        "kube_deployment_status_replicas_available{namespace=\"shop\",deployment=\"web\"} 3",
        "kube_deployment_spec_replicas{namespace=\"shop\",deployment=\"web\"} 3",
        "windlass_is_coordinator 1",
        "windlass_applied_commit_info{app=",
        "windlass_applied_commit_age_seconds{app=",
        "windlass_turns_total ",
        "windlass_turn_seconds_bucket{le=\"+Inf\"}",
        "windlass_store_writes_total{register=\"coordinator\"}",
        "windlass_store_written_bytes_total ",
        "kubelet_running_pods ",
        "kube_pod_container_status_restarts_total{namespace=\"shop\",pod=\"back-",
        "phase=\"Running\"} 1",
        "kube_node_status_capacity{node=\"n0\",resource=\"cpu\",unit=\"core\"}",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(!text.contains("windlass_store_written_bytes_total 0"), "something was written");
}

/// What is said of a right is what the door says.
#[test]
fn rights_are_what_can_be_done() {
    let served = serve();
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let may = |spec: Value| {
        let review = json!({"spec": spec});
        let answer = served.connect().post(reviews, &review).expect("an answer").expect(201).json();
        answer["status"]["allowed"].as_bool().expect("an answer")
    };
    let pod = served.named(Kind::Pod, "web-").name.to_string();
    let pods = "/api/v1/namespaces/shop/pods";
    let deployments = "/apis/apps/v1/namespaces/shop/deployments";
    let one = format!("{pods}/{pod}");
    let trial = "?dryRun=All";
    for (verb, resource, method, path) in [
        ("list", "pods", "GET", pods.to_owned()),
        ("get", "pods", "GET", one.clone()),
        ("get", "pods/log", "GET", format!("{one}/log?container=main")),
        ("create", "pods", "POST", pods.to_owned()),
        ("patch", "pods", "PATCH", one.clone()),
        ("delete", "pods", "DELETE", format!("{one}{trial}")),
        ("create", "pods/eviction", "POST", format!("{one}/eviction{trial}")),
        ("create", "pods/exec", "POST", format!("{one}/exec?command=true")),
        ("create", "pods/attach", "POST", format!("{one}/attach")),
        ("create", "pods/portforward", "POST", format!("{one}/portforward")),
        ("list", "secrets", "GET", "/api/v1/namespaces/shop/secrets".to_owned()),
        ("patch", "nodes", "PATCH", format!("/api/v1/nodes/n0{trial}")),
        ("update", "nodes", "PUT", "/api/v1/nodes/n0".to_owned()),
        ("create", "deployments.apps", "POST", deployments.to_owned()),
        ("delete", "deployments.apps", "DELETE", format!("{deployments}/web")),
        ("patch", "deployments.apps", "PATCH", format!("{deployments}/web")),
        ("get", "deployments.apps/scale", "GET", format!("{deployments}/web/scale")),
        ("update", "deployments.apps/scale", "PUT", format!("{deployments}/web/scale")),
        ("get", "pods.apps", "GET", "/apis/apps/v1/namespaces/shop/pods".to_owned()),
        ("get", "ingresses.none.example", "GET", "/apis/none.example/v1/ingresses".to_owned()),
    ] {
        let (name, part) = resource.split_once('/').unwrap_or((resource, ""));
        let (name, group) = name.split_once('.').unwrap_or((name, ""));
        let asked = json!({"verb": verb, "group": group, "resource": name, "subresource": part});
        let is_allowed = may(json!({"resourceAttributes": asked}));
        let body = json!({"spec": {"unschedulable": true}});
        let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
        let said = served.connect().send(method, &path, &[], &body).expect("an answer").status;
        // Whoever may, and says it wrong, hears so.
        let is_done = ![403, 404, 405].contains(&said);
        assert_eq!(is_allowed, is_done, "{verb} {resource}: {method} {path} says {said}");
    }
    let of = |verb: &str, resource: &str| json!({"resourceAttributes": {"verb": verb, "resource": resource}});
    assert!(may(of("get", "*")) && !may(of("*", "*")) && !may(of("*", "pods")));
    let path = |verb: &str| json!({"nonResourceAttributes": {"verb": verb, "path": "/healthz"}});
    assert!(may(path("get")) && !may(path("post")));
    let nothing = served.connect().post(reviews, &json!({"spec": {}})).expect("an answer");
    nothing.expect(400);
    let other = [("Impersonate-User", "ada".to_owned())];
    served.connect().send("GET", pods, &other, b"").expect("an answer").expect(403);
}

#[test]
fn the_socket_is_not_for_everybody_and_leaves_nothing_behind() {
    let served = serve();
    let mode = std::fs::metadata(&served.socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let second = served.runtime.block_on(async { Server::bind(&served.socket) });
    assert!(second.is_err_and(|fault| fault.message.contains("another agent answers")));
    let stale = served.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    let server = served.runtime.block_on(async { Server::bind(&stale) }).expect("replaces it");
    drop(server);
    assert!(!stale.exists());
    let left: Vec<_> = std::fs::read_dir(served.dir.path()).expect("reads").collect();
    assert_eq!(left.len(), 1, "only `deep`: {left:?}");
}
