//! Jobs and CronJobs, told.

use serde_json::Value;

use super::template::template;
use super::{Page, controller, moment};
use crate::kinds::time::{Wall, human_duration};
use crate::view::json::{at, is_true, items, number, text};
use crate::view::table::selector;

/// The number at a path, or what stands for none.
fn number_or(object: &Value, path: &str, none: &str) -> String {
    at(object, path).and_then(Value::as_i64).map_or_else(|| none.to_owned(), |n| n.to_string())
}

fn head(page: &mut Page, object: &Value) {
    page.head(object);
    page.source(object);
    page.labels("Labels", object, "metadata.labels");
    page.annotations(object);
}

pub(super) fn job(page: &mut Page, job: &Value) {
    head(page, job);
    page.field(0, "Selector", selector(job, "spec.selector"));
    if let Some(controller) = controller(job) {
        page.field(0, "Controlled By", controller);
    }
    page.field(0, "Parallelism", number_or(job, "spec.parallelism", "<unset>"));
    page.field(0, "Completions", number_or(job, "spec.completions", "<unset>"));
    page.field(0, "Completion Mode", text(job, "spec.completionMode"));
    page.field(0, "Suspend", is_true(job, "spec.suspend").to_string());
    page.field(0, "Backoff Limit", number_or(job, "spec.backoffLimit", "<unset>"));
    for (name, path) in [
        ("Backoff Limit Per Index", "spec.backoffLimitPerIndex"),
        ("Max Failed Indexes", "spec.maxFailedIndexes"),
        ("TTL Seconds After Finished", "spec.ttlSecondsAfterFinished"),
    ] {
        page.field_if(0, name, &number_or(job, path, ""));
    }
    let (started, completed) = (text(job, "status.startTime"), text(job, "status.completionTime"));
    page.field_if(0, "Start Time", &moment(started));
    page.field_if(0, "Completed At", &moment(completed));
    if let (Some(from), Some(to)) = (Wall::parse(started), Wall::parse(completed)) {
        page.field(0, "Duration", human_duration(to.since(from)));
    }
    if let Some(seconds) = at(job, "spec.activeDeadlineSeconds").and_then(Value::as_i64) {
        page.field(0, "Active Deadline Seconds", format!("{seconds}s"));
    }
    let count = |name: &str| number(job, &format!("status.{name}"));
    page.field(
        0,
        "Pods Statuses",
        format!(
            "{} Active ({} Ready) / {} Succeeded / {} Failed",
            count("active"),
            count("ready"),
            count("succeeded"),
            count("failed")
        ),
    );
    if text(job, "spec.completionMode") == "Indexed" {
        let done = text(job, "status.completedIndexes");
        page.field(0, "Completed Indexes", if done.is_empty() { "<none>" } else { done });
        page.field_if(0, "Failed Indexes", text(job, "status.failedIndexes"));
    }
    template(page, at(job, "spec.template").unwrap_or(&Value::Null));
    conditions(page, job);
}

fn conditions(page: &mut Page, job: &Value) {
    let conditions = items(job, "status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus\tReason\tMessage");
    page.line(1, "----\t------\t------\t-------");
    for condition in conditions {
        let field = |name| text(condition, name);
        let (kind, status) = (field("type"), field("status"));
        page.line(1, format!("{kind} \t{status}\t{}\t{}", field("reason"), field("message")));
    }
}

pub(super) fn cron_job(page: &mut Page, cron: &Value) {
    head(page, cron);
    page.field(0, "Schedule", text(cron, "spec.schedule"));
    page.field_if(0, "Time Zone", text(cron, "spec.timeZone"));
    page.field(0, "Concurrency Policy", text(cron, "spec.concurrencyPolicy"));
    let suspended = if is_true(cron, "spec.suspend") { "True" } else { "False" };
    page.field(0, "Suspend", suspended);
    for (name, path) in [
        ("Successful Job History Limit", "spec.successfulJobsHistoryLimit"),
        ("Failed Job History Limit", "spec.failedJobsHistoryLimit"),
    ] {
        page.field(0, name, number_or(cron, path, "<unset>"));
    }
    let deadline = at(cron, "spec.startingDeadlineSeconds").and_then(Value::as_i64);
    let deadline = deadline.map_or_else(|| "<unset>".to_owned(), |seconds| format!("{seconds}s"));
    page.field(0, "Starting Deadline Seconds", deadline);
    let job = at(cron, "spec.jobTemplate.spec").unwrap_or(&Value::Null);
    page.field(0, "Selector", selector(job, "selector"));
    page.field(0, "Parallelism", number_or(job, "parallelism", "<unset>"));
    page.field(0, "Completions", number_or(job, "completions", "<unset>"));
    template(page, at(job, "template").unwrap_or(&Value::Null));
    let last = moment(text(cron, "status.lastScheduleTime"));
    page.field(0, "Last Schedule Time", if last.is_empty() { "<unset>" } else { &last });
    let active: Vec<&str> =
        items(cron, "status.active").iter().map(|job| text(job, "name")).collect();
    let active = if active.is_empty() { "<none>".to_owned() } else { active.join(", ") };
    page.field(0, "Active Jobs", active);
}
