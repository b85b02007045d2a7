//! What every mail must keep to, in every locale.

use super::*;

fn renderer() -> Renderer {
    Renderer::new("Orrery", "en").unwrap()
}

fn context(username: &str) -> MailContext {
    let occurred_at = DateTime::from_timestamp(1_763_696_460, 0).unwrap();
    MailContext { username: username.into(), occurred_at }
}

fn each_mail(username: &str, check: impl Fn(&str, &Rendered)) {
    let renderer = renderer();
    for template in Template::ALL {
        for locale in LOCALES {
            let rendered = renderer.render(template.name(), locale, &context(username)).unwrap();
            assert_eq!(rendered.locale, *locale);
            check(&format!("{}/{locale}", template.name()), &rendered);
        }
    }
}

#[test]
fn every_mail_exists_in_every_locale_and_is_whole() {
    assert_eq!(catalogue::MAILS.len(), Template::ALL.len() * LOCALES.len());
    each_mail("ada", |name, mail| {
        for part in [&mail.subject, &mail.text, &mail.html] {
            assert!(!part.trim().is_empty(), "{name}");
            for left_over in ["{{", "{%", "{#", "undefined", "none"] {
                let is_css = left_over == "none" && part.contains("<style>");
                assert!(is_css || !part.contains(left_over), "{name}: {left_over} is left in {part}");
            }
        }
        assert!(mail.text.contains("ada") && mail.html.contains("ada"), "{name}");
        assert!(mail.text.contains("2025-11-21 03:41 UTC") && mail.html.contains("2025-11-21"), "{name}");
        assert!(mail.subject.contains("Orrery"), "{name}");
        assert!(mail.html.starts_with("<!doctype html>"), "{name}");
        assert!(mail.html.trim_end().ends_with("</html>"), "{name}");
        assert!(mail.html.contains(&format!("<html lang=\"{}\">", mail.locale)), "{name}");
    });
}

#[test]
fn no_mail_loads_anything_from_the_network() {
    each_mail("ada", |name, mail| {
        for remote in ["http:", "https:", "src=", "url(", "@import", "<link", "<script"] {
            assert!(!mail.html.contains(remote), "{name}: {remote}");
        }
    });
}

#[test]
fn a_line_of_text_fits_a_terminal() {
    each_mail("ada", |name, mail| {
        for line in mail.text.lines() {
            assert!(line.chars().count() <= 76, "{name}: {line}");
        }
    });
}

#[test]
fn a_name_is_escaped_in_html_and_only_there() {
    let name = r#"<b onclick="x">O'Neil & Ko</b>"#;
    each_mail(name, |mail_name, mail| {
        assert!(mail.text.contains(name), "{mail_name}");
        assert!(!mail.html.contains("<b onclick"), "{mail_name}");
        assert!(mail.html.contains("&lt;b onclick=&quot;x&quot;&gt;"), "{mail_name}");
        assert!(!mail.subject.contains("&lt;"), "{mail_name}");
    });
}

#[test]
fn a_name_with_line_breaks_adds_no_line_anywhere() {
    let plain = renderer().render("welcome", "en", &context("a Bcc: x@y.z b")).unwrap();
    let hostile = renderer().render("welcome", "en", &context("a\r\nBcc: x@y.z\u{2028}\0\nb")).unwrap();
    assert_eq!(hostile, plain);
    assert_eq!(plain.subject, "Welcome to Orrery, a Bcc: x@y.z b");
}

#[test]
fn a_name_cannot_turn_the_text_around_it_or_fill_the_mail() {
    let turned = renderer().render("welcome", "fr", &context("ada\u{202e}moc")).unwrap();
    assert!(turned.subject.ends_with("adamoc"));
    let long = renderer().render("welcome", "en", &context(&"é".repeat(5_000))).unwrap();
    assert_eq!(long.subject.chars().count(), "Welcome to Orrery, ".len() + NAME_LIMIT + 1);
}

#[test]
fn a_name_is_no_template() {
    let mail = renderer().render("welcome", "en", &context("{{ brand }}{% x %}")).unwrap();
    assert!(mail.subject.ends_with("{{ brand }}{% x %}"));
}

#[test]
fn an_unknown_locale_gets_the_default_one() {
    let mail = renderer().render("login", "de-AT", &context("ada")).unwrap();
    assert_eq!(mail.locale, "en");
    let french = Renderer::new("Orrery", "fr-BE").unwrap();
    assert_eq!(french.render("login", "de-AT", &context("ada")).unwrap().locale, "fr");
    assert!(matches!(Renderer::new("Orrery", "de"), Err(RenderError::UnknownLocale)));
}

#[test]
fn an_unknown_template_is_named_as_such() {
    for name in ["", "Welcome", "layout.html", "../welcome", "welcome/en"] {
        let error = renderer().render(name, "en", &context("ada")).unwrap_err();
        assert!(matches!(error, RenderError::UnknownTemplate), "{name}");
    }
}

#[test]
fn debug_output_names_nobody() {
    let mail = renderer().render("welcome", "en", &context("ada")).unwrap();
    assert!(!format!("{mail:?} {:?}", context("ada")).contains("ada"));
}
