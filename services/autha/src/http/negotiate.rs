//! Which form of a profile and which format of a picture is wanted (RFC 9110, 12.5.1). `Accept` is parsed by actix-web; the media types are
//! compared here.

use actix_web::{
    HttpRequest,
    http::header::{Accept, Header, Quality, QualityItem},
    mime::{self, Mime},
};

use crate::{account::person::Form, picture::delivery::Format};

const ACTIVITY_STREAMS: &str = "https://www.w3.org/ns/activitystreams";

/// What can be answered, the first where all are wanted alike.
const OFFERS: [(Offer, Form, &str); 3] = [
    (Offer { subtype: "json", profile: None }, Form::Plain, "application/json"),
    (Offer { subtype: "activity+json", profile: None }, Form::Activity, "application/activity+json"),
    (
        Offer { subtype: "ld+json", profile: Some(ACTIVITY_STREAMS) },
        Form::Activity,
        "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"",
    ),
];

/// A media type below `application/`.
#[derive(Clone, Copy)]
struct Offer {
    subtype: &'static str,
    profile: Option<&'static str>,
}

impl Offer {
    /// How closely a range of `Accept` names this type; none where it does not.
    fn fit(self, range: &Mime) -> Option<u8> {
        if range.type_() == mime::STAR {
            return Some(1);
        }
        if range.type_() != mime::APPLICATION {
            return None;
        }
        if range.subtype() == mime::STAR {
            return Some(2);
        }
        if format!("{}{}", range.subtype(), range.suffix().map(|s| format!("+{s}")).unwrap_or_default())
            != self.subtype
        {
            return None;
        }
        let mut fit = 3;
        for (name, value) in range.params() {
            match (name.as_str(), self.profile) {
                // Several profiles may be named, separated by spaces (JSON-LD 1.1, IANA considerations).
                ("profile", Some(profile)) if value.as_str().split(' ').any(|one| one == profile) => fit += 1,
                ("charset", _) if value.as_str().eq_ignore_ascii_case("utf-8") => {}
                ("q", _) => {}
                _ => return None,
            }
        }
        // `application/ld+json` alone may be any JSON-LD: ActivityStreams' is one.
        Some(fit)
    }

    /// The quality that the most specific range gives it.
    fn quality(self, accept: &[QualityItem<Mime>]) -> Quality {
        accept
            .iter()
            .filter_map(|range| Some((self.fit(&range.item)?, range.quality)))
            .max()
            .map_or(Quality::ZERO, |(_, quality)| quality)
    }
}

/// The wanted form and its media type. Without `Accept`, or where nothing fits, it is upstream's: RFC 9110 allows to disregard the header.
pub fn form(request: &HttpRequest) -> (Form, &'static str) {
    let accept = Accept::parse(request).map(|accept| accept.0).unwrap_or_default();
    let mut best = (Form::Plain, "application/json");
    let mut most = Quality::ZERO;
    for (offer, form, media_type) in OFFERS {
        let quality = offer.quality(&accept);
        if quality > most {
            (best, most) = ((form, media_type), quality);
        }
    }
    best
}

/// The wanted format of a picture. Browsers that show WebP name it; those that do not ask for `image/*` or `*/*` all the same, so that only the
/// name counts.
pub fn picture(request: &HttpRequest) -> Format {
    let accept = Accept::parse(request).map(|accept| accept.0).unwrap_or_default();
    let of = |subtype: &str| {
        let fitting = accept.iter().filter_map(|range| {
            let closeness = match (range.item.type_(), range.item.subtype()) {
                (mime::IMAGE, found) if found == subtype => 3,
                (mime::IMAGE, mime::STAR) => 2,
                (mime::STAR, mime::STAR) => 1,
                _ => return None,
            };
            Some((closeness, range.quality))
        });
        fitting.max()
    };
    match of("webp") {
        Some((3, webp)) if webp > Quality::ZERO && of("jpeg").is_none_or(|(_, jpeg)| webp >= jpeg) => {
            Format::WebP
        }
        _ => Format::Jpeg,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn of(accept: &[&str]) -> &'static str {
        let mut request = TestRequest::default();
        for line in accept {
            request = request.append_header(("Accept", *line));
        }
        form(&request.to_http_request()).1
    }

    #[test]
    fn a_picture_is_webp_for_who_names_it() {
        for (accept, wanted) in [
            (&[][..], Format::Jpeg),
            (&["*/*"], Format::Jpeg),
            // Internet Explorer 11 and Safari 13.
            (&["image/png, image/svg+xml, image/*;q=0.8, */*;q=0.5"], Format::Jpeg),
            // Chromium, and Firefox of 2024.
            (&["image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"], Format::WebP),
            (&["image/avif,image/webp,*/*"], Format::WebP),
            (&["Image/WebP;q=0.5", "image/*;q=0.4"], Format::WebP),
            (&["image/webp;q=0.5, image/jpeg"], Format::Jpeg),
            (&["image/webp;q=0"], Format::Jpeg),
            (&["nonsense"], Format::Jpeg),
        ] {
            let mut request = TestRequest::default();
            for line in accept {
                request = request.append_header(("Accept", *line));
            }
            assert_eq!(picture(&request.to_http_request()), wanted, "{accept:?}");
        }
    }

    #[test]
    fn the_form_is_the_one_that_is_asked_for() {
        let activity = "application/activity+json";
        let linked = "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"";
        let plain = "application/json";
        for (accept, wanted) in [
            (&[][..], plain),
            (&["*/*"], plain),
            (&["text/html"], plain),
            (&["application/activity+json"], activity),
            (&["Application/Activity+JSON; charset=utf-8"], activity),
            (&["application/activity+json;q=0"], plain),
            (&["application/activity+json;q=0.5, application/json;q=0.4"], activity),
            (&["application/activity+json;q=0.4, application/json;q=0.5"], plain),
            (&["application/json;q=0.1, application/*;q=0.9"], activity),
            (&["text/html", "application/activity+json"], activity),
            (&["application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\""], linked),
            (&["application/LD+JSON;Profile=\"https://www.w3.org/ns/activitystreams\";q=0.8"], linked),
            (&["application/ld+json"], linked),
            (&["application/ld+json; profile=\"https://elsewhere.example\""], plain),
        ] {
            assert_eq!(of(accept), wanted, "{accept:?}");
        }
    }
}
