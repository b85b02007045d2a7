//! What a mail says: from a template, a locale and a context to subject, text and HTML. How it travels is `transport`'s matter; which
//! files there are is `catalogue`'s, what they can call is in `words`, what may stand in a mail of what others write in `text`.

mod catalogue;
mod locale;
mod text;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, syntax::SyntaxConfig};
use orrery_schemas::email::{Detail, Details, Template};
use orrery_service::Preview;

use self::{
    catalogue::{Catalogue, SHARED},
    text::{limited, one_line, tidy, time, usable_link},
};
use crate::config::{Branding, Config};

/// Longest name that appears in a mail, in characters; the rest is cut off with an ellipsis.
const NAME_LIMIT: usize = 80;
/// The same for a device, a place or a reason.
const TEXT_LIMIT: usize = 300;

/// All mails, compiled; built once and shared.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
    brand: String,
    branding: Branding,
    default_locale: String,
    catalogue: Catalogue,
}

/// What a mail may speak of. Its `Debug` names nobody.
#[derive(Clone)]
pub struct MailContext {
    /// Display name of the account; any characters.
    pub username: String,
    /// When that happened which the mail tells of.
    pub occurred_at: DateTime<Utc>,
    /// The time now: how long a link still works is counted from here.
    pub now: DateTime<Utc>,
    /// What else this mail tells.
    pub details: Details,
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
    /// The locale it is in.
    pub locale: String,
}

/// Why a mail has no content. No text in here is from the mail's own data.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The command lacks what this mail needs.
    #[error("the mail {template} needs {}", names(missing))]
    Missing {
        /// Which mail.
        template: Template,
        /// What it lacks.
        missing: Vec<Detail>,
    },
    /// What the mail is about is over: its link no longer works.
    #[error("what the mail {0} is about has expired")]
    Expired(Template),
    /// A detail is not what it should be.
    #[error("the detail {0} of the mail cannot be used")]
    Unusable(Detail),
    /// No template is in the locale that is to be the default.
    #[error("no templates are in the default locale; known are {known}")]
    UnknownLocale {
        /// Those there are.
        known: String,
    },
    /// A file of templates cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: String,
        /// Why not.
        cause: String,
    },
    /// A file that nothing looks for.
    #[error(
        "{path}: no mail is made of such a file; there are layout.html, mail.html, mail.txt, shared/LOCALE.toml, and MAIL/mail.html, mail.txt, mail.toml, sample.json and LOCALE.toml"
    )]
    UnknownFile {
        /// Which one.
        path: String,
    },
    /// A template is broken or names a variable that no mail has: found when the renderer is built.
    #[error("the mail {mail} ({locale}) does not render: {source}")]
    Template {
        /// Which mail.
        mail: String,
        /// In which language.
        locale: String,
        /// Why not.
        source: minijinja::Error,
    },
    /// A fact that `mail.toml` names does not exist.
    #[error("{mail}/mail.toml: there is no fact {fact:?}")]
    UnknownFact {
        /// Which mail.
        mail: Template,
        /// Its name.
        fact: String,
    },
}

/// Whether the binary has templates in this locale.
///
/// # Errors
/// Which there are, when it has none.
pub(crate) fn check_locale(tag: &str) -> Result<(), RenderError> {
    let known = catalogue::embedded_locales();
    match locale::find(tag, known.iter().copied()) {
        Some(_) => Ok(()),
        None => Err(RenderError::UnknownLocale { known: known.join(", ") }),
    }
}

fn names(details: &[Detail]) -> String {
    details.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

impl Renderer {
    /// Compiles every template and renders each in every language with its sample data, so that a broken one fails at start instead of
    /// in a mail.
    ///
    /// # Errors
    /// What is wrong with a template, or with the default locale.
    pub fn new(config: &Config) -> Result<Self, RenderError> {
        let catalogue = Catalogue::load(config.templates_dir.as_deref())?;
        let environment = environment(&catalogue)?;
        let shared = catalogue.locales(SHARED);
        let Some(default_locale) = locale::find(&config.default_locale, shared.iter().copied()) else {
            return Err(RenderError::UnknownLocale {
                known: shared.into_iter().collect::<Vec<_>>().join(", "),
            });
        };
        let default_locale = default_locale.to_owned();
        let brand = one_line(&config.brand);
        let renderer =
            Self { environment, brand, branding: config.branding.clone(), default_locale, catalogue };
        renderer.check()?;
        Ok(renderer)
    }

    /// The locales that a mail exists in.
    #[must_use]
    pub fn locales(&self, template: Template) -> Vec<String> {
        self.catalogue.locales(template.name()).into_iter().map(str::to_owned).collect()
    }

    /// A mail's sample data.
    #[must_use]
    pub fn sample(&self, template: Template) -> MailContext {
        let details = self.catalogue.samples.get(&template).cloned().unwrap_or_default();
        // The moment that the samples' times are about.
        let occurred_at = DateTime::from_timestamp(1_763_696_460, 0).unwrap_or_default();
        MailContext { username: "ada".into(), occurred_at, now: occurred_at, details }
    }

    /// Every mail in every language, made of its sample data.
    ///
    /// # Errors
    /// When a template is broken, which a renderer that was built is not.
    pub fn previews(&self) -> Result<Vec<Preview>, RenderError> {
        let mut previews = Vec::new();
        for template in Template::ALL {
            let sample = self.sample(*template);
            for locale in self.locales(*template) {
                let Rendered { subject, text, html, .. } = self.render(*template, &locale, &sample)?;
                previews.push(Preview { name: template.to_string(), locale, subject, text, html });
            }
        }
        Ok(previews)
    }

    /// Every mail in every language: with all that its sample has, and with only what it needs.
    fn check(&self) -> Result<(), RenderError> {
        for template in Template::ALL {
            let whole = self.sample(*template);
            let needed = template.required();
            let sample = &whole.details;
            let least = Details {
                link: sample.link.clone().filter(|_| needed.contains(&Detail::Link)),
                until: sample.until.clone().filter(|_| needed.contains(&Detail::Until)),
                address: sample.address.clone().filter(|_| needed.contains(&Detail::Address)),
                change: sample.change.filter(|_| needed.contains(&Detail::Change)),
                ..Details::default()
            };
            let least = MailContext { details: least, ..whole.clone() };
            for locale in self.locales(*template) {
                self.render(*template, &locale, &whole)?;
                self.render(*template, &locale, &least)?;
            }
        }
        Ok(())
    }

    /// Renders a mail in the locale nearest to `locale` (a BCP 47 tag: `fr-CA`, then `fr`, then the default).
    ///
    /// # Errors
    /// When the context lacks what the mail needs, or what it is about is over.
    pub fn render(
        &self,
        template: Template,
        locale: &str,
        context: &MailContext,
    ) -> Result<Rendered, RenderError> {
        let missing = context.details.missing(template);
        if !missing.is_empty() {
            return Err(RenderError::Missing { template, missing });
        }
        let known = self.catalogue.locales(template.name());
        let lang = locale::find(locale, known.iter().copied())
            .or_else(|| locale::find(&self.default_locale, known.iter().copied()))
            .or_else(|| known.first().copied())
            .ok_or_else(|| RenderError::UnknownLocale { known: String::new() })?;
        let until = context.details.until.as_deref().map(time).transpose()?;
        if until.is_some_and(|until| until <= context.now) && context.details.link.is_some() {
            return Err(RenderError::Expired(template));
        }
        let broken =
            |source| RenderError::Template { mail: template.to_string(), locale: lang.to_owned(), source };
        let values = self.values(template, lang, context, until)?;
        let text = |key: &str| {
            let name = format!("{template}/{lang}/{key}.txt");
            self.environment.get_template(&name).and_then(|text| text.render(&values)).map_err(broken)
        };
        let (subject, preview) = (one_line(&text("subject")?), one_line(&text("preview")?));
        let values = context! { subject => subject.as_str(), preview, ..values.clone() };
        let part = |name: &str| {
            let name = format!("{template}/{name}");
            self.environment.get_template(&name).and_then(|part| part.render(&values)).map_err(broken)
        };
        Ok(Rendered {
            text: tidy(&part("mail.txt")?),
            html: part("mail.html")? + "\n",
            subject,
            locale: lang.to_owned(),
        })
    }

    fn values(
        &self,
        template: Template,
        lang: &str,
        context: &MailContext,
        until: Option<DateTime<Utc>>,
    ) -> Result<Value, RenderError> {
        let broken =
            |source| RenderError::Template { mail: template.to_string(), locale: lang.to_owned(), source };
        let Details {
            link,
            code,
            address,
            device,
            network,
            change,
            codes_left,
            size_bytes,
            inviter,
            reason,
            until: _,
        } = &context.details;
        let short = |text: &Option<String>| {
            text.as_deref().map(|text| limited(text, TEXT_LIMIT)).filter(|text| !text.is_empty())
        };
        let link = link
            .as_deref()
            .map(|link| usable_link(link).ok_or(RenderError::Unusable(Detail::Link)))
            .transpose()?;
        let environment = &self.environment;
        let username = limited(&context.username, NAME_LIMIT);
        let date = words::date(environment, lang, context.occurred_at).map_err(broken)?;
        let until_text =
            until.map(|until| words::date(environment, lang, until)).transpose().map_err(broken)?;
        let length = until.map_or(TimeDelta::zero(), |until| until - context.now);
        let duration =
            until.map(|_| words::duration(environment, lang, length)).transpose().map_err(broken)?;
        let size =
            size_bytes.map(|bytes| words::size(environment, lang, bytes)).transpose().map_err(broken)?;
        let (address, device, network) = (short(address), short(device), short(network));
        let (inviter, reason) = (inviter.as_deref().map(|name| limited(name, NAME_LIMIT)), short(reason));
        let change = change.and_then(|change| serde_json::to_value(change).ok()?.as_str().map(str::to_owned));

        let known: BTreeMap<&str, Option<String>> = BTreeMap::from([
            ("account", Some(username.clone()).filter(|name| !name.is_empty())),
            ("when", Some(date.clone())),
            ("created", Some(date.clone())),
            ("device", device.clone()),
            ("network", network.clone()),
            ("address", address.clone()),
            ("until", until_text.clone()),
            ("deletion", until_text.clone()),
            ("codes_left", codes_left.map(|left| left.to_string())),
            ("size", size),
            ("inviter", inviter.clone()),
            ("reason", reason.clone()),
        ]);
        let mut facts = Vec::new();
        for name in self.catalogue.facts.get(&template).into_iter().flatten() {
            let value = known
                .get(name.as_str())
                .ok_or_else(|| RenderError::UnknownFact { mail: template, fact: name.clone() })?;
            facts.extend(value.as_ref().map(|value| context! { name, value }));
        }
        let values = context! {
            mail => template.name(), lang, brand => self.brand.as_str(),
            accent => self.branding.accent.as_str(),
            url => self.branding.url.as_ref().map(ToString::to_string),
            support => self.branding.support.as_deref().map(one_line),
            imprint => self.branding.imprint.as_deref().map(one_line),
            username, date, until => until_text, duration,
            link, code => short(code), address, device, network, change, codes_left, inviter, reason,
            facts,
        };
        Ok(context! { vars => values.clone(), ..values })
    }
}

/// Every template and text, compiled.
fn environment(catalogue: &Catalogue) -> Result<Environment<'static>, RenderError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(
        syntax.map_err(|error| RenderError::File { path: "mail.txt".into(), cause: error.to_string() })?,
    );
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
    });
    let keys = catalogue
        .texts
        .iter()
        .map(|(place, texts)| (place.clone(), texts.keys().cloned().collect()))
        .collect();
    words::register(&mut environment, &Arc::new(keys));
    let mut add = |name: String, source: String| {
        let shown = name.clone();
        environment
            .add_template_owned(name, source)
            .map_err(|error| RenderError::File { path: shown, cause: error.to_string() })
    };
    for (name, source) in &catalogue.templates {
        add(name.clone(), source.clone())?;
    }
    for (place, texts) in &catalogue.texts {
        for (key, text) in texts {
            add(format!("{place}/{key}.html"), text.clone())?;
            add(format!("{place}/{key}.txt"), text.clone())?;
        }
    }
    Ok(environment)
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
