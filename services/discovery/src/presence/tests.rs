//! Who is told of whom.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{phoenix::Serializer, socket::Outgoing};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn profile(visibility: Visibility, contacts: &[&str], blocked: &[&str]) -> Profile {
    let names = |some: &[&str]| some.iter().map(|text| name(text)).collect::<HashSet<_>>();
    Profile { visibility, contacts: names(contacts), blocked: names(blocked) }
}

fn meta(reference: &str) -> Meta {
    Meta { online_at: 1, phx_ref: reference.to_owned() }
}

fn directory(lobby: usize) -> Directory {
    let limits = Limits { sockets: 100, per_account: 2, lobby, replica_timeout: Duration::from_secs(30) };
    Directory::new(ReplicaId(Uuid::from_u128(1)), limits)
}

/// A socket with all that it was sent.
struct Client {
    id: SocketId,
    body: crate::socket::Body,
}

impl Client {
    fn open(directory: &mut Directory, who: &str) -> Self {
        let (outgoing, body) = Outgoing::new(1 << 20);
        let opened = Opened {
            name: name(who),
            session: None,
            outgoing,
            serializer: Serializer::V1,
            wake: Arc::default(),
        };
        Self { id: directory.open(opened).unwrap(), body }
    }

    fn join(directory: &mut Directory, who: &str, profile: Profile) -> Self {
        let client = Self::open(directory, who);
        directory.join(client.id, profile, meta(who));
        client
    }

    /// Who came and who left, by what came since the last call.
    fn told(&mut self) -> (Vec<String>, Vec<String>) {
        let mut bytes = Vec::new();
        while let Some(Some(Ok(chunk))) = self.body.next().now_or_never() {
            bytes.extend_from_slice(&chunk);
        }
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        let mut rest = bytes.as_slice();
        while let [_, length, ..] = rest {
            let (head, length) = match *length {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                length => (2, usize::from(length)),
            };
            let frame: Value = serde_json::from_slice(&rest[head..head + length]).unwrap();
            assert_eq!(frame["event"], "presence_diff");
            let names =
                |key: &str| frame["payload"][key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            joins.extend(names("joins"));
            leaves.extend(names("leaves"));
            rest = &rest[head + length..];
        }
        joins.sort();
        leaves.sort();
        (joins, leaves)
    }
}

fn told(joins: &[&str], leaves: &[&str]) -> (Vec<String>, Vec<String>) {
    let texts = |some: &[&str]| some.iter().map(|text| (*text).to_owned()).collect();
    (texts(joins), texts(leaves))
}

#[test]
fn public_peers_see_each_other_come_and_go() {
    let mut directory = directory(10);
    let mut ada = Client::join(&mut directory, "ada", profile(Visibility::Public, &[], &[]));
    assert_eq!(ada.told(), told(&["ada"], &[]));
    let mut bob = Client::join(&mut directory, "bob", profile(Visibility::Public, &[], &[]));
    assert_eq!(bob.told(), told(&["ada", "bob"], &[]));
    assert_eq!(ada.told(), told(&["bob"], &[]));
    directory.close(bob.id);
    assert_eq!(ada.told(), told(&[], &["bob"]));
    assert!(!directory.is_online(&name("bob")));
}

#[test]
fn the_last_socket_of_a_peer_takes_it_offline() {
    let mut directory = directory(10);
    let public = || profile(Visibility::Public, &[], &[]);
    let mut ada = Client::join(&mut directory, "ada", public());
    let first = Client::join(&mut directory, "bob", public());
    let second = Client::join(&mut directory, "bob", public());
    assert_eq!(ada.told(), told(&["ada", "bob"], &[]));
    directory.close(first.id);
    assert_eq!(ada.told(), told(&[], &[]));
    directory.leave(second.id);
    assert_eq!(ada.told(), told(&[], &["bob"]));
}

#[test]
fn presence_never_tells_more_than_its_owner_allows() {
    let mut directory = directory(10);
    let mut contact = Client::join(&mut directory, "contact", profile(Visibility::Public, &[], &[]));
    let mut other = Client::join(&mut directory, "other", profile(Visibility::Public, &[], &[]));
    contact.told();
    other.told();
    let shy = Client::join(&mut directory, "shy", profile(Visibility::Contacts, &["contact"], &[]));
    let hidden = Client::join(&mut directory, "hidden", profile(Visibility::Hidden, &["contact"], &[]));
    let cross = Client::join(&mut directory, "cross", profile(Visibility::Public, &[], &["other"]));
    assert_eq!(contact.told(), told(&["cross", "shy"], &[]));
    assert_eq!(other.told(), told(&[], &[]));
    // Nor does it tell that they left.
    for client in [shy, hidden, cross] {
        directory.close(client.id);
    }
    assert_eq!(contact.told(), told(&[], &["cross", "shy"]));
    assert_eq!(other.told(), told(&[], &[]));
}

#[test]
fn who_joins_later_sees_no_more_than_who_was_there() {
    let mut directory = directory(10);
    let _shy = Client::join(&mut directory, "shy", profile(Visibility::Contacts, &["contact"], &[]));
    let _hidden = Client::join(&mut directory, "hidden", profile(Visibility::Hidden, &[], &[]));
    let _cross = Client::join(&mut directory, "cross", profile(Visibility::Public, &[], &["other"]));
    let mut contact = Client::join(&mut directory, "contact", profile(Visibility::Public, &[], &[]));
    let mut other = Client::join(&mut directory, "other", profile(Visibility::Public, &[], &[]));
    assert_eq!(contact.told(), told(&["contact", "cross", "other", "shy"], &[]));
    assert_eq!(other.told(), told(&["contact", "other"], &[]));
}

#[test]
fn a_peer_that_hides_or_blocks_is_taken_from_those_who_saw_it() {
    let mut directory = directory(10);
    let public = || profile(Visibility::Public, &[], &[]);
    let mut ada = Client::join(&mut directory, "ada", public());
    let mut bob = Client::join(&mut directory, "bob", public());
    ada.told();
    bob.told();
    directory.set_profile(&name("ada"), profile(Visibility::Hidden, &[], &[]));
    assert_eq!(bob.told(), told(&[], &["ada"]));
    directory.set_profile(&name("ada"), public());
    assert_eq!(bob.told(), told(&["ada"], &[]));
    // Whom it blocks it does not see either.
    directory.set_profile(&name("ada"), profile(Visibility::Public, &[], &["bob"]));
    assert_eq!(bob.told(), told(&[], &["ada"]));
    assert_eq!(ada.told(), told(&[], &["bob"]));
    directory.set_profile(&name("ada"), public());
    assert_eq!((ada.told(), bob.told()), (told(&["bob"], &[]), told(&["ada"], &[])));
}

#[test]
fn above_the_lobbys_size_only_contacts_are_told() {
    let mut directory = directory(1);
    let mut ada = Client::join(&mut directory, "ada", profile(Visibility::Public, &["bob"], &[]));
    let bob = Client::join(&mut directory, "bob", profile(Visibility::Public, &[], &[]));
    let carol = Client::join(&mut directory, "carol", profile(Visibility::Public, &[], &[]));
    assert_eq!(ada.told(), told(&["ada", "bob"], &[]));
    directory.close(bob.id);
    directory.close(carol.id);
    assert_eq!(ada.told(), told(&[], &["bob"]));
}

#[test]
fn an_account_has_only_so_many_sockets() {
    let mut directory = directory(10);
    let _first = Client::open(&mut directory, "ada");
    let second = Client::open(&mut directory, "ada");
    let third = |directory: &mut Directory| {
        let (outgoing, _body) = Outgoing::new(1024);
        directory.open(Opened {
            name: name("ada"),
            session: None,
            outgoing,
            serializer: Serializer::V1,
            wake: Arc::default(),
        })
    };
    assert_eq!(third(&mut directory), Err(TooMany::OfAccount));
    directory.close(second.id);
    assert!(third(&mut directory).is_ok());
}

#[test]
fn peers_of_a_replica_that_is_silent_are_offline() {
    let limits = Limits { sockets: 10, per_account: 2, lobby: 10, replica_timeout: Duration::ZERO };
    let mut directory = Directory::new(ReplicaId(Uuid::from_u128(1)), limits);
    let other = ReplicaId(Uuid::from_u128(2));
    let mut ada = Client::join(&mut directory, "ada", profile(Visibility::Public, &[], &[]));
    let bob = Told { name: name("bob"), meta: meta("b"), profile: profile(Visibility::Public, &[], &[]) };
    directory.replica_state(other, vec![bob.clone()], 1);
    assert_eq!(ada.told(), told(&["ada", "bob"], &[]));
    assert_eq!(directory.forward(&name("bob"), "offer", &json!({})), [other]);
    assert_eq!(directory.expire_replicas(), 1);
    assert_eq!(ada.told(), told(&[], &["bob"]));
    // It comes back, and has to tell it all.
    assert!(!directory.replica_alive(other, 1));
    directory.replica_state(other, vec![bob], 2);
    assert_eq!(ada.told(), told(&["bob"], &[]));
}

#[test]
fn what_was_not_heard_of_a_replica_is_noticed() {
    let mut directory = directory(10);
    let other = ReplicaId(Uuid::from_u128(2));
    let peer =
        |who: &str| Told { name: name(who), meta: meta(who), profile: profile(Visibility::Public, &[], &[]) };
    assert!(!directory.replica_news(other, vec![peer("bob")], vec![], 1), "it is not known yet");
    directory.replica_state(other, vec![peer("bob")], 1);
    assert!(directory.replica_news(other, vec![peer("carol")], vec![name("bob")], 2));
    assert!(directory.is_online(&name("carol")) && !directory.is_online(&name("bob")));
    assert!(!directory.replica_alive(other, 3), "the third was not heard");
    directory.replica_state(other, vec![peer("bob")], 3);
    assert!(directory.replica_alive(other, 3));
    assert!(directory.is_online(&name("bob")) && !directory.is_online(&name("carol")));
    directory.replica_gone(other);
    assert!(!directory.is_online(&name("bob")));
}

#[test]
fn a_peer_with_sockets_at_two_replicas_leaves_with_the_last() {
    let mut directory = directory(10);
    let other = ReplicaId(Uuid::from_u128(2));
    let mut ada = Client::join(&mut directory, "ada", profile(Visibility::Public, &[], &[]));
    let bob = Client::join(&mut directory, "bob", profile(Visibility::Public, &[], &[]));
    let there = Told { name: name("bob"), meta: meta("x"), profile: profile(Visibility::Public, &[], &[]) };
    directory.replica_state(other, vec![there], 1);
    assert_eq!(ada.told(), told(&["ada", "bob"], &[]));
    directory.close(bob.id);
    assert_eq!(ada.told(), told(&[], &[]));
    directory.replica_gone(other);
    assert_eq!(ada.told(), told(&[], &["bob"]));
}
