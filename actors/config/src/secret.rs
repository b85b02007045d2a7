//! A secret that stands in the configuration, in a variable, or in a file that either names. It never prints itself.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

/// What stands in a secret's place where the configuration is shown.
pub const HIDDEN: &str = "[hidden]";

/// A file's text without what editors and shells add to it: a byte order mark at its beginning, ends of lines at its end.
///
/// # Errors
/// What is wrong, to be written after the file's name.
pub fn read_text(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16: save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8".to_owned())?;
    Ok(text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned())
}

/// Chooses between a value and a file's content.
///
/// # Errors
/// A line for the faults' list: both are given, or the file cannot be read or is empty.
pub fn resolve(
    path: &str,
    value: Option<&SecretString>,
    file: Option<&PathBuf>,
) -> Result<Option<SecretString>, String> {
    match (value, file) {
        (Some(_), Some(_)) => Err(format!("{path}: is given twice; leave out either {path} or {path}_file")),
        (Some(value), None) => Ok(Some(value.expose_secret().trim_end_matches(['\r', '\n']).into())),
        (None, Some(file)) => match read_text(file) {
            Ok(text) if text.is_empty() => Err(format!("{path}_file: {} is empty", file.display())),
            Ok(text) => Ok(Some(text.into())),
            Err(error) => Err(format!("{path}_file: {} {error}", file.display())),
        },
        (None, None) => Ok(None),
    }
}

/// Where a secret comes from, for a fault of it: its path, or the path of its file and the file.
pub fn place(path: &str, file: Option<&PathBuf>) -> String {
    file.map_or_else(|| path.to_owned(), |file| format!("{path}_file: {}", file.display()))
}

/// Serialises a secret as hidden.
///
/// # Errors
/// As the serialiser.
pub fn hidden<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(HIDDEN)
}

/// The same of one that may be missing.
///
/// # Errors
/// As the serialiser.
pub fn hidden_if_any<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => hidden(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// The same of several.
///
/// # Errors
/// As the serialiser.
pub fn hidden_list<S: Serializer>(secrets: &[SecretString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|_| HIDDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_wrapping_and_a_fault_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            resolve("a.b", None, Some(&file)).map(|secret| secret.unwrap().expose_secret().to_owned())
        };
        for (bytes, wanted) in [
            (&b"secret"[..], "secret"),
            (b"\xef\xbb\xbfsecret\r\n", "secret"),
            (b" a \"q\" \n", " a \"q\" "),
            (b"a\r\nb\n\n", "a\r\nb"),
        ] {
            assert_eq!(read(bytes).unwrap(), wanted);
        }
        for (bytes, fault) in [
            (&b"\xff\xfes\0"[..], "is UTF-16: save it as UTF-8"),
            (b"secret\xff", "is no UTF-8"),
            (b"\xef\xbb\xbf\r\n", "is empty"),
        ] {
            let error = read(bytes).unwrap_err();
            assert_eq!(error, format!("a.b_file: {} {fault}", file.display()));
        }
    }

    #[test]
    fn a_value_keeps_its_quotes_and_spaces() {
        let secret = resolve("a.b", Some(&"\"q\" ".into()), None).unwrap().unwrap();
        assert_eq!(secret.expose_secret(), "\"q\" ");
    }
}
