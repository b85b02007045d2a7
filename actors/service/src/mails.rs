//! Mails as an operator is shown them. Who writes them lives in its service.

use std::path::PathBuf;

/// What a service writes to people.
#[derive(Debug, Clone, Default)]
pub struct Mails {
    /// The folder that keeps mails in place of sending them, where it does.
    pub captured: Option<PathBuf>,
    /// Every mail in every language, made of sample data.
    pub previews: Vec<Preview>,
}

/// One mail, made of sample data.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Which mail.
    pub name: String,
    /// In which language.
    pub locale: String,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}
