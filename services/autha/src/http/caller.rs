//! Who calls, as far as the connection and the headers tell: for throttling, and for the name of a session's device.

use std::net::IpAddr;

use actix_web::{HttpRequest, http::header};

use super::AppState;

/// The longest device name that is kept.
const LONGEST_DEVICE: usize = 120;

/// The address that the gateway names, which replaces what a client claims. Whoever calls and is no gateway is the caller itself, whatever it claims.
/// A gateway that names nobody (a probe, one of an older version) is not counted: it would be one budget for everybody.
pub fn address(request: &HttpRequest, app: &AppState) -> Option<IpAddr> {
    // A gateway of the same process calls without a connection.
    if let Some(peer) = request.peer_addr().map(|peer| peer.ip())
        && !app.gateways.iter().any(|network| network.contains(peer))
    {
        return Some(peer);
    }
    let named = request.headers().get_all("X-Forwarded-For").last().and_then(|value| value.to_str().ok())?;
    named.rsplit(',').next().and_then(|text| text.trim().parse().ok())
}

/// What the client says it is: its `User-Agent`, without what is not printable.
pub fn device(request: &HttpRequest) -> Option<String> {
    let text = request.headers().get(header::USER_AGENT)?.to_str().ok()?;
    let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_DEVICE).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
