//! On real file systems, in mount namespaces of their own: whatever is mounted here is gone with the
//! thread, also when a test fails.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::*;
use crate::kinds::volume::HostPathKind;
use crate::ports::files::FileBody;

/// Runs `work` with a layout whose run directory is a tmpfs of `bytes`. Says so if it can't.
fn with_layout(bytes: u64, work: impl FnOnce(&Layout, &Path) + Send) {
    if !nix::unistd::geteuid().is_root() {
        let must = ["CI", "WINDLASS_REQUIRE_ROOT"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| value == "1"));
        assert!(!must, "this test needs root");
        eprintln!("SKIPPED: this test needs root");
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let answer = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
                let none = None::<&str>;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                nix::mount::mount(none, "/", none, private, none).expect("private");
                let layout = Layout {
                    run_dir: scratch.path().join("run"),
                    data_dir: scratch.path().join("data"),
                    volumes_dir: scratch.path().join("kept"),
                };
                fs::create_dir(&layout.run_dir).expect("made");
                let size = format!("size={bytes},mode=755");
                let (run, tmpfs) = (&layout.run_dir, Some("tmpfs"));
                nix::mount::mount(tmpfs, run, tmpfs, MsFlags::empty(), Some(size.as_str()))
                    .expect("a tmpfs");
                Files::open(layout.clone()).expect("opens");
                work(&layout, scratch.path());
            })
            .join()
    });
    if let Err(panic) = answer {
        std::panic::resume_unwind(panic);
    }
}

fn pod() -> Uid {
    Uid::trusted("7a9e0000-0000-8000-8000-000000000000")
}

fn grant_all(layout: &Layout, wishes: Vec<FileWish>) -> Result<(), Fault> {
    carry_out(layout, Call::Write { pod: pod(), wishes }).map(drop)
}

fn file(name: &str, content: &[u8], keep: bool) -> FileWish {
    FileWish::File { name: name.into(), content: content.into(), mode: 0o644, keep }
}

fn set(files: &[(&str, &str, u32)], group: Option<u32>) -> FileWish {
    let body = |&(name, content, mode): &(&str, &str, u32)| {
        let content = content.as_bytes().into();
        (name.to_owned(), FileBody { content, mode })
    };
    FileWish::Set { volume: "cfg".into(), files: files.iter().map(body).collect(), group }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o7777
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("is there");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_that_exists_is_written_in_place() {
    with_layout(1 << 20, |layout, _| {
        let path = layout.file(&pod(), "hosts");
        grant_all(layout, vec![file("hosts", b"127.0.0.1 localhost\n10.0.0.1 web\n", false)])
            .expect("written");
        let before = fs::metadata(&path).expect("is there").ino();
        assert_eq!(mode(&path), 0o644);
        for content in ["127.0.0.1 localhost\n", "a longer one than any before it was\n"] {
            grant_all(layout, vec![file("hosts", content.as_bytes(), false)]).expect("written");
            assert_eq!(text(&path), content);
            assert_eq!(fs::metadata(&path).expect("is there").ino(), before);
        }
        // What the container wrote is kept.
        grant_all(layout, vec![file("words", b"", true)]).expect("written");
        let words = layout.file(&pod(), "words");
        fs::write(&words, "help").expect("written");
        grant_all(layout, vec![file("words", b"", true)]).expect("kept");
        assert_eq!(text(&words), "help");
        assert_eq!(names(path.parent().expect("one")), ["hosts", "words"]);
    });
}

#[test]
fn users_of_the_node_see_no_pod_s_files() {
    with_layout(1 << 20, |layout, _| {
        for directory in layout.pods() {
            assert_eq!(mode(&directory), 0o700);
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("set");
        }
        Files::open(layout.clone()).expect("opens");
        for directory in layout.pods() {
            assert_eq!(mode(&directory), 0o700);
        }
    });
}

#[test]
fn a_full_disk_leaves_the_old() {
    with_layout(256 << 10, |layout, _| {
        let small = [("a", "old a", 0o644), ("b", "old b", 0o644)];
        let wishes = || vec![file("hosts", b"old\n", false), set(&small, None)];
        grant_all(layout, wishes()).expect("written");
        let big = "x".repeat(300 << 10);
        for wish in [
            file("hosts", big.as_bytes(), false),
            file("new", big.as_bytes(), false),
            set(&[("a", "new a", 0o644), ("b", &big, 0o644)], None),
        ] {
            let fault = grant_all(layout, vec![wish]).expect_err("too much");
            assert_eq!(fault.kind, FaultKind::Stalled, "{fault:?}");
            assert!(fault.message.contains("no space left on device"), "{fault:?}");
        }
        let volume = layout.volume(&pod(), &VolumeRoot::Set("cfg".into()));
        assert_eq!(text(&layout.file(&pod(), "hosts")), "old\n");
        assert_eq!(text(&volume.join("a")), "old a");
        assert_eq!(text(&volume.join("b")), "old b");
        let in_memory = &layout.pod(&pod())[0];
        assert_eq!(names(&in_memory.join("files")), ["hosts"]);
        assert_eq!(names(&volume), ["..data", "..v1", "a", "b"]);
        // And it recovers.
        grant_all(layout, wishes()).expect("written");
        grant_all(layout, vec![file("hosts", b"new\n", false)]).expect("written");
        assert_eq!(text(&layout.file(&pod(), "hosts")), "new\n");
    });
}

#[test]
fn a_set_is_swapped_whole() {
    with_layout(1 << 20, |layout, _| {
        let volume = layout.volume(&pod(), &VolumeRoot::Set("cfg".into()));
        let first = [("web.conf", "1", 0o644), ("tls/key", "2", 0o400), ("tls/crt", "3", 0o440)];
        grant_all(layout, vec![set(&first, None)]).expect("written");
        assert_eq!(names(&volume), ["..data", "..v1", "tls", "web.conf"]);
        assert_eq!(text(&volume.join("tls/key")), "2");
        assert_eq!(mode(&volume.join("tls/key")), 0o400);
        let link = |name: &str| fs::read_link(volume.join(name)).expect("is a link");
        assert_eq!(link("web.conf"), Path::new("..data/web.conf"));
        assert_eq!(link("..data"), Path::new("..v1"));

        // The same again writes nothing.
        grant_all(layout, vec![set(&first, None)]).expect("written");
        assert_eq!(link("..data"), Path::new("..v1"));

        // A reader who holds the directory sees the old until he looks again.
        let second = [("web.conf", "changed", 0o644), ("more", "4", 0o644)];
        grant_all(layout, vec![set(&second, None)]).expect("written");
        assert_eq!(names(&volume), ["..data", "..v2", "more", "web.conf"]);
        assert_eq!(text(&volume.join("web.conf")), "changed");

        // A mode or a group is a change too.
        let third = [("web.conf", "changed", 0o600), ("more", "4", 0o644)];
        grant_all(layout, vec![set(&third, None)]).expect("written");
        assert_eq!(mode(&volume.join("web.conf")), 0o600);
        grant_all(layout, vec![set(&third, Some(2000))]).expect("written");
        assert_eq!(link("..data"), Path::new("..v4"));
        let seen = fs::metadata(volume.join("web.conf")).expect("is there");
        assert_eq!((seen.gid(), seen.mode() & 0o7777), (2000, 0o640));
        let seen = fs::metadata(volume.join("..data")).expect("is there");
        assert_eq!((seen.gid(), seen.mode() & 0o7777), (2000, 0o2755));

        // What a crash may leave is swept up.
        fs::create_dir(volume.join("..v5")).expect("made");
        fs::write(volume.join("..v5/half"), "x").expect("written");
        symlink("..v5", volume.join("..data_tmp")).expect("linked");
        grant_all(layout, vec![set(&second, None)]).expect("written");
        assert_eq!(names(&volume), ["..data", "..v5", "more", "web.conf"]);
        assert_eq!(names(&volume.join("..v5")), ["more", "web.conf"]);

        // Nothing but an empty set is an empty set.
        grant_all(layout, vec![set(&[], None)]).expect("written");
        assert_eq!(names(&volume), ["..data", "..v6"]);
    });
}

#[test]
fn file_names_of_a_set_stay_in_it() {
    with_layout(1 << 20, |layout, scratch| {
        for name in ["../x", "/x", "a/../../x", "", ".", "..x", "..data", "a/", "a\0b", "a/./b/.."]
        {
            let fault = grant_all(layout, vec![set(&[(name, "x", 0o644)], None)]);
            let fault = fault.expect_err(name);
            assert_eq!(fault.kind, FaultKind::Stalled, "{name:?}");
        }
        assert_eq!(names(scratch), ["data", "run"]);
    });
}

#[test]
fn empty_directories_are_made_once_and_for_their_group() {
    with_layout(1 << 20, |layout, _| {
        let directory = |volume: &str, memory, group| FileWish::Directory {
            volume: volume.into(),
            memory,
            group,
        };
        let wishes = || {
            vec![
                directory("plain", None, None),
                directory("grouped", None, Some(2000)),
                directory("fast", Some(64 << 10), Some(3000)),
                directory("free", Some(0), None),
            ]
        };
        grant_all(layout, wishes()).expect("made");
        let at = |volume: &str, memory| {
            layout.volume(&pod(), &VolumeRoot::Directory(volume.into(), memory))
        };
        let owner = |path: &Path| fs::metadata(path).expect("is there").gid();
        assert_eq!((mode(&at("plain", false)), owner(&at("plain", false))), (0o777, 0));
        assert_eq!((mode(&at("grouped", false)), owner(&at("grouped", false))), (0o2777, 2000));
        assert_eq!((mode(&at("fast", true)), owner(&at("fast", true))), (0o2777, 3000));
        assert_eq!(mode(&at("free", true)), 0o777);
        assert!(is_mount_point(&at("fast", true)).expect("answers"));

        fs::write(at("plain", false).join("kept"), "x").expect("written");
        fs::write(at("fast", true).join("kept"), "x").expect("written");
        let too_much = fs::write(at("fast", true).join("big"), vec![0; 128 << 10]);
        assert_eq!(too_much.map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
        grant_all(layout, wishes()).expect("there already");
        assert_eq!(text(&at("plain", false).join("kept")), "x");
        assert_eq!(text(&at("fast", true).join("kept")), "x");

        assert_eq!(
            format!("{:?}", carry_out(layout, Call::List)),
            format!("{:?}", Ok::<_, Fault>(Answer::Pods(vec![pod()])))
        );
        for _ in 0..2 {
            carry_out(layout, Call::Remove { pod: pod() }).expect("removed");
        }
        for directory in layout.pods() {
            assert_eq!(names(&directory), [""; 0]);
        }
    });
}

#[test]
fn host_paths_are_checked_or_made() {
    use HostPathKind as Kind;
    with_layout(1 << 20, |layout, scratch| {
        let host = scratch.join("host");
        fs::create_dir(&host).expect("made");
        fs::write(host.join("file"), "x").expect("written");
        let _socket = std::os::unix::net::UnixListener::bind(host.join("socket")).expect("bound");
        symlink("file", host.join("link")).expect("linked");
        let table = [
            ("file", Kind::File, true),
            ("link", Kind::File, true),
            ("file", Kind::Directory, false),
            ("file", Kind::DirectoryOrCreate, false),
            (".", Kind::Directory, true),
            (".", Kind::FileOrCreate, false),
            ("socket", Kind::Socket, true),
            ("file", Kind::Socket, false),
            ("absent", Kind::Directory, false),
            ("absent", Kind::File, false),
            ("/dev/null", Kind::CharDevice, true),
            ("/dev/null", Kind::BlockDevice, false),
            ("made/deep", Kind::DirectoryOrCreate, true),
            ("made-file", Kind::FileOrCreate, true),
            ("absent/file", Kind::FileOrCreate, false),
            ("made/by/nobody", Kind::Unchecked, true),
            ("file", Kind::Unchecked, true),
        ];
        for (path, kind, is_good) in table {
            let path = host.join(path).display().to_string();
            let answer = grant_all(layout, vec![FileWish::HostPath { path: path.clone(), kind }]);
            assert_eq!(answer.is_ok(), is_good, "{path} {kind:?}: {answer:?}");
        }
        assert_eq!(mode(&host.join("made/deep")), 0o755);
        assert_eq!(mode(&host.join("made-file")), 0o644);
        assert!(host.join("made/by/nobody").is_dir());
        assert!(fs::metadata(host.join("socket")).expect("still").file_type().is_socket());
    });
}

#[test]
fn a_part_of_a_volume_is_bound_and_never_leads_out_of_it() {
    with_layout(1 << 20, |layout, scratch| {
        let root = VolumeRoot::Directory("data".into(), false);
        let directory =
            FileWish::Directory { volume: "data".into(), memory: None, group: Some(2000) };
        grant_all(layout, vec![directory]).expect("made");
        let volume = layout.volume(&pod(), &root);
        let part = |path: &str| FileWish::SubPath { root: root.clone(), path: path.into() };
        let place = |path: &str| layout.sub_path(&pod(), &root, path);

        grant_all(layout, vec![part("a/b")]).expect("made and bound");
        fs::write(place("a/b").join("x"), "1").expect("written");
        assert_eq!(text(&volume.join("a/b/x")), "1");
        let seen = fs::metadata(volume.join("a/b")).expect("is there");
        assert_eq!((seen.gid(), seen.mode() & 0o7777), (2000, 0o2777), "as its volume");
        fs::write(volume.join("file"), "one").expect("written");
        grant_all(layout, vec![part("file"), part("file"), part("./a/./b")]).expect("bound");
        assert_eq!(text(&place("file")), "one");
        // Replaced since: the next container gets the new one.
        fs::remove_file(volume.join("file")).expect("removed");
        fs::write(volume.join("file"), "two").expect("written");
        grant_all(layout, vec![part("file")]).expect("bound");
        assert_eq!(text(&place("file")), "two");
        // And a directory in place of a file.
        fs::remove_file(volume.join("file")).expect("removed");
        fs::create_dir(volume.join("file")).expect("made");
        grant_all(layout, vec![part("file")]).expect("bound");
        assert!(place("file").is_dir());

        let outside = scratch.join("outside");
        fs::create_dir(&outside).expect("made");
        symlink(&outside, volume.join("absolute")).expect("linked");
        symlink("../../../../..", volume.join("upwards")).expect("linked");
        symlink("a/b", volume.join("within")).expect("linked");
        for path in
            ["absolute", "absolute/new", "upwards", "upwards/new", "../x", "/etc", "a/../../x"]
        {
            let fault = grant_all(layout, vec![part(path)]).expect_err(path);
            assert_eq!(fault.kind, FaultKind::Stalled, "{path}: {fault:?}");
        }
        assert_eq!(names(&outside), [""; 0]);
        grant_all(layout, vec![part("within")]).expect("stays within");
        assert_eq!(text(&place("within").join("x")), "1");
    });
}

#[test]
fn a_key_of_a_set_can_be_a_part_though_it_is_a_link() {
    with_layout(1 << 20, |layout, _| {
        grant_all(layout, vec![set(&[("web.conf", "1", 0o644)], None)]).expect("written");
        let root = VolumeRoot::Set("cfg".into());
        let part = || FileWish::SubPath { root: root.clone(), path: "web.conf".into() };
        let place = layout.sub_path(&pod(), &root, "web.conf");
        grant_all(layout, vec![part()]).expect("bound");
        assert_eq!(text(&place), "1");
        grant_all(layout, vec![set(&[("web.conf", "2", 0o644)], None)]).expect("written");
        assert_eq!(text(&place), "1", "a part does not follow, as in Kubernetes");
        grant_all(layout, vec![part()]).expect("bound anew for the next container");
        assert_eq!(text(&place), "2");
        carry_out(layout, Call::Remove { pod: pod() }).expect("removed");
        assert!(!place.exists());
    });
}

#[test]
fn removing_a_pod_touches_nothing_of_others() {
    with_layout(1 << 20, |layout, scratch| {
        let host = scratch.join("host path");
        fs::create_dir_all(host.join("sub/deep")).expect("made");
        fs::write(host.join("sub/precious"), "x").expect("written");
        let root = VolumeRoot::Host(host.display().to_string());
        let wishes = vec![
            FileWish::SubPath { root: root.clone(), path: "sub".into() },
            FileWish::Directory { volume: "fast".into(), memory: Some(0), group: None },
            FileWish::Directory { volume: "data".into(), memory: None, group: None },
            file("hosts", b"x", false),
        ];
        grant_all(layout, wishes).expect("granted");
        let part = layout.sub_path(&pod(), &root, "sub");
        assert_eq!(text(&part.join("precious")), "x");
        // A person hangs more in there, twice over, and links lead out.
        let data = layout.volume(&pod(), &VolumeRoot::Directory("data".into(), false));
        let hung = data.join("hung here");
        fs::create_dir(&hung).expect("made");
        for _ in 0..2 {
            nix::mount::mount(Some(&host), &hung, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .expect("bound");
        }
        symlink(&host, data.join("link")).expect("linked");

        let neighbour = Uid::trusted("neighbour");
        let call = Call::Write { pod: neighbour.clone(), wishes: vec![file("hosts", b"y", false)] };
        carry_out(layout, call).expect("written");
        carry_out(layout, Call::Remove { pod: pod() }).expect("removed");
        for directory in layout.pod(&pod()) {
            assert!(!directory.exists(), "{}", directory.display());
        }
        assert_eq!(text(&host.join("sub/precious")), "x");
        assert!(host.join("sub/deep").is_dir());
        assert_eq!(text(&layout.file(&neighbour, "hosts")), "y");
        let table = text(Path::new("/proc/thread-self/mountinfo"));
        let uid = pod().to_string();
        assert!(!table.contains(&uid), "mounts are left:\n{table}");
    });
}

#[test]
fn last_words_are_the_end_of_what_was_said() {
    with_layout(1 << 20, |layout, _| {
        grant_all(layout, vec![file("words", b"", true)]).expect("written");
        let words = || {
            let call = Call::LastWords { pod: pod(), name: "words".into() };
            match carry_out(layout, call) {
                Ok(Answer::Text(text)) => text,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(words(), "");
        let path = layout.file(&pod(), "words");
        fs::write(&path, "short").expect("written");
        assert_eq!(words(), "short");
        assert_eq!(words(), "", "taken: the next attempt begins with an empty file");
        let long = format!("{}the end", "x".repeat(10_000));
        fs::write(&path, &long).expect("written");
        assert_eq!(words(), long[long.len() - 4096..]);
        let absent = Call::LastWords { pod: pod(), name: "absent".into() };
        let fault = carry_out(layout, absent).expect_err("there are none");
        assert_eq!(fault.kind, FaultKind::NotFound);
    });
}

#[test]
fn bodies_do_not_print_their_content() {
    let body = FileBody { content: b"hunter2"[..].into(), mode: 0o400 };
    let files = BTreeMap::from([("password".to_owned(), body)]);
    assert!(!format!("{files:?}").contains("hunter2"));
}
