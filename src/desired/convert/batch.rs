//! Jobs and CronJobs.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::meta::check_annotations;
use super::selector::{selector, workload_selector};
use super::workload::pod_template;
use super::{Check, Meta, TemplateParts};
use crate::kinds::indexes::IndexSet;
use crate::kinds::job::{
    CodeOperator, CompletionMode, Concurrency, ConditionPattern, CronJob, ExitCodes, FailureAction,
    FailureRule, Job, JobRules, ReplacementPolicy, Rules, SuccessRule,
};
use crate::kinds::labels::label_key_complaint;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::Body;
use crate::kinds::pod::{PodTemplate, RestartPolicy};
use crate::kinds::schedule::{self, Schedule};

/// `maxParallelismForIndexedJob`.
const PARALLELISM_INDEXED_MAX: u32 = 100_000;
/// `maxFailedIndexesForIndexedJob`.
const FAILED_INDEXES_MAX: u32 = 100_000;
/// `maxPodFailurePolicyRules`, `maxJobSuccessPolicyRules`, `maxPodFailurePolicyOnPodConditionsPatterns`.
const RULES_MAX: usize = 20;
/// `maxPodFailurePolicyOnExitCodesValues`.
const EXIT_CODES_MAX: usize = 255;

/// `ValidateJob`.
pub(super) fn job(
    job: api::Job,
    meta: &Meta,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let path = Path::Root.field("spec");
    let Some(spec) = job.spec else {
        check.error(&path, "is required");
        return Body::Plain;
    };
    let job = job_spec(&path, &spec, parts, check);
    if let (true, Some(most)) = (job.rules.is_indexed(), job.rules.completions) {
        let longest = format!("{}-{}", meta.name, most.saturating_sub(1));
        if let Some(complaint) = NameRule::Label.complaint(&longest) {
            let message = format!(
                "the host names of its pods would be too long or not valid, as {longest}: {complaint}"
            );
            check.error(&Path::Root.field("metadata").field("name"), message);
        }
    }
    Body::Job(job.into())
}

/// `ValidateCronJob`.
pub(super) fn cron_job(
    cron: api::CronJob,
    meta: &Meta,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let path = Path::Root.field("spec");
    let spec = cron.spec;
    if meta.name.as_str().len() > CRON_NAME_LEN_MAX {
        let message = format!(
            "can't be longer than {CRON_NAME_LEN_MAX} characters: the names of its Jobs follow from it"
        );
        check.error(&Path::Root.field("metadata").field("name"), message);
    }
    let zone_path = path.field("timeZone");
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => schedule::zone(name).unwrap_or_else(|| {
            check.error(
                &zone_path,
                format!("{} is no time zone, as Europe/Berlin is", quoted(name)),
            );
            TimeZone::UTC
        }),
    };
    let schedule = Schedule::parse(&spec.schedule, zone).unwrap_or_else(|message| {
        check.error(&path.field("schedule"), format!("{}: {message}", quoted(&spec.schedule)));
        Schedule::never()
    });
    let policies = [
        ("Allow", Concurrency::Allow),
        ("Forbid", Concurrency::Forbid),
        ("Replace", Concurrency::Replace),
    ];
    let policy = spec.concurrency_policy.as_deref();
    let concurrency_path = path.field("concurrencyPolicy");
    let concurrency = check.word_or(&concurrency_path, policy, &policies, Concurrency::Allow);
    let deadline_path = path.field("startingDeadlineSeconds");
    let most = i64::from(i32::MAX);
    let starting_deadline_s = spec
        .starting_deadline_seconds
        .map(|deadline| check.number(&deadline_path, deadline, 0, most));
    let successful_path = path.field("successfulJobsHistoryLimit");
    let failed_path = path.field("failedJobsHistoryLimit");
    let template_path = path.field("jobTemplate");
    let metadata = spec.job_template.metadata.unwrap_or_default();
    let metadata_path = template_path.field("metadata");
    let labels = metadata.labels.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    check.labels(&metadata_path.field("labels"), &labels);
    check_annotations(&metadata_path.field("annotations"), &annotations, check);
    let Some(job) = spec.job_template.spec else {
        check.error(&template_path.field("spec"), "is required");
        return Body::Plain;
    };
    let job_path = template_path.field("spec");
    if job.manual_selector.unwrap_or(false) {
        let message = "can't be set here: its Jobs would count each other's pods";
        check.error(&job_path.field("manualSelector"), message);
    }
    Body::CronJob(Arc::new(CronJob {
        schedule,
        concurrency,
        starting_deadline_s,
        suspend: spec.suspend.unwrap_or(false),
        successful_history: check.count(&successful_path, spec.successful_jobs_history_limit, 3),
        failed_history: check.count(&failed_path, spec.failed_jobs_history_limit, 1),
        job: job_spec(&job_path, &job, parts, check),
        labels,
        annotations,
    }))
}

/// A Job's name is the CronJob's and up to eleven characters (`ValidateCronJobCreate`).
const CRON_NAME_LEN_MAX: usize = 52;

/// `ValidateJobSpec`.
fn job_spec(
    path: &Path<'_>,
    spec: &api::JobSpec,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Job {
    let template_path = path.field("template");
    let template =
        pod_template(&template_path, Some(spec.template.clone()), BTreeSet::new(), parts, check);
    if template.spec.restart_policy == RestartPolicy::Always {
        let template_path = path.field("template");
        let pod_path = template_path.field("spec");
        let message = "must be OnFailure or Never: a Job's pods come to an end";
        check.error(&pod_path.field("restartPolicy"), message);
    }
    let manual_selector = manual_selector(path, spec, &template, check);
    let rules = job_rules(path, spec, check);
    check_indexed(path, &rules, check);
    check_failure_rules(path, &rules, &template, check);
    check_success_rules(path, &rules, check);
    Job { rules, template, manual_selector }
}

/// A Job's pods are told apart by labels that are generated, unless it says otherwise.
fn manual_selector(
    path: &Path<'_>,
    spec: &api::JobSpec,
    template: &PodTemplate,
    check: &mut Check<'_, '_>,
) -> Option<crate::kinds::labels::Selector> {
    let selector_path = path.field("selector");
    if !spec.manual_selector.unwrap_or(false) {
        if spec.selector.is_some() {
            let message = "can't be set: a Job's selector is generated";
            let hint = "leave it out, or add manualSelector: true";
            check.error_hint(&selector_path, message, hint);
        }
        return None;
    }
    let Some(given) = &spec.selector else {
        check.error(&selector_path, "is required with manualSelector");
        return None;
    };
    let selector = selector(&selector_path, given, check);
    workload_selector(&selector_path, &selector, &template.labels, check);
    Some(selector)
}

fn job_rules(path: &Path<'_>, spec: &api::JobSpec, check: &mut Check<'_, '_>) -> JobRules {
    let modes = [("NonIndexed", CompletionMode::NonIndexed), ("Indexed", CompletionMode::Indexed)];
    let policies = [
        ("TerminatingOrFailed", ReplacementPolicy::TerminatingOrFailed),
        ("Failed", ReplacementPolicy::Failed),
    ];
    let replacement_path = path.field("podReplacementPolicy");
    let mode_path = path.field("completionMode");
    let mut optional = |field: &'static str, value: Option<i32>| {
        value.map(|value| check.count(&path.field(field), Some(value), 0))
    };
    let completions = optional("completions", spec.completions);
    let backoff_limit_per_index = optional("backoffLimitPerIndex", spec.backoff_limit_per_index);
    let max_failed_indexes = optional("maxFailedIndexes", spec.max_failed_indexes);
    let ttl_s = optional("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished);
    let most = i64::from(i32::MAX);
    let pod_failure_policy = spec.pod_failure_policy.as_ref().map(|policy| {
        let policy_path = path.field("podFailurePolicy");
        Rules { rules: failure_rules(&policy_path.field("rules"), policy, check) }
    });
    let replacement = spec.pod_replacement_policy.as_deref();
    let pod_replacement_policy =
        check.word_or(&replacement_path, replacement, &policies, ReplacementPolicy::default());
    if pod_failure_policy.is_some()
        && pod_replacement_policy == ReplacementPolicy::TerminatingOrFailed
    {
        check.error(&replacement_path, "must be Failed with a podFailurePolicy");
    }
    JobRules {
        parallelism: check.count(&path.field("parallelism"), spec.parallelism, 1),
        completions,
        completion_mode: check.word_or(
            &mode_path,
            spec.completion_mode.as_deref(),
            &modes,
            CompletionMode::NonIndexed,
        ),
        backoff_limit: check.count(&path.field("backoffLimit"), spec.backoff_limit, 6),
        backoff_limit_per_index,
        max_failed_indexes,
        active_deadline_s: spec
            .active_deadline_seconds
            .map(|given| check.number(&path.field("activeDeadlineSeconds"), given, 0, most)),
        ttl_s,
        suspend: spec.suspend.unwrap_or(false),
        pod_replacement_policy,
        pod_failure_policy,
        success_policy: spec.success_policy.as_ref().map(|policy| {
            let policy_path = path.field("successPolicy");
            Rules { rules: success_rules(&policy_path.field("rules"), policy, check) }
        }),
    }
}

/// What goes with numbered completions only.
fn check_indexed(path: &Path<'_>, rules: &JobRules, check: &mut Check<'_, '_>) {
    let per_index_path = path.field("backoffLimitPerIndex");
    let failed_path = path.field("maxFailedIndexes");
    if !rules.is_indexed() {
        if rules.backoff_limit_per_index.is_some() {
            check.error(&per_index_path, "needs completionMode Indexed");
        }
        if rules.success_policy.is_some() {
            check.error(&path.field("successPolicy"), "needs completionMode Indexed");
        }
    }
    if let (Some(_), None) = (rules.max_failed_indexes, rules.backoff_limit_per_index) {
        check.error(&failed_path, "needs backoffLimitPerIndex");
    }
    if !rules.is_indexed() {
        return;
    }
    let Some(completions) = rules.completions else {
        check.error(&path.field("completions"), "is required with completionMode Indexed");
        return;
    };
    if rules.parallelism > PARALLELISM_INDEXED_MAX {
        let message =
            format!("can't be more than {PARALLELISM_INDEXED_MAX} with completionMode Indexed");
        check.error(&path.field("parallelism"), message);
    }
    if let Some(most) = rules.max_failed_indexes {
        if most > completions {
            check.error(&failed_path, format!("{most} is more than there are completions"));
        }
        if most > FAILED_INDEXES_MAX {
            check.error(&failed_path, format!("can't be more than {FAILED_INDEXES_MAX}"));
        }
    }
    if rules.backoff_limit_per_index.is_some()
        && completions > FAILED_INDEXES_MAX
        && rules.max_failed_indexes.is_none()
    {
        let message = format!("is required with more than {FAILED_INDEXES_MAX} completions");
        check.error(&failed_path, message);
    }
}

fn at_most<T>(path: &Path<'_>, list: &[T], most: usize, check: &mut Check<'_, '_>) {
    if list.len() > most {
        check.error(path, format!("can't be more than {most}"));
    }
}

/// `validatePodFailurePolicy`.
fn failure_rules(
    path: &Path<'_>,
    policy: &api::PodFailurePolicy,
    check: &mut Check<'_, '_>,
) -> Vec<FailureRule> {
    at_most(path, &policy.rules, RULES_MAX, check);
    let each = policy.rules.iter().enumerate();
    each.map(|(index, rule)| failure_rule(&path.index(index), rule, check)).collect()
}

fn failure_rule(
    path: &Path<'_>,
    rule: &api::PodFailurePolicyRule,
    check: &mut Check<'_, '_>,
) -> FailureRule {
    let actions = [
        ("Count", FailureAction::Count),
        ("FailJob", FailureAction::FailJob),
        ("FailIndex", FailureAction::FailIndex),
        ("Ignore", FailureAction::Ignore),
    ];
    let action_path = path.field("action");
    let action = check.word(&action_path, &rule.action, &actions).unwrap_or(FailureAction::Count);
    let codes_path = path.field("onExitCodes");
    let on_exit_codes =
        rule.on_exit_codes.as_ref().map(|given| exit_codes(&codes_path, given, check));
    let conditions_path = path.field("onPodConditions");
    let given = rule.on_pod_conditions.as_deref().unwrap_or_default();
    at_most(&conditions_path, given, RULES_MAX, check);
    let statuses = [("True", "True"), ("False", "False"), ("Unknown", "Unknown")];
    let mut on_pod_conditions = Vec::new();
    for (index, pattern) in given.iter().enumerate() {
        let path = conditions_path.index(index);
        let kind = pattern.type_.clone();
        check.complain(&path.field("type"), &kind, label_key_complaint(&kind));
        let status_path = path.field("status");
        let status =
            check.word_or(&status_path, pattern.status.as_deref(), &statuses, "True").to_owned();
        on_pod_conditions.push(ConditionPattern { kind, status });
    }
    match (&on_exit_codes, on_pod_conditions.is_empty()) {
        (None, true) => check.error(path, "needs onExitCodes or onPodConditions"),
        (Some(_), false) => check.error(path, "can't have both onExitCodes and onPodConditions"),
        _ => {}
    }
    FailureRule { action, on_exit_codes, on_pod_conditions }
}

fn exit_codes(
    path: &Path<'_>,
    given: &api::PodFailurePolicyOnExitCodesRequirement,
    check: &mut Check<'_, '_>,
) -> ExitCodes {
    let operators = [("In", CodeOperator::In), ("NotIn", CodeOperator::NotIn)];
    let operator_path = path.field("operator");
    let operator =
        check.word(&operator_path, &given.operator, &operators).unwrap_or(CodeOperator::In);
    let values_path = path.field("values");
    if given.values.is_empty() {
        check.error(&values_path, "needs at least one");
    }
    at_most(&values_path, &given.values, EXIT_CODES_MAX, check);
    if !given.values.is_sorted_by(|one, next| one < next) {
        check.error(&values_path, "must rise, each standing once");
    }
    if operator == CodeOperator::In && given.values.contains(&0) {
        check.error(&values_path, "can't contain 0 with operator In: 0 is no failure");
    }
    let container_name = given.container_name.as_deref().map(Name::trusted);
    ExitCodes { container_name, operator, values: given.values.clone() }
}

/// What rules for failures ask of the Job they are in.
fn check_failure_rules(
    path: &Path<'_>,
    rules: &JobRules,
    template: &PodTemplate,
    check: &mut Check<'_, '_>,
) {
    let Some(policy) = &rules.pod_failure_policy else {
        return;
    };
    let policy_path = path.field("podFailurePolicy");
    if template.spec.restart_policy != RestartPolicy::Never {
        check.error(&policy_path, "needs restartPolicy Never");
    }
    let rules_path = policy_path.field("rules");
    for (index, rule) in policy.rules.iter().enumerate() {
        let path = rules_path.index(index);
        if rule.action == FailureAction::FailIndex && rules.backoff_limit_per_index.is_none() {
            check.error(&path.field("action"), "FailIndex needs backoffLimitPerIndex");
        }
        let named = rule.on_exit_codes.as_ref().and_then(|codes| codes.container_name.as_ref());
        if let Some(name) = named.filter(|name| template.spec.container(name.as_str()).is_none()) {
            let codes_path = path.field("onExitCodes");
            let message = format!("{} is no container of its pods", quoted(name.as_str()));
            check.error(&codes_path.field("containerName"), message);
        }
    }
}

/// `validateSuccessPolicy`.
fn success_rules(
    path: &Path<'_>,
    policy: &api::SuccessPolicy,
    check: &mut Check<'_, '_>,
) -> Vec<SuccessRule> {
    at_most(path, &policy.rules, RULES_MAX, check);
    if policy.rules.is_empty() {
        check.error(path, "needs at least one");
    }
    let mut rules = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let path = path.index(index);
        let indexes_path = path.field("succeededIndexes");
        let succeeded_indexes = rule.succeeded_indexes.as_deref().map(|text| {
            IndexSet::parse(text).unwrap_or_else(|message| {
                check.error(&indexes_path, message);
                IndexSet::default()
            })
        });
        let count_path = path.field("succeededCount");
        let succeeded_count =
            rule.succeeded_count.map(|count| check.number(&count_path, count, 1, i32::MAX));
        if succeeded_indexes.is_none() && succeeded_count.is_none() {
            check.error(&path, "needs succeededIndexes or succeededCount");
        }
        rules.push(SuccessRule { succeeded_indexes, succeeded_count });
    }
    rules
}

fn check_success_rules(path: &Path<'_>, rules: &JobRules, check: &mut Check<'_, '_>) {
    let (Some(policy), Some(completions)) = (&rules.success_policy, rules.completions) else {
        return;
    };
    let policy_path = path.field("successPolicy");
    let rules_path = policy_path.field("rules");
    for (index, rule) in policy.rules.iter().enumerate() {
        let path = rules_path.index(index);
        let named = rule.succeeded_indexes.as_ref().map(|set| {
            let below = set.count_below(completions);
            if below != set.count_below(u32::MAX) {
                let message = format!(
                    "{set} names an index beyond the last, {}",
                    completions.saturating_sub(1)
                );
                check.error(&path.field("succeededIndexes"), message);
            }
            below
        });
        let most = named.unwrap_or(completions);
        if let Some(count) = rule.succeeded_count.filter(|count| *count > most) {
            check.error(&path.field("succeededCount"), format!("{count} is more than {most}"));
        }
    }
}
