//! What other replicas tell: who is online there. A replica that is silent is gone, and its peers with it.

use std::{collections::HashSet, sync::Arc, time::Instant};

use super::{Directory, ReplicaId, Told, directory::Online};
use crate::name::Name;

/// What was heard of a replica.
pub(super) struct Heard {
    pub at: Instant,
    /// How often it had told the others.
    pub sequence: u64,
    pub names: HashSet<Name>,
}

impl Directory {
    /// A replica tells who is there, all of it.
    pub fn replica_state(&mut self, replica: ReplicaId, peers: Vec<Told>, sequence: u64) {
        if replica == self.replica {
            return;
        }
        let names: HashSet<Name> = peers.iter().map(|told| told.name.clone()).collect();
        let before = self.replicas.get(&replica).map(|heard| heard.names.clone()).unwrap_or_default();
        for name in before.difference(&names) {
            self.gone_from(name, replica);
        }
        self.replicas.insert(replica, Heard { at: Instant::now(), sequence, names });
        for told in peers {
            self.there(replica, told);
        }
    }

    /// A replica tells what is new. Whether it is what comes after the last that was heard of it; else its state has to be asked for.
    pub fn replica_news(
        &mut self,
        replica: ReplicaId,
        joins: Vec<Told>,
        leaves: Vec<Name>,
        sequence: u64,
    ) -> bool {
        if replica == self.replica {
            return true;
        }
        let Some(heard) = self.replicas.get_mut(&replica) else { return false };
        if sequence <= heard.sequence {
            return true;
        }
        let is_next = heard.sequence + 1 == sequence;
        heard.at = Instant::now();
        heard.sequence = sequence;
        for told in &joins {
            heard.names.insert(told.name.clone());
        }
        for name in &leaves {
            heard.names.remove(name);
        }
        for name in leaves {
            self.gone_from(&name, replica);
        }
        for told in joins {
            self.there(replica, told);
        }
        is_next
    }

    /// A replica says that it is alive. Whether all that it told was heard.
    pub fn replica_alive(&mut self, replica: ReplicaId, sequence: u64) -> bool {
        if replica == self.replica {
            return true;
        }
        let Some(heard) = self.replicas.get_mut(&replica) else { return false };
        heard.at = Instant::now();
        heard.sequence == sequence
    }

    /// A replica is gone.
    pub fn replica_gone(&mut self, replica: ReplicaId) {
        let Some(heard) = self.replicas.remove(&replica) else { return };
        for name in heard.names {
            self.gone_from(&name, replica);
        }
    }

    /// Lets go of replicas that were silent for too long; how many.
    pub fn expire_replicas(&mut self) -> usize {
        let limit = self.limits.replica_timeout;
        let silent: Vec<_> = self
            .replicas
            .iter()
            .filter(|(_, heard)| heard.at.elapsed() > limit)
            .map(|(replica, _)| *replica)
            .collect();
        for replica in &silent {
            self.replica_gone(*replica);
        }
        silent.len()
    }

    /// How many other replicas there are.
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    fn there(&mut self, replica: ReplicaId, told: Told) {
        let Told { name, meta, profile } = told;
        let profile = Arc::new(profile);
        let online = self.online.entry(name.clone()).or_insert_with(|| Online {
            meta,
            profile: Arc::clone(&profile),
            at: HashSet::new(),
            shown_to: HashSet::new(),
        });
        online.at.insert(replica);
        // Where the peer has sockets of ours too, what our database says counts.
        if !online.at.contains(&self.replica) {
            online.profile = profile;
        }
        self.show(&name);
    }
}
