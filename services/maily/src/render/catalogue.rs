//! The files that mails are made of: embedded in the binary, and an operator's own in their place. What they say when rendered is
//! `mod`'s matter. A new mail is a folder under `templates/`, a name in `MAILS` and a variant of `Template` in `schemas`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use orrery_schemas::email::{Details, Template};
use serde::Deserialize;
use toml::{Table, Value};

use super::RenderError;

/// The folder of what the texts of all mails share.
pub(super) const SHARED: &str = "shared";

/// Name and content of a file under `templates/`.
macro_rules! file {
    ($($path:literal),+) => {
        (concat!($($path),+), include_str!(concat!("../../templates/", $($path),+)))
    };
}

macro_rules! mails {
    ($($name:literal),+ $(,)?) => {
        &[$(
            file!($name, "/mail.html"),
            file!($name, "/mail.txt"),
            file!($name, "/mail.toml"),
            file!($name, "/sample.json"),
            file!($name, "/en.toml"),
            file!($name, "/fr.toml"),
            file!($name, "/de.toml"),
            file!($name, "/es.toml"),
        )+]
    };
}

const FRAME: &[(&str, &str)] = &[
    file!("layout.html"),
    file!("mail.html"),
    file!("mail.txt"),
    file!("shared/en.toml"),
    file!("shared/fr.toml"),
    file!("shared/de.toml"),
    file!("shared/es.toml"),
];

const MAILS: &[(&str, &str)] = mails![
    "welcome",
    "data_update",
    "login",
    "verify",
    "recover",
    "confirm_address",
    "address_changed",
    "address_taken",
    "password_changed",
    "second_factor_changed",
    "deletion_scheduled",
    "deletion_done",
    "export_ready",
    "invite",
    "suspended",
    "endpoint_disabled",
];

/// The locales that every mail in the binary exists in.
pub(super) fn embedded_locales() -> Vec<&'static str> {
    let shared = FRAME.iter().filter_map(|(path, _)| path.strip_prefix("shared/")?.strip_suffix(".toml"));
    let mut locales: Vec<_> = shared.collect();
    locales.sort_unstable();
    locales
}

/// What a mail's `mail.toml` says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    facts: Vec<String>,
}

/// All files, read.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// Templates by their path.
    pub templates: BTreeMap<String, String>,
    /// Texts of a folder in a locale: `verify/fr` to its keys, those of tables and lists joined by dots.
    pub texts: BTreeMap<String, BTreeMap<String, String>>,
    /// Names of the facts that a mail tells.
    pub facts: BTreeMap<Template, Vec<String>>,
    /// Sample data of each mail.
    pub samples: BTreeMap<Template, Details>,
}

impl Catalogue {
    /// Reads the embedded files, and those of `own` above them: a template takes the place of the one of the same path, a text that of
    /// the same key.
    ///
    /// # Errors
    /// When one cannot be read, or has a place where nothing would ever look for it.
    pub(super) fn load(own: Option<&Path>) -> Result<Self, RenderError> {
        let mut catalogue = Self::default();
        let mut tables = BTreeMap::new();
        for (path, content) in FRAME.iter().chain(MAILS) {
            catalogue.add(&mut tables, path, content)?;
        }
        if let Some(folder) = own {
            for path in files(folder).map_err(|error| fault(folder, &error))? {
                let file = folder.join(&path);
                let content = fs::read_to_string(&file).map_err(|error| fault(&file, &error))?;
                catalogue.add(&mut tables, &path, content.trim_start_matches('\u{feff}'))?;
            }
        }
        for (place, table) in tables {
            let mut texts = BTreeMap::new();
            flatten(&place, String::new(), Value::Table(table), &mut texts)?;
            catalogue.texts.insert(place, texts);
        }
        Ok(catalogue)
    }

    /// The locales that a folder has texts in, for which there are shared ones too.
    pub(super) fn locales(&self, folder: &str) -> BTreeSet<&str> {
        let of = |folder: &str| -> BTreeSet<&str> {
            let places = self.texts.keys().filter_map(|place| place.split_once('/'));
            places.filter(|(place, _)| *place == folder).map(|(_, locale)| locale).collect()
        };
        of(folder).intersection(&of(SHARED)).copied().collect()
    }

    fn add(
        &mut self,
        tables: &mut BTreeMap<String, Table>,
        path: &str,
        content: &str,
    ) -> Result<(), RenderError> {
        let broken = |cause: String| RenderError::File { path: path.to_owned(), cause };
        let unknown = || RenderError::UnknownFile { path: path.to_owned() };
        let Some((folder, name)) = path.split_once('/') else {
            if !matches!(path, "layout.html" | "mail.html" | "mail.txt") {
                return Err(unknown());
            }
            self.templates.insert(path.to_owned(), content.to_owned());
            return Ok(());
        };
        let template = folder.parse::<Template>().ok();
        match (name, template) {
            ("mail.html" | "mail.txt", Some(_)) => {
                self.templates.insert(path.to_owned(), content.to_owned());
            }
            ("mail.toml", Some(template)) => {
                let plan: Plan =
                    toml::from_str(content).map_err(|error| broken(error.message().to_owned()))?;
                self.facts.insert(template, plan.facts);
            }
            ("sample.json", Some(template)) => {
                let sample = serde_json::from_str(content).map_err(|error| broken(error.to_string()))?;
                self.samples.insert(template, sample);
            }
            (name, template) if template.is_some() || folder == SHARED => {
                let locale =
                    name.strip_suffix(".toml").filter(|locale| is_tag(locale)).ok_or_else(unknown)?;
                let table: Table =
                    content.parse().map_err(|error: toml::de::Error| broken(error.message().to_owned()))?;
                tables.entry(format!("{folder}/{locale}")).or_default().extend(table);
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

/// Whether a name could be a language's tag.
fn is_tag(name: &str) -> bool {
    let mut parts = name.split('-');
    let is_word = |part: &str, least| {
        (least..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    parts.next().is_some_and(|first| is_word(first, 2)) && parts.all(|part| is_word(part, 1))
}

fn flatten(
    place: &str,
    key: String,
    value: Value,
    texts: &mut BTreeMap<String, String>,
) -> Result<(), RenderError> {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::String(text) => {
            texts.insert(key, text);
        }
        Value::Table(table) => {
            for (name, value) in table {
                flatten(place, below(&name), value, texts)?;
            }
        }
        Value::Array(list) => {
            for (at, value) in list.into_iter().enumerate() {
                flatten(place, below(&at.to_string()), value, texts)?;
            }
        }
        _ => {
            return Err(RenderError::File {
                path: format!("{place}.toml"),
                cause: format!("{key} is no text"),
            });
        }
    }
    Ok(())
}

/// The files in a folder and in those one below, by their paths with `/`. Hidden ones are nobody's.
fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    let names = |folder: &Path| -> io::Result<Vec<(String, bool)>> {
        fs::read_dir(folder)?
            .map(|entry| {
                let entry = entry?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir()))
            })
            .filter(|entry| entry.as_ref().map_or(true, |(name, _)| !name.starts_with('.')))
            .collect()
    };
    for (name, is_folder) in names(folder)? {
        if is_folder {
            let below = names(&folder.join(&name))?;
            paths.extend(below.into_iter().map(|(file, _)| format!("{name}/{file}")));
        } else {
            paths.push(name);
        }
    }
    paths.sort();
    Ok(paths)
}

fn fault(path: &Path, error: &io::Error) -> RenderError {
    RenderError::File { path: path.display().to_string(), cause: error.to_string() }
}
