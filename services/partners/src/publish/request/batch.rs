//! A batch in its elements, each with its own bytes: one that is no event spoils no other, and numbers stay as they were written. What an element holds is
//! read elsewhere.

/// The elements of a JSON array; none where the bytes are no array. Of an element only its end is looked for: texts, and brackets that close.
pub fn split(body: &[u8]) -> Option<Vec<&[u8]>> {
    let body = body.trim_ascii();
    let inner = body.strip_prefix(b"[")?.strip_suffix(b"]")?;
    if inner.trim_ascii().is_empty() {
        return Some(Vec::new());
    }
    let (mut elements, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for (at, byte) in inner.iter().enumerate() {
        if is_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => is_text = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                elements.push(inner.get(begin..at)?.trim_ascii());
                begin = at + 1;
            }
            _ => {}
        }
    }
    if is_text || depth != 0 {
        return None;
    }
    elements.push(inner.get(begin..)?.trim_ascii());
    elements.iter().all(|element| !element.is_empty()).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_told_apart_by_commas_outside_of_them() {
        let split = |text: &'static str| {
            split(text.as_bytes())
                .map(|list| list.into_iter().map(|one| std::str::from_utf8(one).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(split("[]").unwrap(), Vec::<&str>::new());
        assert_eq!(
            split(" [ 1 ,{\"a\": [1, 2]}, \"],\\\",[\" ] ").unwrap(),
            ["1", "{\"a\": [1, 2]}", "\"],\\\",[\""]
        );
        assert_eq!(split("[1.10]").unwrap(), ["1.10"]);
        for wrong in ["", "{}", "1", "[", "[1", "[1,]", "[,1]", "[{]", "[\"]", "[]]x", "[}{]"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
