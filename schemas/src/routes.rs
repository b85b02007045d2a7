//! What a route is, as data. Each service's crate has its own table; its server, the gateway and the test of `openapi.yaml` are made from it.
//! How a path is read and matched lives in the gateway; handlers live in the services.

use std::fmt;

/// The header by which a service tells the gateway's cache whose an answer is: the account's internal id. The gateway takes it off.
pub const CACHE_TAG: &str = "x-orrery-cache-tag";

/// The methods that a table may name. HEAD is taken wherever GET is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Begins something.
    Post,
    /// Puts something in place.
    Put,
    /// Changes parts.
    Patch,
    /// Removes.
    Delete,
    /// Asks what is taken; only where a protocol wants an answer of the service's own (CORS is the gateway's).
    Options,
}

impl Method {
    /// As it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How large a request's body may be; the bytes of each class are the gateway's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    /// None is expected; one that comes is held to the limit of a form.
    Empty,
    /// A form or a JSON document (`gateway.body_limit`).
    Form,
    /// Up to a MiB: a batch of events.
    Batch,
    /// A file (`gateway.upload_limit`).
    Upload,
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Streaming {
    /// An answer of known end within the upstream's time.
    No,
    /// Server-sent events: no end, no buffering.
    Events,
    /// A WebSocket.
    WebSocket,
}

/// What a request must prove. The service checks it; the gateway uses it for limits and caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Nothing.
    Public,
    /// A proof of its own in the request: a password, a one-time secret, a client's credentials.
    Credentials,
    /// An access token with this scope; empty for any.
    Bearer(&'static str),
}

/// Which budget of the caller a request is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rate {
    /// Cheap reads.
    Read,
    /// Changes.
    Write,
    /// What costs a password hash, or could be used to guess: sign-up, log-in, recovery.
    Credentials,
    /// Files.
    Upload,
    /// Probes of health, which are not limited.
    Unlimited,
}

/// Whether an answer may be kept by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cache {
    /// Never.
    No,
    /// As its `Cache-Control` says, the same for every caller (RFC 9111, a shared cache).
    Shared,
}

/// One method of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; a segment in braces stands for any one segment. This, and never the path itself, may be logged.
    pub pattern: &'static str,
    /// How large its body may be.
    pub body: Body,
    /// How its answer travels.
    pub streaming: Streaming,
    /// What it must prove.
    pub authentication: Authentication,
    /// Which budget it is taken from.
    pub rate: Rate,
    /// Whether its answer may be kept.
    pub cache: Cache,
}

impl Route {
    /// A public read that is not kept.
    pub const fn get(pattern: &'static str) -> Self {
        Self {
            method: Method::Get,
            pattern,
            body: Body::Empty,
            streaming: Streaming::No,
            authentication: Authentication::Public,
            rate: Rate::Read,
            cache: Cache::No,
        }
    }

    /// A public change with a form or a JSON document.
    pub const fn post(pattern: &'static str) -> Self {
        Self { method: Method::Post, body: Body::Form, rate: Rate::Write, ..Self::get(pattern) }
    }

    /// The same path and class by another method.
    pub const fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// With bodies of that class.
    pub const fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// With an answer that travels so.
    pub const fn streaming(self, streaming: Streaming) -> Self {
        Self { streaming, ..self }
    }

    /// For callers that prove who they are by what the request holds.
    pub const fn credentials(self) -> Self {
        Self { authentication: Authentication::Credentials, rate: Rate::Credentials, ..self }
    }

    /// For callers with an access token of that scope; empty for any.
    pub const fn bearer(self, scope: &'static str) -> Self {
        Self { authentication: Authentication::Bearer(scope), ..self }
    }

    /// From that budget.
    pub const fn rate(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    /// Kept by the gateway as its `Cache-Control` says.
    pub const fn cached(self) -> Self {
        Self { cache: Cache::Shared, ..self }
    }
}
