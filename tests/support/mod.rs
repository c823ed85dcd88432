//! What tests with real parts share.

pub(crate) mod namespace;

/// Says aloud that a test is left out, and fails instead where leaving out is not allowed.
pub(crate) fn skip(test: &str, why: &str) {
    let demanded = |name| std::env::var(name).is_ok_and(|value| value == "1");
    assert!(
        !demanded("CI") && !demanded("WINDLASS_REQUIRE_ROOT"),
        "{test} can't run here and must: {why}"
    );
    println!("SKIPPED {test}: {why}");
}
