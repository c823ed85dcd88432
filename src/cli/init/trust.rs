//! Whom a node is to trust: the `trust.yaml` that the first node of a fleet finds, and whether the
//! newest commit is good by it.

use std::path::Path;

use super::token::Common;
use crate::adapters::git::{Source, SourceConfig};
use crate::cli::common::TRUST;
use crate::cli::config::Loaded;
use crate::desired::trust::{self, Distrust, TRUST_FILE};
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::ports::Fault;
use crate::ports::source::{Answer, Call};

/// Has the settings name the `trust.yaml` that is there; what to know of it.
pub(super) async fn pin(common: &mut Common, loaded: &Loaded, scratch: &Path) -> Option<String> {
    // A repository that can't be reached is told of by the checks.
    let found = found(loaded, scratch).await.ok().flatten()?;
    let fingerprint = trust::fingerprint(&found);
    common.settings.fields.insert(TRUST.to_owned(), fingerprint.clone());
    Some(format!(
        "{TRUST_FILE} with the fingerprint {fingerprint} is trusted from now on; whoever keeps it \
         should know that number"
    ))
}

fn open(loaded: &Loaded, scratch: &Path) -> Result<Source, Fault> {
    let desired = &loaded.file.desired;
    Source::open(SourceConfig {
        branch: desired.branch.clone(),
        directory: desired.directory.clone(),
        credentials: loaded.credentials.clone(),
        tags: true,
        ..SourceConfig::new(&desired.url, scratch.join("desired.git"))
    })
}

async fn tip(source: &Source) -> Result<Option<Oid>, Fault> {
    match source.perform(Call::Fetch).await? {
        Answer::Fetched { tip, .. } => Ok(tip),
        _ => Err(Fault::stalled("the repository answered another question")),
    }
}

async fn found(loaded: &Loaded, scratch: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let source = open(loaded, scratch)?;
    let Some(commit) = tip(&source).await? else { return Ok(None) };
    let show = Call::Show { commit, path: TRUST_FILE.to_owned() };
    match source.perform(show).await {
        Ok(Answer::Contents(files)) => Ok(files.first().map(|file| file.bytes.to_vec())),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Whether the newest commit is good by what is pinned.
pub(super) async fn check(loaded: &Loaded, pin: Digest, scratch: &Path) -> Result<String, Fault> {
    let source = open(loaded, scratch)?;
    let Some(commit) = tip(&source).await? else {
        return Ok("nothing is committed yet".to_owned());
    };
    let (file, known) = (TRUST_FILE.to_owned(), Vec::new());
    let call = Call::Lineage { commit: commit.clone(), file, pin, root: None, known };
    let Answer::Lineage(lineage) = source.perform(call).await? else {
        return Err(Fault::stalled("the repository answered another question"));
    };
    match trust::vouch(&lineage, &pin) {
        Ok(vouched) => Ok(format!("commit {} is signed by {}", commit.short(), vouched.signer)),
        Err(refusal) if refusal.why == Distrust::NoRoot => Err(Fault::stalled(format!(
            "no commit of the branch has the {TRUST_FILE} with the fingerprint sha256:{pin}; {}",
            refusal.why.hint()
        ))),
        Err(refusal) => Err(Fault::stalled(format!("commit {}: {refusal}", commit.short()))),
    }
}
