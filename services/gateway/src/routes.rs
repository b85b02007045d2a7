//! What is let in: the table of every host, path and method of a role, made from the tables of the services and the configured routes.
//! Everything else is answered here, and never reaches an upstream. How a path is read lives in `path`, how a request is passed on in `proxy`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix_web::http::Method;
use matchit::Router;
use orrery_schemas::routes::{Authentication, Body, Cache, Rate, Route, Streaming};

use crate::{
    config::{Config, listener::Role, route::Configured},
    path,
};

/// What the gateway answers itself.
pub static ROUTES: &[Route] = &[
    Route::get("/health/live").rate(Rate::Unlimited),
    Route::get("/health/ready").rate(Rate::Unlimited),
    Route::get("/auth/verify").bearer(""),
];

/// Who answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The gateway itself.
    Here,
    /// What has this place in the list of backends that the table was made with.
    Backend(usize),
}

/// What holds for some methods of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The path with its placeholders. This, and never the path itself, may be logged.
    pub pattern: String,
    /// Who answers.
    pub target: Target,
    /// The methods; none for all.
    pub methods: Vec<Method>,
    /// Bytes of a request's body.
    pub most_bytes: u64,
    /// The time for all of a request's body.
    pub whole: Duration,
    /// How long the target may be silent.
    pub silence: Duration,
    /// How its answer travels.
    pub streaming: Streaming,
    /// The budget that it is taken from.
    pub rate: Rate,
    /// Whether its answer may be kept.
    pub cached: bool,
    /// What is taken off the path before it is passed on.
    pub strip: Option<String>,
    /// Whether upstreams get the client's `Host`.
    pub keep_host: bool,
    /// Whether it leads to an application of somebody else's, which has security headers of its own.
    pub foreign: bool,
}

/// A request that is let in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Where it goes, and what holds for it.
    pub rule: Arc<Rule>,
    /// Its path in the one spelling that upstreams see.
    pub path: String,
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The path or the host is spelled as no honest client spells it.
    #[error("the path cannot be read")]
    Malformed,
    /// The table has no such path.
    #[error("nothing is here")]
    NotFound,
    /// The path is there; these are its methods, as `Allow` wants them.
    #[error("the method is not taken here, these are: {0}")]
    Method(String),
}

/// The routes of one role.
#[derive(Default)]
pub struct Table {
    hosts: HashMap<String, Site>,
    any: Site,
}

/// The rules of one path, a method or several each.
type Rules = Vec<Arc<Rule>>;

/// The routes of one host.
#[derive(Default)]
struct Site {
    exact: Router<Vec<Arc<Rule>>>,
    /// Configured routes with all below them; the longest path first.
    below: Vec<(Vec<Option<String>>, Rules)>,
}

/// Two routes that cannot be told from each other.
#[derive(Debug, thiserror::Error)]
#[error("the path {0} is there twice, or cannot be told from another")]
pub struct Ambiguous(pub String);

impl Table {
    /// The table of a role: the gateway's own routes and the services', each with the place of its backend, and the configured ones.
    ///
    /// # Errors
    /// When two routes cannot be told from each other.
    pub fn new(
        role: Role,
        config: &Config,
        services: &[(&'static [Route], usize)],
        configured: &[(&Configured, usize)],
    ) -> Result<Self, Ambiguous> {
        let mut paths: Vec<(Option<&str>, String, Rules)> = Vec::new();
        let mut add = |host, path: String, rule: Rule| {
            let rule = Arc::new(rule);
            match paths.iter_mut().find(|(of, known, _)| *of == host && shape(known) == shape(&path)) {
                Some((_, _, rules)) => rules.push(rule),
                None => paths.push((host, path, vec![rule])),
            }
        };
        if role.serves_services() {
            for route in ROUTES {
                add(None, route.pattern.to_owned(), Rule::of_service(route, Target::Here, config));
            }
            for (routes, backend) in services {
                for route in *routes {
                    let rule = Rule::of_service(route, Target::Backend(*backend), config);
                    add(None, route.pattern.to_owned(), rule);
                }
            }
        }
        let here = configured.iter().filter(|(route, _)| route.roles.contains(&role));
        let (exact, below): (Vec<_>, Vec<_>) = here.partition(|(route, _)| route.exact);
        for (route, backend) in exact {
            let rule = Rule::of_configured(route, Target::Backend(backend), config);
            add(route.host.as_deref(), route.path.clone(), rule);
        }
        let mut table = Self::default();
        for (host, path, rules) in paths {
            let ambiguous = |_| Ambiguous(path.clone());
            table.site(host).exact.insert(numbered(&path), rules).map_err(ambiguous)?;
        }
        for (route, backend) in below {
            let rule = Arc::new(Rule::of_configured(route, Target::Backend(backend), config));
            let shape: Vec<_> = shape(route.path.trim_end_matches('/'))
                .into_iter()
                .map(|segment| segment.map(str::to_owned))
                .collect();
            let below = &mut table.site(route.host.as_deref()).below;
            match below.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, rules)) => rules.push(rule),
                None => below.push((shape, vec![rule])),
            }
        }
        let sites = table.hosts.values_mut().chain([&mut table.any]);
        for site in sites {
            site.below.sort_by_key(|(shape, _)| {
                let literals = shape.iter().filter(|segment| segment.is_some()).count();
                std::cmp::Reverse((shape.len(), literals))
            });
        }
        Ok(table)
    }

    fn site(&mut self, host: Option<&str>) -> &mut Site {
        match host {
            Some(host) => self.hosts.entry(host.to_ascii_lowercase()).or_default(),
            None => &mut self.any,
        }
    }

    /// Decides on a request by its method, its host in small letters, and the path as it came.
    ///
    /// # Errors
    /// When the path cannot be read, is not in the table, or does not take the method.
    pub fn admit(&self, method: &Method, host: &str, raw_path: &str) -> Result<Admitted, Refusal> {
        let path = path::canonical(raw_path)?;
        let rules = self
            .hosts
            .get(host)
            .and_then(|site| site.find(&path))
            .or_else(|| self.any.find(&path))
            .ok_or(Refusal::NotFound)?;
        let rule =
            rules.iter().find(|rule| rule.takes(method)).ok_or_else(|| Refusal::Method(allow(rules)))?;
        Ok(Admitted { rule: Arc::clone(rule), path })
    }
}

impl Site {
    fn find(&self, path: &str) -> Option<&[Arc<Rule>]> {
        if let Ok(found) = self.exact.at(path) {
            return Some(found.value.as_slice());
        }
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let fits = |shape: &[Option<String>]| {
            shape.len() <= segments.len()
                && shape.iter().zip(&segments).all(|(expected, segment)| match expected {
                    Some(expected) => expected == segment,
                    None => !segment.is_empty(),
                })
        };
        self.below.iter().find(|(shape, _)| fits(shape)).map(|(_, rules)| rules.as_slice())
    }
}

impl Admitted {
    /// The path as its target sees it.
    pub fn target_path(&self) -> &str {
        let stripped = self.rule.strip.as_deref().and_then(|strip| self.path.strip_prefix(strip));
        match stripped {
            Some("") => "/",
            Some(rest) => rest,
            None => &self.path,
        }
    }
}

impl Rule {
    fn of_service(route: &Route, target: Target, config: &Config) -> Self {
        let (most_bytes, whole) = match route.body {
            Body::Empty | Body::Form => (config.body_limit, config.body_timeout),
            Body::Batch => (config.batch_limit, config.body_timeout),
            Body::Upload => (config.upload_limit, config.upload_timeout),
        };
        let mut methods = vec![method(route.method)];
        // HEAD is taken wherever an upstream answers GET; health is asked by GET alone.
        if methods.contains(&Method::GET) && target != Target::Here {
            methods.push(Method::HEAD);
        }
        // Proxies ask by the method of the request that they ask about.
        if route.pattern == "/auth/verify" {
            methods.clear();
        }
        Self {
            pattern: route.pattern.to_owned(),
            target,
            methods,
            most_bytes,
            whole,
            silence: config.upstream_timeout,
            streaming: route.streaming,
            rate: route.rate,
            cached: route.cache == Cache::Shared && route.authentication == Authentication::Public,
            strip: None,
            keep_host: false,
            foreign: false,
        }
    }

    fn of_configured(route: &Configured, target: Target, config: &Config) -> Self {
        let methods = route.methods.iter().filter_map(|name| Method::from_bytes(name.as_bytes()).ok());
        let path = route.path.trim_end_matches('/');
        Self {
            pattern: if route.exact { route.path.clone() } else { format!("{path}/...") },
            target,
            methods: methods.collect(),
            most_bytes: route.body_limit,
            whole: config.upload_timeout,
            silence: route.timeout,
            streaming: match (route.websocket, route.streaming) {
                (true, _) => Streaming::WebSocket,
                (false, true) => Streaming::Events,
                (false, false) => Streaming::No,
            },
            rate: route.rate,
            cached: route.cache,
            strip: (route.strip && !path.is_empty()).then(|| path.to_owned()),
            keep_host: route.keep_host,
            foreign: route.service.is_none(),
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

fn method(method: orrery_schemas::routes::Method) -> Method {
    use orrery_schemas::routes::Method as Listed;
    match method {
        Listed::Get => Method::GET,
        Listed::Post => Method::POST,
        Listed::Put => Method::PUT,
        Listed::Patch => Method::PATCH,
        Listed::Delete => Method::DELETE,
        Listed::Options => Method::OPTIONS,
    }
}

/// The segments of a pattern; none for a placeholder.
fn shape(pattern: &str) -> Vec<Option<&str>> {
    pattern.split('/').skip(1).map(|segment| (!segment.starts_with('{')).then_some(segment)).collect()
}

/// The pattern with its placeholders named by their places: services need not agree on names.
fn numbered(pattern: &str) -> String {
    let segments = shape(pattern).into_iter().enumerate().map(|(place, segment)| {
        segment.map_or_else(|| format!("/{{p{place}}}"), |segment| format!("/{segment}"))
    });
    segments.collect()
}

fn allow(rules: &[Arc<Rule>]) -> String {
    let names: Vec<_> = rules.iter().flat_map(|rule| rule.methods.iter().map(Method::as_str)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use orrery_schemas::routes;

    use super::*;

    static FIRST: &[Route] = &[
        Route::get("/users/{id}"),
        Route::post("/login").credentials(),
        Route::get("/users/@me").bearer(""),
        Route::get("/users/@me/avatar").method(routes::Method::Put).body(Body::Upload),
        Route::get("/users/@me/avatar").method(routes::Method::Delete),
    ];
    static SECOND: &[Route] = &[Route::get("/peers/{vanity}"), Route::get("/users/{who}/peers")];

    fn table_of(role: Role, configured: &[Configured]) -> Table {
        let configured: Vec<_> = configured.iter().enumerate().map(|(at, route)| (route, 10 + at)).collect();
        Table::new(role, &Config::default(), &[(FIRST, 0), (SECOND, 1)], &configured).unwrap()
    }

    fn admit(method: &Method, path: &str) -> Result<Admitted, Refusal> {
        table_of(Role::Edge, &[]).admit(method, "public.example", path)
    }

    #[test]
    fn every_route_is_let_in_with_its_methods_and_leads_to_its_service() {
        for (methods, path, pattern, target) in [
            ("POST", "/login", "/login", Target::Backend(0)),
            ("GET HEAD", "/users/ada", "/users/{id}", Target::Backend(0)),
            ("GET HEAD", "/users/@me", "/users/@me", Target::Backend(0)),
            ("GET HEAD", "/users/%40me", "/users/@me", Target::Backend(0)),
            ("GET HEAD", "/users/ada/peers", "/users/{who}/peers", Target::Backend(1)),
            ("PUT DELETE", "/users/@me/avatar", "/users/@me/avatar", Target::Backend(0)),
            ("GET HEAD", "/peers/ada", "/peers/{vanity}", Target::Backend(1)),
            ("GET", "/health/live", "/health/live", Target::Here),
            ("GET", "/health/ready", "/health/ready", Target::Here),
        ] {
            for method in
                ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"]
            {
                let answer = admit(&Method::from_bytes(method.as_bytes()).unwrap(), path)
                    .map(|admitted| (admitted.rule.pattern.clone(), admitted.rule.target));
                if methods.split(' ').any(|allowed| allowed == method) {
                    assert_eq!(answer, Ok((pattern.to_owned(), target)), "{method} {path}");
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
            "/health/live/",
            "/users/a/",
        ] {
            assert_eq!(admit(&Method::GET, path).map(|_| ()), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn a_body_is_of_the_class_of_its_method() {
        let bytes = |method, path| admit(&method, path).unwrap().rule.most_bytes;
        let config = Config::default();
        assert_eq!(bytes(Method::PUT, "/users/@me/avatar"), config.upload_limit);
        assert_eq!(bytes(Method::DELETE, "/users/@me/avatar"), config.body_limit);
        assert_eq!(bytes(Method::POST, "/login"), config.body_limit);
    }

    #[test]
    fn upstreams_see_one_spelling() {
        assert_eq!(admit(&Method::GET, "/%75sers/%40me").unwrap().path, "/users/@me");
        assert_eq!(admit(&Method::GET, "/users/a%3Fb%23c").unwrap().path, "/users/a%3Fb%23c");
        assert_eq!(admit(&Method::GET, "/users/%c3%a9").unwrap().path, "/users/%C3%A9");
    }

    #[test]
    fn configured_routes_stand_beside_the_services_and_the_longest_path_wins() {
        let route = |host: Option<&str>, path: &str| Configured {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            ..Configured::default()
        };
        let table = table_of(
            Role::Edge,
            &[
                route(None, "/"),
                Configured { strip: true, ..route(None, "/shop") },
                route(None, "/shop/{id}/cart"),
                route(Some("app.example"), "/"),
                Configured { exact: true, methods: vec!["POST".to_owned()], ..route(None, "/hook") },
                Configured { roles: vec![Role::Reverse], ..route(None, "/inner") },
            ],
        );
        for (host, path, target, seen) in [
            ("x", "/", 10, "/"),
            ("x", "/a/b/", 10, "/a/b/"),
            ("x", "/users/ada", 0, "/users/ada"),
            ("x", "/shop", 11, "/"),
            ("x", "/shop/", 11, "/"),
            ("x", "/shop/a", 11, "/a"),
            ("x", "/shopping", 10, "/shopping"),
            ("x", "/shop/7/cart/x", 12, "/shop/7/cart/x"),
            ("x", "/inner", 10, "/inner"),
            ("app.example", "/users/ada", 13, "/users/ada"),
        ] {
            let admitted = table.admit(&Method::GET, host, path).unwrap();
            assert_eq!(
                (admitted.rule.target, admitted.target_path()),
                (Target::Backend(target), seen),
                "{host}{path}"
            );
        }
        assert_eq!(
            table.admit(&Method::GET, "x", "/hook").map(|_| ()),
            Err(Refusal::Method("POST".to_owned()))
        );
        let reverse =
            table_of(Role::Reverse, &[Configured { roles: vec![Role::Reverse], ..route(None, "/inner") }]);
        assert!(reverse.admit(&Method::GET, "x", "/inner/x").is_ok());
        for path in ["/users/ada", "/health/ready", "/login"] {
            assert_eq!(reverse.admit(&Method::GET, "x", path).map(|_| ()), Err(Refusal::NotFound), "{path}");
        }
    }
}
