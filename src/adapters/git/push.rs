//! One push of one ref that must still be where somebody saw it.
//!
//! - The old value is compared twice: by us before anything is sent, with the list that the push
//!   itself got, and by the server under its lock, which is sent that value.
//! - One ref per push: servers don't move several together.
//! - A push that says nothing, or fails late, has told nothing: who needs to know reads the ref again.

use std::cell::{Cell, RefCell};

use git2::{Error, ErrorClass, ErrorCode, Oid, PushOptions, Repository};

use super::access::{Access, Notes, proxy};
use crate::ports::Fault;

/// How a push ended, as far as it tells.
pub(super) enum Pushed {
    /// The server has set the ref.
    Accepted,
    /// The ref was not what it should have been; nothing was sent.
    Conflict(Option<Oid>),
    /// The server said no, for this reason.
    Rejected(String),
    /// Something failed; whether anything had been sent by then.
    Failed { fault: Fault, sent: bool },
}

impl Access {
    /// Pushes `refspec`, whose ref must still be `base` there, or not be there at all.
    pub(super) fn push(&self, repo: &Repository, refspec: &str, base: Option<Oid>) -> Pushed {
        let sent = Cell::new(false);
        let pushed = self.connected(|notes| {
            Ok::<_, Fault>(self.push_connected(repo, refspec, base, notes, &sent))
        });
        match pushed {
            Ok(pushed) => pushed,
            Err(fault) => Pushed::Failed { fault, sent: sent.get() },
        }
    }

    fn push_connected(
        &self,
        repo: &Repository,
        refspec: &str,
        base: Option<Oid>,
        notes: &Notes,
        sent: &Cell<bool>,
    ) -> Pushed {
        let expected = base.unwrap_or(Oid::ZERO_SHA1);
        let conflict = Cell::new(None);
        // What the server said of the ref: nothing yet, yes, or no and why.
        let said: RefCell<Option<Option<String>>> = RefCell::new(None);
        let outcome = (|| {
            let mut remote = repo.remote_anonymous(&self.place.to_string())?;
            let mut callbacks = self.callbacks(notes);
            callbacks.push_update_reference(|_name, status| {
                *said.borrow_mut() = Some(status.map(str::to_owned));
                Ok(())
            });
            callbacks.push_negotiation(|updates| {
                // `src` is what the server has.
                if let Some(moved) = updates.iter().find(|update| update.src() != expected) {
                    conflict.set(Some(moved.src()));
                    let why = "the ref has moved";
                    return Err(Error::new(ErrorCode::Modified, ErrorClass::Reference, why));
                }
                sent.set(true);
                Ok(())
            });
            let mut options = PushOptions::new();
            options.remote_callbacks(callbacks).proxy_options(proxy()).packbuilder_parallelism(1);
            remote.push(&[refspec], Some(&mut options))
        })();
        if let Some(theirs) = conflict.get() {
            return Pushed::Conflict((!theirs.is_zero()).then_some(theirs));
        }
        match (outcome, said.into_inner()) {
            (Ok(()), Some(None)) => Pushed::Accepted,
            (_, Some(Some(reason))) => Pushed::Rejected(reason),
            (Ok(()), None) => Pushed::Rejected("the server said nothing of it".to_owned()),
            (Err(error), _) => {
                Pushed::Failed { fault: notes.explain(&error, &self.place), sent: sent.get() }
            }
        }
    }
}
