//! How many connections each network holds: one that holds too many is refused more, so that nobody else waits for it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// A caller as limits see one: its network, in one number. Never logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(pub u128);

/// How many bits of an address make a network.
#[derive(Debug, Clone, Copy)]
pub struct Prefixes {
    /// Of an IPv4 address, at most 32.
    pub ipv4: u8,
    /// Of an IPv6 address, at most 128.
    pub ipv6: u8,
}

impl Prefixes {
    /// The network of an address.
    pub fn network(self, address: IpAddr) -> Network {
        let (bits, prefix) = match address.to_canonical() {
            // Within the range that IPv6 keeps for them, so that no network of the one kind is one of the other.
            IpAddr::V4(address) => (u128::from(address.to_ipv6_mapped()), 96 + self.ipv4.min(32)),
            IpAddr::V6(address) => (u128::from(address), self.ipv6.min(128)),
        };
        Network(bits & u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0))
    }
}

/// The connections of a gateway, counted.
#[derive(Debug, Clone)]
pub struct Networks {
    held: Arc<Mutex<HashMap<Network, usize>>>,
    most: usize,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    networks: Networks,
    network: Network,
}

impl Networks {
    /// At most so many connections for each network.
    pub fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    /// A place for a connection; none when its network has as many as it may.
    pub fn enter(&self, network: Network) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Place { networks: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.networks.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_prefix_are_one_network() {
        let prefixes = Prefixes { ipv4: 24, ipv6: 64 };
        let network = |text: &str| prefixes.network(text.parse().unwrap());
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.7"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[test]
    fn a_network_has_its_places_and_no_more_and_gives_them_back() {
        let networks = Networks::new(2);
        let (a, b) = (Network(1), Network(2));
        let first = networks.enter(a).unwrap();
        let second = networks.enter(a).unwrap();
        assert!(networks.enter(a).is_none());
        assert!(networks.enter(b).is_some());
        drop(first);
        let third = networks.enter(a).unwrap();
        drop((second, third));
        assert!(networks.held.lock().unwrap().is_empty());
    }
}
