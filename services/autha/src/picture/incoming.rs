//! Pictures that their owners put straight into the bucket: where they lie until they are taken in. The key alone tells whose one is and
//! how old, so that there is no row for what may never come. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The prefix of their keys, `incoming/{owner}/{id}.{extension}`. No preset of spinoza's has that name.
pub const PREFIX: &str = "incoming/";

/// Where the picture of that id lies, but for its ending. `owner` is a keyed digest of the account: its id is in no address.
pub fn stem(owner: &[u8], id: Uuid) -> String {
    format!("{PREFIX}{}/{id}.", hex::encode(owner.get(..16).unwrap_or(owner)))
}

/// How old what was asked for may get before it is swept: what was put at the last moment can be taken in for as long again.
pub fn kept(lifetime: Duration) -> chrono::Duration {
    chrono::Duration::from_std(lifetime * 2).unwrap_or(chrono::Duration::MAX)
}

/// Whether what was asked for by that id can be taken in no more.
pub fn is_over(id: Uuid, lifetime: Duration, now: DateTime<Utc>) -> bool {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |time| time.to_unix());
    let asked = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, nanos));
    asked.is_none_or(|asked| now - asked > kept(lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_over_when_it_is_old_or_tells_no_time() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let id = |seconds: i64| {
            let at = u64::try_from(now.timestamp() + seconds).unwrap();
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, at, 0))
        };
        let lifetime = Duration::from_secs(60);
        assert!(!is_over(id(0), lifetime, now) && !is_over(id(-119), lifetime, now));
        assert!(is_over(id(-121), lifetime, now));
        assert!(is_over(Uuid::from_u128(1), lifetime, now));
    }

    #[test]
    fn a_key_names_no_account() {
        let key = stem(&[0xab; 32], Uuid::nil());
        assert_eq!(key, format!("incoming/{}/{}.", "ab".repeat(16), Uuid::nil()));
    }
}
