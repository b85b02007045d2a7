//! Names that nobody can take: the configured ones, and what looks like them (UTS 39). What a name may be made of lives in `fields`.

use unicode_security::confusable_detection::skeleton;

/// The names that are reserved when nothing is configured: roles of mail (RFC 2142), of the instance, and words of its routes.
pub const DEFAULT: &[&str] = &[
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "anonymous",
    "api",
    "autha",
    "avatars",
    "billing",
    "contact",
    "create",
    "deleted",
    "everyone",
    "gravitalia",
    "health",
    "help",
    "hostmaster",
    "info",
    "instance",
    "login",
    "logout",
    "mail",
    "mailer_daemon",
    "me",
    "moderator",
    "news",
    "nobody",
    "noreply",
    "null",
    "oauth",
    "official",
    "operator",
    "orrery",
    "owner",
    "password",
    "postmaster",
    "privacy",
    "recovery",
    "register",
    "root",
    "sales",
    "security",
    "service",
    "settings",
    "signin",
    "signup",
    "staff",
    "status",
    "support",
    "sysadmin",
    "system",
    "undefined",
    "user",
    "users",
    "webmaster",
    "www",
];

/// What a reader takes a name for: without underscores, digits that stand for letters, and letters that look alike.
fn seen(name: &str) -> String {
    let plain: String = name.to_ascii_lowercase().chars().filter(|c| *c != '_').map(letter).collect();
    skeleton(&plain).collect::<String>().to_ascii_lowercase()
}

/// The letter that a digit is read as. UTS 39 knows `0`, `1` and `l`; the others are customary.
fn letter(c: char) -> char {
    match c {
        '3' => 'e',
        '4' => 'a',
        '5' => 's',
        '7' => 't',
        other => other,
    }
}

/// Whether the name is one of the reserved ones, or could be taken for one.
pub fn is_reserved(name: &str, reserved: &[String]) -> bool {
    let wanted = seen(name);
    // One reading has `1` as `l` and `i`: UTS 39 folds `1`, `l` and capital `I` into one letter, and leaves the small `i`.
    let folded = wanted.replace('l', "i");
    reserved.iter().map(|name| seen(name).replace('l', "i")).any(|reserved| reserved == folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_and_what_looks_like_them_are_refused() {
        let reserved: Vec<String> = DEFAULT.iter().map(|&name| name.to_owned()).collect();
        for name in [
            "admin",
            "Admin",
            "ADMIN",
            "adm1n",
            "4dmin",
            "ad_min",
            "r00t",
            "supp0rt",
            "l0gin",
            "rnail",
            "me",
            "postmaster",
            "_root_",
        ] {
            assert!(is_reserved(name, &reserved), "{name}");
        }
        for name in ["ada", "administered", "roots", "bob_7", "rootbeer", "sec"] {
            assert!(!is_reserved(name, &reserved), "{name}");
        }
    }
}
