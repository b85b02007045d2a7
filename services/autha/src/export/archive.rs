//! The archive itself: a ZIP of JSON documents and pictures. Blocking work, for a thread that may block.

use std::io::{Cursor, Write};

use serde_json::Value;
use zip::{ZipWriter, result::ZipError, write::SimpleFileOptions};

/// An archive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The library refused.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// A part could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A document is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Packs documents and pictures.
///
/// # Errors
/// When the library refuses.
pub fn pack(
    documents: &[(&'static str, Value)],
    pictures: &[(String, Vec<u8>)],
) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, document) in documents {
        archive.start_file(*name, SimpleFileOptions::default())?;
        archive.write_all(&serde_json::to_vec_pretty(document)?)?;
    }
    for (name, bytes) in pictures {
        // They are compressed already.
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("pictures/{name}"), stored)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_packed_is_found_again() {
        let packed =
            pack(&[("account.json", json!({"id": "ada"}))], &[("a-64.webp".to_owned(), vec![1, 2, 3])])
                .unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(packed)).unwrap();
        let mut text = String::new();
        archive.by_name("account.json").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"id": "ada"}));
        let mut bytes = Vec::new();
        archive.by_name("pictures/a-64.webp").unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3]);
    }
}
