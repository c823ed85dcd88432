//! This node's keys, and the encrypted Secrets that its pods need, opened by them.
//!
//! A strongbox that is opened for those who live in the house and for nobody else: what no pod here
//! needs stays as the commit has it, and what none needs any more is forgotten. The keys are read at
//! the start and looked for again, so that one put there later opens what waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::desired::sealed;
use crate::kinds::age::{Keyring, Sealed};
use crate::kinds::config::Secret;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::time::{Elapsed, Now};
use crate::node::{self, Around};
use crate::ports::{Answer, Call, Fault};

use super::{Agent, Purpose};

/// How often the keys are looked at.
const LOOK: Duration = Duration::from_secs(300);
/// The same while something here can't be opened.
const LOOK_IN_NEED: Duration = Duration::from_secs(20);
/// A file on this machine.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What this node can open, and what it has opened.
#[derive(Debug, Default)]
pub(super) struct Vault {
    /// Its keys; absent until they were looked for.
    keyring: Option<Arc<Keyring>>,
    opened: BTreeMap<Key, Opened>,
    look_at: Option<Elapsed>,
    is_looking: bool,
}

/// A Secret, opened or not, and from what.
#[derive(Clone, Debug)]
struct Opened {
    from: Arc<Sealed>,
    result: Result<Arc<Secret>, String>,
}

impl Vault {
    pub(super) fn keyring(&self) -> Option<&Arc<Keyring>> {
        self.keyring.as_ref()
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        self.look_at.filter(|_| !self.is_looking)
    }
}

impl Agent {
    pub(super) fn tend_secrets(&mut self, now: Now) {
        let is_due = self.vault.look_at.is_none_or(|at| at <= now.elapsed);
        if is_due && !self.vault.is_looking {
            self.vault.is_looking = true;
            self.call(Purpose::Keyring, Call::Keyring, READ_TIMEOUT);
        }
    }

    pub(super) fn keyring_read(&mut self, result: Result<Answer, Fault>, now: Now) {
        let vault = &mut self.vault;
        vault.is_looking = false;
        let keyring = match result {
            Ok(Answer::Keyring(keyring)) => keyring,
            Ok(_) => Arc::default(),
            Err(fault) => Arc::new(Keyring { trouble: Some(fault.message), ..Keyring::default() }),
        };
        let is_news = vault.keyring.as_ref().is_none_or(|known| !known.is_same(&keyring));
        if is_news {
            vault.keyring = Some(keyring);
            vault.opened.clear();
            self.host_needs_look();
            self.refresh_facts(now);
        }
        let is_in_need = self.vault.opened.values().any(|opened| opened.result.is_err());
        self.vault.look_at = Some(now.elapsed + if is_in_need { LOOK_IN_NEED } else { LOOK });
    }

    /// What the pods here need of what is encrypted.
    pub(super) fn opened(&mut self, around: &Around, now: Now) -> BTreeMap<Key, OpenedSecret> {
        let Some(keyring) = self.vault.keyring.clone() else { return BTreeMap::new() };
        let mut wanted: BTreeMap<Key, Arc<Secret>> = BTreeMap::new();
        for pod in self.host.pods().values() {
            let Some(template) = &pod.template else { continue };
            let namespace = &pod.binding.key.namespace;
            for name in node::secrets_of(&template.spec, namespace, around) {
                let key = Key::namespaced(Kind::Secret, namespace, &name);
                let found = around.desired.values().find_map(|desired| desired.objects.get(&key));
                if let Some(Body::Secret(secret)) = found.map(|object| &object.body)
                    && secret.sealed.is_some()
                {
                    wanted.insert(key, Arc::clone(secret));
                }
            }
        }
        let before = std::mem::take(&mut self.vault.opened);
        for (key, secret) in wanted {
            let Some(from) = secret.sealed.clone() else { continue };
            let known = before.get(&key).filter(|known| known.from == from).cloned();
            let opened = known.unwrap_or_else(|| {
                let result = sealed::open(&secret, &keyring).map(Arc::new);
                let result = result.map_err(|why| format!("can't be decrypted here: {why}"));
                if let Err(why) = &result {
                    tracing::warn!(secret = %key, why, "a Secret that a pod here needs can't be decrypted");
                }
                Opened { from, result }
            });
            if opened.result.is_err() {
                // Somebody may put the key there.
                let soon = now.elapsed + LOOK_IN_NEED;
                self.vault.look_at = self.vault.look_at.map(|at| at.min(soon));
            }
            self.vault.opened.insert(key, opened);
        }
        let opened = self.vault.opened.iter();
        opened.map(|(key, opened)| (key.clone(), opened.result.clone())).collect()
    }
}

/// An encrypted Secret as a pod finds it: open, or why not.
type OpenedSecret = Result<Arc<Secret>, String>;
