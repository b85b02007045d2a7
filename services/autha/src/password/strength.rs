//! How easily a new password is guessed (zxcvbn), within a bounded time. Where it runs lives in `pool`.

use zxcvbn::zxcvbn;

use super::Password;

/// What is scored at once, in characters: the time grows fast with the length.
const PART: usize = 24;
/// Words that make a password easy to guess count up to this length, and so do at most so many.
const LONGEST_INPUT: usize = 64;

/// What a new password is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strength {
    /// It is strong enough.
    Enough,
    /// Too easily guessed; what would make it better.
    Weak(String),
}

/// Whether the score is at least `least`; `inputs` are words that make the password easy to guess. A password is at least as hard to guess as
/// each of its parts, so a long one is scored part by part until one is enough.
pub fn strength(password: &Password, inputs: &[String], least: u8) -> Strength {
    let inputs: Vec<&str> = inputs.iter().map(|input| head(input, LONGEST_INPUT)).collect();
    let letters: Vec<char> = password.as_text().chars().collect();
    let mut advice = String::new();
    for part in letters.chunks(PART) {
        let part: zeroize::Zeroizing<String> = part.iter().collect::<String>().into();
        let entropy = zxcvbn(&part, &inputs);
        if u8::from(entropy.score()) >= least {
            return Strength::Enough;
        }
        if advice.is_empty() {
            advice = entropy.feedback().map_or_else(String::new, |feedback| {
                let warning = feedback.warning().map(|warning| warning.to_string());
                let suggestions = feedback.suggestions().iter().map(ToString::to_string);
                warning.into_iter().chain(suggestions).collect::<Vec<_>>().join(" ")
            });
        }
    }
    Strength::Weak(advice)
}

fn head(text: &str, longest: usize) -> &str {
    text.char_indices().nth(longest).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn of(text: &str, inputs: &[&str]) -> Strength {
        let inputs: Vec<String> = inputs.iter().map(|&input| input.to_owned()).collect();
        strength(&Password::prepare(text).unwrap(), &inputs, 3)
    }

    #[test]
    fn a_weak_password_is_told_how_to_be_better() {
        assert!(matches!(of("password1", &[]), Strength::Weak(advice) if !advice.is_empty()));
        assert!(matches!(of("ada_lovelace", &["ada_lovelace"]), Strength::Weak(_)));
        assert!(matches!(of(&"a".repeat(128), &[]), Strength::Weak(_)));
        assert_eq!(of("Tr-5b1c9d0e-7f3a", &[]), Strength::Enough);
        assert_eq!(of(&format!("{}Tr-5b1c9d0e-7f3a", "a".repeat(24)), &[]), Strength::Enough);
    }

    #[test]
    fn the_time_is_bounded_for_every_password() {
        let start = Instant::now();
        for text in
            ["p@55w0rd1!$3".repeat(10), "4@8({[<3&69#1!|".repeat(8), "l33t$p34k_0n_ev3ry_l1n3".repeat(5)]
        {
            let text: String = text.chars().take(126).collect();
            let _ = of(&text, &[]);
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}
