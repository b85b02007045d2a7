//! The list of mails and the files they are made of, embedded in the binary. A new mail is a folder under
//! `templates/`, a variant here and a line in `MAILS` per locale.

/// Locales that every mail exists in.
pub const LOCALES: &[&str] = &["en", "fr"];

/// The mails there are; their names are part of the contract with autha.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// An account was created.
    Welcome,
    /// Data of the account was changed.
    DataUpdate,
    /// Somebody signed in.
    Login,
}

impl Template {
    /// Every mail.
    pub const ALL: &[Self] = &[Self::Welcome, Self::DataUpdate, Self::Login];

    /// The name that a command gives.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::DataUpdate => "data_update",
            Self::Login => "login",
        }
    }

    /// The mail of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|template| template.name() == name)
    }
}

/// One mail in one locale.
pub(super) struct Mail {
    pub(super) template: Template,
    pub(super) locale: &'static str,
    /// Name and source of subject, text and HTML. A name's extension decides what is escaped.
    pub(super) files: [(&'static str, &'static str); 3],
}

/// The mail `template` in `locale`, one of [`LOCALES`].
pub(super) fn find(template: Template, locale: &str) -> Option<&'static Mail> {
    MAILS.iter().find(|mail| mail.template == template && mail.locale == locale)
}

/// Name and source of a file under `templates/`.
macro_rules! file {
    ($($path:literal),+) => {
        (concat!($($path),+), include_str!(concat!("../../templates/", $($path),+)))
    };
}

macro_rules! mail {
    ($template:ident, $locale:literal, $folder:literal) => {
        Mail {
            template: Template::$template,
            locale: $locale,
            files: [
                file!($folder, "/subject.txt"),
                file!($folder, "/body.txt"),
                file!($folder, "/body.html"),
            ],
        }
    };
}

/// What mails share.
pub(super) const SHARED: &[(&str, &str)] = &[file!("layout.html"), file!("style.html")];

/// Every mail in every locale.
pub(super) const MAILS: &[Mail] = &[
    mail!(Welcome, "en", "welcome/en"),
    mail!(Welcome, "fr", "welcome/fr"),
    mail!(DataUpdate, "en", "data_update/en"),
    mail!(DataUpdate, "fr", "data_update/fr"),
    mail!(Login, "en", "login/en"),
    mail!(Login, "fr", "login/fr"),
];
