use super::*;

#[test]
fn constraints_are_masterminds() {
    let table = [
        ("1.20.3", ">=1.19-0", true),
        ("v1.20.3+k3s1", ">=1.19-0", true),
        ("1.20.3-gke.1", ">=1.19-0", true),
        ("1.20.3-gke.1", ">=1.19", false),
        ("1.20.3-gke.1", ">=1.19-0 <1.21", true),
        ("1.20.3", ">= 1.16.0-0 < 1.22.0-0", true),
        ("1.22.0", ">= 1.16.0-0, < 1.22.0-0", false),
        ("1.2.3", "1.2.3", true),
        ("1.2.4", "=1.2.3", false),
        ("1.2.4", "1.2.x", true),
        ("1.3.0", "1.2.x", false),
        ("1.3.0", "1.2", false),
        ("1.3.0", "1", true),
        ("2.0.0", "1", false),
        ("5.0.0", "*", true),
        ("5.0.0", "", true),
        ("1.2.9", "~1.2.3", true),
        ("1.3.0", "~1.2.3", false),
        ("1.9.0", "~1", true),
        ("1.9.0", "~>1", true),
        ("1.9.0", "^1.2.3", true),
        ("2.0.0", "^1.2.3", false),
        ("0.2.9", "^0.2.3", true),
        ("0.3.0", "^0.2.3", false),
        ("0.0.4", "^0.0.3", false),
        ("0.9.0", "^0", true),
        ("1.2.3", "!=1.2.3", false),
        ("1.2.4", "!=1.2.x", false),
        ("1.3.0", "!=1.2.x", true),
        ("11.1.0", ">11", false),
        ("12.0.0", ">11", true),
        ("11.2.0", ">11.1", true),
        ("11.9.0", "<=11", true),
        ("11.2.0", "<=11.1", false),
        ("1.3.0", "1.2 - 1.4.5", true),
        ("1.5.0", "1.2 - 1.4.5", false),
        ("3.0.0", "<1 || >=3", true),
        ("2.0.0", "<1 || >=3", false),
        ("1.0.0", "=>1", true),
        ("1.0.0-beta.2", ">1.0.0-beta.1", true),
        ("1.0.0-beta.11", ">1.0.0-beta.2", true),
        ("1.0.0-alpha", ">1.0.0-1", true),
    ];
    for (version, constraint, expected) in table {
        assert_eq!(satisfies(constraint, version), Ok(expected), "{version} {constraint}");
    }
    for (version, constraint) in [
        ("x", "1"),
        ("1.0.0", ">>1"),
        ("1.0.0", "1.2.3.4"),
        ("1", "a"),
        ("1", ","),
        ("1", "1,"),
        ("1.0.0-01", "*"),
    ] {
        assert!(satisfies(constraint, version).is_err(), "{version} {constraint}");
    }
}

#[test]
fn a_version_has_parts() {
    let version = semver(&[Value::text("v1.2.3-beta.1+build")]).expect("a version");
    let Value::Host(host) = version else { panic!("no version") };
    let part = |name: &str| match host.get(name, &[]) {
        Some(Ok(Value::Text(text))) => text.to_string(),
        Some(Ok(Value::Int(number))) => number.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(part("Major") + &part("Minor") + &part("Patch"), "123");
    assert_eq!(part("Prerelease"), "beta.1");
    assert_eq!(part("Metadata"), "build");
    assert_eq!(part("Original"), "v1.2.3-beta.1+build");
    assert_eq!(host.text().as_deref(), Some("1.2.3-beta.1+build"));
    let other = semver(&[Value::text("1.3")]).expect("a version");
    assert!(matches!(host.get("Compare", std::slice::from_ref(&other)), Some(Ok(Value::Int(-1)))));
    assert!(matches!(host.get("LessThan", &[other]), Some(Ok(Value::Bool(true)))));
    assert!(host.get("Nothing", &[]).is_none());
}
