//! Keys of objects: the folder of an upload, and the content-addressed names in it.

use orrery_actors::seal::sha256;
use orrery_schemas::ids::UploadId;

/// The folder `avatars/{account}/{upload}/` of an original's key, if the key is one of that upload.
pub fn folder(key: &str, upload: UploadId) -> Option<&str> {
    let (folder, file) = key.rsplit_once('/')?;
    let mut parts = folder.split('/');
    let (root, account, owner) = (parts.next()?, parts.next()?, parts.next()?);
    let account_is_id = uuid::Uuid::parse_str(account).is_ok();
    let valid = root == "avatars"
        && account_is_id
        && owner == upload.to_string()
        && parts.next().is_none()
        && file.starts_with("original.");
    valid.then_some(folder)
}

/// `{folder}/{32 digits of the SHA-256}-{side}.webp`
pub fn variant(folder: &str, side: u32, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    format!("{folder}/{}-{side}.webp", hex::encode(digest.get(..16).unwrap_or_default()))
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
            format!("avatars/{account}/{account}/original.jpg"),
            format!("avatars/../{upload}/original.jpg"),
            format!("other/{account}/{upload}/original.jpg"),
            "original.jpg".to_owned(),
        ] {
            assert_eq!(folder(&key, upload), None, "{key}");
        }
    }
}
