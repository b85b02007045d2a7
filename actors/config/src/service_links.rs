//! The variables that Kubernetes sets in every container for every Service of the namespace. A Service named `orrery` or `orrery-gateway` gives them
//! our prefix; they are no settings.

use std::net::IpAddr;

/// Whether `<prefix><key>=text` is one of them: `PORT`, `SERVICE_HOST`, `GATEWAY_PORT_8080_TCP_ADDR`... No setting outside a section ends like these.
pub fn is_link(key: &str, text: &str) -> bool {
    // Two underscores separate a section from its field.
    if key.trim_start_matches('_').contains("__") || key.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return false;
    }
    let words: Vec<&str> = key.split('_').collect();
    let ends_like = |ending: &[&str]| words.ends_with(ending);
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    let is_port = text.parse::<u16>().is_ok();
    let is_address = text.parse::<IpAddr>().is_ok() || text.is_empty() || text == "None";
    if ends_like(&["SERVICE", "HOST"]) {
        return is_address;
    }
    if words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]) {
        return is_port;
    }
    // What follows the number of a port.
    let after = words
        .iter()
        .position(|word| *word == "PORT")
        .and_then(|place| words.get(place + 1..))
        .filter(|after| after.first().is_some_and(|word| word.parse::<u16>().is_ok()));
    match after {
        Some([_, "TCP" | "UDP" | "SCTP"]) => is_url,
        Some([_, "TCP" | "UDP" | "SCTP", "PROTO"]) => matches!(text, "tcp" | "udp" | "sctp"),
        Some([_, "TCP" | "UDP" | "SCTP", "PORT"]) => is_port,
        Some([_, "TCP" | "UDP" | "SCTP", "ADDR"]) => is_address,
        _ => ends_like(&["PORT"]) && is_url,
    }
}

/// The line about those that were found.
pub fn warning(names: &mut [String]) -> Option<String> {
    names.sort_unstable();
    let first = names.first()?;
    let (count, them) = (names.len(), if names.len() == 1 { "variable" } else { "variables" });
    Some(format!(
        "ignored {count} {them} that Kubernetes sets for a Service ({first} and the like): set enableServiceLinks: false in the pod's spec"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_known_by_name_and_value() {
        for (key, text) in [
            ("PORT", "tcp://10.0.0.1:8080"),
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_HOST", "fd00::1"),
            ("SERVICE_PORT", "8080"),
            ("SERVICE_PORT_HTTP", "8080"),
            ("PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("PORT_8080_TCP_PROTO", "tcp"),
            ("PORT_8080_TCP_PORT", "8080"),
            ("PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("GATEWAY_PORT", "tcp://[fd00::1]:8080"),
            ("GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("GATEWAY_SERVICE_PORT_HTTP", "80"),
            ("AUTHA_HEADLESS_PORT_53_UDP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_link(key, text), "{key}={text}");
        }
        for (key, text) in [
            ("PORT", "8080"),
            ("PROT", "tcp://10.0.0.1:8080"),
            ("SERVICES", "autha"),
            ("SERVICE_HOST", "somewhere"),
            ("MAILY__SMTP__PORT", "587"),
            ("MAILY__SMTP__PORT", "tcp://10.0.0.1:25"),
            ("DATABASE__ULR", "x"),
            ("PORT_X_TCP", "tcp://10.0.0.1:8080"),
        ] {
            assert!(!is_link(key, text), "{key}={text}");
        }
    }
}
