//! Jobs and CronJobs on a real Docker.

use serde_json::Value;

use crate::support::site::{IMAGE, NAMESPACE, Site, name};

fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
{spec}  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      initContainers:
        - {{name: beside, image: {IMAGE}, restartPolicy: Always, command: [sleep, \"3600\"]}}
      containers: [{{name: main, image: {IMAGE}, command: [sh, -c, {script:?}]}}]
"
    )
}

fn shown(site: &Site, plural: &str, name: &str) -> Value {
    site.get(&format!("/apis/batch/v1/namespaces/shop/{plural}/{name}"))
}

/// Waits for the end of a Job; `Complete CompletionsReached` and the like.
#[track_caller]
fn end(site: &Site, name: &str) -> String {
    site.wait(&format!("the end of {name}"), |site| {
        let job = shown(site, "jobs", name);
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let mut ends =
            conditions.iter().filter(|c| c["type"] == "Complete" || c["type"] == "Failed");
        ends.next().map(|c| {
            format!("{} {}", c["type"].as_str().unwrap_or(""), c["reason"].as_str().unwrap_or(""))
        })
    })
}

fn pods(site: &Site, job: &str) -> Vec<Value> {
    site.pods(&format!("batch.kubernetes.io/job-name={job}"))
}

#[test]
fn jobs_come_to_their_ends_and_stay_there() {
    let Some(site) = Site::start("we2e-jobs-") else { return };
    let three = job("three", "  completions: 3\n  parallelism: 2\n", "echo done");
    let tell = "echo \"$JOB_COMPLETION_INDEX $(hostname)\"";
    let indexed =
        job("indexed", "  completions: 2\n  parallelism: 2\n  completionMode: Indexed\n", tell);
    let fails = job("fails", "  backoffLimit: 0\n", "exit 3");
    let short = job("short", "  ttlSecondsAfterFinished: 1\n", "echo short");
    site.push(
        "Work",
        &[
            ("namespace.yaml", Some(NAMESPACE)),
            ("three.yaml", Some(&three)),
            ("indexed.yaml", Some(&indexed)),
            ("fails.yaml", Some(&fails)),
            ("short.yaml", Some(&short)),
        ],
    );
    assert_eq!(end(&site, "three"), "Complete CompletionsReached");
    assert_eq!(shown(&site, "jobs", "three")["status"]["succeeded"], 3);
    let phases: Vec<String> = pods(&site, "three")
        .iter()
        .map(|pod| pod["status"]["phase"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(phases, ["Succeeded"; 3], "they stay, and no sidecar holds them up");

    assert_eq!(end(&site, "indexed"), "Complete CompletionsReached");
    let mut said: Vec<String> = pods(&site, "indexed")
        .iter()
        .map(|pod| site.windlass(&["logs", "-n", "shop", "-c", "main", &name(pod)]).0)
        .collect();
    said.sort();
    assert_eq!(said, ["0 indexed-0\n", "1 indexed-1\n"], "each knows its number and its name");

    assert_eq!(end(&site, "fails"), "Failed BackoffLimitExceeded");
    assert_eq!(pods(&site, "fails").len(), 1);

    site.wait("the short one is removed", |site| {
        (shown(site, "jobs", "short")["kind"] == "Status" && pods(site, "short").is_empty())
            .then_some(())
    });
    let head = site.push("Nothing to do with it", &[("note.txt", Some("x"))]);
    site.wait_in_force(&head);
    assert!(pods(&site, "short").is_empty(), "its removal is no drift");

    let (table, _) = site.windlass(&["get", "jobs", "-n", "shop"]);
    assert!(
        table.contains("three") && table.contains("Complete") && table.contains("3/3"),
        "{table}"
    );
    assert!(!table.contains("short"), "{table}");

    // Another template runs anew; the way back runs nothing.
    let uid = shown(&site, "jobs", "three")["metadata"]["uid"].clone();
    site.push("Three: other", &[("three.yaml", Some(&three.replace("echo done", "echo other")))]);
    site.wait("a new run", |site| {
        let job = shown(site, "jobs", "three");
        (job["metadata"]["uid"] != uid && job["status"]["succeeded"] == 3).then_some(())
    });
    site.git(&["revert", "--no-edit", "HEAD"]);
    let head = site.push("and on", &[]);
    site.wait_in_force(&head);
    site.wait("the first run is shown again", |site| {
        let job = shown(site, "jobs", "three");
        (job["metadata"]["uid"] == uid && pods(site, "three").is_empty()).then_some(())
    });
}

#[test]
fn a_cron_job_makes_a_job_when_it_is_due() {
    let Some(site) = Site::start("we2e-cron-") else { return };
    let cron = format!(
        "apiVersion: batch/v1
kind: CronJob
metadata: {{name: tick, namespace: shop}}
spec:
  schedule: \"* * * * *\"
  timeZone: Europe/Berlin
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{{name: main, image: {IMAGE}, command: [echo, tick]}}]
"
    );
    site.push("Tick", &[("namespace.yaml", Some(NAMESPACE)), ("tick.yaml", Some(&cron))]);
    // A minute has sixty seconds, and a wait here as many: it is waited for twice.
    let made = |site: &Site| {
        let list = site.get("/apis/batch/v1/namespaces/shop/jobs");
        list["items"].as_array().and_then(|jobs| jobs.first().map(name))
    };
    site.wait("it is in force", |site| {
        (shown(site, "cronjobs", "tick")["kind"] == "CronJob").then_some(())
    });
    let now = windlass::adapters::clock::now().wall.seconds();
    let left = u64::try_from(60 - now.rem_euclid(60)).unwrap_or(0);
    std::thread::sleep(std::time::Duration::from_secs(left));
    let job = site.wait("the minute's job", made);
    let minute = (now.div_euclid(60) + 1).to_string();
    assert_eq!(job, format!("tick-{minute}"));
    assert_eq!(end(&site, &job), "Complete CompletionsReached");
    let owner = shown(&site, "jobs", &job)["metadata"]["ownerReferences"][0].clone();
    assert_eq!((owner["kind"].as_str(), owner["name"].as_str()), (Some("CronJob"), Some("tick")));
    let (table, _) = site.windlass(&["get", "cronjobs", "-n", "shop"]);
    assert!(table.contains("* * * * *") && table.contains("Europe/Berlin"), "{table}");
}
