//! The signature of an object, whichever kind it is of.

use super::{Distrust, openpgp, sshsig};

/// A signature.
#[derive(Debug)]
pub(super) enum Seal {
    Ssh(sshsig::Signature),
    OpenPgp(openpgp::Signature),
}

impl Seal {
    /// Reads one as it stands in an object.
    pub(super) fn read(armour: &str) -> Result<Self, Distrust> {
        if armour.starts_with(sshsig::BEGIN) {
            sshsig::Signature::read(armour).map(Self::Ssh).map_err(Distrust::Malformed)
        } else if armour.starts_with(openpgp::BEGIN) {
            openpgp::Signature::read(armour).map(Self::OpenPgp).map_err(Distrust::Malformed)
        } else {
            Err(Distrust::Foreign)
        }
    }
}
