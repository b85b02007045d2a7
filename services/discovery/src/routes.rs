//! Discovery's table of routes, as data. The handlers live in `http`; the gateway's table and the test of `openapi.yaml` are made from it.

use orrery_schemas::routes::{Body, Method, Rate, Route, Streaming};

/// Every route that discovery serves to the public.
pub static ROUTES: &[Route] = &[
    Route::get("/socket/websocket").streaming(Streaming::WebSocket),
    Route::get("/peers/@me").bearer(""),
    Route::get("/peers/@me").method(Method::Put).body(Body::Form).bearer("").rate(Rate::Write),
    Route::get("/peers/@me/contacts/{vanity}").method(Method::Put).bearer("").rate(Rate::Write),
    Route::get("/peers/@me/contacts/{vanity}").method(Method::Delete).bearer("").rate(Rate::Write),
    Route::get("/peers/@me/blocked/{vanity}").method(Method::Put).bearer("").rate(Rate::Write),
    Route::get("/peers/@me/blocked/{vanity}").method(Method::Delete).bearer("").rate(Rate::Write),
    Route::get("/peers/@me/turn").bearer(""),
    Route::get("/peers/{vanity}").bearer(""),
];
