//! Who coordinates: the one who writes says so in what it writes.

use crate::kinds::lease::Lease;

use super::work::Work;

/// Puts this agent's name on the register, if another's is there or its own has run out.
pub(super) fn take_lease(work: &mut Work) {
    let before = work.next.lease.as_ref();
    let is_mine = before.is_some_and(|lease| {
        lease.holder == work.input.me && lease.incarnation == work.input.incarnation
    });
    if is_mine && !work.input.takes_lease {
        return;
    }
    let term = before.map_or(0, |lease| lease.term) + 1;
    let unknown = before.map(|lease| lease.unknown.clone()).unwrap_or_default();
    work.next.lease = Some(Lease {
        holder: work.input.me.clone(),
        incarnation: work.input.incarnation.clone(),
        term,
        duration_s: work.input.lease_s,
        acquired: work.now.wall,
        released: false,
        unknown,
    });
    work.note(format!("{} coordinates, term {term}", work.input.me));
}
