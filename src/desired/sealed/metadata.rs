//! What SOPS says of a file in its `sops` entry, and what `.sops.yaml` says of files to come.

use regex::Regex;

use super::super::tree::{At, Entry, Node, Value};
use super::super::yaml;
use super::Unsealed;

/// Which values of a file are encrypted: by the names on the way to them.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    /// All but those below a name that ends so.
    UnencryptedSuffix(String),
    /// Those below a name that ends so.
    EncryptedSuffix(String),
    /// All but those below a name that matches.
    UnencryptedRegex(Regex),
    /// Those below a name that matches.
    EncryptedRegex(Regex),
}

impl Rule {
    /// SOPS' own, where nothing is said (`DefaultUnencryptedSuffix`).
    fn of_sops() -> Self {
        Self::UnencryptedSuffix("_unencrypted".to_owned())
    }

    /// Whether the value at a path is encrypted (`shouldBeEncrypted`).
    pub(super) fn encrypts(&self, path: &[&str]) -> bool {
        let any = |matches: &dyn Fn(&str) -> bool| path.iter().any(|name| matches(name));
        match self {
            Self::UnencryptedSuffix(end) => !any(&|name| name.ends_with(end)),
            Self::EncryptedSuffix(end) => any(&|name| name.ends_with(end)),
            Self::UnencryptedRegex(regex) => !any(&|name| regex.is_match(name)),
            Self::EncryptedRegex(regex) => any(&|name| regex.is_match(name)),
        }
    }

    /// How it is written.
    pub(super) fn written(&self) -> (&'static str, &str) {
        match self {
            Self::UnencryptedSuffix(text) => ("unencrypted_suffix", text),
            Self::EncryptedSuffix(text) => ("encrypted_suffix", text),
            Self::UnencryptedRegex(regex) => ("unencrypted_regex", regex.as_str()),
            Self::EncryptedRegex(regex) => ("encrypted_regex", regex.as_str()),
        }
    }

    /// The one that is written in a map, if any is.
    fn read(node: &Node<'_>) -> Result<Option<Self>, Unsealed> {
        let texts =
            ["unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex"]
                .map(|name| (name, node.get_text(name).filter(|text| !text.is_empty())));
        let mut found = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
        let comments = ["unencrypted_comment_regex", "encrypted_comment_regex"];
        if let Some(name) = comments.into_iter().find(|name| node.get(name).is_some()) {
            return Err(Unsealed::unfit(format!(
                "{name} is not built: choose values by their names"
            )));
        }
        let Some((name, text)) = found.next() else { return Ok(None) };
        if let Some((other, _)) = found.next() {
            return Err(Unsealed::unfit(format!("{name} and {other} exclude each other")));
        }
        let regex = || {
            let complaint =
                |_| Unsealed::unfit(format!("{name}: {text:?} is no regular expression"));
            Regex::new(text).map_err(complaint)
        };
        Ok(Some(match name {
            "unencrypted_suffix" => Self::UnencryptedSuffix(text.to_owned()),
            "encrypted_suffix" => Self::EncryptedSuffix(text.to_owned()),
            "unencrypted_regex" => Self::UnencryptedRegex(regex()?),
            _ => Self::EncryptedRegex(regex()?),
        }))
    }
}

/// What the `sops` entry says.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// The file's key for each recipient, as an armoured file of age.
    pub(super) keys: Vec<(String, String)>,
    pub(super) rule: Rule,
    /// Whether the MAC is of encrypted values only.
    pub(super) is_mac_of_encrypted: bool,
    pub(super) mac: String,
    /// When the file was encrypted, as the MAC's tag has it.
    pub(super) modified: String,
}

/// Other ways than age in which SOPS locks a file's key, and what they are called.
const OTHER_LOCKS: [(&str, &str); 6] = [
    ("pgp", "PGP"),
    ("kms", "AWS KMS"),
    ("gcp_kms", "GCP KMS"),
    ("azure_kv", "Azure Key Vault"),
    ("hc_vault", "HashiCorp Vault"),
    ("hckms", "HuaweiCloud KMS"),
];

impl Metadata {
    pub(super) fn read(sops: &Node<'_>) -> Result<Self, Unsealed> {
        let groups = sops.get("key_groups").and_then(list).unwrap_or_default();
        let is_shared = sops.get("shamir_threshold").and_then(Node::as_int).is_some_and(|n| n > 1);
        if groups.len() > 1 || is_shared {
            let message = "its key is shared among several key groups, which is not built: use one";
            return Err(Unsealed::unfit(message));
        }
        // What stands at the top is the group, and groups beside it are not looked at.
        let at_top = std::iter::once(sops).chain(groups);
        let mut keys = Vec::new();
        let mut others = Vec::new();
        for group in at_top {
            for item in group.get("age").and_then(list).unwrap_or_default() {
                let text = |name| item.get_text(name).unwrap_or_default().to_owned();
                keys.push((text("recipient"), text("enc")));
            }
            let has = |name: &str| group.get(name).and_then(list).is_some_and(|l| !l.is_empty());
            others.extend(OTHER_LOCKS.iter().filter(|(name, _)| has(name)).map(|(_, said)| *said));
            if !keys.is_empty() {
                break;
            }
        }
        if keys.is_empty() {
            let for_whom = match others.is_empty() {
                true => "for nobody".to_owned(),
                false => format!("for {} only", others.join(", ")),
            };
            let message = format!("is encrypted {for_whom}, and nodes open what age has encrypted");
            return Err(Unsealed::unfit(message));
        }
        let need = |name: &str| {
            let text = sops.get_text(name).filter(|text| !text.is_empty());
            text.ok_or_else(|| Unsealed::unfit(format!("has no {name} among what SOPS says of it")))
        };
        let modified = need("lastmodified")?;
        let modified = normalised(modified)
            .ok_or_else(|| Unsealed::unfit(format!("lastmodified {modified:?} is no time")))?;
        Ok(Self {
            keys,
            rule: Rule::read(sops)?.unwrap_or_else(Rule::of_sops),
            is_mac_of_encrypted: is_true(sops, "mac_only_encrypted"),
            mac: need("mac")?.to_owned(),
            modified,
        })
    }
}

fn is_true(node: &Node<'_>, name: &str) -> bool {
    matches!(node.get(name).map(|node| &node.value), Some(Value::Bool(true, _)))
}

fn list<'n, 'a>(node: &'n Node<'a>) -> Option<&'n [Node<'a>]> {
    match &node.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// A time of RFC 3339 as Go writes it after reading it: without fractions, `Z` for no offset.
fn normalised(text: &str) -> Option<String> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    let (date, rest) = text.split_at_checked(19)?;
    let offset = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    // What jiff reads besides, such as a space for the `T`, Go does not.
    let is_plain = date.as_bytes().get(10) == Some(&b'T') && parsed.as_second() > i64::MIN;
    let offset = match offset {
        "Z" | "+00:00" => "Z",
        other if other.len() == 6 => other,
        _ => return None,
    };
    is_plain.then(|| format!("{date}{offset}"))
}

/// `.sops.yaml`: how files are to be encrypted, by their paths.
#[derive(Clone, Debug, Default)]
pub struct CreationRules(Vec<CreationRule>);

/// How some files are to be encrypted.
#[derive(Clone, Debug)]
pub struct CreationRule {
    /// The line on which it begins.
    pub line: u32,
    /// For whom: age's recipients as they are written.
    pub recipients: Vec<String>,
    pub(super) rule: Option<Rule>,
    pub(super) is_mac_of_encrypted: bool,
    path: Option<Regex>,
}

impl CreationRules {
    /// Reads the file; what can't be used of it is said with its place.
    pub(in crate::desired) fn read(text: &str) -> (Self, Vec<(At, String)>) {
        let mut rules = Vec::new();
        let mut wrong = Vec::new();
        for document in yaml::read(text) {
            for problem in document.problems {
                wrong.push((problem.at, problem.message));
            }
            let listed = document.root.as_ref().and_then(|root| root.get("creation_rules"));
            for item in listed.and_then(list).unwrap_or_default() {
                match CreationRule::read(item) {
                    Ok(rule) => rules.push(rule),
                    Err(why) => wrong.push((item.at, why.to_string())),
                }
            }
        }
        (Self(rules), wrong)
    }

    /// The rule for a file, by its path from the rules' own directory: the first that fits.
    pub fn of(&self, path: &str) -> Option<&CreationRule> {
        let fits = |rule: &&CreationRule| rule.path.as_ref().is_none_or(|r| r.is_match(path));
        self.0.iter().find(fits)
    }
}

impl std::str::FromStr for CreationRules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rules, wrong) = Self::read(text);
        match wrong.into_iter().next() {
            None => Ok(rules),
            Some((at, why)) => Err(format!("line {}: {why}", at.line)),
        }
    }
}

impl CreationRule {
    fn read(node: &Node<'_>) -> Result<Self, Unsealed> {
        let path = node.get_text("path_regex").filter(|text| !text.is_empty());
        let path = path.map(|text| {
            let wrong =
                |_| Unsealed::unfit(format!("path_regex {text:?} is no regular expression"));
            Regex::new(text).map_err(wrong)
        });
        let mut recipients = Vec::new();
        let groups = node.get("key_groups").and_then(list).unwrap_or_default();
        for part in std::iter::once(node).chain(groups) {
            match part.get("age").map(|age| &age.value) {
                Some(Value::Text(text)) => recipients.extend(text.split(',').map(str::to_owned)),
                Some(Value::List(items)) => {
                    recipients.extend(items.iter().filter_map(Node::as_text).map(str::to_owned));
                }
                _ => {}
            }
        }
        for recipient in &mut recipients {
            *recipient = recipient.trim().to_owned();
        }
        recipients.retain(|recipient| !recipient.is_empty());
        Ok(Self {
            line: node.at.line,
            path: path.transpose()?,
            recipients,
            rule: Rule::read(node)?,
            is_mac_of_encrypted: is_true(node, "mac_only_encrypted"),
        })
    }
}

/// The `sops` entry of a document.
pub(super) fn entry<'n, 'a>(root: &'n Node<'a>) -> Option<&'n Entry<'a>> {
    root.entry(super::ENTRY).filter(|entry| entry.node.value != Value::Null)
}
