//! Who is shown whom. A socket is told that a peer left exactly if it was told that it came.

use serde_json::{Map, Value, json};

use super::{
    Directory, Profile, SocketId, Visibility,
    directory::{came, left},
};
use crate::{name::Name, phoenix::Serializer};

impl Directory {
    /// Whether everybody is told of every public peer.
    fn is_lobby_small(&self) -> bool {
        self.online.len() <= self.limits.lobby
    }

    /// Whether `viewer`, with what it has chosen, is to be shown `peer`.
    fn sees(&self, (viewer, own): (&Name, &Profile), (peer, profile): (&Name, &Profile)) -> bool {
        if viewer == peer {
            return true;
        }
        if own.blocked.contains(peer) || !profile.lets_see(viewer) {
            return false;
        }
        profile.visibility != Visibility::Public || self.is_lobby_small() || own.contacts.contains(peer)
    }

    /// Sockets that may have to be shown a peer, or not any more.
    fn candidates(&self, peer: &Name, profile: &Profile) -> Vec<SocketId> {
        if profile.visibility == Visibility::Public && self.is_lobby_small() {
            return self.sockets.iter().filter(|(_, local)| local.is_joined).map(|(id, _)| *id).collect();
        }
        let contacts = profile.contacts.iter().flat_map(|contact| self.joined(contact));
        let followers = self.followers.get(peer).into_iter().flatten().copied();
        let shown = self.online.get(peer).into_iter().flat_map(|online| online.shown_to.iter().copied());
        let mut all: Vec<_> = self.joined(peer).chain(contacts).chain(followers).chain(shown).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Shows a peer to those who may see it and were not shown it, and takes it from those who may not see it any more.
    pub(super) fn show(&mut self, peer: &Name) {
        let Some(online) = self.online.get(peer) else { return };
        let (meta, profile) = (online.meta.clone(), std::sync::Arc::clone(&online.profile));
        let (mut show, mut hide) = (Vec::new(), Vec::new());
        for socket in self.candidates(peer, &profile) {
            let Some(local) = self.sockets.get(&socket) else { continue };
            let viewer = &local.opened.name;
            let Some(own) = self.online.get(viewer) else { continue };
            let was_shown = local.shown.contains(peer);
            match (self.sees((viewer, &own.profile), (peer, &profile)), was_shown) {
                (true, false) => show.push(socket),
                // A public peer is not taken away again because more have come.
                (false, true) if !profile.lets_see(viewer) || own.profile.blocked.contains(peer) => {
                    hide.push(socket);
                }
                _ => {}
            }
        }
        self.mark(peer, &show, &hide);
        self.push(show.into_iter(), "presence_diff", &came(peer, &meta));
        self.push(hide.into_iter(), "presence_diff", &left(peer, &meta));
    }

    fn mark(&mut self, peer: &Name, show: &[SocketId], hide: &[SocketId]) {
        let Some(online) = self.online.get_mut(peer) else { return };
        for socket in show {
            online.shown_to.insert(*socket);
            if let Some(local) = self.sockets.get_mut(socket) {
                local.shown.insert(peer.clone());
            }
        }
        for socket in hide {
            online.shown_to.remove(socket);
            if let Some(local) = self.sockets.get_mut(socket) {
                local.shown.remove(peer);
            }
        }
    }

    /// Shows a socket that joins whom it may see, itself among them: as one difference, or as the state that clients of version 2 begin with.
    pub(super) fn greet(&mut self, socket: SocketId, viewer: &Name) {
        let Some(own) = self.online.get(viewer).map(|online| std::sync::Arc::clone(&online.profile)) else {
            return;
        };
        let mut seen: Vec<Name> = Vec::new();
        if self.is_lobby_small() {
            seen.extend(self.online.keys().cloned());
        } else {
            seen.extend(own.contacts.iter().cloned());
            // Peers that let only their contacts see them, and this one is one.
            let named = |profile: &Profile| profile.visibility == Visibility::Contacts;
            let shy = self.online.iter().filter(|(_, online)| named(&online.profile));
            seen.extend(shy.map(|(name, _)| name.clone()));
            seen.push(viewer.clone());
            seen.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
            seen.dedup();
        }
        let mut joins = Map::new();
        seen.retain(|peer| {
            let Some(online) = self.online.get(peer) else { return false };
            let sees = self.sees((viewer, &own), (peer, &online.profile));
            if sees {
                joins.insert(peer.as_str().to_owned(), json!({"metas": [online.meta]}));
            }
            sees
        });
        for peer in &seen {
            self.mark(peer, &[socket], &[]);
        }
        let Some(local) = self.sockets.get(&socket) else { return };
        let (event, payload) = match local.opened.serializer {
            Serializer::V1 => ("presence_diff", json!({"joins": joins, "leaves": {}})),
            Serializer::V2 => ("presence_state", Value::Object(joins)),
        };
        self.push(std::iter::once(socket), event, &payload);
    }

    /// After its own choice has changed, a socket may see more or fewer.
    pub(super) fn look_again(&mut self, socket: SocketId, viewer: &Name) {
        let Some(own) = self.online.get(viewer).map(|online| std::sync::Arc::clone(&online.profile)) else {
            return;
        };
        let Some(local) = self.sockets.get(&socket) else { return };
        let known = local.shown.iter().chain(&own.contacts).chain(&own.blocked);
        let mut others: Vec<_> = known.filter(|name| *name != viewer).cloned().collect();
        if self.is_lobby_small() {
            others.extend(self.online.keys().filter(|name| *name != viewer).cloned());
        }
        for other in others {
            self.show(&other);
        }
    }
}
