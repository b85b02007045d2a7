//! What every mail must keep to, in every language.

use orrery_schemas::email::SecondFactorChange;

use super::*;

const LOCALES: [&str; 4] = ["de", "en", "es", "fr"];

fn renderer() -> Renderer {
    Renderer::new(&Config::default()).unwrap()
}

fn each_mail(username: &str, check: impl Fn(&str, &MailContext, &Rendered)) {
    let renderer = renderer();
    for template in Template::ALL {
        assert_eq!(renderer.locales(*template), LOCALES, "{template}");
        for locale in LOCALES {
            let context = MailContext { username: username.into(), ..renderer.sample(*template) };
            let rendered = renderer.render(*template, locale, &context).unwrap();
            assert_eq!(rendered.locale, locale);
            check(&format!("{template}/{locale}"), &context, &rendered);
        }
    }
}

fn welcome(username: &str, locale: &str) -> Rendered {
    let renderer = renderer();
    let context = MailContext { username: username.into(), ..renderer.sample(Template::Welcome) };
    renderer.render(Template::Welcome, locale, &context).unwrap()
}

#[test]
fn every_mail_exists_in_every_language_and_is_whole() {
    each_mail("ada", |name, context, mail| {
        for part in [&mail.subject, &mail.text, &mail.html] {
            assert!(!part.trim().is_empty(), "{name}");
            for left_over in ["{{", "{%", "{#", "undefined", ">none<", "None"] {
                assert!(!part.contains(left_over), "{name}: {left_over} is left in {part}");
            }
        }
        assert!(mail.subject.contains("Orrery") || mail.html.contains("Orrery"), "{name}");
        assert!(mail.html.trim_start().starts_with("<!doctype html>"), "{name}");
        assert!(mail.html.trim_end().ends_with("</html>"), "{name}");
        assert!(mail.html.contains(&format!("<html lang=\"{}\"", mail.locale)), "{name}");
        for detail in
            [&context.details.link, &context.details.code, &context.details.device, &context.details.reason]
        {
            let Some(detail) = detail else { continue };
            // A long one goes over several lines.
            let (text, told) = (one_line(&mail.text), one_line(detail));
            assert!(text.contains(&told), "{name}: {told} is not in {}", mail.text);
            assert!(
                mail.html.contains(&detail.replace('/', "&#x2f;")) || mail.html.contains(detail.as_str()),
                "{name}: {detail}"
            );
        }
    });
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn no_mail_loads_anything_from_the_network() {
    each_mail("ada", |name, _, mail| {
        for remote in ["src=", "url(", "@import", "<link", "<script", "<img", "background="] {
            assert!(!mail.html.contains(remote), "{name}: {remote}");
        }
    });
}

#[test]
fn a_line_of_text_fits_a_terminal() {
    each_mail("ada", |name, _, mail| {
        for line in mail.text.lines().filter(|line| !line.starts_with("http")) {
            assert!(line.chars().count() <= 76, "{name}: {line}");
        }
        assert!(!mail.text.contains("\n\n\n"), "{name}: {}", mail.text);
    });
}

#[test]
fn a_name_is_escaped_in_html_and_only_there() {
    let name = r#"<b onclick="x">O'Neil & Ko</b>"#;
    each_mail(name, |mail_name, _, mail| {
        assert!(!mail.html.contains("<b onclick"), "{mail_name}");
        assert!(!mail.subject.contains("&lt;"), "{mail_name}");
        if mail_name.starts_with("welcome") {
            assert!(
                mail.text.contains(name) && mail.html.contains("&lt;b onclick=&quot;x&quot;&gt;"),
                "{mail_name}"
            );
        }
    });
}

#[test]
fn a_name_with_line_breaks_adds_no_line_anywhere() {
    let plain = welcome("a Bcc: x@y.z b", "en");
    let hostile = welcome("a\r\nBcc: x@y.z\u{2028}\0\nb", "en");
    assert_eq!(hostile, plain);
    assert_eq!(plain.subject, "Welcome to Orrery, a Bcc: x@y.z b");
}

#[test]
fn a_name_cannot_turn_the_text_around_it_or_fill_the_mail() {
    assert!(welcome("ada\u{202e}moc", "fr").subject.ends_with("adamoc"));
    let long = welcome(&"é".repeat(5_000), "en");
    assert_eq!(long.subject.chars().count(), "Welcome to Orrery, ".len() + NAME_LIMIT + 1);
}

#[test]
fn a_name_is_no_template() {
    assert!(welcome("{{ brand }}{% x %}", "en").subject.ends_with("{{ brand }}{% x %}"));
}

#[test]
fn an_unknown_locale_gets_the_default_one() {
    assert_eq!(welcome("ada", "tlh").locale, "en");
    assert_eq!(welcome("ada", "de-AT").locale, "de");
    let config = Config { default_locale: "fr-BE".into(), ..Config::default() };
    let french = Renderer::new(&config).unwrap();
    let sample = french.sample(Template::Login);
    assert_eq!(french.render(Template::Login, "tlh", &sample).unwrap().locale, "fr");
    let config = Config { default_locale: "tlh".into(), ..Config::default() };
    assert!(
        matches!(Renderer::new(&config), Err(RenderError::UnknownLocale { known }) if known == "de, en, es, fr")
    );
}

#[test]
fn dates_and_plurals_are_those_of_the_language() {
    let renderer = renderer();
    let html = |template, locale: &str, change: &dyn Fn(&mut MailContext)| {
        let mut context = renderer.sample(template);
        change(&mut context);
        renderer.render(template, locale, &context).unwrap().text.replace('\n', " ")
    };
    for (locale, date, day) in [
        ("en", "22 November 2025, 03:41 UTC", "for one day"),
        ("fr", "22 novembre 2025 à 03:41 UTC", "pendant 1 jour "),
        ("de", "22. November 2025, 03:41 Uhr UTC", "einen Tag lang"),
        ("es", "22 de noviembre de 2025, 03:41 UTC", "durante un día"),
    ] {
        let text = html(Template::Verify, locale, &|_| {});
        assert!(text.contains(date) && text.contains(day), "{text}");
    }
    let at = |minutes: i64| {
        move |context: &mut MailContext| {
            context.details.until = Some((context.now + TimeDelta::minutes(minutes)).to_rfc3339());
        }
    };
    for (minutes, words) in [
        (1, "one minute"),
        (15, "15 minutes"),
        (60, "one hour"),
        (1439, "23 hours"),
        (1440, "one day"),
        (10_080, "7 days"),
    ] {
        let text = html(Template::Verify, "en", &at(minutes));
        assert!(text.contains(&format!("for {words} (")), "{minutes}: {text}");
    }
    // In French nought is singular.
    for (locale, left, words) in [
        ("fr", 0, "0 code de secours"),
        ("fr", 2, "2 codes de secours"),
        ("en", 0, "0 recovery codes are"),
        ("en", 1, "one recovery code is"),
    ] {
        let text =
            html(Template::SecondFactorChanged, locale, &|context| context.details.codes_left = Some(left));
        assert!(text.contains(words), "{locale} {left}: {text}");
    }
    let first =
        html(Template::Verify, "fr", &|context| context.details.until = Some("2025-12-01T00:00:00Z".into()));
    assert!(first.contains("1er décembre 2025"), "{first}");
}

#[test]
fn every_change_of_a_second_factor_has_its_words() {
    use SecondFactorChange::{
        CodeUsed, CodesReplaced, PasskeyAdded, PasskeyRemoved, Reset, TotpDisabled, TotpEnabled,
    };
    let renderer = renderer();
    for locale in LOCALES {
        let mut texts: Vec<_> =
            [TotpEnabled, TotpDisabled, CodesReplaced, CodeUsed, PasskeyAdded, PasskeyRemoved, Reset]
                .into_iter()
                .map(|change| {
                    let mut context = renderer.sample(Template::SecondFactorChanged);
                    context.details.change = Some(change);
                    renderer.render(Template::SecondFactorChanged, locale, &context).unwrap().text
                })
                .collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 7, "{locale}");
    }
}

#[test]
fn what_a_mail_needs_is_asked_for_and_what_is_over_is_not_sent() {
    let renderer = renderer();
    let mut context = renderer.sample(Template::Verify);
    context.now += TimeDelta::days(2);
    let expired = renderer.render(Template::Verify, "en", &context).unwrap_err();
    assert!(matches!(expired, RenderError::Expired(Template::Verify)));
    context.details = Details::default();
    let missing = renderer.render(Template::Verify, "en", &context).unwrap_err();
    assert_eq!(missing.to_string(), "the mail verify needs link and until");
    for link in ["javascript:alert(1)", "ftp://x.example/", "/relative", "https:"] {
        let mut context = renderer.sample(Template::Verify);
        context.details.link = Some(link.into());
        let error = renderer.render(Template::Verify, "en", &context).unwrap_err();
        assert!(
            matches!(error, RenderError::Unusable(Detail::Link)) && !error.to_string().contains(link),
            "{link}"
        );
    }
}

#[test]
fn branding_is_shown_where_it_is_set() {
    let branding = Branding {
        accent: "#aa0055".into(),
        url: Some("https://people.example/".parse().unwrap()),
        support: Some("help@people.example".into()),
        imprint: Some("People & Co, Example Street 1".into()),
    };
    let config = Config { brand: "People".into(), branding, ..Config::default() };
    let renderer = Renderer::new(&config).unwrap();
    let mail = renderer.render(Template::Verify, "en", &renderer.sample(Template::Verify)).unwrap();
    assert!(
        mail.html.contains("#aa0055")
            && mail.html.contains("help@people.example")
            && mail.html.contains("People &amp; Co")
    );
    assert!(mail.text.contains("Questions? help@people.example") && mail.text.contains("People & Co"));
    assert!(!mail.html.contains("Orrery"));
}

#[test]
fn a_folder_of_ones_own_takes_the_place_of_what_it_names_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { templates_dir: Some(folder.path().to_owned()), ..Config::default() };
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("welcome/en.toml", "subject = \"Hi {{ username }}\"\n");
    let renderer = Renderer::new(&config).unwrap();
    let mail = renderer.render(Template::Welcome, "en", &renderer.sample(Template::Welcome)).unwrap();
    assert_eq!(mail.subject, "Hi ada");
    assert!(mail.html.contains("Your Orrery account is ready."), "what it does not name stays");

    write(
        "shared/nl.toml",
        &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/shared/en.toml")).unwrap(),
    );
    write(
        "welcome/nl.toml",
        &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/welcome/en.toml")).unwrap(),
    );
    let renderer = Renderer::new(&config).unwrap();
    let dutch = |template| renderer.render(template, "nl-BE", &renderer.sample(template)).unwrap().locale;
    assert_eq!((dutch(Template::Welcome).as_str(), dutch(Template::Login).as_str()), ("nl", "en"));

    for (path, text, told) in [
        ("welcome/en.toml", "subject = \"{{ usrname }}\"", "welcome (en) does not render"),
        ("welcome/en.toml", "subject = 1", "subject is no text"),
        ("welcome/en.toml", "subject = ", "welcome/en.toml"),
        ("welcome/mail.html", "{% extends", "welcome/mail.html"),
        ("welcome/mail.toml", "facts = [\"shoe_size\"]", "shoe_size"),
        ("wellcome/en.toml", "subject = \"x\"", "no mail is made of such a file"),
        ("welcome/body.html", "x", "no mail is made of such a file"),
    ] {
        write(path, text);
        let fault = config.validate().unwrap_err().concat();
        assert!(fault.starts_with("maily.templates_dir:") && fault.contains(told), "{path}: {fault}");
        std::fs::remove_file(folder.path().join(path)).unwrap();
    }
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn debug_output_names_nobody() {
    let context = renderer().sample(Template::Login);
    let mail = welcome("ada", "en");
    let shown = format!("{mail:?} {context:?}");
    assert!(!shown.contains("ada") && !shown.contains("Firefox"), "{shown}");
}

/// Writes every mail for people and browsers to look at: `ORRERY_MAILS=folder`.
#[test]
fn mails_can_be_looked_at() {
    let Ok(folder) = std::env::var("ORRERY_MAILS") else { return };
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    each_mail("ada", |name, _, mail| {
        let name = name.replace('/', "-");
        std::fs::write(folder.join(format!("{name}.html")), &mail.html).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), format!("{}\n\n{}", mail.subject, mail.text))
            .unwrap();
    });
}
