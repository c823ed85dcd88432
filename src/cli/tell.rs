//! `notes` and `hooks` of `agent.yaml`: who is told what became of commits.

use std::path::PathBuf;

use serde::Deserialize;

use super::config::CredentialsFile;
use crate::adapters::hooks::HookAccess;
use crate::agent::config::{Hook, HookKind};

/// More are a script gone wrong.
const HOOKS_MAX: usize = 20;

/// Notes on commits: written if this is there at all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotesFile {
    /// Their repository; the desired one where absent.
    pub url: Option<String>,
    /// What opens it for writing; what opens the desired one where absent.
    pub credentials: Option<CredentialsFile>,
}

/// One who is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HookFile {
    /// What the status calls it; its host where absent.
    pub name: Option<String>,
    /// Its address; `{commit}` stands for the commit's id.
    pub url: String,
    /// `generic`, `github` or `gitlab`.
    #[serde(default)]
    pub kind: Option<String>,
    /// A file with its token.
    pub token_file: Option<PathBuf>,
    /// Certificates to trust beside the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// A list of hooks, checked.
pub(super) fn hooks(files: &[HookFile]) -> Result<Vec<(Hook, HookAccess)>, Vec<String>> {
    if files.len() > HOOKS_MAX {
        return Err(vec![format!("hooks: has more than {HOOKS_MAX} of them")]);
    }
    let mut wrong = Vec::new();
    let mut read = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match hook(file) {
            Ok(hook) => read.push(hook),
            Err((field, complaint)) => wrong.push(format!("hooks[{index}].{field}: {complaint}")),
        }
    }
    if wrong.is_empty() { Ok(read) } else { Err(wrong) }
}

fn hook(file: &HookFile) -> Result<(Hook, HookAccess), (&'static str, String)> {
    let kind = match file.kind.as_deref() {
        None | Some("generic") => HookKind::Generic,
        Some("github") => HookKind::Github,
        Some("gitlab") => HookKind::Gitlab,
        Some(other) => {
            return Err(("kind", format!("'{other}' is none of generic, github, gitlab")));
        }
    };
    // The text is not shown: it may hold a secret.
    let url = url::Url::parse(&file.url).map_err(|error| ("url", error.to_string()))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err(("url", "must begin with https:// or http:// and a host".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("url", "must not hold a password: use tokenFile".to_owned()));
    }
    let is_near = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
    if url.scheme() == "http" && file.token_file.is_some() && !is_near {
        return Err(("url", "would send the token for everybody to read: use https://".to_owned()));
    }
    if kind != HookKind::Generic && !file.url.contains("{commit}") {
        return Err(("url", "must hold {commit}, which stands for the commit's id".to_owned()));
    }
    let name = file.name.clone().unwrap_or(format!("hook at {host}"));
    let access =
        HookAccess { kind, token_file: file.token_file.clone(), ca_file: file.ca_file.clone() };
    Ok((Hook { name, url: file.url.clone(), kind }, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_hook_is_said_without_its_address() {
        let table = [
            ("{url: 'https://chat.example.org/T0/secret'}", "hook at chat.example.org"),
            ("{url: 'http://127.0.0.1:9/x', tokenFile: /t}", "hook at 127.0.0.1"),
            ("{url: 'https://h/{commit}', kind: gitlab, name: lab}", "lab"),
            ("{url: 'https://h/x', kind: github}", "hooks[0].url: must hold {commit}"),
            ("{url: 'https://h/x', kind: slack}", "hooks[0].kind: 'slack' is none of generic"),
            ("{url: 'http://h/x', tokenFile: /t}", "hooks[0].url: would send the token"),
            ("{url: 'https://me:secret@h/x'}", "hooks[0].url: must not hold a password"),
            ("{url: 'ftp://h/x'}", "hooks[0].url: must begin with https://"),
            ("{url: 'nonsense-secret'}", "hooks[0].url: relative URL without a base"),
        ];
        for (text, expected) in table {
            let file: HookFile = serde_yaml::from_str(text).expect("a hook");
            let found = match hooks(&[file]) {
                Ok(hooks) => hooks[0].0.name.clone(),
                Err(complaints) => complaints.join("; "),
            };
            assert!(found.starts_with(expected) && !found.contains("secret"), "{text}: {found}");
        }
    }
}
