//! What a mail says: from a template's name, a locale and a context to subject, text and HTML.
//! How it travels is `transport`'s matter; what is embedded is listed in `catalogue`.

mod catalogue;
mod locale;

use chrono::{DateTime, Utc};
use minijinja::{Environment, UndefinedBehavior, context};

pub use self::{
    catalogue::{LOCALES, Template},
    locale::find_locale,
};

/// Longest name that appears in a mail, in characters; the rest is cut off with an ellipsis.
const NAME_LIMIT: usize = 80;

/// All mails, compiled; built once and shared.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
    brand: String,
    default_locale: &'static str,
}

/// What a mail may speak of. Its `Debug` names nobody.
#[derive(Clone)]
pub struct MailContext {
    /// Display name of the account; any characters.
    pub username: String,
    /// When that happened which the mail tells of.
    pub occurred_at: DateTime<Utc>,
}

/// A mail's content, ready to be packed.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line without control characters.
    pub subject: String,
    /// The plain text, lines ended by LF.
    pub text: String,
    /// The same as a whole HTML document.
    pub html: String,
    /// The locale it is in, one of [`LOCALES`].
    pub locale: &'static str,
}

/// Why a mail has no content.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// No template has this name: nothing to be gained by another try.
    #[error("no template has the name that the command gives")]
    UnknownTemplate,
    /// No template is in the locale that is to be the default.
    #[error("no templates are in the default locale")]
    UnknownLocale,
    /// A template is broken or names a variable that no mail has: found when the renderer is built.
    #[error("a template does not render")]
    Template(#[from] minijinja::Error),
}

impl Renderer {
    /// Compiles every template and renders each once, so that a broken one fails at start instead of in a mail.
    /// `brand` is the platform's name; `default_locale` serves whom no other one fits.
    ///
    /// # Errors
    /// [`RenderError::UnknownLocale`] for a default without templates, [`RenderError::Template`] for a broken one.
    pub fn new(brand: &str, default_locale: &str) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, source) in catalogue::SHARED {
            environment.add_template(name, source)?;
        }
        for mail in catalogue::MAILS {
            for (name, source) in mail.files {
                environment.add_template(name, source)?;
            }
        }
        let default_locale = find_locale(default_locale).ok_or(RenderError::UnknownLocale)?;
        let renderer = Self { environment, brand: one_line(brand), default_locale };
        let sample = MailContext { username: "sample".into(), occurred_at: DateTime::<Utc>::UNIX_EPOCH };
        for mail in catalogue::MAILS {
            renderer.render(mail.template.name(), mail.locale, &sample)?;
        }
        Ok(renderer)
    }

    /// Renders the mail `template` in the locale nearest to `locale` (a BCP 47 tag: `fr-CA`, then `fr`, then the
    /// default).
    ///
    /// # Errors
    /// [`RenderError::UnknownTemplate`] when there is no such mail.
    pub fn render(
        &self,
        template: &str,
        locale: &str,
        context: &MailContext,
    ) -> Result<Rendered, RenderError> {
        let template = Template::find(template).ok_or(RenderError::UnknownTemplate)?;
        let locale = find_locale(locale).unwrap_or(self.default_locale);
        let mail = catalogue::find(template, locale).ok_or(RenderError::UnknownLocale)?;
        let values = context! {
            brand => self.brand.as_str(),
            lang => locale,
            username => display_name(&context.username),
            // The one form that no reader takes for another day.
            date => context.occurred_at.format("%Y-%m-%d %H:%M UTC").to_string(),
        };
        let [(subject, _), (text, _), (html, _)] = mail.files;
        let part = |name: &str| self.environment.get_template(name)?.render(&values);
        Ok(Rendered {
            subject: one_line(&part(subject)?),
            text: part(text)? + "\n",
            html: part(html)? + "\n",
            locale,
        })
    }
}

/// A name as it may stand in a mail: one line of bounded length.
fn display_name(name: &str) -> String {
    let name = one_line(name);
    match name.char_indices().nth(NAME_LIMIT) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name,
    }
}

/// Folds all white space and control characters to single spaces, so that no header can be injected and no line of a
/// mail forged, and drops characters that turn the direction of what follows.
fn one_line(text: &str) -> String {
    let turns =
        |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain: String =
        text.chars().filter(|c| !turns(c)).map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl std::fmt::Debug for MailContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailContext").field("occurred_at", &self.occurred_at).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("locale", &self.locale).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
