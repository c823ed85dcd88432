//! What a push does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::site::{NAMESPACE, Site, fetch, web};

/// The ReplicaSet of a pod, by its name: the set's name and five letters.
fn set_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(set, _)| set)
}

#[test]
fn a_push_deploys_scales_rolls_and_a_revert_goes_back() {
    let Some(site) = Site::start("we2e-deploy-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web: one", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    let first = site.wait_ready("app=web", 2);
    site.wait("a page", |site| (site.fetch(30080) == Ok("one".into())).then_some(()));

    site.push("web: four of it", &[("web.yaml", Some(&web("one", 4, 30080)))]);
    let four = site.wait_ready("app=web", 4);
    assert!(first.iter().all(|pod| four.contains(pod)), "{first:?} stay, {four:?}");

    site.push("web: two", &[("web.yaml", Some(&web("two", 4, 30080)))]);
    let rolled = site.wait("new pods only", |site| {
        let now = site.wait_ready("app=web", 4);
        now.iter().all(|pod| !four.contains(pod)).then_some(now)
    });
    assert_eq!(site.fetch(30080), Ok("two".into()));

    site.git(&["revert", "--no-edit", "HEAD"]);
    site.push("and on", &[]);
    let back = site.wait("old template only", |site| {
        let now = site.wait_ready("app=web", 4);
        now.iter().all(|pod| !rolled.contains(pod)).then_some(now)
    });
    assert_eq!(set_of(&back[0]), set_of(&four[0]), "the old ReplicaSet came back");
    assert_eq!(site.fetch(30080), Ok("one".into()));
}

#[test]
fn a_rolling_update_loses_no_request() {
    let Some(site) = Site::start("we2e-roll-") else { return };
    let files = [("namespace.yaml", Some(NAMESPACE))];
    site.push("The shop", &files);
    site.push("web: one", &[("web.yaml", Some(&web("one", 4, 30080)))]);
    let before = site.wait_ready("app=web", 4);
    site.wait("a page", |site| site.fetch(30080).ok());

    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = std::sync::mpsc::channel();
    for _ in 0..4 {
        let (stop, tell) = (stop.clone(), tell.clone());
        site.visitor.spawn(move || {
            let (mut pages, mut lost) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match fetch(30080) {
                    Ok(_) => pages += 1,
                    Err(error) => lost.push(error),
                }
            }
            let _ = tell.send((pages, lost));
        });
    }
    site.push("web: two", &[("web.yaml", Some(&web("two", 4, 30080)))]);
    site.wait("new pods only", |site| {
        let now = site.wait_ready("app=web", 4);
        now.iter().all(|pod| !before.contains(pod)).then_some(())
    });
    // Those that end go on ending for a moment.
    site.wait("old ones gone", |site| {
        before.iter().all(|pod| site.containers(pod).is_empty()).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let mut pages = 0;
    for (some, lost) in told.iter().take(4) {
        pages += some;
        assert_eq!(lost, Vec::<String>::new(), "of {some} requests");
    }
    assert!(pages > 100, "only {pages} requests were made");
    assert_eq!(site.fetch(30080), Ok("two".into()));
}
