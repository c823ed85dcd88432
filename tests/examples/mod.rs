//! Everything in `examples/repo` is read, planned and simulated: it says what it means, runs, and
//! keeps running whatever file it is written in.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use windlass::kinds::binding::DEFAULT_APP;
use windlass::kinds::name::{NodeName, Uid};
use windlass::ports::store::Register;
use windlass::sim::{Files, Interference, Weather, World, check, read};
use windlass::state::NodeReport;

/// Pods of the shop.
const PODS: usize = 7;

/// The example repository as it stands in the tree.
fn shop() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/repo");
    let mut files = Files::new();
    collect(&root, &root, &mut files);
    assert!(files.len() >= 8, "the example has shrunk to {} files", files.len());
    files
}

fn collect(root: &Path, directory: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(directory).expect("the example is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below").display().to_string();
            files.insert(name, std::fs::read_to_string(&path).expect("a manifest is text"));
        }
    }
}

/// The same with the init container's program and the CronJob's ones that end: programs of the simulation
/// do what the name of their image says.
fn playable(mut files: Files) -> Files {
    for text in files.values_mut() {
        if text.contains("kind: CronJob") {
            *text = text.replace("backend:1.0", "task:1.0");
        }
        if let Some((before, after)) = text.split_once("initContainers:") {
            *text =
                format!("{before}initContainers:{}", after.replacen("worker:1.0", "task:1.0", 1));
        }
    }
    files
}

/// A fleet of one on which these files are in force and everything is ready.
fn settled(files: &Files) -> World {
    let mut world = World::new(1, Weather::default());
    world.store.is_local = true;
    world.remote.commit("the shop", files.clone());
    world.add_machine("n0");
    let mut missing = String::new();
    for second in 1..=120 {
        while world.step(Duration::from_secs(second)) {}
        match check::settled(&world) {
            Ok(()) if unready(&world).is_empty() && second > 5 => return world,
            Ok(()) => missing = format!("{:?} are not ready", unready(&world)),
            Err(what) => missing = what,
        }
    }
    panic!(
        "it does not settle: {missing}\n{}",
        world.trace().cloned().collect::<Vec<_>>().join("\n")
    );
}

fn run_for(world: &mut World, duration: Duration) {
    let until = world.time + duration;
    while world.step(until) {}
}

/// The pods the node reports, by uid: name and whether it is ready. Not those of the CronJob, which come
/// and go with the minutes.
fn pods(world: &World) -> BTreeMap<Uid, (String, bool)> {
    let tree = world.store.tree(&Register::Node(NodeName::trusted("n0")));
    let report = tree.map(|tree| NodeReport::decode(tree).expect("decodes")).unwrap_or_default();
    report
        .pods
        .iter()
        .filter(|(_, pod)| !pod.key.name.as_str().starts_with("report-"))
        .map(|(uid, pod)| (uid.clone(), (pod.key.to_string(), pod.status.is_ready())))
        .collect()
}

fn unready(world: &World) -> Vec<String> {
    let all = pods(world);
    let unready = all.into_values().filter(|(_, ready)| !ready);
    unready.map(|(name, _)| name).collect()
}

#[test]
fn nothing_is_wrong_with_the_examples() {
    let (desired, findings) = read(&shop());
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
    assert!(desired.skipped.is_empty(), "{:?}", desired.skipped);
    assert_eq!(desired.objects.len(), 12);
}

#[test]
fn the_examples_run() {
    let world = settled(&playable(shop()));
    assert_eq!(pods(&world).len(), PODS);
}

#[test]
fn the_order_of_files_and_documents_restarts_nothing() {
    let files = playable(shop());
    let mut world = settled(&files);
    let before: Vec<Uid> = pods(&world).into_keys().collect();
    // Every file gets another name, in the opposite order, and its documents are turned round.
    let turned: Files = files
        .iter()
        .rev()
        .enumerate()
        .map(|(number, (_, text))| {
            let documents: Vec<&str> = text.split("\n---\n").collect();
            let text = documents.into_iter().rev().collect::<Vec<_>>().join("\n---\n");
            (format!("other/{number:02}.yaml"), text)
        })
        .collect();
    assert_ne!(turned, files);
    world.interfere(Interference::Push("turn everything round".into(), turned));
    run_for(&mut world, Duration::from_secs(60));
    check::settled(&world).expect("settled");
    let state = check::decoded(&world).expect("decodes");
    let head = &state.apps[DEFAULT_APP].head;
    let applied = head.applied.as_ref().map(|applied| applied.subject.as_str());
    assert_eq!((applied, head.waiting.is_none()), (Some("turn everything round"), true));
    assert_eq!(pods(&world).into_keys().collect::<Vec<Uid>>(), before);
}

#[test]
fn a_file_that_goes_takes_its_own_pods_and_no_others() {
    let files = playable(shop());
    let table = [
        ("shop/backend.yaml", 2, "in force"),
        ("shop/frontend.yaml", 2, "in force"),
        // Its data stays: the claim is kept.
        ("shop/redis.yaml", 1, "in force"),
        ("shop/lookout.yaml", 1, "in force"),
        ("shop/report.yaml", 0, "in force"),
        ("shop/worker.yaml", 1, "in force"),
        // What runs keeps what it was given; a warning says what is missing.
        ("shop/config.yaml", 0, "in force"),
        // What lives in a Namespace can't do without it.
        ("shop/namespace.yaml", 0, "refused"),
    ];
    assert_eq!(table.len(), files.len(), "a file of the example has no line here");
    for (gone, pods_gone, expected) in table {
        let mut world = settled(&files);
        let before = pods(&world);
        let mut fewer = files.clone();
        fewer.remove(gone).expect("it is there");
        world.interfere(Interference::Push(format!("without {gone}"), fewer));
        run_for(&mut world, Duration::from_secs(90));
        let state = check::decoded(&world).expect("decodes");
        let is_refused = state.apps[DEFAULT_APP].head.waiting.is_some();
        assert_eq!(is_refused, expected == "refused", "{gone}");
        let after = pods(&world);
        assert!(after.keys().all(|uid| before.contains_key(uid)), "{gone}: a pod was made anew");
        assert_eq!(before.len() - after.len(), pods_gone, "{gone}");
        assert!(unready(&world).is_empty(), "{gone}: {:?}", unready(&world));
    }
}
