//! One try: an event is signed and posted to an endpoint, and what the answer means.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{Method, header::CONTENT_TYPE};
use uuid::Uuid;

use super::{
    schedule,
    signature::{Secret, signatures},
};
use crate::targets::Gate;

/// The one format in which events are delivered: all of the event is in the body, which is signed.
const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The endpoint has it.
    Taken,
    /// It has it not.
    Failed(Failure),
    /// It wants nothing any more (410).
    Gone,
}

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words of ours.
    pub error: String,
    /// What was answered, if anything.
    pub status: Option<u16>,
    /// How long the receiver wants to be left alone.
    pub wait: Option<Duration>,
}

/// Where tries go, and what signs them.
#[derive(Clone)]
pub struct Target {
    /// The way out.
    pub gate: Gate,
    /// Its URL.
    pub url: String,
    /// Its secret, and the one before while that signs too.
    pub secrets: Vec<Secret>,
}

impl Target {
    /// Tries once.
    pub async fn attempt(&self, key: Uuid, event: Bytes, now: DateTime<Utc>) -> Ended {
        let (id, timestamp) = (key.to_string(), now.timestamp());
        let signed = signatures(&self.secrets, &id, timestamp, &event);
        let request = match self.gate.request(Method::POST, &self.url) {
            Ok(request) => request,
            Err(error) => return failed(error.to_string(), None, None),
        };
        let request = request
            .header(CONTENT_TYPE, STRUCTURED)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signed)
            .body(event);
        match self.gate.send(request).await {
            Ok(answered) => match answered.status {
                200..=299 => Ended::Taken,
                410 => Ended::Gone,
                status => {
                    let error = match status {
                        300..=399 => "it answered with a redirect, which is not followed",
                        _ => "it answered with another status than 2xx",
                    };
                    failed(error.to_owned(), Some(status), schedule::asked(&answered.headers, now))
                }
            },
            Err(error) => failed(error.to_string(), None, None),
        }
    }
}

fn failed(error: String, status: Option<u16>, wait: Option<Duration>) -> Ended {
    Ended::Failed(Failure { error, status, wait })
}
