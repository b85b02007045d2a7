//! Service providers as operators register them: what one is made of, what it used, and the statements, each act with its line in the audit log. How a
//! gateway serves them lives there; accounts are shared and know nothing of providers.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    OptionalExtension, QueryableByName,
    sql_types::{Array, BigInt, Date, Integer, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::operator::Operator;

/// What a provider may use that says nothing else.
const REQUESTS_PER_SECOND: i32 = 500;
const CONCURRENT: i32 = 256;
/// Days of usage that are shown.
const DAYS: i64 = 31;

/// A service provider.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Provider {
    /// Its name, a DNS label.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// What people are shown.
    #[diesel(sql_type = Text)]
    pub title: String,
    /// The colour beside it, as `#rrggbb`.
    #[diesel(sql_type = Nullable<Text>)]
    pub colour: Option<String>,
    /// Its hosts.
    #[diesel(sql_type = Array<Text>)]
    pub domains: Vec<String>,
    /// Where its reverse proxies are.
    #[diesel(sql_type = Array<Text>)]
    pub upstreams: Vec<String>,
    /// Requests a second, for each gateway.
    #[diesel(sql_type = Integer)]
    pub requests_per_second: i32,
    /// Requests at work at once, for each gateway.
    #[diesel(sql_type = Integer)]
    pub concurrent: i32,
    /// Since when it is registered.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What a provider used in a day (UTC). Nobody is named.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Usage {
    /// The day.
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    /// Requests that were passed on.
    #[diesel(sql_type = BigInt)]
    pub requests: i64,
    /// Answers below 500 that were sent whole.
    #[diesel(sql_type = BigInt)]
    pub successes: i64,
    /// Answers of 500 and above, and those that broke off.
    #[diesel(sql_type = BigInt)]
    pub failures: i64,
    /// Requests that its limits refused.
    #[diesel(sql_type = BigInt)]
    pub refused: i64,
    /// Bytes of requests' bodies.
    #[diesel(sql_type = BigInt)]
    pub bytes_received: i64,
    /// Bytes of answers' bodies.
    #[diesel(sql_type = BigInt)]
    pub bytes_sent: i64,
}

/// A provider with what it used, the last day first.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Itself.
    #[serde(flatten)]
    pub provider: Provider,
    /// By day.
    pub usage: Vec<Usage>,
}

/// What is to be so; what is left out stays, or is the default of a new provider.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// What people are shown.
    pub title: Option<String>,
    /// The colour beside it.
    pub colour: Option<String>,
    /// Its hosts, all of them.
    pub domains: Option<Vec<String>>,
    /// Where its reverse proxies are, all of them.
    pub upstreams: Option<Vec<String>>,
    /// Requests a second.
    pub requests_per_second: Option<i32>,
    /// Requests at work at once.
    pub concurrent: Option<i32>,
}

/// Why it was not done; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Nobody is meant.
    #[error("no service provider has this name")]
    Unknown,
    /// Its name is taken.
    #[error("a service provider of this name is there already")]
    Taken,
    /// A host belongs to another one.
    #[error("domains: {0} belongs to another service provider")]
    DomainTaken(String),
    /// A field cannot be used.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// The database, and with it the audit log.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<diesel::result::Error> for ProviderError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ProviderError {
    /// How it is told in the audit log.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Unknown => "not done: unknown",
            Self::Taken | Self::DomainTaken(_) => "not done: taken",
            Self::Field(..) => "not done: a field cannot be used",
            Self::Store(_) => "failed",
        }
    }
}

const COLUMNS: &str = "SELECT name, title, colour, upstreams, requests_per_second, concurrent, created_at, \
     ARRAY(SELECT domain FROM providers.domains WHERE provider = name ORDER BY domain) AS domains FROM providers.providers";

impl Operator {
    /// Every service provider, by name: operators give them, they are few.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn providers(&self) -> Result<Vec<Provider>, ProviderError> {
        let mut connection = self.pool().get().await?;
        Ok(diesel::sql_query(format!("{COLUMNS} ORDER BY name")).load(&mut connection).await?)
    }

    /// One, with what it used.
    ///
    /// # Errors
    /// When there is none.
    pub async fn provider(&self, name: &str) -> Result<Shown, ProviderError> {
        let mut connection = self.pool().get().await?;
        let provider = one(&mut connection, name).await?.ok_or(ProviderError::Unknown)?;
        let usage = diesel::sql_query(
            "SELECT day, requests, successes, failures, refused, bytes_received, bytes_sent FROM providers.usage \
             WHERE provider = $1 ORDER BY day DESC LIMIT $2",
        )
        .bind::<Text, _>(name)
        .bind::<BigInt, _>(DAYS)
        .load(&mut connection)
        .await?;
        Ok(Shown { provider, usage })
    }

    /// Registers one: gateways in role forward serve it within `gateway.providers.look_every`.
    ///
    /// # Errors
    /// When a field cannot be used, or its name or a host is taken.
    pub async fn add_provider(&self, name: &str, change: Change) -> Result<(), ProviderError> {
        self.change_providers(name, Deed::Add(change)).await
    }

    /// Changes one.
    ///
    /// # Errors
    /// When there is none, a field cannot be used, or a host is taken.
    pub async fn set_provider(&self, name: &str, change: Change) -> Result<(), ProviderError> {
        self.change_providers(name, Deed::Set(change)).await
    }

    /// Removes one, with what is known of its usage.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_provider(&self, name: &str) -> Result<(), ProviderError> {
        self.change_providers(name, Deed::Remove).await
    }

    /// Does it in one transaction that also tells gateways of a change, between two halves of a line in the audit log.
    async fn change_providers(&self, name: &str, deed: Deed) -> Result<(), ProviderError> {
        let (action, outcome) = deed.names();
        let begun = self.begin(action, name).await?;
        let done = self.changed(name, deed).await;
        begun.end(done.as_ref().err().map_or(outcome, ProviderError::outcome)).await?;
        done
    }

    async fn changed(&self, name: &str, deed: Deed) -> Result<(), ProviderError> {
        let mut connection = self.pool().get().await?;
        connection
            .transaction::<_, ProviderError, _>(async |connection| {
                match deed {
                    Deed::Add(change) => add(connection, name, change).await?,
                    Deed::Set(change) => set(connection, name, change).await?,
                    Deed::Remove => remove(connection, name).await?,
                }
                diesel::sql_query("UPDATE providers.revision SET revision = revision + 1")
                    .execute(connection)
                    .await?;
                Ok(())
            })
            .await
    }
}

/// What is done to a provider.
enum Deed {
    Add(Change),
    Set(Change),
    Remove,
}

impl Deed {
    /// What the audit log calls it, and its good end.
    const fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Add(_) => ("provider.add", "added"),
            Self::Set(_) => ("provider.set", "changed"),
            Self::Remove => ("provider.remove", "removed"),
        }
    }
}

async fn add(connection: &mut AsyncPgConnection, name: &str, change: Change) -> Result<(), ProviderError> {
    if !is_label(name) {
        let what = "must be a DNS label: small letters, digits and hyphens, a letter first, 63 at most";
        return Err(ProviderError::Field("name", what.to_owned()));
    }
    let domains = domains(change.domains.unwrap_or_default())?;
    let upstreams = upstreams(change.upstreams.unwrap_or_default())?;
    let title = title(change.title.unwrap_or_else(|| name.to_owned()))?;
    let per_second = limit("requests_per_second", change.requests_per_second, 1_000_000)?;
    let concurrent = limit("concurrent", change.concurrent, 100_000)?;
    let made = diesel::sql_query(
        "INSERT INTO providers.providers (name, upstreams, title, colour, requests_per_second, concurrent) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(name)
    .bind::<Array<Text>, _>(upstreams)
    .bind::<Text, _>(title)
    .bind::<Nullable<Text>, _>(change.colour.map(colour).transpose()?)
    .bind::<Integer, _>(per_second.unwrap_or(REQUESTS_PER_SECOND))
    .bind::<Integer, _>(concurrent.unwrap_or(CONCURRENT))
    .execute(connection)
    .await?;
    if made == 0 {
        return Err(ProviderError::Taken);
    }
    own(connection, name, domains).await
}

async fn set(connection: &mut AsyncPgConnection, name: &str, change: Change) -> Result<(), ProviderError> {
    let domains = change.domains.map(domains).transpose()?;
    let per_second = limit("requests_per_second", change.requests_per_second, 1_000_000)?;
    let concurrent = limit("concurrent", change.concurrent, 100_000)?;
    let changed = diesel::sql_query(
        "UPDATE providers.providers SET upstreams = coalesce($2, upstreams), title = coalesce($3, title), \
         colour = coalesce($4, colour), requests_per_second = coalesce($5, requests_per_second), \
         concurrent = coalesce($6, concurrent) WHERE name = $1",
    )
    .bind::<Text, _>(name)
    .bind::<Nullable<Array<Text>>, _>(change.upstreams.map(upstreams).transpose()?)
    .bind::<Nullable<Text>, _>(change.title.map(title).transpose()?)
    .bind::<Nullable<Text>, _>(change.colour.map(colour).transpose()?)
    .bind::<Nullable<Integer>, _>(per_second)
    .bind::<Nullable<Integer>, _>(concurrent)
    .execute(connection)
    .await?;
    if changed == 0 {
        return Err(ProviderError::Unknown);
    }
    let Some(domains) = domains else { return Ok(()) };
    diesel::sql_query("DELETE FROM providers.domains WHERE provider = $1")
        .bind::<Text, _>(name)
        .execute(connection)
        .await?;
    own(connection, name, domains).await
}

async fn remove(connection: &mut AsyncPgConnection, name: &str) -> Result<(), ProviderError> {
    let removed = diesel::sql_query("DELETE FROM providers.providers WHERE name = $1")
        .bind::<Text, _>(name)
        .execute(connection)
        .await?;
    if removed == 0 { Err(ProviderError::Unknown) } else { Ok(()) }
}

async fn one(connection: &mut AsyncPgConnection, name: &str) -> Result<Option<Provider>, StoreError> {
    let found = diesel::sql_query(format!("{COLUMNS} WHERE name = $1"));
    Ok(found.bind::<Text, _>(name).get_result(connection).await.optional()?)
}

/// Gives hosts to a provider that has none.
async fn own(
    connection: &mut AsyncPgConnection,
    name: &str,
    domains: Vec<String>,
) -> Result<(), ProviderError> {
    for domain in domains {
        let owned = diesel::sql_query(
            "INSERT INTO providers.domains (domain, provider) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind::<Text, _>(&domain)
        .bind::<Text, _>(name)
        .execute(connection)
        .await?;
        if owned == 0 {
            return Err(ProviderError::DomainTaken(domain));
        }
    }
    Ok(())
}

/// Whether it can be a provider's name: also names of Kubernetes' objects and of a database's role end with it.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(plain)
}

/// Hosts in the one spelling that gateways compare: small letters, non-ASCII names as IDNA has them.
fn domains(given: Vec<String>) -> Result<Vec<String>, ProviderError> {
    let mut domains = given
        .iter()
        .map(|domain| match Host::parse(domain) {
            Ok(Host::Domain(host)) if is_bare(&host) => Ok(host),
            _ => Err(ProviderError::Field(
                "domains",
                format!("'{domain}' is no bare name such as shop.example.org"),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    domains.sort();
    domains.dedup();
    some("domains", domains)
}

/// Whether a name is made of labels alone: no wildcard, no port, no dot behind it.
fn is_bare(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    host.len() <= 253 && host.bytes().all(plain) && !host.ends_with('.')
}

/// Upstreams, as a scheme, a host and a port.
fn upstreams(given: Vec<String>) -> Result<Vec<String>, ProviderError> {
    let upstream = |text: String| {
        let url = Url::parse(&text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && matches!(url.path(), "" | "/")
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        // Not the text itself: someone may have written a password into it.
        let what = "each is http://host:port or https://host:port and nothing else";
        let url = url.ok_or_else(|| ProviderError::Field("upstreams", what.to_owned()))?;
        Ok(url.origin().ascii_serialization())
    };
    some("upstreams", given.into_iter().map(upstream).collect::<Result<_, ProviderError>>()?)
}

fn some(field: &'static str, list: Vec<String>) -> Result<Vec<String>, ProviderError> {
    match list.len() {
        1..=64 => Ok(list),
        _ => Err(ProviderError::Field(field, "name 1 to 64".to_owned())),
    }
}

fn title(text: String) -> Result<String, ProviderError> {
    let fits = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let what = "must have 1 to 100 characters, and none of control";
    if fits { Ok(text) } else { Err(ProviderError::Field("title", what.to_owned())) }
}

fn colour(text: String) -> Result<String, ProviderError> {
    let text = text.to_ascii_lowercase();
    let digits = text.strip_prefix('#').unwrap_or_default();
    if digits.len() == 6 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err(ProviderError::Field("colour", "must be as #1a2b3c".to_owned()))
}

fn limit(field: &'static str, value: Option<i32>, most: i32) -> Result<Option<i32>, ProviderError> {
    match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(ProviderError::Field(field, format!("must be 1 to {most}")))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for name in ["sp1", "a", "shop-of-ada"] {
            assert!(is_label(name), "{name}");
        }
        for name in ["", "1sp", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!is_label(name), "{name}");
        }
    }

    #[test]
    fn domains_have_one_spelling() {
        let given = ["Shop.Example.ORG", "shop.example.org", "bücher.example"].map(str::to_owned);
        assert_eq!(domains(given.to_vec()).unwrap(), ["shop.example.org", "xn--bcher-kva.example"]);
        for wrong in ["", "127.0.0.1", "[::1]", "a.example:80", "a/b", "a b", "*.example.org", "a.example."] {
            assert!(domains(vec![wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(domains(Vec::new()).is_err());
    }

    #[test]
    fn an_upstream_is_an_origin_and_a_password_in_it_is_not_repeated() {
        assert_eq!(upstreams(vec!["http://sp1:6193/".to_owned()]).unwrap(), ["http://sp1:6193"]);
        for wrong in ["sp1:6193", "ftp://sp1", "http://sp1/path", "http://sp1?q", "http://ada:secret@sp1"] {
            let error = upstreams(vec![wrong.to_owned()]).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
