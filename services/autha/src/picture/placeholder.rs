//! What is shown of people without a picture: the first letter of their name on a colour that the name decides. Drawn anew each time,
//! stored nowhere.

use orrery_seal::sha256;

/// An SVG of a square for the name as it is shown. A name is letters, digits and `_`; anything else is left out.
pub fn svg(name: &str) -> String {
    let initial =
        name.chars().find(char::is_ascii_alphanumeric).map_or('?', |letter| letter.to_ascii_uppercase());
    let hue = sha256(name.to_ascii_lowercase().as_bytes())
        .iter()
        .take(2)
        .fold(0_u16, |hue, byte| (hue << 8) | u16::from(*byte))
        % 360;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 64 64\" width=\"512\" height=\"512\" role=\"img\" \
         aria-label=\"{initial}\"><rect width=\"64\" height=\"64\" fill=\"hsl({hue} 50% 36%)\"/>\
         <text x=\"32\" y=\"43\" font-family=\"system-ui,sans-serif\" font-size=\"32\" text-anchor=\"middle\" \
         fill=\"#fff\">{initial}</text></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_placeholder_whatever_its_case() {
        assert_eq!(svg("ada"), svg("ADA"));
        assert_ne!(svg("ada"), svg("adb"));
        assert!(svg("_ada").contains(">A</text>"));
        assert!(svg("___").contains(">?</text>"));
    }

    #[test]
    fn nothing_of_a_name_becomes_markup() {
        assert!(svg("<script>").contains(">S</text>") && !svg("<script>").contains("<script"));
    }
}
