//! `orrery health`: asks the process of the same configuration whether it is ready. A container's health check: its image has neither shell nor curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use reqwest::Client;

use crate::config::Config;

/// Below the health check's own timeout, so that it is this command that says what is wrong.
const LIMIT: Duration = Duration::from_secs(4);

/// Prints the answer of `/health/ready` on `internal.listen`, and fails unless it is 200.
pub async fn health(config: Config) -> anyhow::Result<ExitCode> {
    let address = reachable(config.shared.internal.listen);
    let client = Client::builder().tls_certs_only([]).timeout(LIMIT).build()?;
    let answer = client
        .get(format!("http://{address}/health/ready"))
        .send()
        .await
        .with_context(|| format!("nothing answers on {address}: does 'orrery serve' run here?"))?;
    let ready = answer.status().is_success();
    say(answer.text().await?.trim());
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a client on the same machine connects to.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8090", "127.0.0.1:8090"),
            ("[::]:8090", "[::1]:8090"),
            ("10.0.0.7:8090", "10.0.0.7:8090"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
