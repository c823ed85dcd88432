//! Volumes that outlive their pods: where the data is, who comes back to it, and what is not lost.

use serde_json::Value;

use crate::support::lab::{Fleet, NODES, PODS, name_of, node_of, shop};
use crate::support::site::{IMAGE, is_ready};

/// A claim without a class.
const CLAIM: &str = "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: shop}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

/// A pod that adds a line to a file of its claim whenever it starts.
fn writer(name: &str, claim: &str, replicas: u32) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {replicas}
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: {IMAGE}
          command: [sh, -c, 'echo started >> /data/log; trap "exit 0" TERM; while :; do sleep 0.2; done']
          volumeMounts: [{{name: data, mountPath: /data}}]
      volumes:
        - {{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}
"#
    )
}

/// The one pod of a writer, once it is ready.
fn pod_of(fleet: &Fleet, app: &str) -> Value {
    fleet.wait(&format!("a ready pod of {app}"), || {
        let pods = fleet.pods(NODES[0]);
        let mut own = pods.into_values().filter(|pod| pod["metadata"]["labels"]["app"] == app);
        own.next().filter(is_ready)
    })
}

fn wait_gone(fleet: &Fleet, app: &str) {
    fleet.wait(&format!("no pod of {app}"), || {
        let pods = fleet.pods(NODES[0]);
        let is_there = pods.values().any(|pod| pod["metadata"]["labels"]["app"] == app);
        (!is_there).then_some(())
    });
}

fn claim(fleet: &Fleet, name: &str) -> Value {
    let path = format!("/api/v1/namespaces/shop/persistentvolumeclaims/{name}");
    fleet.get(NODES[0], &path)
}

fn phase(fleet: &Fleet, volume: &str) -> Value {
    fleet.get(NODES[0], &format!("/api/v1/persistentvolumes/{volume}"))["status"]["phase"].clone()
}

fn lines(fleet: &Fleet, pod: &Value) -> usize {
    let log = fleet.in_pod(pod, "cat /data/log").expect("it is there");
    log.lines().count()
}

#[test]
fn data_outlives_pods_commits_and_reverts_on_the_node_that_has_it() {
    let Some(fleet) = Fleet::settled() else { return };
    let small = ("web.yaml", shop("one", 1));
    let small = (small.0, small.1.as_str());
    let files = [small, ("extra-data.yaml", CLAIM), ("extra-db.yaml", &writer("db", "data", 1))];
    fleet.push("A database", &files);
    let first = pod_of(&fleet, "db");
    let home = node_of(&first).to_owned();
    let bound = claim(&fleet, "data");
    assert_eq!(bound["status"]["phase"], "Bound", "{bound}");
    let volume = bound["spec"]["volumeName"].as_str().expect("a volume").to_owned();
    assert_eq!(lines(&fleet, &first), 1);

    // It comes back to its data although it is gone for a while.
    fleet.push("No database", &[("extra-db.yaml", "# nothing\n")]);
    wait_gone(&fleet, "db");
    fleet.push("The database again", &[("extra-db.yaml", &writer("db", "data", 1))]);
    let second = pod_of(&fleet, "db");
    assert_ne!(name_of(&second), name_of(&first));
    assert_eq!((node_of(&second), lines(&fleet, &second)), (home.as_str(), 2));

    // A commit that lets go of the claim is held, and touches nothing.
    fleet.push("Tidy up", &[("extra-data.yaml", "# nothing\n"), ("extra-db.yaml", "# nothing\n")]);
    fleet.wait("the commit held", || {
        let waiting = fleet.status(NODES[0])["apps"][0]["waiting"].to_string();
        waiting.contains("PersistentVolumeClaim shop/data, which has data").then_some(())
    });
    assert_eq!(name_of(&pod_of(&fleet, "db")), name_of(&second));
    let tidy = "It is meant\n\nWindlass-Allow-Prune: yes";
    let allowed = fleet.push(tidy, &[]);
    fleet.wait_in_force(NODES[0], &allowed);
    wait_gone(&fleet, "db");
    fleet.wait("a released volume", || (phase(&fleet, &volume) == "Released").then_some(()));

    // Whoever goes back finds everything as it was.
    fleet.push("Back", &[("extra-data.yaml", CLAIM), ("extra-db.yaml", &writer("db", "data", 1))]);
    let third = pod_of(&fleet, "db");
    assert_eq!((node_of(&third), lines(&fleet, &third)), (home.as_str(), 3));
    assert_eq!(claim(&fleet, "data")["spec"]["volumeName"], volume.as_str());
    assert_eq!(phase(&fleet, &volume), "Bound");
    leave(&fleet);
}

#[test]
fn a_volume_of_the_repository_is_bound_and_one_of_class_delete_is_emptied_by_its_node() {
    let Some(fleet) = Fleet::settled() else { return };
    let disk = fleet.lab.host(NODES[0]).dir().join("disk");
    let volume = format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: disk}}\nspec: {{storageClassName: \
         manual, capacity: {{storage: 5Gi}}, accessModes: [ReadWriteOnce], hostPath: {{path: {}, \
         type: DirectoryOrCreate}}}}\n---\n{}",
        disk.display(),
        CLAIM
            .replace("name: data", "name: disk")
            .replace("spec: {", "spec: {storageClassName: manual, ")
    );
    let gone = format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: gone}}\nprovisioner: \
         rancher.io/local-path\nreclaimPolicy: Delete\nvolumeBindingMode: \
         WaitForFirstConsumer\n---\n{}",
        CLAIM
            .replace("name: data", "name: gone")
            .replace("spec: {", "spec: {storageClassName: gone, ")
    );
    let web = shop("one", 1);
    let files = [
        ("web.yaml", web.as_str()),
        ("extra-disk.yaml", &volume),
        ("extra-gone.yaml", &gone),
        ("extra-one.yaml", &writer("one", "disk", 1)),
        ("extra-two.yaml", &writer("two", "gone", 1)),
    ];
    fleet.push("Two kinds of volumes", &files);
    let (one, two) = (pod_of(&fleet, "one"), pod_of(&fleet, "two"));
    assert_eq!(claim(&fleet, "disk")["spec"]["volumeName"], "disk");
    assert_eq!(lines(&fleet, &one), 1);
    let log = std::fs::read_to_string(disk.join("log")).expect("it is on the path");
    assert_eq!(log, "started\n");

    let name = claim(&fleet, "gone")["spec"]["volumeName"].as_str().expect("bound").to_owned();
    let volumes = fleet.lab.host(node_of(&two)).dir().join("windlass/volumes");
    let kept = volumes.join(format!("{name}_shop_gone"));
    assert!(kept.join("log").exists(), "{}", kept.display());
    leave(&fleet);
    fleet.wait("the data is removed, and forgotten", || {
        let is_gone = !kept.exists() && phase(&fleet, &name).is_null();
        is_gone.then_some(())
    });
    assert!(disk.join("log").exists(), "what Windlass did not make it does not remove");
}

/// Takes away what a test added.
fn leave(fleet: &Fleet) {
    let names = ["data", "db", "disk", "gone", "one", "two"];
    let files: Vec<String> = names.iter().map(|name| format!("extra-{name}.yaml")).collect();
    let web = shop("one", PODS);
    let mut gone: Vec<(&str, &str)> =
        files.iter().map(|path| (path.as_str(), "# nothing\n")).collect();
    gone.push(("web.yaml", &web));
    let commit = fleet.push("Nothing of it\n\nWindlass-Allow-Prune: yes", &gone);
    fleet.wait_in_force(NODES[0], &commit);
    fleet.wait_settled(PODS);
}
