//! Keys of objects: the folder of an upload, and the content-addressed names in it.

use orrery_schemas::ids::{AccountId, UploadId};
use orrery_seal::sha256;
use uuid::Uuid;

/// The account and the upload that the key of an original names: `{preset}/{account}/{upload}/original.{ext}`.
pub fn original(key: &str) -> Option<(AccountId, UploadId)> {
    let mut parts = key.split('/');
    let (Some(preset), Some(account), Some(upload), Some(file), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    if preset.is_empty() || !preset.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let extension = file.strip_prefix("original.")?;
    if extension.is_empty() || !extension.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    Some((AccountId(canonical(account)?), UploadId(canonical(upload)?)))
}

/// The folder `{preset}/{account}/{upload}` of an original's key, if the key is one of that upload.
pub fn folder(key: &str, upload: UploadId) -> Option<&str> {
    let (_, named) = original(key)?;
    let (folder, _) = key.rsplit_once('/')?;
    (named == upload).then_some(folder)
}

/// `{folder}/{32 digits of the SHA-256}-{width}.{extension}`
pub fn variant(folder: &str, width: u32, extension: &str, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    format!("{folder}/{}-{width}.{extension}", hex::encode(digest.get(..16).unwrap_or_default()))
}

/// The first folder of a key, which names the preset.
pub fn preset(key: &str) -> &str {
    key.split_once('/').map_or(key, |(first, _)| first)
}

/// A UUID in the one spelling that keys are written in.
fn canonical(text: &str) -> Option<Uuid> {
    let id = Uuid::parse_str(text).ok()?;
    (id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_an_original_in_its_uploads_own_folder_is_read() {
        let (account, upload) = (Uuid::from_u128(1), UploadId(Uuid::from_u128(2)));
        let folder_of = format!("avatars/{account}/{upload}");
        assert_eq!(folder(&format!("{folder_of}/original.jpg"), upload), Some(folder_of.as_str()));
        for key in [
            format!("{folder_of}/x.jpg"),
            format!("{folder_of}/original."),
            format!("{folder_of}/original.jpg/x"),
            format!("avatars/{account}/{account}/original.jpg"),
            format!("avatars/{}/{upload}/original.jpg", account.simple()),
            format!("avatars/../{upload}/original.jpg"),
            format!("Avatars/{account}/{upload}/original.jpg"),
            "original.jpg".to_owned(),
        ] {
            assert_eq!(folder(&key, upload), None, "{key}");
        }
    }
}
