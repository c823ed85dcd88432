//! What it costs to read 10,000 manifests: `cargo bench --bench desired`.
//!
//! Prints, for one thread and for two: parsing all files, then putting them together, then the
//! same with one file changed, and the memory that stays.
#![allow(clippy::print_stdout, reason = "a benchmark talks to whoever ran it")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::desired::{self, Files, ParsedFile};
use windlass::kinds::binding::Oid;
use windlass::ports::source::{FileContent, FileEntry, FileKind};

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

fn content(path: &str, text: &str) -> FileContent {
    FileContent { path: path.into(), blob: Oid::new("0"), bytes: text.as_bytes().into() }
}

fn parse_on(threads: usize, contents: &[FileContent]) -> Vec<(Arc<str>, Arc<ParsedFile>)> {
    let share = contents.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let workers: Vec<_> = contents
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || {
                    let parse =
                        |c: &FileContent| (Arc::clone(&c.path), Arc::new(desired::parse(c)));
                    chunk.iter().map(parse).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

/// The best of some rounds: other people's work on the machine only ever adds.
fn best<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let result = run();
        let took = start.elapsed();
        if best.as_ref().is_none_or(|(least, _)| took < *least) {
            best = Some((took, result));
        }
    }
    best.unwrap_or_else(|| (Duration::ZERO, run()))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or_default()
}

/// CPU time of all threads so far. On a busy machine it says more than the clock.
fn cpu() -> Duration {
    const TICKS_A_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_A_SECOND)
}

fn main() {
    let namespaces: String = (0..50)
        .map(|n| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team-{n}}}\n"))
        .collect();
    let mut contents: Vec<FileContent> = (0..MANIFESTS)
        .map(|n| content(&format!("team-{}/{n}.yaml", n / 10 % 50), &manifest(n)))
        .collect();
    contents.push(content("namespaces.yaml", &namespaces));
    let bytes: usize = contents.iter().map(|c| c.bytes.len()).sum();
    println!("{MANIFESTS} manifests, {} KiB", bytes / 1024);
    let listing: Vec<FileEntry> = contents
        .iter()
        .map(|content| FileEntry {
            path: Arc::clone(&content.path),
            blob: content.blob.clone(),
            kind: FileKind::File,
            bytes: content.bytes.len() as u64,
        })
        .collect();

    let start = Instant::now();
    let _ = desired::parse(&contents[0]);
    println!("first file, shapes compiled: {:?}", start.elapsed());
    let before = resident_kib();
    let parsed = parse_on(1, &contents);
    let after = resident_kib();
    let per_object = (after.saturating_sub(before)) * 1024 / u64::from(MANIFESTS);
    println!("memory: {} MiB, {per_object} bytes an object", (after - before) / 1024);

    for threads in [1, 2] {
        let before = cpu();
        let (took, _) = best(|| parse_on(threads, &contents));
        let spent = (cpu() - before) / ROUNDS;
        println!(
            "parse, {threads} thread(s): {took:?}, {:?} each; CPU {spent:?}",
            took / MANIFESTS
        );
    }
    let files: Files = parsed.into_iter().collect();
    let (took, (wish, findings)) = best(|| desired::assemble(&listing, &files));
    println!("assemble: {took:?}, {} objects, {} findings", wish.objects.len(), findings.len());
    for finding in findings.iter().take(3) {
        println!("  {finding}");
    }

    let edited = manifest(0).replace("replicas: 3", "replicas: 4");
    let (took, changed) = best(|| {
        let mut files = files.clone();
        let content = content("team-0/0.yaml", &edited);
        let parsed = desired::parse(&content);
        files.insert(content.path, Arc::new(parsed));
        desired::assemble(&listing, &files).0
    });
    println!("one file changed, parse and assemble: {took:?}");
    let (took, changes) = best(|| desired::changes(&wish, &changed));
    println!("changes: {took:?}, {}", changes.len());
}
