//! Captured mails, read from the folder that maily writes them to. Whatever lies there is shown as text, or in a frame that runs and loads nothing.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use mail_parser::MessageParser;
use serde::Serialize;
use tokio::fs;

/// Mails that are listed.
const LISTED: usize = 100;
/// The largest mail that is read.
const LARGEST: u64 = 2 * 1024 * 1024;
/// The most files that a folder is looked through for.
const LOOKED_AT: usize = 20_000;

/// A mail in the list.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its file.
    pub name: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Its subject.
    pub subject: String,
    /// To whom.
    pub to: String,
}

/// A whole mail.
#[derive(Debug, Default, Serialize)]
pub struct Mail {
    /// Its subject.
    pub subject: String,
    /// To whom.
    pub to: String,
    /// The headers as they came.
    pub headers: Vec<(String, String)>,
    /// Its text.
    pub text: Option<String>,
    /// Its HTML.
    #[serde(skip)]
    pub html: Option<String>,
}

/// The last mails of the folder, the newest first, and whether there are more.
///
/// # Errors
/// When the folder cannot be read; that it is not there yet is none.
pub async fn list(folder: &Path) -> std::io::Result<(Vec<Listed>, bool)> {
    let mut entries = match fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
        Err(error) => return Err(error),
    };
    let mut files: Vec<(DateTime<Utc>, String)> = Vec::new();
    let mut looked_at = 0;
    while let Some(entry) = entries.next_entry().await? {
        looked_at += 1;
        if looked_at > LOOKED_AT {
            break;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_mail(&name) {
            continue;
        }
        // A mail that was removed meanwhile is not listed.
        let Ok(metadata) = entry.metadata().await else { continue };
        if let Ok(at) = metadata.modified() {
            files.push((at.into(), name));
        }
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    let more = files.len() > LISTED;
    files.truncate(LISTED);
    let mut mails = Vec::new();
    for (at, name) in files {
        let mail = one(folder, &name).await?.unwrap_or_default();
        mails.push(Listed { name, at, subject: mail.subject, to: mail.to });
    }
    Ok((mails, more))
}

/// A name that a captured mail has: no path, no hidden file.
fn is_mail(name: &str) -> bool {
    name.ends_with(".eml") && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// One mail; none where there is no such file.
///
/// # Errors
/// When it cannot be read.
pub async fn one(folder: &Path, name: &str) -> std::io::Result<Option<Mail>> {
    if !is_mail(name) {
        return Ok(None);
    }
    let path: PathBuf = folder.join(name);
    let not_there = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match fs::symlink_metadata(&path).await {
        Ok(metadata) if metadata.is_file() && metadata.len() <= LARGEST => {}
        Ok(_) => return Ok(None),
        Err(error) if not_there(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    match fs::read(&path).await {
        Ok(raw) => Ok(Some(parse(&raw))),
        Err(error) if not_there(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(raw: &[u8]) -> Mail {
    let Some(message) = MessageParser::default().parse(raw) else { return Mail::default() };
    let part = |ids: &[u32], html: bool| {
        ids.iter().find_map(|id| {
            let part = message.part(*id)?;
            (part.is_text_html() == html).then(|| part.text_contents().map(str::to_owned)).flatten()
        })
    };
    let to = message.to().into_iter().flat_map(|to| to.iter());
    Mail {
        subject: message.subject().unwrap_or_default().to_owned(),
        to: to.filter_map(|to| to.address()).collect::<Vec<_>>().join(", "),
        headers: message
            .headers_raw()
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        text: part(&message.text_body, false),
        html: part(&message.html_body, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_is_a_mail() {
        assert!(is_mail("0199-a@orrery.example.eml"));
        for name in ["../a.eml", "/etc/passwd", ".a.eml", "a.txt", "a\0.eml", "..\\a.eml"] {
            assert!(!is_mail(name), "{name}");
        }
    }
}
