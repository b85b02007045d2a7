//! What templates can call: texts by their key, plurals, times, sizes, and plain text in lines that fit a terminal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Datelike as _, Utc};
use icu_plurals::{PluralCategory, PluralRules, PluralRulesOptions};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, context, value::Kwargs};

use super::catalogue::SHARED;

/// Width of a line of plain text.
const WIDTH: usize = 72;
/// Where the values of facts begin in plain text.
const VALUES_AT: usize = 26;

/// The keys of the texts of each folder and locale.
pub(super) type Keys = Arc<BTreeMap<String, BTreeSet<String>>>;

/// Gives templates their functions. What they need of the mail at hand is in the variable `vars`.
pub(super) fn register(environment: &mut Environment<'static>, keys: &Keys) {
    environment.add_filter("wrap", |text: String| wrapped(&text, WIDTH, ""));
    environment.add_function("fact_line", |label: String, value: String| fact_line(&label, &value));
    environment.add_function("plural", plural);
    let known = Arc::clone(keys);
    environment.add_function("has", move |state: &State, key: String| {
        Ok::<_, Error>(place_of(state, &known, &key)?.is_some())
    });
    let known = Arc::clone(keys);
    environment.add_function("count", move |state: &State, list: String| {
        let mut count = 0_u32;
        while place_of(state, &known, &format!("{list}.{count}.text"))?.is_some() {
            count += 1;
        }
        Ok::<_, Error>(count)
    });
    let known = Arc::clone(keys);
    environment.add_function("t", move |state: &State, key: String| {
        let place = place_of(state, &known, &key)?
            .ok_or_else(|| Error::new(ErrorKind::UndefinedError, format!("there is no text {key:?}")))?;
        let is_html = matches!(state.auto_escape(), AutoEscape::Html);
        let name = format!("{place}/{key}.{}", if is_html { "html" } else { "txt" });
        let vars = vars(state)?;
        // What a text calls finds the values where templates find them.
        let text = state.env().get_template(&name)?.render(context! { vars => vars.clone(), ..vars })?;
        Ok::<_, Error>(if is_html { Value::from_safe_string(text) } else { Value::from(text) })
    });
}

fn vars(state: &State) -> Result<Value, Error> {
    state
        .lookup("vars")
        .ok_or_else(|| Error::new(ErrorKind::UndefinedError, "the mail's values are not there"))
}

/// Where a text is: with the mail, or among those that all share.
fn place_of(state: &State, keys: &Keys, key: &str) -> Result<Option<String>, Error> {
    let vars = vars(state)?;
    let (mail, lang) = (vars.get_attr("mail")?, vars.get_attr("lang")?);
    let places = [format!("{mail}/{lang}"), format!("{SHARED}/{lang}")];
    Ok(places.into_iter().find(|place| keys.get(place).is_some_and(|keys| keys.contains(key))))
}

/// The form for a number by the language's rules: `plural(n, one=.., few=.., many=.., other=..)`.
fn plural(state: &State, number: u64, forms: Kwargs) -> Result<String, Error> {
    let lang = vars(state)?.get_attr("lang")?.to_string();
    let unusable =
        |what: &str| Error::new(ErrorKind::InvalidOperation, format!("no plurals for {lang}: {what}"));
    let locale =
        icu_locale_core::Locale::try_from_str(&lang).map_err(|error| unusable(&error.to_string()))?;
    let rules = PluralRules::try_new(locale.into(), PluralRulesOptions::default())
        .map_err(|error| unusable(&error.to_string()))?;
    let name = match rules.category_for(number) {
        PluralCategory::Zero => "zero",
        PluralCategory::One => "one",
        PluralCategory::Two => "two",
        PluralCategory::Few => "few",
        PluralCategory::Many => "many",
        PluralCategory::Other => "other",
    };
    match forms.get::<Option<String>>(name)? {
        Some(form) => Ok(form),
        None => forms.get("other"),
    }
}

/// A moment as people of a language write it. The language says how; the zone is always told.
pub(super) fn date(environment: &Environment<'_>, lang: &str, time: DateTime<Utc>) -> Result<String, Error> {
    let month = text(
        environment,
        lang,
        &format!("months.{}", time.month0()),
        context! { vars => context! { lang, mail => SHARED } },
    )?;
    let values =
        context! { day => time.day(), month, year => time.year(), time => time.format("%H:%M").to_string() };
    text(environment, lang, "date", values)
}

/// How long it is until then, in the largest unit that fits: `24 hours`.
pub(super) fn duration(
    environment: &Environment<'_>,
    lang: &str,
    length: chrono::TimeDelta,
) -> Result<String, Error> {
    // Rounded: a mail is written some seconds after its link.
    let minutes = (length.num_seconds().max(60) + 30) / 60;
    let (unit, n) = match minutes {
        minutes if minutes % 1440 == 0 || minutes > 2880 => ("days", minutes / 1440),
        minutes if minutes % 60 == 0 || minutes > 120 => ("hours", minutes / 60),
        minutes => ("minutes", minutes),
    };
    text(environment, lang, unit, context! { n, vars => context! { lang, mail => SHARED } })
}

/// A size in whole units.
pub(super) fn size(environment: &Environment<'_>, lang: &str, bytes: u64) -> Result<String, Error> {
    let (unit, n) = match bytes {
        1_000_000_000.. => ("gigabytes", bytes.div_ceil(1_000_000_000)),
        1_000_000.. => ("megabytes", bytes.div_ceil(1_000_000)),
        _ => ("kilobytes", bytes.div_ceil(1_000)),
    };
    text(environment, lang, unit, context! { n })
}

fn text(environment: &Environment<'_>, lang: &str, key: &str, values: Value) -> Result<String, Error> {
    environment.get_template(&format!("{SHARED}/{lang}/{key}.txt"))?.render(values)
}

/// Breaks a text at its spaces; spaces that do not break (U+00A0) stay.
fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    let mut column = 0;
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            lines.push('\n');
            lines.push_str(indent);
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

fn fact_line(label: &str, value: &str) -> String {
    let gap = VALUES_AT.saturating_sub(2 + label.chars().count()).max(1);
    let value = wrapped(value, WIDTH - VALUES_AT, &" ".repeat(VALUES_AT));
    format!("  {label}{}{value}", " ".repeat(gap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_at_spaces_that_may_break() {
        assert_eq!(wrapped("aa bb\u{a0}cc dd", 5, ""), "aa\nbb\u{a0}cc\ndd");
        assert_eq!(wrapped("", 5, ""), "");
        assert_eq!(wrapped("toolongaword x", 5, "  "), "toolongaword\n  x");
    }

    #[test]
    fn a_fact_is_one_line_with_its_value_in_a_column() {
        assert_eq!(fact_line("When", "now"), format!("  When{}now", " ".repeat(20)));
        let long = fact_line("Reason", &"word ".repeat(30));
        assert!(long.lines().all(|line| line.chars().count() <= WIDTH), "{long}");
    }
}
