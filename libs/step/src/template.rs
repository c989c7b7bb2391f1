//! Recognises what the kfp SDK compiles a Python function into.
//!
//! A lightweight component is always the same shell wrapper: install packages with pip, write the source to a temporary
//! file, run `kfp.dsl.executor_main` on it. Doing literally that costs seconds per step, so the wrapper is read instead:
//! its packages become requirements of a cached environment and its source is run directly. The reading is strict; a
//! command that differs in any way from the known templates is not recognised and runs as it stands.
//!
//! Templates of SDK 2.0 to 2.17 are known (`kfp/dsl/component_factory.py`, `_get_packages_to_install_command` and
//! `_get_command_and_args_for_lightweight_component`); tests/fixtures holds what those SDKs really write.

/// A Python function with its requirements, read from a compiled command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lightweight {
    /// The Python source, whole.
    pub source: String,
    /// The function to call.
    pub function: String,
    /// The user's packages as pip requirement specifiers, in order.
    pub packages: Vec<String>,
    /// The pinned kfp package that the SDK installs without its dependencies, such as `kfp==2.17.0`.
    pub kfp: Option<String>,
    /// Package indexes, the main one first.
    pub index_urls: Vec<String>,
    /// Hosts that need no certificate.
    pub trusted_hosts: Vec<String>,
    /// Whether the component asks for a virtual environment of its own on top of the system's packages.
    pub use_venv: bool,
}

const INSTALL_HEAD: &str = "\nif ! [ -x \"$(command -v pip)\" ]; then\n    \
python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip\nfi\n\n\
PIP_DISABLE_PIP_VERSION_CHECK=1 ";

const INSTALL_TAIL: &str = " && \"$0\" \"$@\"\n";

const VENV: &str = "\nexport PIP_DISABLE_PIP_VERSION_CHECK=1\ntmp=$(mktemp -d)\n\
python3 -m venv \"$tmp/venv\" --system-site-packages\n. \"$tmp/venv/bin/activate\"\n";

/// What runs the source, by SDK: 2.0, and everything after. Runs of blanks count as one.
const BOOTSTRAPS: [&str; 2] = [
    "program_path=$(mktemp -d)\n\
printf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n\
python3 -m kfp.components.executor_main --component_module_path \
\"$program_path/ephemeral_component.py\" \"$@\"\n",
    "program_path=$(mktemp -d)\n\n\
printf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n\
_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path \
\"$program_path/ephemeral_component.py\" \"$@\"\n",
];

/// What the SDK adds to its own package, which it installs without dependencies.
const TYPING_EXTENSIONS: &str = "typing-extensions>=3.7.4,<5; python_version<\"3.9\"";

const PIP_INSTALL: [&str; 6] = [
    "python3",
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-warn-script-location",
];

/// Reads a compiled command and its arguments; `None` when it is anything but a lightweight component.
pub fn recognise(command: &[String], args: &[String]) -> Option<Lightweight> {
    let [flag_input, input, flag_function, function] = args else {
        return None;
    };
    let known_args = flag_input == "--executor_input"
        && input == "{{$}}"
        && flag_function == "--function_to_execute"
        && is_identifier(function);
    if !known_args {
        return None;
    }

    let (install, program) = match command.len() {
        7 => {
            let (install, program) = command.split_at(3);
            (Some(install), program)
        }
        4 => (None, command),
        _ => return None,
    };
    let [shell, flags, bootstrap, source] = program else {
        return None;
    };
    if shell != "sh" || flags != "-ec" || !BOOTSTRAPS.contains(&single_blanks(bootstrap).as_str()) {
        return None;
    }

    let mut found = match install {
        None => Lightweight::default(),
        Some([shell, flags, script]) if shell == "sh" && flags == "-c" => read_install(script)?,
        Some(_) => return None,
    };
    found.source.clone_from(source);
    found.function.clone_from(function);
    Some(found)
}

/// The function of a containerised component: its module is in its image, which has a `kfp_config.ini` that names it.
pub fn containerised<'a>(command: &[String], args: &'a [String]) -> Option<&'a str> {
    let [python, flag, module] = command else {
        return None;
    };
    let known = python == "python3"
        && flag == "-m"
        && matches!(
            module.as_str(),
            "kfp.dsl.executor_main" | "kfp.components.executor_main"
        );
    let [flag_input, input, flag_function, function] = args else {
        return None;
    };
    let known = known
        && flag_input == "--executor_input"
        && input == "{{$}}"
        && flag_function == "--function_to_execute"
        && is_identifier(function);
    known.then_some(function)
}

/// Whether a program that runs as it stands installs Python packages by itself, so that it must not share its
/// environment with others. A guess from the text; a false positive only costs an environment.
pub fn installs_packages(command: &[String], args: &[String]) -> bool {
    let words: Vec<&str> = command
        .iter()
        .chain(args)
        .flat_map(|element| element.split_ascii_whitespace())
        .collect();
    words.windows(2).any(|pair| {
        let program = pair[0]
            .rsplit(['/', '(', ';', '"', '\''])
            .next()
            .unwrap_or_default();
        matches!(program, "pip" | "pip3" | "uv")
            && matches!(pair[1], "install" | "pip" | "uninstall")
            || pair[0] == "-m" && matches!(pair[1], "pip" | "ensurepip")
    })
}

/// The script that installs packages: `pip install` commands joined by `&&`, perhaps inside a virtual environment.
fn read_install(script: &str) -> Option<Lightweight> {
    let mut commands = script
        .strip_prefix(INSTALL_HEAD)?
        .strip_suffix(INSTALL_TAIL)?;
    let without_venv;
    let mut found = Lightweight::default();
    if let Some((before, after)) = commands.split_once(VENV) {
        // The text may only stand before a command, never inside a quoted word.
        if !(before.is_empty() || before.ends_with(" &&  ")) {
            return None;
        }
        found.use_venv = true;
        without_venv = format!("{before}{after}");
        commands = &without_venv;
    }

    let words = shell_words(commands)?;
    let mut options: Option<Options> = None;
    for command in words.split(|word| *word == Word::And) {
        let (these, requirements) = pip_install(command)?;
        if options.as_ref().is_some_and(|first| *first != these) {
            return None;
        }
        options = Some(these);
        add_requirements(&mut found, &requirements)?;
    }
    let options = options?;
    found.index_urls = options.index_urls;
    found.trusted_hosts = options.trusted_hosts;
    Some(found)
}

/// Sorts the requirements of one `pip install` into the SDK's own and the user's.
fn add_requirements(found: &mut Lightweight, requirements: &[&str]) -> Option<()> {
    let (users, pin) = match requirements {
        [pin, "--no-deps"] | [pin, "--no-deps", TYPING_EXTENSIONS] => (&[][..], Some(pin)),
        // SDK 2.0 installs all in one command, with its own package last.
        [users @ .., pin] if is_kfp_pin(pin) => (users, Some(pin)),
        users => (users, None),
    };
    if let Some(pin) = pin {
        let first = is_kfp_pin(pin) && found.kfp.is_none();
        found.kfp = first.then(|| (*pin).to_owned());
        found.kfp.as_ref()?;
    }
    // An option among the packages changes what the others mean; two kfp in one command are pip's to refuse.
    let odd = |name: &&str| name.starts_with('-') || pin.is_some() && is_kfp_pin(name);
    if requirements.is_empty() || users.iter().any(odd) {
        return None;
    }
    found
        .packages
        .extend(users.iter().map(|&name| name.to_owned()));
    Some(())
}

fn is_kfp_pin(requirement: &str) -> bool {
    requirement.strip_prefix("kfp==").is_some_and(|version| {
        !version.is_empty()
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '.')
    })
}

#[derive(PartialEq, Eq, Default)]
struct Options {
    index_urls: Vec<String>,
    trusted_hosts: Vec<String>,
}

/// One `python3 -m pip install` with its index options and quoted requirements.
fn pip_install(command: &[Word]) -> Option<(Options, Vec<&str>)> {
    let (head, mut rest) = command.split_at_checked(PIP_INSTALL.len())?;
    let same = |(word, want): (&Word, &str)| matches!(word, Word::Plain(text) if text == want);
    if !head.iter().zip(PIP_INSTALL).all(same) {
        return None;
    }
    let mut options = Options::default();
    while let [Word::Plain(option), Word::Plain(value), after @ ..] = rest {
        match option.as_str() {
            "--index-url" if options.index_urls.is_empty() => {
                options.index_urls.push(value.clone())
            }
            "--extra-index-url" if !options.index_urls.is_empty() => {
                options.index_urls.push(value.clone())
            }
            "--trusted-host" => options.trusted_hosts.push(value.clone()),
            _ => return None,
        }
        rest = after;
    }
    let quoted = |word: &'_ Word| matches!(word, Word::Quoted(_));
    if !rest.iter().all(quoted) {
        return None;
    }
    let requirements = rest.iter().map(Word::text).collect();
    Some((options, requirements))
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
    And,
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Word::Plain(text) | Word::Quoted(text) => text,
            Word::And => "&&",
        }
    }
}

/// Splits a line as the shell would, as far as the templates need it: plain words, words quoted as a whole, and `&&`.
/// `None` for anything that the shell would interpret.
fn shell_words(line: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(' ');
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '\'' => quoted(rest, '\'', "")?,
            '"' => quoted(rest, '"', "$`\\!")?,
            '&' => (Word::And, rest.strip_prefix("&&")?),
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if !word.chars().all(is_plain) {
                    return None;
                }
                (Word::Plain(word.to_owned()), after)
            }
        };
        if !(after.is_empty() || after.starts_with(' ')) {
            return None;
        }
        words.push(word);
        rest = after.trim_start_matches(' ');
    }
    Some(words)
}

fn quoted<'a>(text: &'a str, quote: char, special: &str) -> Option<(Word, &'a str)> {
    let (word, after) = text.strip_prefix(quote)?.split_once(quote)?;
    let literal = !word.contains(|c: char| special.contains(c) || c.is_control());
    literal.then(|| (Word::Quoted(word.to_owned()), after))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:/@+=%,~".contains(c)
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
        && chars.all(|c| c == '_' || c.is_alphanumeric())
}

fn single_blanks(text: &str) -> String {
    let mut single = String::with_capacity(text.len());
    for c in text.chars() {
        if c != ' ' || !single.ends_with(' ') {
            single.push(c);
        }
    }
    single
}
