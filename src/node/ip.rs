//! Which address a new pod gets: the next free one of the node's network, so that an address that
//! was just given back rests for as long as possible.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use crate::kinds::name::Uid;

use super::house::House;

/// The node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpPool {
    network: Option<Ipv4Network>,
    used: BTreeMap<Ipv4Addr, Uid>,
    last: Option<Ipv4Addr>,
}

impl IpPool {
    /// Takes the network, and the addresses that pods here have already.
    pub(crate) fn learn(
        &mut self,
        network: Option<Ipv4Network>,
        houses: &BTreeMap<Uid, House<'_>>,
    ) {
        self.network = network;
        for (uid, house) in houses {
            if let Some(ip) = house.ip() {
                self.used.entry(ip).or_insert_with(|| uid.clone());
            }
        }
    }

    /// An address for a pod: the one it has, or the next free one. None if the network is not
    /// allotted yet, or full.
    pub fn take(&mut self, uid: &Uid) -> Option<Ipv4Addr> {
        if let Some((ip, _)) = self.used.iter().find(|(_, owner)| *owner == uid) {
            return Some(*ip);
        }
        let network = self.network?;
        // The network's own and the broadcast address are left out, and the first one, which other
        // plugins use as gateway.
        let first = u32::from(network.network()).checked_add(2)?;
        let count = u32::from(network.broadcast()).checked_sub(first)?;
        let start = self.last.map_or(0, |last| u32::from(last).wrapping_sub(first).wrapping_add(1));
        let ip = (0..count)
            .map(|step| Ipv4Addr::from(first + start.wrapping_add(step) % count))
            .find(|ip| !self.used.contains_key(ip))?;
        self.last = Some(ip);
        self.used.insert(ip, uid.clone());
        Some(ip)
    }

    /// Takes a pod's address back.
    pub fn give_back(&mut self, uid: &Uid) {
        self.used.retain(|_, owner| owner != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_rests_before_it_is_given_again() {
        let network = "10.244.1.0/29".parse().expect("a network");
        let mut pool = IpPool { network: Some(network), ..IpPool::default() };
        let uid = |n: u8| Uid::trusted(&n.to_string());
        let ip = |last: u8| Some(Ipv4Addr::new(10, 244, 1, last));
        assert_eq!(pool.take(&uid(1)), ip(2));
        assert_eq!(pool.take(&uid(1)), ip(2), "one pod, one address");
        assert_eq!(pool.take(&uid(2)), ip(3));
        pool.give_back(&uid(1));
        assert_eq!(pool.take(&uid(3)), ip(4), "not the one just given back");
        for n in 4..6 {
            pool.take(&uid(n));
        }
        assert_eq!(pool.take(&uid(6)), ip(2), "all others are taken");
        assert_eq!(pool.take(&uid(7)), None, "full");
    }
}
