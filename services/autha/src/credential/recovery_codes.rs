//! Recovery codes: ten, each used once in place of a TOTP code. 80 random bits each, so a plain hash keeps them.

use orrery_seal::sha256;
use orrery_supervise::random::Random;

/// How many there are.
pub const COUNT: usize = 10;

/// The letters of a code (Crockford's base32, which leaves out what is easily misread).
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new code: four groups of four letters.
pub fn random(random: &Random) -> String {
    let letters: Vec<char> = random
        .bytes::<16>()
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte & 31)).map(|letter| char::from(*letter)))
        .collect();
    letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

/// The hash by which a code is kept; `None` for what cannot be one. Case, spaces and dashes do not matter.
pub fn hash(code: &str) -> Option<String> {
    let plain: String = code
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect();
    let is_code = plain.len() == 16 && plain.bytes().all(|byte| LETTERS.contains(&byte));
    is_code.then(|| hex::encode(sha256(plain.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_however_it_is_typed() {
        let code = random(&Random::seeded(1));
        assert_eq!(code.len(), 19);
        assert!(hash(&code).is_some());
        assert_eq!(hash(&code), hash(&code.to_uppercase().replace('-', " ")));
        assert_ne!(hash(&code), hash(&random(&Random::seeded(2))));
        assert_eq!(hash("123456"), None);
    }
}
