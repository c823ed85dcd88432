//! What comes out of the room: objects as the API shows them, meanings, differences.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::super::{
    Desired, Difference, FILE_BYTES_MAX, FieldChange, Why, assemble, book, changes, wanted,
};
use super::{corpus, read, repository};
use crate::kinds::binding::Oid;
use crate::kinds::container::{EnvValue, PullPolicy};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::pod::{PodTemplate, QosClass};
use crate::kinds::quantity::Quantity;
use crate::kinds::service::Reach;
use crate::kinds::volume::{FileSource, VolumeSource};
use crate::kinds::workload::{Share, Strategy};
use crate::ports::source::{FileEntry, FileKind};

/// The object that a text of one document holds.
fn object(text: &str) -> Arc<Object> {
    let (desired, findings) = read(&[("a.yaml", text)]);
    let errors: Vec<_> = findings.iter().filter(|f| f.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut objects = desired.objects.into_values();
    objects.next().expect("an object")
}

fn shown(text: &str) -> Json {
    serde_json::from_str(&object(text).json).expect("JSON")
}

fn named<'d>(desired: &'d Desired, name: &str) -> &'d Object {
    let found = desired.objects.iter().find(|(key, _)| key.to_string() == name);
    found.map(|(_, object)| &**object).expect(name)
}

fn entry(path: &str, kind: FileKind, bytes: u64) -> FileEntry {
    FileEntry { path: path.into(), blob: Oid::new("b"), kind, bytes }
}

#[test]
fn only_manifests_and_files_that_say_how_to_read_them_are_read() {
    use FileKind::{File, Submodule, Symlink};
    let table = [
        ("a.yaml", File, true),
        ("x/y/a.yml", File, true),
        ("a.JSON", File, true),
        ("windlass.yaml", File, true),
        (".windlassignore", File, true),
        (".sops.yaml", File, true),
        ("x/.windlassignore", File, false),
        ("x/.sops.yaml", File, false),
        ("README.md", File, false),
        ("yaml", File, false),
        (".github/workflows/ci.yaml", File, false),
        ("x/.hidden.yaml", File, false),
        (".gitlab-ci.yml", File, false),
        ("link.yaml", Symlink, false),
        ("module", Submodule, false),
    ];
    let listing: Vec<FileEntry> = table.iter().map(|(p, kind, _)| entry(p, *kind, 1)).collect();
    let read: Vec<Arc<str>> = wanted(&listing).into_iter().map(|entry| entry.path).collect();
    let expected: Vec<&str> = table.iter().filter(|(_, _, r)| *r).map(|(p, _, _)| *p).collect();
    assert_eq!(read.iter().map(|p| &**p).collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_passed_over_is_listed_and_what_is_too_large_is_refused() {
    let files = [
        (".windlassignore", "charts/\n*.big.yaml\n"),
        ("charts/a.yaml", "{{ not yaml"),
        ("values.yaml", "a: 1\n"),
        ("empty.yaml", "# nothing\n---\n"),
        ("a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"),
    ];
    let (mut listing, parsed) = repository(&files);
    listing.push(entry("link.yaml", FileKind::Symlink, 9));
    listing.push(entry("module", FileKind::Submodule, 0));
    listing.push(entry("huge.yaml", FileKind::File, FILE_BYTES_MAX + 1));
    listing.push(entry("huge.big.yaml", FileKind::File, FILE_BYTES_MAX + 1));
    listing.push(entry("unread.yaml", FileKind::File, 5));
    let (desired, findings) = assemble(&listing, &parsed);
    let skipped: Vec<(&str, Why)> = desired.skipped.iter().map(|s| (&*s.path, s.why)).collect();
    assert_eq!(
        skipped,
        [
            ("charts/a.yaml", Why::Ignored),
            ("empty.yaml", Why::NotAManifest),
            ("huge.big.yaml", Why::Ignored),
            ("link.yaml", Why::Symlink),
            ("module", Why::Submodule),
            ("values.yaml", Why::NotAManifest),
        ]
    );
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("huge.yaml: error: 8388609 bytes are more"), "{}", said[0]);
    assert!(said[1].starts_with("unread.yaml: error: this file was not read"), "{}", said[1]);
    assert_eq!(desired.objects.len(), 1);
}

#[test]
fn a_pod_is_shown_with_kubernetes_defaults() {
    let pod = shown(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: x}\nspec:\n  serviceAccount: web\n  \
         containers:\n  - name: a\n    image: a\n    resources: {limits: {cpu: 1000m}}\n    \
         livenessProbe: {httpGet: {port: 80}, periodSeconds: 0}\n    ports: [{containerPort: 80}]\n    \
         env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n  \
         volumes: [{name: v}, {name: s, secret: {secretName: s}}, {name: h, hostPath: {path: /}}]\n",
    );
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "containers": [{
                "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "image": "a",
                "imagePullPolicy": "Always",
                "livenessProbe": {
                    "failureThreshold": 3,
                    "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "timeoutSeconds": 1
                },
                "name": "a",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
            }],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccount": "web",
            "serviceAccountName": "web",
            "terminationGracePeriodSeconds": 30,
            "volumes": [
                {"emptyDir": {}, "name": "v"},
                {"name": "s", "secret": {"defaultMode": 420, "secretName": "s"}},
                {"hostPath": {"path": "/", "type": ""}, "name": "h"}
            ]
        }
    });
    assert_eq!(pod, expected);
}

#[test]
fn workloads_and_services_are_shown_with_kubernetes_defaults() {
    let deployment = shown(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: \
         {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: \
         [{name: a, image: 'a:1', resources: {limits: {cpu: 1}}}]}}}}",
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let rolling = json!({"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"});
    assert_eq!(spec["strategy"], rolling);
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    // Requests are taken from limits in Pods only (`SetDefaults_Pod`).
    assert_eq!(container["resources"], json!({"limits": {"cpu": "1"}}));

    let controller = shown(
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {template: \
         {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}",
    );
    assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
    assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));

    let service = shown(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, \
         sessionAffinity: ClientIP, ports: [{port: 80}]}}",
    );
    let expected = json!({
        "allocateLoadBalancerNodePorts": true,
        "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "type": "LoadBalancer"
    });
    assert_eq!(service["spec"], expected);

    let secret = shown(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {a: hi, b: x}, data: {a: eA==, c: eA==}}",
    );
    assert_eq!(secret["data"], json!({"a": "aGk=", "b": "eA==", "c": "eA=="}));
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(secret.get("stringData"), None);

    let autoscaler = shown(
        "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: \
         {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: a}, targetCPUUtilizationPercentage: 70}}",
    );
    assert_eq!(autoscaler["apiVersion"], "autoscaling/v2");
    assert_eq!(
        autoscaler["spec"]["metrics"][0]["resource"]["target"],
        json!({"averageUtilization": 70, "type": "Utilization"})
    );
}

#[test]
fn a_template_means_what_it_says() {
    let (desired, _) = read(corpus::FILES);
    let Body::Deployment(backend) = &named(&desired, "Deployment shop/backend").body else {
        panic!("a Deployment");
    };
    assert_eq!(backend.selector.to_string(), "app=backend,!canary");
    let spec = &backend.template.spec;
    assert_eq!(spec.init_containers.len(), 2);
    assert!(!spec.init_containers[0].is_sidecar && spec.init_containers[1].is_sidecar);
    let container = spec.container("backend").expect("is there");
    assert_eq!(container.pull, PullPolicy::Always);
    assert_eq!(container.env_from.len(), 2);
    assert_eq!(container.env[5].value, EnvValue::Literal(String::new()));
    // A limit without a request counts as the request, in templates too.
    assert_eq!(container.resources.requests["cpu"], Quantity::units(2));
    assert_eq!(spec.qos(), QosClass::Burstable);
    let VolumeSource::Files(files) = &spec.volumes[1].source else {
        panic!("files");
    };
    assert_eq!(files.mode, 0o440);
    assert!(matches!(files.sources[2], FileSource::Downward(_)));
    assert_eq!(spec.tolerations[1].seconds, Some(30));
    assert_eq!(spec.dns.options[1], ("single-request-reopen".to_owned(), None));

    let Body::Deployment(nginx) = &named(&desired, "Deployment shop/nginx").body else {
        panic!("a Deployment");
    };
    let (max_surge, max_unavailable) = (Share::Count(1), Share::Count(0));
    let rolling = Strategy::RollingUpdate { max_surge, max_unavailable };
    assert_eq!(nginx.strategy, rolling);
    let Body::Service(service) = &named(&desired, "Service shop/payments").body else {
        panic!("a Service");
    };
    assert_eq!(service.reach, Reach::ExternalName("payments.example.com".into()));
    let Body::Secret(secret) = &named(&desired, "Secret shop/backend").body else {
        panic!("a Secret");
    };
    assert_eq!(
        &*secret.data["token"],
        b"hunter2hunter2hunter2hunter2hunter2hunter2hunter2".as_slice()
    );
}

fn template_of(container: &str) -> Arc<PodTemplate> {
    let text = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: a}}, spec: {{selector: \
         {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: \
         {{containers: [{container}]}}}}}}}}"
    );
    let object = object(&text);
    Arc::clone(object.body.template().expect("a template"))
}

#[test]
fn notation_and_written_out_defaults_do_not_change_the_meaning() {
    let plain = template_of("{name: a, image: 'a:1', resources: {limits: {cpu: 1, memory: 1Gi}}}");
    let same = [
        "{image: 'a:1', name: a, resources: {limits: {memory: 1Gi, cpu: 1}}}",
        "{name: a, image: 'a:1', resources: {limits: {cpu: 1000m, memory: 1024Mi}}}",
        "{name: a, image: 'a:1', resources: {limits: {cpu: '1', memory: 1073741824}}}",
        "{name: a, image: 'a:1', imagePullPolicy: IfNotPresent, resources: {limits: {cpu: 1, memory: 1Gi}}}",
        "{name: a, image: 'a:1', terminationMessagePolicy: File, env: [], tty: false, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {}}}",
        "{name: a, image: 'a:1', securityContext: {}, command: null, workingDir: '', resources: {limits: {cpu: 1, memory: 1Gi}}}",
    ];
    for text in same {
        let other = template_of(text);
        assert_eq!(other.meaning, plain.meaning, "{text}");
    }
    let other = [
        "{name: a, image: 'a:2', resources: {limits: {cpu: 1, memory: 1Gi}}}",
        "{name: a, image: 'a:1', resources: {limits: {cpu: 1001m, memory: 1Gi}}}",
        "{name: a, image: 'a:1', imagePullPolicy: Always, resources: {limits: {cpu: 1, memory: 1Gi}}}",
        "{name: a, image: 'a:1', securityContext: {privileged: false}, resources: {limits: {cpu: 1, memory: 1Gi}}}",
        "{name: a, image: 'a:1', tty: true, resources: {limits: {cpu: 1, memory: 1Gi}}}",
    ];
    for text in other {
        assert_ne!(template_of(text).meaning, plain.meaning, "{text}");
    }
}

#[test]
fn what_was_written_is_told_from_what_it_means() {
    let short = template_of("{name: a, image: 'a:1'}");
    let reordered = template_of("{image: 'a:1', name: a}");
    let long = template_of("{name: a, image: 'a:1', imagePullPolicy: IfNotPresent}");
    assert_eq!(short.written, reordered.written);
    assert_ne!(short.written, long.written);
    assert_eq!(short.meaning, long.meaning);
    // A name that no upgrade may change: SHA-256 of the template's sorted JSON.
    let canonical =
        r#"{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"image":"a:1","name":"a"}]}}"#;
    assert_eq!(short.written, crate::kinds::digest::Digest::of(canonical.as_bytes()));
}

#[test]
fn what_pods_are_made_of_is_found_by_its_name() {
    let (_, files) = repository(corpus::FILES);
    let (desired, _) = read(corpus::FILES);
    let owner = named(&desired, "Pod shop/plain").key.clone();
    let book_of = |path: &str, owner: &Key| book(&files[path], owner);
    let found = book_of("pods.yaml", &owner).expect("is there");
    let shown: Json = serde_json::from_str(&found.template().expect("one").json).expect("JSON");
    assert_eq!(shown["metadata"], json!({}));
    assert_eq!(shown["spec"]["hostname"], "plain");
    assert!(book_of("nginx.yaml", &owner).is_none());
    let service = named(&desired, "Service shop/nginx").key.clone();
    assert!(book_of("nginx.yaml", &service).is_none());
    let range = named(&desired, "LimitRange shop/limits").key.clone();
    assert!(book_of("policies.yaml", &range).is_some_and(|book| book.limit_range().is_some()));
}

#[test]
fn changes_are_told_field_by_field_and_by_meaning() {
    let before = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, annotations: {note: x}}\nspec:\n  \
        selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      \
        containers:\n      - name: web\n        image: web:1\n        resources: {limits: {cpu: 1000m}}\n        \
        env: [{name: A, value: a}, {name: B, value: b}]\n        args: [a, b]\n      - {name: side, image: \"side:1\"}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gone}\n";
    let after = before
        .replace("web:1", "web:2")
        .replace("1000m", "\"1\"")
        .replace("args: [a, b]", "args: [a, c]\n        tty: true")
        .replace(
            "{name: A, value: a}, {name: B, value: b}",
            "{name: B, value: b}, {name: A, value: a}",
        )
        .replace("      - {name: side, image: \"side:1\"}\n", "")
        .replace("annotations: {note: x}", "annotations: {}")
        .replace("name: gone", "name: come");
    let (old, _) = read(&[("a.yaml", before)]);
    let (new, _) = read(&[("b.yaml", &after)]);
    let changed = changes(&old, &new);
    let names: Vec<String> = changed
        .iter()
        .map(|change| match &change.difference {
            Difference::Added => format!("+ {} {}", change.key, change.place),
            Difference::Removed => format!("- {} {}", change.key, change.place),
            Difference::Changed(_) => format!("~ {} {}", change.key, change.place),
        })
        .collect();
    assert_eq!(
        names,
        [
            "+ ConfigMap default/come b.yaml:17:1",
            "- ConfigMap default/gone a.yaml:17:1",
            "~ Deployment default/web b.yaml:1:1"
        ]
    );
    let Difference::Changed(fields) = &changed[2].difference else {
        panic!("changed");
    };
    let told: Vec<String> = fields.iter().map(told).collect();
    assert_eq!(
        told,
        [
            "metadata.annotations: {\"note\":\"x\"} -> nothing",
            "spec.template.spec.containers[side]: {\"image\":\"side:1\",\"imagePullPolicy\":\"IfNotPresent\",\
             \"name\":\"side\",\"resources\":{},\"terminationMessagePath\":\"/dev/termination-log\",\
             \"terminationMessagePolicy\":\"File\"} -> nothing",
            "spec.template.spec.containers[web].args[1]: \"b\" -> \"c\"",
            "spec.template.spec.containers[web].env (order): A, B -> B, A",
            "spec.template.spec.containers[web].image: \"web:1\" -> \"web:2\"",
            "spec.template.spec.containers[web].tty: nothing -> true",
        ]
    );
    assert_eq!(changes(&old, &old), []);
}

fn told(change: &FieldChange) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
    format!("{}: {} -> {}", change.path, text(&change.old), text(&change.new))
}

#[test]
fn a_secrets_values_appear_nowhere() {
    let secret = |a: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  annotations:\n    \
             kubectl.kubernetes.io/last-applied-configuration: '{{\"data\":\"{a}\"}}'\n\
             stringData: {{password: {a}, same: same}}\n"
        )
    };
    let (old, _) = read(&[("a.yaml", &secret("hunter2"))]);
    let (new, _) = read(&[("a.yaml", &secret("hunter3"))]);
    let changed = changes(&old, &new);
    let Difference::Changed(fields) = &changed[0].difference else {
        panic!("changed");
    };
    let told: Vec<String> = fields.iter().map(told).collect();
    assert_eq!(told, ["data[password]: (secret) -> (secret)"]);
    let object = named(&new, "Secret default/a");
    assert!(object.annotations.is_empty(), "{:?}", object.annotations);

    // Whatever is wrong with a Secret, its values are not said.
    let wrong = [
        "data: hunter2",
        "data: [hunter2]",
        "data: {a: hunter2!}",
        "data: {a: !!int hunter2}",
        "data: {a: {hunter2: hunter2}}",
        "stringData: {a: 12345}",
        "stringData: {a: [hunter2]}",
        "stringData: {a: .inf, b: 12345.5}",
        "type: {a: hunter2}",
        "immutable: hunter2",
        "stringData: {a: hunter2",
        "stringData: {a: \"hunter2}",
        "stringData: {a: 'hunter2', a: 'hunter2'}",
        "stringData:\n  a: hunter2\n b: hunter2",
        "metadata: {name: a, labels: {a: 12345}}",
        "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: hunter2}",
    ];
    for body in wrong {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{body}\n");
        let (_, findings) = read(&[("a.yaml", &text)]);
        assert!(!findings.is_empty(), "{body}");
        for finding in findings {
            let said = finding.to_string();
            assert!(!said.contains("hunter") && !said.contains("12345"), "{said}");
        }
    }
}

#[test]
fn files_that_are_no_text_are_refused() {
    let refused = |bytes: &[u8]| {
        let content = crate::ports::source::FileContent {
            path: "a.yaml".into(),
            blob: Oid::new("b"),
            bytes: bytes.into(),
        };
        let file = super::super::parse(&content);
        file.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(refused(b"a: b\nc: \xff\n"), "a.yaml:2: error: this file is not UTF-8");
    assert_eq!(refused(b"a: b\n\n\0"), "a.yaml:3: error: this file has a NUL byte in it");
    assert!(refused(b"\xff\xfea\0").contains("UTF-16"));
    assert_eq!(refused(b"\xef\xbb\xbfa: b\n"), "");
    let with_mark = b"\xef\xbb\xbfapiVersion: v1\nkind: Namespace\nmetadata: {name: A}\n";
    assert!(refused(with_mark).starts_with("a.yaml:3:18: error: Namespace A: metadata.name"));
}

#[test]
fn findings_have_a_bound_and_errors_are_not_lost_in_it() {
    let many = |line: &str| line.repeat(5_000);
    let fields: String = (0..5_000).fold(String::new(), |text, n| text + &format!("f{n}: 1\n"));
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let table = [
        format!("{head}{fields}"),
        format!("{head}{}", many("data: {}\n")),
        many("apiVersion: v1\nkind: Gadget\n---\n"),
        many("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A}\n---\n"),
        format!("apiVersion: v1\nkind: List\nitems:\n{}", many("- {kind: x}\n")),
    ];
    for text in table {
        let (_, findings) = read(&[("a.yaml", &text)]);
        let count = findings.len();
        // A thousand of the file's own, and as many objects that are there twice.
        assert!((1..=2_200).contains(&count), "{count}: {}", &text[..40]);
        assert!(findings.iter().any(crate::kinds::finding::Finding::is_error));
    }
    // A hundred warnings come first, and the error still refuses the object.
    let warned = "    - {mountPath: a, name: v}\n".repeat(150);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: a\n    \
         image: a\n    volumeMounts:\n{warned}  volumes: [{{name: v}}]\n  restartPolicy: never\n"
    );
    let (desired, findings) = read(&[("a.yaml", &text)]);
    assert!(desired.objects.is_empty());
    assert!(findings.iter().any(crate::kinds::finding::Finding::is_error));
}

#[test]
fn the_same_files_give_the_same_answer_in_any_order() {
    let (mut listing, files) = repository(corpus::FILES);
    let (one, first) = assemble(&listing, &files);
    listing.reverse();
    let (other, second) = assemble(&listing, &files);
    assert_eq!(first, second);
    assert!(one.objects.keys().eq(other.objects.keys()));
    assert_eq!(one.skipped, other.skipped);
}
