//! `windlass get`: objects in columns, or whole.

use std::cmp::Ordering;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::{Data, talk};
use super::select::Choice;
use super::target::{self, Target};
use super::watch::{Watch, version};
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;
use crate::view::table::print::{Options, Printer};

/// Arguments of `windlass get`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  windlass get pods                      pods of the namespace
  windlass get all -A                    everything that runs, everywhere
  windlass get deploy,svc web            two objects of one name
  windlass get pod/web-0 -o yaml         one object, whole
  windlass get pods -w -l app=web        go on as they change")]
pub(super) struct Get {
    /// KIND, KIND NAME..., KIND/NAME..., KIND,KIND, or all
    #[arg(value_name = "WORDS")]
    words: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Form>,
    /// Go on, and print what changes
    #[arg(short, long)]
    watch: bool,
    /// Print only what changes from now on
    #[arg(long)]
    watch_only: bool,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
    /// Add a column with all labels
    #[arg(long)]
    show_labels: bool,
    /// Add a column for each of these labels
    #[arg(short = 'L', long, value_name = "LABEL", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Sort by a field: .metadata.creationTimestamp
    #[arg(long, value_name = "FIELD")]
    sort_by: Option<String>,
    /// Say nothing of objects that are not there
    #[arg(long)]
    ignore_not_found: bool,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Nothing but KIND/NAME
    Name,
}

/// What an object is printed as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Table,
    Data(Data),
    Name,
}

pub(super) async fn run(args: &Get, context: &mut Context) -> Result<(), Failure> {
    let targets = target::parse(&args.words)?;
    check(args, &targets)?;
    let mut getter = Getter { args, context };
    match getter.shape() {
        _ if args.watch || args.watch_only => getter.watch(&targets[0]).await,
        Shape::Table => getter.tables(&targets).await,
        Shape::Data(form) => getter.data(&targets, form).await,
        Shape::Name => getter.names(&targets).await,
    }
}

fn check(args: &Get, targets: &[Target]) -> Result<(), Failure> {
    let is_named = targets.iter().any(|target| target.name.is_some());
    if is_named && args.choice.all_namespaces && targets[0].kind.info().namespaced {
        return Err(Failure::usage(
            "an object can't be found by its name across all namespaces; say which with -n",
        ));
    }
    if is_named && args.choice.selects() {
        return Err(Failure::usage("objects are chosen by name or by selector, not by both"));
    }
    if (args.watch || args.watch_only) && targets.len() != 1 {
        return Err(Failure::usage("only one kind, or one object, can be watched at a time"));
    }
    if (args.watch || args.watch_only) && args.sort_by.is_some() {
        return Err(Failure::usage(
            "what is watched comes in the order of its changes; leave out --sort-by",
        ));
    }
    Ok(())
}

struct Getter<'g> {
    args: &'g Get,
    context: &'g mut Context,
}

impl Getter<'_> {
    fn shape(&self) -> Shape {
        match self.args.output {
            None | Some(Form::Wide) => Shape::Table,
            Some(Form::Json) => Shape::Data(Data::Json),
            Some(Form::Yaml) => Shape::Data(Data::Yaml),
            Some(Form::Name) => Shape::Name,
        }
    }

    fn path(&self, target: &Target, more: &[(&str, &str)]) -> String {
        let choice = &self.args.choice;
        let path = target.path(choice.namespace(&self.context.namespace));
        let mut parameters =
            vec![("labelSelector", &*choice.selector), ("fieldSelector", &*choice.field_selector)];
        parameters.extend_from_slice(more);
        with_query(&path, &parameters)
    }

    /// Asks for one target; none if it is not there, which has then been said.
    async fn ask(&self, target: &Target, accept: &str) -> Result<Option<Value>, Failure> {
        let whole = match (&self.args.sort_by, accept) {
            (Some(_), client::TABLE) => [("includeObject", "Object")].as_slice(),
            _ => &[],
        };
        match self.context.client.json(&self.path(target, whole), accept).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.is_not_found() && target.name.is_some() => {
                if !self.args.ignore_not_found {
                    failure.say();
                }
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn tables(&mut self, targets: &[Target]) -> Result<(), Failure> {
        // Objects of one kind stand in one table.
        let mut blocks: Vec<(&Target, Value)> = Vec::new();
        let mut is_missing = false;
        for target in targets {
            let Some(table) = self.ask(target, client::TABLE).await? else {
                is_missing = true;
                continue;
            };
            match blocks.last_mut() {
                Some((last, above)) if last.kind == target.kind => append(above, table),
                _ => blocks.push((target, table)),
            }
        }
        let is_one_kind = targets.iter().all(|target| target.kind == targets[0].kind);
        let mut has_printed = false;
        for (target, table) in &mut blocks {
            if rows(table).is_empty() {
                continue;
            }
            if let Some(field) = &self.args.sort_by {
                sort_rows(table, field)?;
            }
            let prefix = (!is_one_kind).then(|| target.kind.resource_name());
            let text = Printer::new(self.options(target, prefix)).print(table);
            if std::mem::replace(&mut has_printed, true) {
                self.context.out.text("\n")?;
            }
            self.context.out.page(&text)?;
        }
        self.conclude(has_printed, is_missing, targets)
    }

    fn options(&self, target: &Target, prefix: Option<String>) -> Options {
        Options {
            wide: self.args.output == Some(Form::Wide),
            no_headers: self.args.no_headers,
            with_namespace: self.args.choice.all_namespaces && target.kind.info().namespaced,
            show_labels: self.args.show_labels,
            label_columns: self.args.label_columns.clone(),
            prefix,
        }
    }

    /// Says that nothing was found, if so.
    fn conclude(
        &self,
        has_printed: bool,
        is_missing: bool,
        targets: &[Target],
    ) -> Result<(), Failure> {
        if is_missing && !self.args.ignore_not_found {
            return Err(Failure::Code(1));
        }
        if has_printed || is_missing {
            return Ok(());
        }
        let is_local = targets.iter().any(|target| target.kind.info().namespaced);
        if is_local && !self.args.choice.all_namespaces {
            talk(&format!("No resources found in {} namespace.\n", self.context.namespace));
        } else {
            talk("No resources found\n");
        }
        Ok(())
    }

    /// Everything that was asked for, whole.
    async fn objects(&self, targets: &[Target]) -> Result<(Vec<Value>, bool), Failure> {
        let mut objects = Vec::new();
        let mut is_missing = false;
        for target in targets {
            match self.ask(target, client::JSON).await? {
                None => is_missing = true,
                Some(object) if target.name.is_some() => objects.push(object),
                Some(list) if target.kind == Kind::Secret && self.shape() != Shape::Name => {
                    objects.extend(self.secrets(items(list, target)).await?);
                }
                Some(list) => objects.extend(items(list, target)),
            }
        }
        if let Some(field) = &self.args.sort_by {
            sort(&mut objects, field, |object| object)?;
        }
        Ok((objects, is_missing))
    }

    /// Secrets of a list, whole: the agent gives their values only to who names them.
    async fn secrets(&self, listed: Vec<Value>) -> Result<Vec<Value>, Failure> {
        let mut secrets = Vec::new();
        for secret in listed {
            let text =
                |path: &str| secret.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let target =
                Target { kind: Kind::Secret, name: Some(text("/metadata/name").to_owned()) };
            let path = target.path(Some(text("/metadata/namespace")));
            match self.context.client.json(&path, client::JSON).await {
                Ok(secret) => secrets.push(secret),
                // It went between the list and the question.
                Err(failure) if failure.is_not_found() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(secrets)
    }

    async fn data(&mut self, targets: &[Target], form: Data) -> Result<(), Failure> {
        let (mut objects, is_missing) = self.objects(targets).await?;
        let is_single = targets.len() == 1 && targets[0].name.is_some();
        if is_single {
            if let Some(object) = objects.pop() {
                self.context.out.data(form, &object)?;
            }
        } else {
            let list = json!({
                "apiVersion": "v1",
                "kind": "List",
                "metadata": {"resourceVersion": ""},
                "items": objects,
            });
            self.context.out.data(form, &list)?;
        }
        self.conclude(true, is_missing, targets)
    }

    async fn names(&mut self, targets: &[Target]) -> Result<(), Failure> {
        let (objects, is_missing) = self.objects(targets).await?;
        for object in &objects {
            self.context.out.text(&name_line(object))?;
        }
        // kubectl is silent here, so that scripts can count lines.
        self.conclude(true, is_missing, targets)
    }

    /// Prints a target, and then every change of it until somebody stops.
    async fn watch(&mut self, target: &Target) -> Result<(), Failure> {
        // One object is watched as the only one of its name.
        let mut list = Target { kind: target.kind, name: None };
        let mut fields = String::new();
        if let Some(name) = &target.name {
            if self.ask(target, client::JSON).await?.is_none() {
                return Err(Failure::Code(1));
            }
            fields = format!("metadata.name={name}");
        } else {
            list.name = None;
        }
        let shape = self.shape();
        let accept = if shape == Shape::Table { client::TABLE } else { client::JSON };
        let path = self.path(&list, &[("fieldSelector", &fields)]);
        let mut screen = Screen {
            shape,
            printer: Printer::new(self.options(&list, None)),
            columns: Value::Null,
        };
        let mut is_silent = self.args.watch_only;
        loop {
            let answer = self.context.client.json(&path, accept).await?;
            let since = version(&json!({"metadata": answer["metadata"]})).map(str::to_owned);
            if shape == Shape::Table {
                screen.show(answer, self.context, is_silent)?;
            } else {
                for object in items(answer, &list) {
                    screen.show(object, self.context, is_silent)?;
                }
            }
            is_silent = false;
            let client = self.context.client.clone();
            let since = since.unwrap_or_default();
            let mut watch = Watch::new(&client, path.clone(), accept, &since);
            while let Some(event) = watch.next().await? {
                screen.show(event.object, self.context, false)?;
            }
        }
    }
}

/// Where a watch is printed.
pub(super) struct Screen {
    shape: Shape,
    printer: Printer,
    columns: Value,
}

impl Screen {
    /// A screen for tables.
    pub(super) fn table(options: Options) -> Self {
        Self { shape: Shape::Table, printer: Printer::new(options), columns: Value::Null }
    }

    /// Prints an object, or a table; with `is_silent` only its columns are remembered.
    pub(super) fn show(
        &mut self,
        mut object: Value,
        context: &mut Context,
        is_silent: bool,
    ) -> Result<(), Failure> {
        if self.shape == Shape::Table {
            // Only the first table of a watch must tell its columns.
            match object.get("columnDefinitions").filter(|columns| !columns.is_null()) {
                Some(columns) => self.columns = columns.clone(),
                None => object["columnDefinitions"] = self.columns.clone(),
            }
        }
        if is_silent {
            return Ok(());
        }
        match self.shape {
            // A head over nothing would come too early: kubectl waits for the first line.
            Shape::Table if rows(&object).is_empty() => Ok(()),
            Shape::Table => context.out.page(&self.printer.print(&object)),
            Shape::Data(form) => context.out.data(form, &object),
            Shape::Name => context.out.text(&name_line(&object)),
        }
    }
}

fn rows(table: &Value) -> &[Value] {
    table.get("rows").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn append(table: &mut Value, more: Value) {
    let Some(rows) = table.get_mut("rows").and_then(Value::as_array_mut) else {
        *table = more;
        return;
    };
    if let Value::Object(mut more) = more
        && let Some(Value::Array(new)) = more.remove("rows")
    {
        rows.extend(new);
    }
}

/// The items of a list. In a list their kind goes without saying; alone it does not.
fn items(list: Value, target: &Target) -> Vec<Value> {
    let Value::Object(mut list) = list else {
        return Vec::new();
    };
    let Some(Value::Array(items)) = list.remove("items") else {
        return Vec::new();
    };
    let named = items.into_iter().map(|item| {
        let mut whole =
            json!({"apiVersion": target.kind.api_version(), "kind": target.kind.name()});
        if let (Some(whole), Value::Object(item)) = (whole.as_object_mut(), item) {
            whole.extend(item);
        }
        whole
    });
    named.collect()
}

/// `deployment.apps/web`.
fn name_line(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let kind = Kind::find(group, text("/kind"));
    let resource = kind.map_or_else(|| text("/kind").to_lowercase(), Kind::resource_name);
    format!("{resource}/{}\n", text("/metadata/name"))
}

fn sort_rows(table: &mut Value, field: &str) -> Result<(), Failure> {
    let Some(rows) = table.get_mut("rows").and_then(Value::as_array_mut) else {
        return Ok(());
    };
    sort(rows, field, |row| &row["object"])
}

/// Sorts by a field, as kubectl writes it: `.metadata.name`, `{.status.containerStatuses[0].restartCount}`.
pub(super) fn sort<'v>(
    items: &'v mut [Value],
    field: &str,
    object: fn(&Value) -> &Value,
) -> Result<(), Failure> {
    let path = field.trim_start_matches('{').trim_end_matches('}').trim_start_matches('.');
    let pointer: String = path
        .split(['.', '['])
        .map(|part| format!("/{}", part.trim_end_matches(']').trim_matches('\'')))
        .collect();
    let is_known = |item: &Value| object(item).pointer(&pointer).is_some();
    if path.is_empty() || (!items.is_empty() && !items.iter().any(is_known)) {
        return Err(Failure::plain(format!("no object has a field {field} to sort by")));
    }
    items.sort_by(|one, other| {
        compare(object(one).pointer(&pointer), object(other).pointer(&pointer))
    });
    Ok(())
}

/// Numbers and amounts by what they are worth, everything else by its letters; what is absent first.
fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    match (one, other) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            one.as_f64().unwrap_or_default().total_cmp(&other.as_f64().unwrap_or_default())
        }
        (Some(Value::String(one)), Some(Value::String(other))) => {
            match (Quantity::parse(one), Quantity::parse(other)) {
                (Ok(one), Ok(other)) => one.cmp(&other),
                _ => one.cmp(other),
            }
        }
        (Some(one), Some(other)) => one.to_string().cmp(&other.to_string()),
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(field: &str, mut items: Vec<Value>) -> Result<Vec<Value>, Failure> {
        sort(&mut items, field, |item| item)?;
        Ok(items.into_iter().map(|item| item["n"].clone()).collect())
    }

    #[test]
    fn fields_sort_by_what_they_are_worth() {
        let items = || {
            vec![
                json!({"n": 1, "a": {"b": [{"c": 10}]}, "q": "1Gi", "t": "b"}),
                json!({"n": 2, "a": {"b": [{"c": 9}]}, "q": "500Mi", "t": "a"}),
                json!({"n": 3}),
            ]
        };
        for field in [".a.b[0].c", "{.a.b[0].c}", "a.b[0].c", ".q", ".t"] {
            assert_eq!(sorted(field, items()).expect(field), [3, 2, 1], "{field}");
        }
        for field in [".nothing", "", "."] {
            assert!(sorted(field, items()).is_err(), "{field}");
        }
    }
}
