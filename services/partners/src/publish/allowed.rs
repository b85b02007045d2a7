//! What a partner may send and receive: sources, types, and what of an event is ours to set.

use cloudevents::{AttributesReader as _, Event};
use orrery_config::partner::is_reserved;
use orrery_schemas::{problems::Code, topology::pattern};

use super::{Refused, SOURCE_CLIENT};
use crate::records::partners::Partner;

/// The longest routing key of the broker.
const TYPE_BYTES: usize = 255;

/// Whether a partner may send this event.
///
/// # Errors
/// What it may not.
pub fn check(partner: &Partner, event: &Event) -> Result<(), Refused> {
    if event.extension(SOURCE_CLIENT).is_some() {
        let detail = "the attribute sourceclient is set by us, from whose token it is: leave it out";
        return Err(Refused::new(Code::InvalidField, detail));
    }
    let ty = event.ty();
    if !is_type(ty) {
        let detail = "a type is words of a-z, A-Z, 0-9, '-' and '_' with dots between, 255 bytes in all";
        return Err(Refused::new(Code::InvalidField, detail));
    }
    if is_reserved(ty) {
        return Err(Refused::new(Code::Forbidden, "types that begin with com.gravitalia are ours"));
    }
    if !partner.publishes.iter().any(|allowed| pattern::overlap(allowed, ty)) {
        let detail =
            format!("this client may not send that type; it may send {}", listed(&partner.publishes));
        return Err(Refused::new(Code::Forbidden, detail));
    }
    let source = event.source();
    if !partner.sources.iter().any(|allowed| fits(allowed, source)) {
        let detail =
            format!("this client may not claim that source; it may claim {}", listed(&partner.sources));
        return Err(Refused::new(Code::Forbidden, detail));
    }
    Ok(())
}

/// Whether a partner may receive events of that type.
pub fn may_receive(partner: &Partner, ty: &str) -> bool {
    partner.receives.iter().any(|allowed| pattern::overlap(allowed, ty))
}

/// Whether it can be a routing key that a pattern is matched with.
pub fn is_type(ty: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    ty.len() <= TYPE_BYTES && ty.split('.').all(is_word)
}

/// Whether `source` is the one allowed, or begins with what stands before the '*'.
fn fits(allowed: &str, source: &str) -> bool {
    allowed.strip_suffix('*').map_or(allowed == source, |beginning| source.starts_with(beginning))
}

fn listed(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use cloudevents::{EventBuilder, EventBuilderV10};
    use uuid::Uuid;

    use super::*;

    fn partner() -> Partner {
        Partner {
            id: Uuid::nil(),
            name: "acme".to_owned(),
            origin: "command".to_owned(),
            is_operator: false,
            sources: vec!["/acme".to_owned(), "/acme/*".to_owned()],
            publishes: vec!["com.acme.*".to_owned(), "org.acme.#".to_owned()],
            receives: vec!["com.gravitalia.account.#".to_owned()],
            events_per_minute: None,
            max_endpoints: None,
            contact: None,
            locale: "en".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            disabled_at: None,
        }
    }

    fn code(source: &str, ty: &str, extension: Option<&str>) -> Option<Code> {
        let mut event = EventBuilderV10::new().id("1").source(source).ty(ty).build().unwrap();
        if let Some(extension) = extension {
            event.set_extension(extension, "x");
        }
        check(&partner(), &event).err().map(|refused| refused.code)
    }

    #[test]
    fn a_partner_sends_its_types_from_its_sources_and_proves_nothing_itself() {
        assert_eq!(code("/acme", "com.acme.order", None), None);
        assert_eq!(code("/acme/shop", "org.acme.a.b.c", None), None);
        assert_eq!(code("/acmeshop", "com.acme.order", None), Some(Code::Forbidden));
        assert_eq!(code("/beta", "com.acme.order", None), Some(Code::Forbidden));
        assert_eq!(code("/acme", "com.acme.order.v1", None), Some(Code::Forbidden));
        assert_eq!(code("/acme", "com.gravitalia.account.created.v1", None), Some(Code::Forbidden));
        assert_eq!(code("/acme", "com.acme.order", Some("sourceclient")), Some(Code::InvalidField));
        for ty in ["com.acme.*", "com.acme.#", "com..acme", "com.acme.a b", "com.acme.é"] {
            assert_eq!(code("/acme", ty, None), Some(Code::InvalidField), "{ty}");
        }
        assert!(may_receive(&partner(), "com.gravitalia.account.created.v1"));
        assert!(!may_receive(&partner(), "com.gravitalia.image.uploaded.v1"));
    }
}
