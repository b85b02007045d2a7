//! Clients of other servers: bounded in time, following nothing.

use std::time::Duration;

use reqwest::{Client, redirect};
use url::Url;

/// A client of these addresses.
///
/// # Errors
/// When none can be made.
pub fn client<'a>(
    urls: impl IntoIterator<Item = &'a Url>,
    limit: Duration,
) -> Result<Client, reqwest::Error> {
    let mut client = Client::builder().timeout(limit).redirect(redirect::Policy::none());
    if urls.into_iter().all(|url| url.scheme() == "http") {
        // A system without certificate authorities is no obstacle then.
        client = client.tls_certs_only([]);
    }
    client.build()
}
