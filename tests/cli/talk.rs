//! Logs, programs run in containers, and deletions.

use std::io::Write as _;
use std::process::Stdio;

use super::fake::Fake;
use super::{asking, expect, pod, session, settled, transcript};

#[test]
fn logs() {
    let fake = Fake::start(settled);
    let web = pod(&fake, "web-");
    let text = session(
        &fake,
        &[
            "logs big -n shop --tail 2",
            &format!("logs {web} -n shop --tail 2 -c web"),
            &format!("logs {web} web -n shop --tail 1 --previous"),
            &format!("logs pod/{web} -n shop --tail 1 --timestamps"),
            "logs deploy/web -n shop --tail 1",
            "logs deploy/web -n shop --tail 1 --all-pods --prefix",
            "logs deploy/web -n shop --tail 1 --all-containers --prefix",
            "logs -l app=web -n shop -c web",
            "logs -l app=nobody -n shop",
            "logs big -n shop --since 5m --tail 1",
            "logs big -n shop -f --tail 2",
            "logs big -n shop -c nobody",
            "logs nobody -n shop",
            "logs cm/web-settings -n shop",
        ],
    );
    expect("logs", &text);
}

#[test]
fn logs_of_several_containers_are_followed_line_by_line() {
    let fake = Fake::start(settled);
    let line = "logs -f -l app=web -n shop -c web --prefix --tail 3";
    let output = asking(&fake, line).output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0));
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3 * 4, "{text}");
    assert!(lines.iter().all(|line| line.starts_with("[pod/web-")), "{text}");
    // Each log's own lines stay in order.
    lines.sort_by_key(|line| line.split(']').next().unwrap_or_default().to_owned());
    for log in lines.chunks(4) {
        let ends: Vec<&str> = log.iter().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(ends, ["10", "11", "12", "end"], "{text}");
    }
}

#[test]
fn programs_in_containers() {
    let fake = Fake::start(settled);
    let web = pod(&fake, "web-");
    let text = session(
        &fake,
        &[
            &format!("exec {web} -n shop -c web -- ls -l /data"),
            &format!("exec {web} -n shop -- ls"),
            "exec deploy/web -n shop -c prepare -- env",
            "exec big -n shop -it -- sh",
            "exec big -n shop -- exit 3",
            "exec big -n shop -c nobody -- ls",
            "exec nobody -n shop -- ls",
        ],
    );
    expect("exec", &text);
}

#[test]
fn what_goes_in_comes_out() {
    let fake = Fake::start(settled);
    // More than all buffers on the way hold together.
    let input: Vec<u8> =
        (0..8_000_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    let mut child = asking(&fake, "exec -i big -n shop -- cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut stdin = child.stdin.take().expect("its input");
    let given = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&given).expect("takes it"));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("ends");
    assert!(output.status.success());
    assert!(output.stdout == input, "{} of {} bytes", output.stdout.len(), input.len());
}

#[test]
fn a_terminal_is_passed_on_and_left_as_it_was() {
    let fake = Fake::start(settled);
    let program = env!("CARGO_BIN_EXE_windlass");
    let typed = format!(
        "stty cols 91 rows 17; {program} exec -it big -n shop -- size; \
         {program} exec -it big -n shop -- env; stty -a"
    );
    // `script` (bsdutils, always there on Debian) gives what it runs a terminal.
    let output = std::process::Command::new("script")
        .args(["-qec", &typed, "/dev/null"])
        .env("WINDLASS_SOCKET", fake.socket())
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(r#"{"Width":91,"Height":17}"#), "{text}");
    assert!(text.contains("in big, tty true: env"), "{text}");
    let modes = text.rsplit("speed").next().unwrap_or_default();
    assert!(modes.contains(" icanon ") && modes.contains(" echo "), "{text}");
}

#[test]
fn pods_are_deleted() {
    let fake = Fake::start(settled);
    let text = session(
        &fake,
        &[
            "delete pod big nobody -n shop",
            "get pod big -n shop",
            "delete pod/lacks -n shop --wait=false",
            "delete pod nobody -n shop --ignore-not-found",
            "delete deploy web -n shop",
        ],
    );
    expect("delete", &text);
}

#[test]
fn a_deletion_that_takes_too_long_is_said() {
    let fake = Fake::start(settled);
    let line = "delete pod big -n shop --timeout 1ms";
    let output = asking(&fake, line).output().expect("runs");
    let text = transcript(line, &output);
    assert!(text.contains("! error: pod \"big\" is still there"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}
