//! What it costs to read 10,000 manifests, from a repository on this machine to a wish that is whole.
//!
//! The floor is Git's own: `git cat-file` of the same files, and `git fetch` of the one commit.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::adapters::git::{Source, SourceConfig};
use windlass::desired::{self, Desired, Files, ParsedFile};
use windlass::kinds::binding::Oid;
use windlass::ports::source::{Answer, Call, FileContent, FileEntry};

use crate::row::Row;
use crate::support::{must_git, must_run, scratch};

const MANIFESTS: u32 = 10_000;
const ROUNDS: u32 = 5;

fn deployment(n: u32) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-{n}
  namespace: team-{team}
  labels:
    app.kubernetes.io/name: web-{n}
    app.kubernetes.io/part-of: shop
spec:
  replicas: 3
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: web-{n}
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app.kubernetes.io/name: web-{n}
        app.kubernetes.io/part-of: shop
      annotations:
        prometheus.io/scrape: "true"
    spec:
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        fsGroup: 1000
      containers:
      - name: web
        image: registry.example.com/shop/web:{n}
        args: ["--listen", ":8080", "--log-level=info"]
        env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: DATABASE_URL
          valueFrom:
            secretKeyRef:
              name: secret-{secret}
              key: password
        - name: LOG_FORMAT
          value: json
        ports:
        - name: http
          containerPort: 8080
        readinessProbe:
          httpGet:
            path: /healthz
            port: http
          periodSeconds: 5
        livenessProbe:
          httpGet:
            path: /healthz
            port: http
        resources:
          requests:
            cpu: 100m
            memory: 128Mi
          limits:
            memory: 256Mi
        volumeMounts:
        - name: config
          mountPath: /etc/web
          readOnly: true
        - name: tmp
          mountPath: /tmp
      volumes:
      - name: config
        configMap:
          name: config-{config}
      - name: tmp
        emptyDir: {{}}
"#,
        team = n % 50,
        secret = n / 10 * 10 + 9,
        config = n / 10 * 10 + 7,
    )
}

/// Of ten manifests four are Deployments, three Services, two ConfigMaps and one a Secret.
fn manifest(n: u32) -> String {
    let team = n / 10 % 50;
    match n % 10 {
        0..4 => deployment(n).replace(&format!("team-{}\n", n % 50), &format!("team-{team}\n")),
        4..7 => format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web-{n}\n  namespace: team-{team}\nspec:\n  \
             selector:\n    app.kubernetes.io/name: web-{n}\n  ports:\n  - name: http\n    port: 80\n    \
             targetPort: http\n"
        ),
        7..9 => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-{n}\n  namespace: team-{team}\ndata:\n  \
             web.yaml: |\n    listen: 8080\n    workers: 4\n    upstreams:\n    - a\n    - b\n  LOG_LEVEL: info\n"
        ),
        _ => format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: secret-{n}\n  namespace: team-{team}\ndata:\n  \
             password: aHVudGVyMg==\n"
        ),
    }
}

/// A repository with the manifests, a clone of it, and one that only `git` fetches into.
struct Shelf {
    dir: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Self {
        let dir = scratch("wbench-desired-");
        for args in [
            ["init", "-q", "--bare", "-b", "main", "desired.git"].as_slice(),
            &["init", "-q", "-b", "main", "work"],
        ] {
            must_git(dir.path(), args);
        }
        let shelf = Self { dir };
        for n in 0..MANIFESTS {
            shelf.write(&format!("team-{}/{n}.yaml", n / 10 % 50), &manifest(n));
        }
        let namespace =
            |n| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team-{n}}}\n");
        shelf.write("namespaces.yaml", &(0..50).map(namespace).collect::<String>());
        shelf.push();
        must_git(shelf.dir.path(), &["clone", "-q", "--bare", "desired.git", "floor.git"]);
        shelf
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join("work").join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn push(&self) {
        let work = self.dir.path().join("work");
        must_git(&work, &["add", "-A"]);
        must_git(&work, &["commit", "-q", "-m", "manifests"]);
        must_git(&work, &["push", "-q", "../desired.git", "HEAD:main"]);
    }

    /// Git's own reading of every file.
    fn read_floor(&self) -> Duration {
        let all = "git cat-file --batch --batch-all-objects --unordered >/dev/null";
        timed(|| must_run("sh", &["-c", &format!("cd {} && {all}", self.bare("desired.git"))])).0
    }

    /// Git's own fetch of what is new.
    fn fetch_floor(&self) -> Duration {
        let floor = self.dir.path().join("floor.git");
        timed(|| must_git(&floor, &["fetch", "-q", "../desired.git", "main"])).0
    }

    fn bare(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = run();
    (start.elapsed(), result)
}

/// What the agent keeps between commits: the copy, and files that it has parsed, by their content.
struct Reader {
    source: Source,
    parsed: BTreeMap<Oid, Arc<ParsedFile>>,
    runtime: tokio::runtime::Runtime,
}

impl Reader {
    fn new(shelf: &Shelf, copy: &str) -> Self {
        let cache = shelf.dir.path().join(copy);
        let config = SourceConfig::new(&shelf.bare("desired.git"), cache);
        Self {
            source: Source::open(config).expect("opens"),
            parsed: BTreeMap::new(),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        }
    }

    fn ask(&self, call: Call) -> Answer {
        self.runtime.block_on(self.source.perform(call)).expect("the repository answers")
    }

    fn fetch(&self) -> Oid {
        match self.ask(Call::Fetch) {
            Answer::Fetched { tip: Some(tip), .. } => tip,
            other => panic!("{other:?}"),
        }
    }

    /// As the agent goes from a commit to a wish.
    fn read(&mut self, commit: &Oid) -> Desired {
        let call = Call::Survey { commit: commit.clone(), since: None };
        let Answer::Surveyed(survey) = self.ask(call) else { panic!("no survey") };
        let is_new = |file: &&FileEntry| !self.parsed.contains_key(&file.blob);
        let files: Vec<FileEntry> = survey.files.iter().filter(is_new).cloned().collect();
        let Answer::Contents(contents) = self.ask(Call::Read { files }) else {
            panic!("no contents")
        };
        self.parsed.extend(parse_all(&contents));
        let parsed = |file: &FileEntry| {
            let parsed = self.parsed.get(&file.blob)?;
            Some((file.path.clone(), parsed.clone()))
        };
        let files: Files = survey.files.iter().filter_map(parsed).collect();
        let (desired, findings) = desired::assemble(&survey.files, &files);
        assert!(findings.iter().all(|finding| !finding.is_error()), "{}", findings[0]);
        desired
    }
}

/// Parses on all cores, as the agent does.
fn parse_all(contents: &[FileContent]) -> Vec<(Oid, Arc<ParsedFile>)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = contents.len().div_ceil(cores).max(1);
    let parse = |c: &FileContent| (c.blob.clone(), Arc::new(desired::parse(c)));
    std::thread::scope(|scope| {
        let parts: Vec<_> = contents
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(parse).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("parses")).collect()
    })
}

/// All of it.
pub(crate) fn rows() -> Vec<Row> {
    let shelf = Shelf::new();
    let (mut cold, mut cold_floor) = (Duration::MAX, Duration::MAX);
    for round in 0..ROUNDS {
        let mut reader = Reader::new(&shelf, &format!("cold-{round}"));
        let tip = reader.fetch();
        let (took, desired) = timed(|| reader.read(&tip));
        assert!(desired.objects.len() > 10_000, "{} objects", desired.objects.len());
        cold = cold.min(took);
        cold_floor = cold_floor.min(shelf.read_floor());
    }
    let mut reader = Reader::new(&shelf, "warm");
    let tip = reader.fetch();
    let mut before = reader.read(&tip);
    let (mut one, mut one_floor) = (Duration::MAX, Duration::MAX);
    for round in 0..ROUNDS * 2 {
        let edited = manifest(0).replace("replicas: 3", &format!("replicas: {}", 4 + round));
        shelf.write("team-0/0.yaml", &edited);
        shelf.push();
        let (took, after) = timed(|| {
            let tip = reader.fetch();
            reader.read(&tip)
        });
        assert_eq!(desired::changes(&before, &after).len(), 1);
        before = after;
        one = one.min(took);
        one_floor = one_floor.min(shelf.fetch_floor());
    }
    vec![
        Row::time("10,000 manifests: read, parsed, checked", cold, 1.5).floor(cold_floor),
        Row::time("one file of them changed: fetched and the same", one, 0.03).floor(one_floor),
    ]
}
