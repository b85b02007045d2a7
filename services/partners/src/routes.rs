//! The table of routes of partners, as data. The handlers live in `http`; the gateway's table and the test of `openapi.yaml` are made from it.

use orrery_schemas::routes::{Body, Method, Rate, Route, Streaming};

use crate::token::scope::{ADMIN, PUBLISH, SUBSCRIBE};

/// Every route that partners serves to the public.
pub static ROUTES: &[Route] = &[
    Route::post("/partners/token").credentials(),
    Route::post("/events").body(Body::Batch).bearer(PUBLISH),
    Route::get("/events").bearer(SUBSCRIBE),
    Route::get("/events/stream").streaming(Streaming::Events).bearer(SUBSCRIBE),
    Route::get("/partners/endpoints").bearer(SUBSCRIBE),
    Route::post("/partners/endpoints").bearer(SUBSCRIBE),
    Route::get("/partners/endpoints/{endpoint}").bearer(SUBSCRIBE),
    Route::post("/partners/endpoints/{endpoint}").method(Method::Patch).bearer(SUBSCRIBE),
    Route::get("/partners/endpoints/{endpoint}").method(Method::Delete).bearer(SUBSCRIBE).rate(Rate::Write),
    Route::post("/partners/endpoints/{endpoint}/handshake").body(Body::Empty).bearer(SUBSCRIBE),
    Route::post("/partners/endpoints/{endpoint}/enable").body(Body::Empty).bearer(SUBSCRIBE),
    Route::post("/partners/endpoints/{endpoint}/rotate-secret").body(Body::Empty).bearer(SUBSCRIBE),
    Route::get("/partners/endpoints/{endpoint}/dead-letters").bearer(SUBSCRIBE),
    Route::post("/partners/endpoints/{endpoint}/replay").bearer(SUBSCRIBE),
    // A receiver opens it, to let us deliver (CloudEvents webhooks, 4.2).
    Route::get("/partners/endpoints/{endpoint}/confirm/{secret}"),
    Route::post("/partners/endpoints/{endpoint}/confirm/{secret}").body(Body::Empty),
    Route::get("/admin/partners").bearer(ADMIN),
    Route::post("/admin/partners").bearer(ADMIN),
    Route::get("/admin/partners/{partner}").bearer(ADMIN),
    Route::get("/admin/partners/{partner}").method(Method::Delete).bearer(ADMIN).rate(Rate::Write),
    Route::post("/admin/partners/{partner}/rotate-key").body(Body::Empty).bearer(ADMIN),
    Route::post("/admin/partners/{partner}/disable").body(Body::Empty).bearer(ADMIN),
    Route::post("/admin/partners/{partner}/enable").body(Body::Empty).bearer(ADMIN),
    Route::get("/admin/partners/{partner}/endpoints").bearer(ADMIN),
    Route::get("/admin/event-types").bearer(ADMIN),
    Route::post("/admin/event-types/{type}").method(Method::Put).bearer(ADMIN),
];
