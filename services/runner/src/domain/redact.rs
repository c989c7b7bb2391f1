//! Names and passwords in URLs, which nobody but the installer needs.

/// A text without what stands before the `@` of its URLs.
pub fn urls(text: &str) -> String {
    const END: &[char] = &[
        '/', '?', '#', ' ', '\t', '\n', '\r', '"', '\'', '`', '<', '>', '(', ')', ',', ';',
    ];
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let authority = &after[..after.find(END).unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => &after[at + 1..],
            None => after,
        };
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::urls;

    #[test]
    fn users_and_passwords_are_cut_from_urls_and_nothing_else() {
        for (text, clean) in [
            ("https://u:p@h/simple", "https://h/simple"),
            ("a @ git+https://t@h/x@v1, b", "a @ git+https://h/x@v1, b"),
            (
                "no `https://u:p@ss@h:8080` and http://v@i",
                "no `https://h:8080` and http://i",
            ),
            ("https://h/a@b", "https://h/a@b"),
            ("https://h me@example", "https://h me@example"),
            ("plain a@b", "plain a@b"),
            ("", ""),
        ] {
            assert_eq!(urls(text), clean);
        }
    }
}
