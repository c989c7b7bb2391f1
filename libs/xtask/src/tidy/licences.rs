//! Licences of packages: SPDX expressions against a list of what may be linked into an Apache-2.0 binary.

use super::metadata::Package;

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that may not be used, with what they say.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter_map(|package| {
            let Package {
                name,
                version,
                license,
            } = package;
            match license.as_deref() {
                None => Some(format!("{name} {version} names no licence")),
                Some(expression) => match allowed(expression) {
                    Some(true) => None,
                    Some(false) => Some(format!("{name} {version} has the licence `{expression}`")),
                    None => Some(format!(
                        "{name} {version}: cannot read the licence `{expression}`"
                    )),
                },
            }
        })
        .collect()
}

/// Whether some choice of the expression is on the list; `None` when it is no expression.
fn allowed(expression: &str) -> Option<bool> {
    // The old way of writing OR.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    let result = parser.any()?;
    parser.words.is_empty().then_some(result)
}

/// Recursive descent: OR binds weakest, then AND, then WITH.
struct Parser<'a> {
    words: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut result = self.all()?;
        while self.take("OR") {
            result |= self.all()?;
        }
        Some(result)
    }

    fn all(&mut self) -> Option<bool> {
        let mut result = self.one()?;
        while self.take("AND") {
            result &= self.one()?;
        }
        Some(result)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let result = self.any()?;
            return self.take(")").then_some(result);
        }
        let name = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()));
        }
        Some(ALLOWED.contains(&name))
    }

    fn name(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        if matches!(*first, "OR" | "AND" | "WITH" | "(" | ")") {
            return None;
        }
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_with_their_precedence() {
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("MIT OR GPL-3.0", Some(true)),
            ("MIT AND GPL-3.0", Some(false)),
            ("GPL-3.0 OR MIT AND Zlib", Some(true)),
            ("(GPL-3.0 OR MIT) AND MPL-2.0", Some(false)),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("GPL-2.0 WITH Classpath-exception-2.0", Some(false)),
            ("MIT/Apache-2.0", Some(true)),
            ("MIT OR", None),
            ("(MIT", None),
            ("", None),
        ] {
            assert_eq!(allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_package_without_or_with_a_foreign_licence_is_refused() {
        let package = |license: Option<&str>| Package {
            name: "x".to_owned(),
            version: "1".to_owned(),
            license: license.map(str::to_owned),
        };
        let wrong = check(&[
            package(None),
            package(Some("AGPL-3.0")),
            package(Some("MIT")),
        ]);
        assert_eq!(
            wrong,
            ["x 1 names no licence", "x 1 has the licence `AGPL-3.0`"]
        );
    }
}
