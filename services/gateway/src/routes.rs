//! What is let in: the table of every path and method, and how a path is read. Everything else is answered here, and
//! never reaches an upstream. How a request is passed on lives in `proxy`.

use actix_web::http::Method;

use crate::path;

/// Who answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The gateway itself.
    Here,
    /// The account broker.
    Autha,
}

/// How large a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// `gateway.body_limit`.
    Form,
    /// `gateway.upload_limit`.
    Upload,
}

/// One path of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The path; a segment in braces stands for any one segment. This, and never the path itself, may be logged.
    pub pattern: &'static str,
    /// Who answers.
    pub target: Target,
    methods: &'static [(Method, Accepts)],
}

/// A request that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Where it goes.
    pub route: &'static Route,
    /// How large its body may be.
    pub accepts: Accepts,
    /// Its path in the one spelling that upstreams see.
    pub path: String,
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The path is spelled as no honest client spells it.
    #[error("the path cannot be read")]
    Malformed,
    /// The table has no such path.
    #[error("nothing is here")]
    NotFound,
    /// The path is there; these are its methods, as `Allow` wants them.
    #[error("the method is not taken here, these are: {0}")]
    Method(String),
}

const GET: (Method, Accepts) = (Method::GET, Accepts::Form);
const POST: (Method, Accepts) = (Method::POST, Accepts::Form);
const DELETE: (Method, Accepts) = (Method::DELETE, Accepts::Form);
const UPLOAD: (Method, Accepts) = (Method::PUT, Accepts::Upload);

const fn to_autha(pattern: &'static str, methods: &'static [(Method, Accepts)]) -> Route {
    Route { pattern, target: Target::Autha, methods }
}

/// A route is listed when it is served. The first pattern that fits wins, so literals stand above placeholders.
static TABLE: &[Route] = &[
    Route { pattern: "/health/live", target: Target::Here, methods: &[GET] },
    Route { pattern: "/health/ready", target: Target::Here, methods: &[GET] },
    to_autha("/create", &[POST]),
    to_autha("/login", &[POST]),
    to_autha("/oauth/token", &[POST]),
    to_autha("/users/@me", &[GET]),
    to_autha("/users/@me/avatar", &[UPLOAD, DELETE]),
    to_autha("/users/@me/avatar/uploads/{id}", &[GET]),
    to_autha("/users/{id}", &[GET]),
    to_autha("/status.json", &[GET]),
    to_autha("/.well-known/jwks.json", &[GET]),
    to_autha("/avatars/{id}", &[GET]),
    to_autha("/avatars/{account}/{upload}/{file}", &[GET]),
    to_autha("/openapi.yaml", &[GET]),
];

/// Decides on a request by its method and the path as it came.
///
/// # Errors
/// When the path cannot be read, is not in the table, or does not take the method.
pub fn admit(method: &Method, raw_path: &str) -> Result<Admitted, Refusal> {
    let segments = path::segments(raw_path)?;
    let route = TABLE.iter().find(|route| route.fits(&segments)).ok_or(Refusal::NotFound)?;
    let accepts = route.accepts(method).ok_or_else(|| Refusal::Method(route.allow()))?;
    Ok(Admitted { route, accepts, path: path::canonical(&segments) })
}

impl Route {
    fn fits(&self, segments: &[String]) -> bool {
        let mut pattern = self.pattern.split('/').skip(1);
        let mut segments = segments.iter();
        loop {
            match (pattern.next(), segments.next()) {
                (None, None) => return true,
                (Some(expected), Some(segment)) if expected.starts_with('{') || expected == segment => {}
                _ => return false,
            }
        }
    }

    fn accepts(&self, method: &Method) -> Option<Accepts> {
        // HEAD is taken wherever an upstream answers GET; health is asked by GET alone.
        let method =
            if *method == Method::HEAD && self.target != Target::Here { &Method::GET } else { method };
        self.methods.iter().find(|(allowed, _)| allowed == method).map(|(_, accepts)| *accepts)
    }

    fn allow(&self) -> String {
        let mut names = Vec::new();
        for (method, _) in self.methods {
            names.push(method.as_str());
            if *method == Method::GET && self.target != Target::Here {
                names.push("HEAD");
            }
        }
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pattern(method: &Method, path: &str) -> Result<&'static str, Refusal> {
        admit(method, path).map(|admitted| admitted.route.pattern)
    }

    #[test]
    fn every_public_route_is_let_in_with_its_methods() {
        for (methods, path, expected) in [
            ("POST", "/create", "/create"),
            ("POST", "/login", "/login"),
            ("POST", "/oauth/token", "/oauth/token"),
            ("GET HEAD", "/users/ada", "/users/{id}"),
            ("GET HEAD", "/users/@me", "/users/@me"),
            ("GET HEAD", "/users/%40me", "/users/@me"),
            ("PUT DELETE", "/users/@me/avatar", "/users/@me/avatar"),
            ("GET HEAD", "/users/@me/avatar/uploads/x", "/users/@me/avatar/uploads/{id}"),
            ("GET HEAD", "/status.json", "/status.json"),
            ("GET HEAD", "/.well-known/jwks.json", "/.well-known/jwks.json"),
            ("GET HEAD", "/avatars/ada", "/avatars/{id}"),
            ("GET HEAD", "/avatars/a/b/c-64.webp", "/avatars/{account}/{upload}/{file}"),
            ("GET HEAD", "/openapi.yaml", "/openapi.yaml"),
            ("GET", "/health/live", "/health/live"),
            ("GET", "/health/ready", "/health/ready"),
        ] {
            for method in
                ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"]
            {
                let answer = pattern(&Method::from_bytes(method.as_bytes()).unwrap(), path);
                if methods.split(' ').any(|allowed| allowed == method) {
                    assert_eq!(answer, Ok(expected), "{method} {path}");
                } else {
                    let allow = methods.replace(' ', ", ");
                    assert_eq!(answer, Err(Refusal::Method(allow)), "{method} {path}");
                }
            }
        }
    }

    #[test]
    fn everything_else_is_not_found() {
        for path in [
            "/",
            "/users",
            "/users/",
            "/users/a/b",
            "/login/",
            "/Login",
            "/health",
            "/health/actors",
            "/metrics",
            "/avatars/a/b",
            "/avatars/a/b/c/d",
            "/users/@me/avatar/uploads",
            "/.well-known/openid-configuration",
        ] {
            assert_eq!(pattern(&Method::GET, path), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn the_table_is_what_openapi_describes() {
        let plain = |path: &str| -> Vec<String> {
            path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }.to_owned()).collect()
        };
        let document: serde_json::Value = yaml_serde::from_str(orrery_schemas::OPENAPI).unwrap();
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(move |method| (plain(path), method.to_uppercase()))
            })
            .collect();
        let listed: BTreeSet<_> = TABLE
            .iter()
            .flat_map(|route| {
                route.methods.iter().map(move |(method, _)| (plain(route.pattern), method.to_string()))
            })
            .collect();
        assert_eq!(listed, described);
    }

    #[test]
    fn only_the_picture_may_be_large() {
        let accepts = |method, path| admit(&method, path).unwrap().accepts;
        assert_eq!(accepts(Method::PUT, "/users/@me/avatar"), Accepts::Upload);
        assert_eq!(accepts(Method::DELETE, "/users/@me/avatar"), Accepts::Form);
        assert_eq!(accepts(Method::POST, "/create"), Accepts::Form);
    }

    #[test]
    fn upstreams_see_one_spelling() {
        assert_eq!(admit(&Method::GET, "/%75sers/%40me").unwrap().path, "/users/@me");
        assert_eq!(admit(&Method::GET, "/users/a%3Fb%23c").unwrap().path, "/users/a%3Fb%23c");
        assert_eq!(admit(&Method::GET, "/users/%c3%a9").unwrap().path, "/users/%C3%A9");
    }
}
