//! `GET /peers/{vanity}`: whether a peer is online, and its last offer. A peer that is hidden from who asks is answered like one that is offline, and
//! one that does not exist too.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use orrery_web::problem::Problem;
use serde::Serialize;

use super::{AppState, bearer, fault};
use crate::name::Name;

/// A peer as who asks may see it.
#[derive(Serialize)]
struct Peer {
    vanity: String,
    online: bool,
    /// As WebRTC takes it.
    offer: Option<Offer>,
}

#[derive(Serialize)]
struct Offer {
    #[serde(rename = "type")]
    ty: &'static str,
    sdp: String,
}

pub async fn look_up(
    request: HttpRequest,
    app: Data<AppState>,
    vanity: Path<String>,
) -> Result<HttpResponse, Problem> {
    let viewer = bearer::peer(&request, &app).await?;
    let peer = Name::of_address(&vanity, &app.shared.domain).map_err(fault::name)?;
    let store = &app.shared.store;
    let may_see =
        peer == viewer || store.lets_see(&peer, &viewer).await.map_err(|error| fault::store(&error))?;
    let offer = match may_see {
        true => store.offer(&peer).await.map_err(|error| fault::store(&error))?,
        false => None,
    };
    let online = may_see && app.shared.presence.lock().is_online(&peer);
    let offer = offer.map(|sdp| Offer { ty: "offer", sdp });
    let peer = Peer { vanity: peer.into(), online, offer };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(peer))
}
