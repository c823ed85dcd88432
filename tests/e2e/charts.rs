//! A Helm chart in the repository: rendered, rolled, refused, reverted, packed.

use nix::sys::signal::Signal;

use crate::support::site::{IMAGE, NAMESPACE, Site};

const ABOUT: &str = "apiVersion: v2
name: web
version: 1.0.0
annotations: {windlass.dev/namespace: shop}
dependencies: [{name: page, version: 1.x.x, repository: 'https://charts.example'}]
";
const VALUES: &str = "replicas: 2\npage: {text: one}\n";
const HELPERS: &str = r#"{{- define "web.labels" -}}
app: {{ .Release.Name }}
{{- end -}}
"#;
const WEB: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels: {{- include "web.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {{- include "web.labels" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "web.labels" . | nindent 8 }}
      annotations:
        checksum/page: {{ .Values.page.text | sha256sum }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {{ .Values.image | default "IMAGE" }}
          command: [httpd, -f, -p, '8080', -h, /www]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
          volumeMounts: [{name: www, mountPath: /www}]
      volumes: [{name: www, configMap: {name: page}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {{- include "web.labels" . | nindent 4 }}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: 'IMAGE', command: ['true']}]
---
apiVersion: v1
kind: Pod
metadata:
  name: a-test
  annotations: {helm.sh/hook: test}
spec: {containers: [{name: main, image: 'IMAGE', command: ['false']}]}
"#;
const PAGE: &str = r"apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data:
  index.html: {{ .Values.text | quote }}
";

/// The ReplicaSet of a pod, by its name.
fn set_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(set, _)| set)
}

#[test]
fn a_chart_is_rendered_rolls_is_refused_and_goes_back() {
    let Some(mut site) = Site::start("we2e-charts-") else { return };
    let web = WEB.replace("IMAGE", IMAGE);
    let files = [
        ("namespace.yaml", Some(NAMESPACE)),
        ("web/Chart.yaml", Some(ABOUT)),
        ("web/values.yaml", Some(VALUES)),
        ("web/templates/_helpers.tpl", Some(HELPERS)),
        ("web/templates/web.yaml", Some(web.as_str())),
        ("web/charts/page/Chart.yaml", Some("{apiVersion: v2, name: page, version: 1.2.0}")),
        ("web/charts/page/values.yaml", Some("text: nothing")),
        ("web/charts/page/templates/page.yaml", Some(PAGE)),
    ];
    site.push("web, a chart", &files);
    let first = site.wait_ready("app=web", 2);
    site.wait("a page", |site| (site.fetch(30080) == Ok("one".into())).then_some(()));
    let job = site.get("/apis/batch/v1/namespaces/shop/jobs/migrate");
    assert_eq!(job["status"]["succeeded"], 1, "it comes before the pods: {job:#}");
    let test = site.get("/api/v1/namespaces/shop/pods/a-test");
    assert_eq!(test["code"], 404, "what tests a release is no part of it: {test:#}");

    // Another value: other pods. The agent that is killed meanwhile knows them again.
    let changed = VALUES.replace("one", "two");
    site.push("web: two", &[("web/values.yaml", Some(&changed))]);
    let second = site.wait("new pods only", |site| {
        let now = site.wait_ready("app=web", 2);
        now.iter().all(|pod| !first.contains(pod)).then_some(now)
    });
    assert_eq!(site.fetch(30080), Ok("two".into()));
    let kept = site.containers("web");
    site.stop_agent(Signal::SIGKILL);
    site.start_agent();
    assert_eq!(site.wait_ready("app=web", 2), second);
    assert_eq!(site.containers("web"), kept, "nothing was restarted");

    // What can't be rendered changes nothing, and says where.
    site.push("web: a slip", &[("web/values.yaml", Some("replicas: 2\npage: 5\n"))]);
    let refused = site.wait("a refusal", |site| {
        let refused = site.status()["apps"][0]["waiting"].clone();
        refused["findings"][0].is_object().then_some(refused)
    });
    let finding = &refused["findings"][0];
    let (path, message) = (&finding["place"]["path"], finding["message"].as_str());
    assert_eq!(path, "web/values.yaml", "{refused:#}");
    assert!(message.is_some_and(|text| text.contains("values of chart page")), "{refused:#}");
    let slip = web.replace("replicas: {{", "replica: {{");
    site.push(
        "web: another slip",
        &[("web/values.yaml", Some(&changed)), ("web/templates/web.yaml", Some(&slip))],
    );
    site.wait("another refusal", |site| {
        let place = site.status()["apps"][0]["waiting"]["findings"][0]["place"].clone();
        (place["path"] == "web/templates/web.yaml" && place["line"] == 7).then_some(())
    });
    assert_eq!(site.wait_ready("app=web", 2), second);

    site.git(&["revert", "--no-edit", "HEAD~3..HEAD"]);
    site.push("and on", &[]);
    let back = site.wait("the old template only", |site| {
        let now = site.wait_ready("app=web", 2);
        now.iter().all(|pod| !second.contains(pod)).then_some(now)
    });
    assert_eq!(set_of(&back[0]), set_of(&first[0]), "the old ReplicaSet came back");
    assert_eq!(site.fetch(30080), Ok("one".into()));
}
