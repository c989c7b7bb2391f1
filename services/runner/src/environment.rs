//! The variables that every program gets: enough to find programs, networks and packages, and none of our secrets.

use crate::config::Config;

const NAMES: [&str; 24] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "OMP_NUM_THREADS",
];
const PREFIXES: [&str; 4] = ["LC_", "PIP_", "UV_", "NVIDIA_"];

/// Chooses from the process's own environment.
pub(crate) fn base(config: &Config, own: &[(String, String)]) -> Vec<(String, String)> {
    let wanted = |name: &str| {
        NAMES.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || config.pass_environment.iter().any(|passed| passed == name)
    };
    let mut chosen: Vec<(String, String)> = own
        .iter()
        .filter(|(name, _)| wanted(name) && !name.starts_with("FLUMINA_"))
        .cloned()
        .collect();
    let defaults = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/"),
        ("LANG", "C.UTF-8"),
        // A line that a Python program prints is in its log at once.
        ("PYTHONUNBUFFERED", "1"),
    ];
    for (name, value) in defaults {
        if !chosen.iter().any(|(known, _)| known == name) {
            chosen.push((name.to_owned(), value.to_owned()));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_secrets_stay_with_us() {
        let own = [
            ("PATH", "/bin"),
            ("FLUMINA_TOKEN", "secret"),
            ("DATABASE_URL", "postgres://u:p@h/d"),
            ("PIP_INDEX_URL", "https://pypi.example"),
            ("LC_ALL", "C"),
            ("MINE", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config {
            pass_environment: vec!["MINE".to_owned(), "FLUMINA_TOKEN".to_owned()],
            ..Config::default()
        };
        let names: Vec<String> = base(&config, &own)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "PATH",
                "PIP_INDEX_URL",
                "LC_ALL",
                "MINE",
                "HOME",
                "LANG",
                "PYTHONUNBUFFERED"
            ]
        );
    }
}
