//! RBAC as Kubernetes has it, asked of what commits change.

use proptest::prelude::{ProptestConfig, prop, prop_assert, proptest};
use proptest::sample::select;

use super::*;

fn content(path: &str, text: &str) -> FileContent {
    let blob = crate::kinds::digest::Digest::of(text.as_bytes()).hex()[..40].to_owned();
    FileContent { path: path.into(), blob: Oid::new(&blob), bytes: text.as_bytes().into() }
}

fn world(files: &[(&str, &str)]) -> World {
    let contents: Vec<FileContent> = files.iter().map(|(path, text)| content(path, text)).collect();
    World::of(&contents)
}

fn who(names: &[&str], groups: &[&str]) -> Who {
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Who { names: texts(names), groups: texts(groups) }
}

/// `Role shop/x`, `ClusterRole x`, `RoleBinding shop/x` or `ClusterRoleBinding x`, and what is in it.
fn rbac(what: &str, rest: &str) -> String {
    let (kind, name) = what.split_once(' ').expect("a kind and a name");
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let space =
        if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
    let labels = rest.strip_prefix("labels ").map(|rest| rest.split_once('|').expect("a bar"));
    let (labels, rest) = labels.unwrap_or(("{}", rest));
    format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{space}, \
         labels: {labels}}}\n{rest}\n"
    )
}

fn binds(what: &str, subject: &str, role: &str) -> String {
    let (kind, name) = subject.split_once(' ').expect("a kind and a name");
    let (role_kind, role) = role.split_once(' ').expect("a kind and a name");
    let group = if kind == "ServiceAccount" {
        "namespace: shop"
    } else {
        "apiGroup: rbac.authorization.k8s.io"
    };
    rbac(
        what,
        &format!(
            "subjects: [{{kind: {kind}, name: \"{name}\", {group}}}]\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role_kind}, name: {role}}}"
        ),
    )
}

/// `create deployments.apps/web in shop`.
fn may(roles: &Roles, who: &Who, asked: &str) -> bool {
    let (what, namespace) = match asked.split_once(" in ") {
        Some((what, namespace)) => (what, Some(namespace)),
        None => (asked, None),
    };
    let (verb, resource) = what.split_once(' ').expect("a verb and a resource");
    let (resource, name) = match resource.split_once('=') {
        Some((resource, name)) => (resource, Some(name)),
        None => (resource, None),
    };
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    roles.may(who, &Asked { verb, group, resource, namespace, name })
}

const NAMESPACES: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
                          apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";

#[test]
fn rules_are_kubernetes() {
    let rule = |rule: &str| rbac("Role shop/r", &format!("rules: [{{{rule}}}]"));
    let bound = binds("RoleBinding shop/b", "User ada", "Role r");
    let deploy = "apiGroups: [apps], resources: [deployments], verbs: [create, update]";
    for (rule, asked, expected) in [
        (rule(deploy), "create deployments.apps in shop", true),
        (rule(deploy), "update deployments.apps=web in shop", true),
        (rule(deploy), "delete deployments.apps in shop", false),
        (rule(deploy), "create deployments.apps in other", false),
        (rule(deploy), "create deployments.apps", false),
        (rule(deploy), "create deployments.batch in shop", false),
        (rule(deploy), "create statefulsets.apps in shop", false),
        (rule(deploy), "update deployments/scale.apps in shop", false),
        (rule("apiGroups: ['*'], resources: ['*'], verbs: ['*']"), "x y.z in shop", true),
        (rule("apiGroups: ['*'], resources: ['*'], verbs: ['*']"), "get pods/log in shop", true),
        (rule("apiGroups: [''], resources: ['*/log'], verbs: [get]"), "get pods/log in shop", true),
        (rule("apiGroups: [''], resources: ['*/log'], verbs: [get]"), "get pods in shop", false),
        (
            rule("apiGroups: [''], resources: [pods/log], verbs: [get]"),
            "get pods/log in shop",
            true,
        ),
        (rule("apiGroups: [''], resources: [pods], verbs: [get]"), "get pods/log in shop", false),
        (
            rule("apiGroups: [''], resources: [configmaps], resourceNames: [a], verbs: [create]"),
            "create configmaps=a in shop",
            true,
        ),
        (
            rule("apiGroups: [''], resources: [configmaps], resourceNames: [a], verbs: [create]"),
            "create configmaps=b in shop",
            false,
        ),
        (
            rule("apiGroups: [''], resources: [configmaps], resourceNames: [a], verbs: [create]"),
            "create configmaps in shop",
            false,
        ),
    ] {
        let roles = world(&[("n.yaml", NAMESPACES), ("r.yaml", &format!("{rule}{bound}"))]).roles();
        assert_eq!(may(&roles, &who(&["ada"], &[]), asked), expected, "{asked}: {rule}");
        assert!(!may(&roles, &who(&["bob"], &[]), asked), "nobody else: {asked}");
    }
}

#[test]
fn bindings_give_roles_to_names_and_groups() {
    let pods = "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]";
    let role = |what: &str| rbac(what, pods);
    let both = |role: String, binding: String| format!("{role}{binding}");
    let (here, there) = ("get pods in shop", "get pods in other");
    let everywhere = "get pods";
    for (what, yes, no) in [
        (
            both(role("ClusterRole r"), binds("RoleBinding shop/b", "User ada", "ClusterRole r")),
            vec![here],
            vec![there, everywhere],
        ),
        (
            both(role("ClusterRole r"), binds("ClusterRoleBinding b", "User ada", "ClusterRole r")),
            vec![here, there, everywhere],
            vec![],
        ),
        (
            both(role("Role shop/r"), binds("RoleBinding shop/b", "Group devs", "Role r")),
            vec![here],
            vec![there, everywhere],
        ),
        (
            both(
                role("Role shop/r"),
                binds("RoleBinding shop/b", "Group system:authenticated", "Role r"),
            ),
            vec![here],
            vec![there],
        ),
        // A role of another namespace, of another name, and a pod's account that is called as she is.
        (
            both(role("Role other/r"), binds("RoleBinding shop/b", "User ada", "Role r")),
            vec![],
            vec![here, there],
        ),
        (
            both(role("Role shop/r"), binds("RoleBinding shop/b", "ServiceAccount ada", "Role r")),
            vec![],
            vec![here],
        ),
        (
            both(role("Role shop/r"), binds("RoleBinding shop/b", "Group ada", "Role r")),
            vec![],
            vec![here],
        ),
        // It is there though nobody has written it.
        (
            binds("ClusterRoleBinding b", "User ada", "ClusterRole cluster-admin"),
            vec![here, everywhere, "update trust.windlass.dev"],
            vec![],
        ),
    ] {
        let roles = world(&[("n.yaml", NAMESPACES), ("r.yaml", &what)]).roles();
        let ada = who(&["ada"], &["devs"]);
        assert!(yes.iter().all(|asked| may(&roles, &ada, asked)), "{what}");
        assert!(!no.iter().any(|asked| may(&roles, &ada, asked)), "{what}");
    }
}

#[test]
fn aggregated_roles_have_the_rules_of_those_they_pick() {
    let pick = "aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: to, operator: In, \
                values: [all]}]}]}\nrules: [{apiGroups: [''], resources: [secrets], verbs: [get]}]";
    let part = |name: &str, labels: &str, resource: &str| {
        let rules = format!("rules: [{{apiGroups: [''], resources: [{resource}], verbs: [get]}}]");
        rbac(&format!("ClusterRole {name}"), &format!("labels {labels}|{rules}"))
    };
    let text = [
        rbac("ClusterRole all", pick),
        part("one", "{to: all}", "pods"),
        part("two", "{to: nobody}", "services"),
        binds("ClusterRoleBinding b", "User ada", "ClusterRole all"),
    ]
    .concat();
    let roles = world(&[("r.yaml", &text)]).roles();
    let ada = who(&["ada"], &[]);
    assert!(may(&roles, &ada, "get pods"));
    assert!(!may(&roles, &ada, "get services") && !may(&roles, &ada, "get secrets"));
}

const CONFIG: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {a: b}\n";

fn said(before: &[(&str, &str)], after: &[(&str, &str)], who: &Who) -> Vec<String> {
    lacks(&world(before), &world(after), who).iter().map(ToString::to_string).collect()
}

/// What is said of the changes that somebody makes who may change ConfigMaps of `shop`.
#[test]
fn each_change_asks_for_its_verb() {
    let role = rbac(
        "Role shop/config",
        "rules: [{apiGroups: [''], resources: [configmaps], verbs: [create, update]}]",
    );
    let roles =
        format!("{NAMESPACES}{role}{}", binds("RoleBinding shop/b", "User ada", "Role config"));
    let (roles, ada) = (("roles.yaml", roles.as_str()), who(&["ada"], &[]));
    let other = CONFIG.replace("shop", "other");
    let secret = CONFIG.replace("ConfigMap", "Secret").replace("data: {a: b}", "");
    let changed = CONFIG.replace("b}", "c}");
    let comment = format!("# a word\n{CONFIG}");
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
    type Files<'f> = Vec<(&'f str, &'f str)>;
    let table: [(&str, Files<'_>, Files<'_>, &[&str]); 12] = [
        ("create", vec![], vec![("a.yaml", CONFIG)], &[]),
        ("update", vec![("a.yaml", CONFIG)], vec![("a.yaml", &changed)], &[]),
        ("notation", vec![("a.yaml", CONFIG)], vec![("a.yaml", &comment)], &[]),
        ("move", vec![("a.yaml", CONFIG)], vec![("b.yaml", CONFIG)], &[]),
        (
            "delete",
            vec![("a.yaml", CONFIG)],
            vec![],
            &["a.yaml:1:1: error: ada may not delete configmaps \"c\" in namespace shop"],
        ),
        (
            "another namespace",
            vec![],
            vec![("a.yaml", &other)],
            &["a.yaml:1:1: error: ada may not create configmaps \"c\" in namespace other"],
        ),
        (
            "another kind",
            vec![],
            vec![("a.yaml", &secret)],
            &["a.yaml:1:1: error: ada may not create secrets \"c\" in namespace shop"],
        ),
        (
            "a machine",
            vec![],
            vec![("a.yaml", node)],
            &["a.yaml:1:1: error: ada may not create nodes \"n1\" ("],
        ),
        (
            "trust.yaml",
            vec![("trust.yaml", "signed: tip\n")],
            vec![("trust.yaml", "signed: commits\n")],
            &["trust.yaml: error: ada may not update trust.windlass.dev \"trust.yaml\""],
        ),
        (
            "windlass.yaml",
            vec![],
            vec![("windlass.yaml", "apps: []\n")],
            &["windlass.yaml: error: ada may not create settings.windlass.dev \"windlass.yaml\""],
        ),
        (
            "what is ignored",
            vec![(".windlassignore", "x\n")],
            vec![],
            &[".windlassignore: error: ada may not delete ignores.windlass.dev"],
        ),
        (
            "what hides a directory",
            vec![("d/a.yaml", CONFIG)],
            vec![("d/a.yaml", CONFIG), ("d/Chart.yaml", "name: x\nversion: 1.0.0\n")],
            &[
                "a.yaml:1:1: error: ada may not delete configmaps",
                "ada may not create ignores.windlass.dev",
            ],
        ),
    ];
    for (what, mut before, mut after, expected) in table {
        before.push(roles);
        after.push(roles);
        let said = said(&before, &after, &ada);
        assert_eq!(said.len(), expected.len(), "{what}: {said:?}");
        assert!(
            said.iter().zip(expected).all(|(said, words)| said.contains(words)),
            "{what}: {said:?}"
        );
    }
}

#[test]
fn nobody_gives_what_he_has_not() {
    let rights = "rules: [{apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings, \
                  clusterroles, clusterrolebindings], verbs: [create, update]}, {apiGroups: [''], \
                  resources: [pods], verbs: [get, list]}]";
    let held = |more: &str| {
        let rights = rights.replace("verbs: [get, list]}", &format!("verbs: [get, list]}}{more}"));
        let role = rbac("ClusterRole own", &rights);
        let secrets = "rules: [{apiGroups: [''], resources: [secrets], verbs: [get]}]";
        let bound = binds("ClusterRoleBinding own", "User ada", "ClusterRole own");
        format!("{NAMESPACES}{role}{}{bound}", rbac("ClusterRole secrets", secrets))
    };
    let role = |rule: &str| rbac("Role shop/new", &format!("rules: [{rule}]"));
    let pods = "{apiGroups: [''], resources: [pods], verbs: [get]}";
    let all = "{apiGroups: ['*'], resources: [pods], verbs: [get]}";
    let secrets = "{apiGroups: [''], resources: [secrets], verbs: [get]}";
    let aggregated = rbac("ClusterRole sum", "aggregationRule: {clusterRoleSelectors: []}");
    let to = |role: &str| binds("RoleBinding shop/new", "User bob", role);
    let group = "apiGroups: [rbac.authorization.k8s.io]";
    let escalate = format!(", {{{group}, resources: [roles, clusterroles], verbs: [escalate]}}");
    let bind = format!(
        ", {{{group}, resources: [clusterroles], resourceNames: [secrets], verbs: [bind]}}"
    );
    for (more, new, lacking) in [
        ("", role(pods), None),
        ("", role(secrets), Some("may not do himself: get secrets")),
        ("", role(all), Some("may not do himself: get pods.*")),
        ("", role("{nonResourceURLs: [/x], verbs: [get]}"), Some("himself: get /x")),
        ("", aggregated.clone(), Some("may not do himself: * *.*")),
        ("", to("ClusterRole secrets"), Some("may not do himself: get secrets")),
        ("", to("ClusterRole cluster-admin"), Some("may not do himself: * *.*")),
        ("", to("ClusterRole own"), None),
        ("", to("ClusterRole missing"), Some("ClusterRole missing, which is not there")),
        ("", format!("{}{}", role(pods), to("Role new")), None),
        ("", format!("{}{}", role(secrets), to("Role new")), Some("himself: get secrets")),
        (&escalate, role(secrets), None),
        (&escalate, aggregated, None),
        (&bind, to("ClusterRole secrets"), None),
        (&bind, to("ClusterRole cluster-admin"), Some("may not do himself: * *.*")),
    ] {
        let held = held(more);
        let before = [("held.yaml", held.as_str())];
        let after = [before[0], ("new.yaml", new.as_str())];
        let said = said(&before, &after, &who(&["ada"], &[]));
        match lacking {
            None => assert_eq!(said, Vec::<String>::new(), "{new}"),
            Some(words) => {
                assert!(said.first().is_some_and(|s| s.contains(words)), "{new}: {said:?}");
            }
        }
    }
}

#[test]
fn a_role_that_comes_with_a_commit_does_not_count_for_it() {
    let roles = format!(
        "{}{}",
        rbac("Role shop/r", "rules: [{apiGroups: [''], resources: [configmaps], verbs: ['*']}]"),
        binds("RoleBinding shop/b", "User ada", "Role r")
    );
    let after = [("n.yaml", NAMESPACES), ("r.yaml", &*roles), ("c.yaml", CONFIG)];
    let said = said(&[("n.yaml", NAMESPACES)], &after, &who(&["ada"], &[]));
    assert_eq!(said.len(), 3, "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// More rules, more subjects, more bindings: whatever was allowed is allowed still.
    #[test]
    fn more_rules_never_allow_less(
        rules in prop::collection::vec(
            (select(vec!["", "apps", "*"]), select(vec!["pods", "deployments", "*"]), select(vec!["get", "create", "*"]), select(vec!["", "a"])),
            1..6,
        ),
        fewer in 0..6_usize,
    ) {
        let text = |count: usize| {
            let each = rules.iter().take(count).map(|(group, resource, verb, name)| {
                let names = if name.is_empty() { String::new() } else { format!(", resourceNames: [{name}]") };
                format!("{{apiGroups: ['{group}'], resources: ['{resource}'], verbs: ['{verb}']{names}}}")
            });
            let role = rbac("Role shop/r", &format!("rules: [{}]", each.collect::<Vec<_>>().join(", ")));
            format!("{NAMESPACES}{role}{}", binds("RoleBinding shop/b", "User ada", "Role r"))
        };
        let few = world(&[("r.yaml", &text(fewer.min(rules.len())))]).roles();
        let many = world(&[("r.yaml", &text(rules.len()))]).roles();
        for verb in ["get", "create", "delete"] {
            for resource in ["pods", "deployments.apps", "pods=a", "deployments.apps=b"] {
                let asked = format!("{verb} {resource} in shop");
                let ada = who(&["ada"], &[]);
                prop_assert!(!may(&few, &ada, &asked) || may(&many, &ada, &asked), "{asked}");
            }
        }
    }
}
