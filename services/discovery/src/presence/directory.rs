//! The directory of one process: its sockets, every peer that is online anywhere, and what each socket was shown. Who is to be shown what lives
//! in `audience`, what other replicas tell in `remote`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Meta, Profile, ReplicaId, Told, remote::Heard};
use crate::{name::Name, phoenix::Serializer, socket::Outgoing};

/// A socket of this process.
pub type SocketId = u64;

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets of this process.
    pub sockets: usize,
    /// Sockets of one account in this process.
    pub per_account: usize,
    /// Up to so many peers online, everybody is told of every public peer.
    pub lobby: usize,
    /// After how much silence a replica is gone.
    pub replica_timeout: Duration,
}

/// There are as many sockets as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// Of this account.
    OfAccount,
    /// Of all.
    OfAll,
}

/// What opens a socket in the directory.
pub struct Opened {
    /// Whose it is.
    pub name: Name,
    /// The session of its token.
    pub session: Option<Uuid>,
    /// Where frames for its client go.
    pub outgoing: Outgoing,
    /// How they are written.
    pub serializer: Serializer,
    /// Rung when messages wait for it.
    pub wake: Arc<Notify>,
}

pub(super) struct Local {
    pub opened: Opened,
    pub is_joined: bool,
    /// Whom it was shown.
    pub shown: HashSet<Name>,
}

pub(super) struct Online {
    pub meta: Meta,
    pub profile: Arc<Profile>,
    /// Where it has sockets.
    pub at: HashSet<ReplicaId>,
    /// The sockets of this process that it was shown to.
    pub shown_to: HashSet<SocketId>,
}

/// The directory.
pub struct Directory {
    pub(super) replica: ReplicaId,
    pub(super) limits: Limits,
    next: SocketId,
    pub(super) sockets: HashMap<SocketId, Local>,
    pub(super) by_name: HashMap<Name, HashSet<SocketId>>,
    /// Joined sockets by the contacts of their peers.
    pub(super) followers: HashMap<Name, HashSet<SocketId>>,
    pub(super) online: HashMap<Name, Online>,
    pub(super) replicas: HashMap<ReplicaId, Heard>,
    /// Own peers of which the other replicas have to be told.
    dirty: HashSet<Name>,
    /// Own peers of which it has to be read what they have chosen.
    stale: HashSet<Name>,
    /// How often the others were told.
    sequence: u64,
}

impl Directory {
    /// An empty one.
    pub fn new(replica: ReplicaId, limits: Limits) -> Self {
        Self {
            replica,
            limits,
            next: 0,
            sockets: HashMap::new(),
            by_name: HashMap::new(),
            followers: HashMap::new(),
            online: HashMap::new(),
            replicas: HashMap::new(),
            dirty: HashSet::new(),
            stale: HashSet::new(),
            sequence: 0,
        }
    }

    /// Takes a socket in. It is not online before it has joined.
    ///
    /// # Errors
    /// When there are as many as may be.
    pub fn open(&mut self, opened: Opened) -> Result<SocketId, TooMany> {
        if self.sockets.len() >= self.limits.sockets {
            return Err(TooMany::OfAll);
        }
        let own = self.by_name.entry(opened.name.clone()).or_default();
        if own.len() >= self.limits.per_account {
            return Err(TooMany::OfAccount);
        }
        self.next += 1;
        own.insert(self.next);
        self.sockets.insert(self.next, Local { opened, is_joined: false, shown: HashSet::new() });
        Ok(self.next)
    }

    /// A socket joins: its peer is online, and it is shown whom it may see. `meta` counts if the peer was not online.
    pub fn join(&mut self, socket: SocketId, profile: Profile, meta: Meta) {
        let Some(local) = self.sockets.get_mut(&socket) else { return };
        if local.is_joined {
            return;
        }
        let name = local.opened.name.clone();
        // Its other sockets learn what it has chosen since they joined.
        self.set_profile(&name, profile.clone());
        let Some(local) = self.sockets.get_mut(&socket) else { return };
        local.is_joined = true;
        let profile = Arc::new(profile);
        for contact in &profile.contacts {
            self.followers.entry(contact.clone()).or_default().insert(socket);
        }
        let replica = self.replica;
        let online = self.online.entry(name.clone()).or_insert_with(|| Online {
            meta,
            profile: Arc::clone(&profile),
            at: HashSet::new(),
            shown_to: HashSet::new(),
        });
        online.profile = profile;
        if online.at.insert(replica) {
            self.dirty.insert(name.clone());
        }
        self.greet(socket, &name);
        self.show(&name);
    }

    /// A socket leaves the channel or is gone; the last of its peer takes it offline.
    pub fn leave(&mut self, socket: SocketId) {
        let Some(local) = self.sockets.get_mut(&socket) else { return };
        if !std::mem::take(&mut local.is_joined) {
            return;
        }
        let name = local.opened.name.clone();
        let shown = std::mem::take(&mut local.shown);
        for other in shown {
            if let Some(online) = self.online.get_mut(&other) {
                online.shown_to.remove(&socket);
            }
        }
        self.unfollow(socket, &name);
        let is_here = self.by_name.get(&name).is_some_and(|own| self.any_joined(own));
        if !is_here {
            self.gone_from(&name, self.replica);
            self.dirty.insert(name);
        }
    }

    fn any_joined(&self, sockets: &HashSet<SocketId>) -> bool {
        sockets.iter().any(|socket| self.sockets.get(socket).is_some_and(|local| local.is_joined))
    }

    fn unfollow(&mut self, socket: SocketId, name: &Name) {
        let Some(online) = self.online.get(name) else { return };
        for contact in &online.profile.contacts {
            if let Some(followers) = self.followers.get_mut(contact) {
                followers.remove(&socket);
                if followers.is_empty() {
                    self.followers.remove(contact);
                }
            }
        }
    }

    /// Takes a socket out.
    pub fn close(&mut self, socket: SocketId) {
        self.leave(socket);
        let Some(local) = self.sockets.remove(&socket) else { return };
        if let Some(own) = self.by_name.get_mut(&local.opened.name) {
            own.remove(&socket);
            if own.is_empty() {
                self.by_name.remove(&local.opened.name);
            }
        }
    }

    /// A peer has no socket at `replica` any more.
    pub(super) fn gone_from(&mut self, name: &Name, replica: ReplicaId) {
        let Some(online) = self.online.get_mut(name) else { return };
        online.at.remove(&replica);
        if !online.at.is_empty() {
            return;
        }
        let Some(gone) = self.online.remove(name) else { return };
        for socket in &gone.shown_to {
            if let Some(local) = self.sockets.get_mut(socket) {
                local.shown.remove(name);
            }
        }
        self.push(gone.shown_to.iter().copied(), "presence_diff", &left(name, &gone.meta));
    }

    /// A peer of this process has chosen otherwise.
    pub fn set_profile(&mut self, name: &Name, profile: Profile) {
        let own: Vec<_> = self.by_name.get(name).into_iter().flatten().copied().collect();
        let joined: Vec<_> = own
            .into_iter()
            .filter(|socket| self.sockets.get(socket).is_some_and(|local| local.is_joined))
            .collect();
        if joined.is_empty() || self.online.get(name).is_none_or(|online| *online.profile == profile) {
            return;
        }
        for socket in &joined {
            self.unfollow(*socket, name);
            for contact in &profile.contacts {
                self.followers.entry(contact.clone()).or_default().insert(*socket);
            }
        }
        if let Some(online) = self.online.get_mut(name) {
            online.profile = Arc::new(profile);
        }
        self.dirty.insert(name.clone());
        self.show(name);
        for socket in joined {
            self.look_again(socket, name);
        }
    }

    /// A peer has chosen otherwise; whether it is of this process, so that it has to be read what.
    pub fn mark_stale(&mut self, name: &Name) -> bool {
        let is_here = self.online.get(name).is_some_and(|online| online.at.contains(&self.replica));
        if is_here {
            self.stale.insert(name.clone());
        }
        is_here
    }

    /// The peers of which it has to be read what they have chosen.
    pub fn take_stale(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.stale).into_iter().collect()
    }

    /// Whether a peer is online anywhere.
    pub fn is_online(&self, name: &Name) -> bool {
        self.online.contains_key(name)
    }

    /// What a peer that is online has chosen.
    pub fn profile(&self, name: &Name) -> Option<Arc<Profile>> {
        self.online.get(name).map(|online| Arc::clone(&online.profile))
    }

    /// Hands a frame to every joined socket of a peer in this process; gives the other replicas where it is online.
    pub fn forward(&self, name: &Name, event: &str, payload: &Value) -> Vec<ReplicaId> {
        let joined = self.joined(name);
        self.push(joined, event, payload);
        let at = self.online.get(name).into_iter().flat_map(|online| &online.at);
        at.copied().filter(|replica| *replica != self.replica).collect()
    }

    /// Rings for messages that wait for a peer; gives the other replicas where it is online.
    pub fn wake(&self, name: &Name) -> Vec<ReplicaId> {
        for socket in self.joined(name) {
            if let Some(local) = self.sockets.get(&socket) {
                local.opened.wake.notify_one();
            }
        }
        let at = self.online.get(name).into_iter().flat_map(|online| &online.at);
        at.copied().filter(|replica| *replica != self.replica).collect()
    }

    pub(super) fn joined(&self, name: &Name) -> impl Iterator<Item = SocketId> {
        let own = self.by_name.get(name).into_iter().flatten().copied();
        own.filter(|socket| self.sockets.get(socket).is_some_and(|local| local.is_joined))
    }

    /// Closes the sockets of these sessions.
    pub fn end_sessions(&self, sessions: &[Uuid]) {
        for local in self.sockets.values() {
            if local.opened.session.is_some_and(|session| sessions.contains(&session)) {
                local.opened.outgoing.close(crate::socket::Close::SessionEnded);
            }
        }
    }

    /// The sessions that sockets of this process belong to.
    pub fn sessions(&self) -> HashSet<Uuid> {
        self.sockets.values().filter_map(|local| local.opened.session).collect()
    }

    /// The peers that are online in this process.
    pub fn own_names(&self) -> Vec<Name> {
        let here = |online: &Online| online.at.contains(&self.replica);
        self.online.iter().filter(|(_, online)| here(online)).map(|(name, _)| name.clone()).collect()
    }

    /// How many sockets there are.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Whether the other replicas have to be told something.
    pub fn has_news(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What the other replicas have to be told: who came or changed, who is gone, and how often they were told.
    pub fn take_news(&mut self) -> Option<(Vec<Told>, Vec<Name>, u64)> {
        if self.dirty.is_empty() {
            return None;
        }
        let (here, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.dirty)
            .into_iter()
            .partition(|name| self.online.get(name).is_some_and(|online| online.at.contains(&self.replica)));
        self.sequence += 1;
        Some((here.into_iter().filter_map(|name| self.told(name)).collect(), gone, self.sequence))
    }

    /// All that the other replicas have to know, and how often they were told.
    pub fn everything(&mut self) -> (Vec<Told>, u64) {
        self.dirty.clear();
        self.sequence += 1;
        (self.own_names().into_iter().filter_map(|name| self.told(name)).collect(), self.sequence)
    }

    /// How often the other replicas were told.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn told(&self, name: Name) -> Option<Told> {
        let online = self.online.get(&name)?;
        Some(Told { name, meta: online.meta.clone(), profile: (*online.profile).clone() })
    }

    /// Writes a frame once for each way of writing, and hands it to these sockets.
    pub(super) fn push(&self, sockets: impl Iterator<Item = SocketId>, event: &str, payload: &Value) {
        let mut written: HashMap<Serializer, String> = HashMap::new();
        for socket in sockets {
            if let Some(Local { opened, .. }) = self.sockets.get(&socket) {
                let write = || opened.serializer.push(event, payload);
                let frame = written.entry(opened.serializer).or_insert_with(write);
                opened.outgoing.text(frame);
            }
        }
    }
}

/// What is told when a peer comes.
pub(super) fn came(name: &Name, meta: &Meta) -> Value {
    json!({"joins": {name.as_str(): {"metas": [meta]}}, "leaves": {}})
}

/// What is told when it is gone.
pub(super) fn left(name: &Name, meta: &Meta) -> Value {
    json!({"joins": {}, "leaves": {name.as_str(): {"metas": [meta]}}})
}
