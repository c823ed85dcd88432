//! Files as containers see them: changed while they run, and gone with their pod.

use windlass::adapters::files::Files;
use windlass::kinds::name::Uid;
use windlass::ports::files::{Answer, Call, FileBody, FileWish, Layout, VolumeRoot};
use windlass::ports::runtime::{ContainerSeen, ContainerSpec, MountSource, MountSpec};

use crate::support::host::Host;
use crate::support::pods::Node;

fn files(host: &Host, name: &str) -> Files {
    let layout = Layout {
        run_dir: host.run_dir().join(name),
        data_dir: host.dir().join(name),
        volumes_dir: host.dir().join(name).join("kept"),
    };
    Files::open(layout).expect("opens")
}

async fn write(files: &Files, pod: &Uid, wishes: Vec<FileWish>) {
    let call = Call::Write { pod: pod.clone(), wishes };
    files.perform(call).await.expect("written");
}

fn mount(source: &std::path::Path, target: &str, read_only: bool) -> MountSpec {
    MountSpec {
        source: MountSource::Path(source.display().to_string()),
        target: target.into(),
        read_only,
        propagation: "rprivate",
    }
}

fn hosts(content: &str) -> FileWish {
    FileWish::File {
        name: "hosts".into(),
        content: content.as_bytes().into(),
        mode: 0o644,
        keep: false,
    }
}

fn secret(password: &str, user: &str) -> FileWish {
    let body = |text: &str| FileBody { content: text.as_bytes().into(), mode: 0o400 };
    FileWish::Set {
        volume: "secret".into(),
        files: [("password", password), ("user", user)]
            .map(|(name, text)| (name.to_owned(), body(text)))
            .into(),
        group: Some(2000),
    }
}

/// A pod whose container has one of everything, run as nobody special.
async fn pod_with_files<'a>(node: &Node<'a>, files: &Files) -> (ContainerSeen, ContainerSeen, Uid) {
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let (pod, layout) = (pause.marks.uid.clone(), files.layout());
    let data = VolumeRoot::Directory("data".into(), false);
    let directory = |volume: &str, memory| FileWish::Directory {
        volume: volume.into(),
        memory,
        group: Some(2000),
    };
    let wishes = vec![
        hosts("10.0.0.1 one\n"),
        secret("old", "alice"),
        FileWish::File { name: "words".into(), content: b""[..].into(), mode: 0o666, keep: true },
        directory("fast", Some(1 << 20)),
        directory("data", None),
        FileWish::SubPath { root: data.clone(), path: "inner/part".into() },
    ];
    write(files, &pod, wishes).await;
    let volume = |root: VolumeRoot| layout.volume(&pod, &root);
    let fast = volume(VolumeRoot::Directory("fast".into(), true));
    let part = layout.sub_path(&pod, &data, "inner/part");
    let words = layout.file(&pod, "words");
    let spec = ContainerSpec {
        user: Some("1000:1000".into()),
        groups: vec!["2000".into()],
        read_only_root: true,
        mounts: vec![
            mount(&layout.file(&pod, "hosts"), "/etc/hosts", false),
            mount(&volume(VolumeRoot::Set("secret".into())), "/secret", true),
            mount(&words, "/dev/termination-log", false),
            mount(&fast, "/fast", false),
            mount(&volume(data), "/data", false),
            mount(&part, "/part", false),
        ],
        ..node.app_spec("web", &pause, &["sleep", "1000"])
    };
    let app = node.start(spec).await.expect("starts");
    (pause, app, pod)
}

#[tokio::test]
async fn a_container_sees_its_files_change_as_it_runs() {
    let Some(host) = Host::shared() else { return };
    let (node, files) = (Node::new(host, "live"), files(host, "live"));
    let (pause, app, pod) = pod_with_files(&node, &files).await;
    let both = "cat /secret/password /secret/user";
    assert_eq!(node.says(&app, both).await, "oldalice");
    assert_eq!(node.says(&app, "cat /etc/hosts").await, "10.0.0.1 one");
    let longer = "10.0.0.1 one\n10.0.0.2 two";
    write(&files, &pod, vec![hosts(longer), secret("new", "bob")]).await;
    assert_eq!(node.says(&app, both).await, "newbob");
    assert_eq!(node.says(&app, "cat /etc/hosts").await, longer);
    write(&files, &pod, vec![hosts("10.0.0.3 x\n")]).await;
    assert_eq!(node.says(&app, "cat /etc/hosts").await, "10.0.0.3 x");
    node.remove(&[&app, &pause]).await;
    let removed = files.perform(Call::Remove { pod }).await;
    removed.expect("removed");
}

#[tokio::test]
async fn volumes_are_as_their_group_and_bounds_say() {
    let Some(host) = Host::shared() else { return };
    let (node, files) = (Node::new(host, "volumes"), files(host, "volumes"));
    let (pause, app, pod) = pod_with_files(&node, &files).await;
    for (script, told) in [
        ("stat -c %g:%a /secret/..data/password", "2000:440"),
        ("touch /secret/x 2>/dev/null || echo refused", "refused"),
        ("echo x >/fast/a; stat -f -c %T /fast; stat -c %g /fast/a", "tmpfs\n2000"),
        ("echo y >/part/b; cat /data/inner/part/b; stat -c %g /part/b", "y\n2000"),
        ("echo -n 'it was me' >/dev/termination-log", ""),
    ] {
        assert_eq!(node.says(&app, script).await, told, "{script}");
    }
    let full = "dd if=/dev/zero of=/fast/big bs=1k count=2000 2>&1 | head -c 300";
    let told = node.says(&app, full).await;
    assert!(told.contains("No space left"), "{told}");
    let words = Call::LastWords { pod: pod.clone(), name: "words".into() };
    let Ok(Answer::Text(text)) = files.perform(words).await else {
        panic!("no words");
    };
    assert_eq!(text, "it was me");

    // Gone while the container still holds them, as happens when it is slow to go.
    let removed = files.perform(Call::Remove { pod: pod.clone() }).await;
    removed.expect("removed");
    let left = files.layout().pod(&pod);
    assert!(left.iter().all(|directory| !directory.exists()), "{left:?}");
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn a_container_restarted_finds_its_empty_directory_as_it_was() {
    let Some(host) = Host::shared() else { return };
    let (node, files) = (Node::new(host, "kept"), files(host, "kept"));
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let (pod, layout) = (pause.marks.uid.clone(), files.layout().clone());
    let wishes = || {
        [None, Some(0)]
            .map(|memory| FileWish::Directory { volume: "v".into(), memory, group: None })
            .to_vec()
    };
    for life in 0..2 {
        // Another agent process each time.
        let files = Files::open(layout.clone()).expect("opens");
        write(&files, &pod, wishes()).await;
        let spec = ContainerSpec {
            name: format!("kept-{life}"),
            mounts: [("/disk", false), ("/memory", true)]
                .map(|(target, memory)| {
                    let root = VolumeRoot::Directory("v".into(), memory);
                    mount(&layout.volume(&pod, &root), target, false)
                })
                .to_vec(),
            ..node.app_spec("web", &pause, &["sleep", "1000"])
        };
        let app = node.start(spec).await.expect("starts");
        let told = node
            .says(&app, "cat /disk/x /memory/x 2>/dev/null; echo kept | tee /disk/x >/memory/x")
            .await;
        assert_eq!(told, if life == 0 { "" } else { "kept\nkept" });
        node.remove(&[&app]).await;
    }
    files.perform(Call::Remove { pod }).await.expect("removed");
    node.remove(&[&pause]).await;
}
