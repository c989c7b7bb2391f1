//! Quantities as Kubernetes writes them.

/// Whether `text` is a non-negative quantity: `2`, `500m`, `1.5Gi`, `1e3`.
pub(crate) fn valid(text: &str) -> bool {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let points = number.len() - digits;
    digits > 0 && points <= 1 && valid_suffix(suffix)
}

fn valid_suffix(suffix: &str) -> bool {
    const SUFFIXES: [&str; 17] = [
        "", "n", "u", "m", "k", "K", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    if SUFFIXES.contains(&suffix) {
        return true;
    }
    suffix
        .strip_prefix(['e', 'E'])
        .and_then(|exponent| exponent.parse::<i8>().ok())
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::valid;

    #[test]
    fn quantities_are_told_from_other_text() {
        for text in [
            "0", "2", "0.5", ".5", "5.", "500m", "1Gi", "1.5G", "1e3", "1E-3", "+1", "3K",
        ] {
            assert!(valid(text), "{text}");
        }
        for text in [
            "", "-1", "1.2.3", "Gi", "1gi", "1 Gi", "ten", "1e", "1ee3", "1Gib", ".",
        ] {
            assert!(!valid(text), "{text}");
        }
    }
}
