//! Autha's table of routes, as data. The handlers live in `http`; the gateway's table and the test of `openapi.yaml` are made from it.

use orrery_schemas::routes::{Body, Method, Rate, Route};

use crate::session::principal::scope::{ADMIN, READ_ACCOUNT, WRITE_ACCOUNT};

/// Every route that autha serves to the public.
pub static ROUTES: &[Route] = &[
    Route::post("/create").credentials(),
    Route::post("/login").credentials(),
    Route::post("/logout").body(Body::Empty).bearer(""),
    Route::post("/oauth/token").credentials(),
    Route::post("/oauth/introspect").bearer(""),
    Route::post("/oauth/revoke").credentials(),
    Route::post("/verify").credentials(),
    Route::post("/verify/request").credentials(),
    Route::post("/recover").credentials(),
    Route::post("/recover/request").credentials(),
    Route::post("/address/confirm").credentials(),
    Route::post("/address/take-back").credentials(),
    Route::get("/users/@me").bearer(READ_ACCOUNT),
    // Keys are changed by a scope of their own.
    Route::post("/users/@me").method(Method::Patch).bearer("").rate(Rate::Credentials),
    Route::post("/users/@me").method(Method::Delete).bearer(WRITE_ACCOUNT).rate(Rate::Credentials),
    Route::post("/users/@me/verification").body(Body::Empty).bearer(WRITE_ACCOUNT).rate(Rate::Credentials),
    Route::get("/users/@me/totp").bearer(WRITE_ACCOUNT),
    Route::post("/users/@me/totp").method(Method::Put).bearer(WRITE_ACCOUNT).rate(Rate::Credentials),
    Route::post("/users/@me/totp").method(Method::Delete).bearer(WRITE_ACCOUNT).rate(Rate::Credentials),
    Route::post("/users/@me/recovery-codes").bearer(WRITE_ACCOUNT).rate(Rate::Credentials),
    Route::get("/users/@me/sessions").bearer(READ_ACCOUNT),
    Route::get("/users/@me/sessions").method(Method::Delete).bearer(WRITE_ACCOUNT).rate(Rate::Write),
    Route::get("/users/@me/sessions/{session}")
        .method(Method::Delete)
        .bearer(WRITE_ACCOUNT)
        .rate(Rate::Write),
    Route::post("/users/@me/export").bearer(READ_ACCOUNT).rate(Rate::Credentials),
    Route::get("/users/@me/export").bearer(READ_ACCOUNT),
    Route::get("/users/@me/export/{export}").bearer(READ_ACCOUNT),
    Route::get("/users/@me/avatar")
        .method(Method::Put)
        .body(Body::Upload)
        .bearer(WRITE_ACCOUNT)
        .rate(Rate::Upload),
    Route::get("/users/@me/avatar").method(Method::Delete).bearer(WRITE_ACCOUNT).rate(Rate::Write),
    Route::post("/users/@me/avatar/upload").bearer(WRITE_ACCOUNT).rate(Rate::Upload),
    Route::post("/users/@me/avatar/upload/{upload}")
        .body(Body::Empty)
        .bearer(WRITE_ACCOUNT)
        .rate(Rate::Upload),
    Route::get("/users/@me/avatar/uploads/{upload}").bearer(READ_ACCOUNT),
    Route::get("/users/{id}").cached(),
    Route::get("/avatars/{id}").cached(),
    Route::get("/avatars/{picture}/{file}").cached(),
    Route::get("/status.json").cached(),
    Route::get("/.well-known/jwks.json").cached(),
    Route::get("/.well-known/openid-configuration").cached(),
    Route::get("/.well-known/webfinger").cached(),
    Route::get("/openapi.yaml").cached(),
    Route::get("/openapi.json").cached(),
    Route::get("/admin/accounts").bearer(ADMIN),
    Route::post("/admin/accounts").bearer(ADMIN),
    Route::get("/admin/accounts/{account}").bearer(ADMIN),
    Route::get("/admin/accounts/{account}").method(Method::Delete).bearer(ADMIN).rate(Rate::Write),
    Route::post("/admin/accounts/{account}/suspend").bearer(ADMIN),
    Route::post("/admin/accounts/{account}/restore").body(Body::Empty).bearer(ADMIN),
    Route::post("/admin/accounts/{account}/reset-second-factor").body(Body::Empty).bearer(ADMIN),
    Route::post("/admin/accounts/{account}/end-sessions").body(Body::Empty).bearer(ADMIN),
    Route::post("/admin/invites").bearer(ADMIN),
    Route::get("/admin/audit").bearer(ADMIN),
    Route::get("/admin/deletions").bearer(ADMIN),
];
