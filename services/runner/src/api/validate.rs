//! Checks a request once and reports everything that is wrong with it.

use std::collections::HashSet;
use std::time::Duration;

use aip::FieldViolation;
use api_runner::v1::{PythonRequirements, Resources, WorkloadSpec};
use api_step::v1::step::Program;
use ids::WorkloadId;

use crate::domain::admission::{Amount, Gang};
use crate::domain::quantity;
use crate::error::Error;

const MAX_FILES_BYTES: usize = 48 * 1024 * 1024;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 3600);
/// Names in a workload's directory that belong to the protocol.
const RESERVED: [&str; 9] = [
    "assignment",
    "lock",
    "started",
    "log",
    "result",
    "exit",
    "stop",
    "agent.log",
    "venv",
];

/// What a workload asks of the node, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// What admission reserves; a workload that asks nothing counts one core.
    pub(crate) amount: Amount,
    /// The type and number of accelerators that it asks for.
    pub(crate) accelerators: Option<(String, u32)>,
    /// Resident memory above which it is ended; 0 for no limit.
    pub(crate) memory_limit: u64,
    /// Thousandths of a core that it may use; 0 for no limit.
    pub(crate) cpu_limit: u64,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// With whom it starts.
    pub(crate) gang: Option<Gang>,
}

#[derive(Default)]
pub(super) struct Problems(Vec<FieldViolation>);

impl Problems {
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation::new(field, description));
    }

    pub(super) fn check(&mut self, fine: bool, field: &str, description: &str) {
        if !fine {
            self.add(field, description);
        }
    }

    fn number(
        &mut self,
        field: &str,
        text: &str,
        read: impl Fn(&str) -> Option<u64>,
        example: &str,
    ) -> Option<u64> {
        if text.is_empty() {
            return None;
        }
        let number = read(text);
        if number.is_none() {
            self.add(
                field,
                format!("`{text}` is not a quantity such as {example}"),
            );
        }
        number
    }
}

/// Reads an id.
pub(crate) fn id(text: &str) -> Result<WorkloadId, Error> {
    text.parse().map_err(|error: ids::InvalidId| {
        Error::Invalid(vec![FieldViolation::new("id", error.to_string())])
    })
}

/// Checks an owner or a prefix of one.
pub(crate) fn owner(field: &str, text: &str, required: bool) -> Result<(), Error> {
    let mut problems = Problems::default();
    check_owner(&mut problems, field, text, required);
    finish(problems)
}

/// Checks everything of a launch but the machine.
pub(crate) fn launch(
    id_text: &str,
    spec: Option<&WorkloadSpec>,
) -> Result<(WorkloadId, Wanted), Error> {
    let mut problems = Problems::default();
    let id: Result<WorkloadId, _> = id_text.parse();
    if let Err(error) = &id {
        problems.add("id", error.to_string());
    }
    let Some(spec) = spec else {
        problems.add("spec", "must be set");
        return Err(Error::Invalid(problems.0));
    };
    check_names(&mut problems, spec);
    check_step(&mut problems, spec);
    check_env(&mut problems, spec);
    check_files(&mut problems, spec);
    check_surroundings(&mut problems, spec);
    super::supplies::check(&mut problems, id_text, spec);
    if let Some(python) = &spec.python {
        check_python(&mut problems, python);
    }
    let mut wanted = read_resources(&mut problems, spec.resources.as_ref());
    wanted.timeout = read_timeout(&mut problems, spec);
    wanted.gang = read_gang(&mut problems, spec);
    match (id, problems.0.is_empty()) {
        (Ok(id), true) => Ok((id, wanted)),
        _ => Err(Error::Invalid(problems.0)),
    }
}

pub(super) fn finish(problems: Problems) -> Result<(), Error> {
    if problems.0.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(problems.0))
    }
}

fn check_owner(problems: &mut Problems, field: &str, text: &str, required: bool) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fine = text.len() <= 256
        && text.split('/').all(|segment| {
            !segment.is_empty() && !segment.starts_with("..") && segment.bytes().all(allowed)
        });
    if (required || !text.is_empty()) && !fine {
        problems.add(
            field,
            "expected segments of a-z A-Z 0-9 . _ - joined by `/`, such as pipelines/runs/ID",
        );
    }
}

fn check_names(problems: &mut Problems, spec: &WorkloadSpec) {
    check_owner(problems, "spec.owner", &spec.owner, true);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let namespace = spec.namespace.len() <= 63
        && spec.namespace.bytes().all(allowed)
        && !spec.namespace.starts_with('.');
    problems.check(
        namespace,
        "spec.namespace",
        "expected at most 63 characters of a-z A-Z 0-9 . _ -, not a leading dot",
    );
    problems.check(spec.labels.len() <= 64, "spec.labels", "at most 64");
    let long = |text: &String| text.len() > 512 || text.contains('\0');
    let labels = spec
        .labels
        .iter()
        .any(|(key, value)| long(key) || long(value));
    problems.check(
        !labels,
        "spec.labels",
        "keys and values have at most 512 bytes and no NUL",
    );
    let image = spec.image.len() <= 1024 && !spec.image.contains(char::is_whitespace);
    problems.check(
        image,
        "spec.image",
        "expected an image such as python:3.11, without blanks",
    );
}

fn check_step(problems: &mut Problems, spec: &WorkloadSpec) {
    let program = spec.step.as_ref().and_then(|step| step.program.as_ref());
    match program {
        _ if spec.volume_task.is_some() => {
            let none = program.is_none();
            let text = "must not be set beside a volume task";
            problems.check(none, "spec.step.program", text);
        }
        None => problems.add("spec.step.program", "must be set"),
        Some(Program::Command(command)) => {
            if command.command.is_empty() {
                let image = if spec.image.is_empty() {
                    "the image"
                } else {
                    &spec.image
                };
                problems.add(
                    "spec.step.command.command",
                    format!(
                        "must not be empty: programs run as processes here, so the entry point of {image} is not \
                         known; name the program, such as command: [python3, main.py]"
                    ),
                );
            }
            let nul = |text: &String| text.contains('\0');
            problems.check(
                !command.command.iter().chain(&command.args).any(nul),
                "spec.step.command",
                "must not contain NUL",
            );
        }
        Some(Program::PythonFunction(function)) => {
            problems.check(
                !function.function.is_empty(),
                "spec.step.python_function.function",
                "must not be empty",
            );
        }
    }
}

fn check_env(problems: &mut Problems, spec: &WorkloadSpec) {
    problems.check(spec.env.len() <= 1000, "spec.env", "at most 1000 variables");
    for (index, variable) in spec.env.iter().enumerate() {
        let field = format!("spec.env[{index}]");
        let name = &variable.name;
        if name.is_empty() || name.contains(['=', '\0']) || name.len() > 1024 {
            problems.add(
                format!("{field}.name"),
                "expected 1 to 1024 characters without `=` and NUL",
            );
        } else if name.starts_with("FLUMINA_") {
            problems.add(
                format!("{field}.name"),
                "names that begin with FLUMINA_ are set by Flumina",
            );
        }
        if variable.value.contains('\0') {
            problems.add(format!("{field}.value"), "must not contain NUL");
        }
    }
}

fn check_files(problems: &mut Problems, spec: &WorkloadSpec) {
    problems.check(spec.files.len() <= 1000, "spec.files", "at most 1000 files");
    let total: usize = spec.files.iter().map(|file| file.content.len()).sum();
    problems.check(
        total <= MAX_FILES_BYTES,
        "spec.files",
        "at most 48 MiB in all",
    );
    let mut seen = HashSet::new();
    for (index, file) in spec.files.iter().enumerate() {
        let field = format!("spec.files[{index}]");
        let path = file.path.as_str();
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if path.len() > 1024 || path.contains('\0') || !path.split('/').all(plain) {
            problems.add(
                format!("{field}.path"),
                "expected a relative path without `.`, `..` and empty parts",
            );
        } else if path
            .split('/')
            .next()
            .is_some_and(|part| RESERVED.contains(&part))
        {
            problems.add(
                format!("{field}.path"),
                format!("`{path}` is used by the runner"),
            );
        } else if !seen.insert(path) {
            problems.add(format!("{field}.path"), format!("`{path}` is there twice"));
        }
        if file.mode > 0o777 {
            problems.add(
                format!("{field}.mode"),
                "expected permission bits up to 0777",
            );
        }
    }
}

fn check_surroundings(problems: &mut Problems, spec: &WorkloadSpec) {
    let dir = spec.working_dir.as_str();
    let inside =
        dir.starts_with('/') && !dir.contains('\0') && dir.split('/').all(|part| part != "..");
    problems.check(
        dir.is_empty() || inside,
        "spec.working_dir",
        "expected an absolute path without `..`",
    );
    let mut seen = HashSet::new();
    problems.check(spec.ports.len() <= 64, "spec.ports", "at most 64 ports");
    for (index, port) in spec.ports.iter().enumerate() {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let named = (1..=63).contains(&port.name.len()) && port.name.bytes().all(allowed);
        if !named || !seen.insert(port.name.as_str()) {
            problems.add(
                format!("spec.ports[{index}].name"),
                "expected a name of its own, 1 to 63 characters of a-z A-Z 0-9 _ -",
            );
        }
        if port.number > 65535 {
            problems.add(
                format!("spec.ports[{index}].number"),
                "expected at most 65535",
            );
        }
    }
}

fn check_python(problems: &mut Problems, python: &PythonRequirements) {
    // What begins with a hyphen would be an option of the installer.
    let specifier = |text: &str| {
        (1..=1024).contains(&text.len())
            && !text.starts_with('-')
            && !text.contains(['\n', '\r', '\0'])
    };
    problems.check(
        python.packages.len() <= 500,
        "spec.python.packages",
        "at most 500 packages",
    );
    for (index, package) in python.packages.iter().enumerate() {
        let field = format!("spec.python.packages[{index}]");
        problems.check(
            specifier(package),
            &field,
            "expected a requirement such as pandas==2.2.3",
        );
    }
    let kfp = python.kfp.is_empty() || (specifier(&python.kfp) && python.kfp.starts_with("kfp"));
    problems.check(
        kfp,
        "spec.python.kfp",
        "expected a requirement such as kfp==2.17.0",
    );
    let url = |text: &String| specifier(text) && !text.contains(char::is_whitespace);
    problems.check(
        python.index_urls.len() <= 20 && python.index_urls.iter().all(url),
        "spec.python.index_urls",
        "expected at most 20 URLs",
    );
    problems.check(
        python.trusted_hosts.len() <= 20 && python.trusted_hosts.iter().all(url),
        "spec.python.trusted_hosts",
        "expected at most 20 hosts",
    );
}

fn read_resources(problems: &mut Problems, resources: Option<&Resources>) -> Wanted {
    let none = Resources::default();
    let asked = resources.unwrap_or(&none);
    let cpu = |problems: &mut Problems, name: &str, text: &str| {
        let field = format!("spec.resources.{name}");
        problems.number(&field, text, quantity::cpu_milli, "2 or 500m")
    };
    let cpu_request = cpu(problems, "cpu_request", &asked.cpu_request);
    let cpu_limit = cpu(problems, "cpu_limit", &asked.cpu_limit);
    let memory = |problems: &mut Problems, name: &str, text: &str| {
        let field = format!("spec.resources.{name}");
        problems.number(&field, text, quantity::bytes, "1Gi")
    };
    let memory_request = memory(problems, "memory_request", &asked.memory_request);
    let memory_limit = memory(problems, "memory_limit", &asked.memory_limit);
    let count = problems.number(
        "spec.resources.accelerator_count",
        &asked.accelerator_count,
        quantity::count,
        "1",
    );
    Wanted {
        amount: Amount {
            // As Kubernetes does: a limit without a request is the request.
            cpu_milli: cpu_request.or(cpu_limit).unwrap_or(1000),
            memory: memory_request.or(memory_limit).unwrap_or(0),
            ..Amount::default()
        },
        accelerators: count.filter(|count| *count > 0).map(|count| {
            let kind = match asked.accelerator_type.as_str() {
                "" => "gpu",
                kind => kind,
            };
            (kind.to_owned(), u32::try_from(count).unwrap_or(u32::MAX))
        }),
        memory_limit: memory_limit.unwrap_or(0),
        cpu_limit: cpu_limit.unwrap_or(0),
        ..Wanted::default()
    }
}

fn read_timeout(problems: &mut Problems, spec: &WorkloadSpec) -> Option<Duration> {
    let timeout = spec.timeout.as_ref()?;
    let read = aip::time::duration_from_proto(timeout);
    match read.filter(|timeout| !timeout.is_zero() && *timeout <= LONGEST_TIMEOUT) {
        Some(timeout) => Some(timeout),
        None => {
            problems.add(
                "spec.timeout",
                "expected more than nothing and at most a year",
            );
            None
        }
    }
}

fn read_gang(problems: &mut Problems, spec: &WorkloadSpec) -> Option<Gang> {
    let gang = spec.gang.as_ref()?;
    problems.check(
        (1..=253).contains(&gang.name.len()) && !gang.name.contains('\0'),
        "spec.gang.name",
        "expected 1 to 253 characters",
    );
    problems.check(
        (1..=10_000).contains(&gang.size),
        "spec.gang.size",
        "expected 1 to 10000",
    );
    problems.check(
        gang.minimum <= gang.size,
        "spec.gang.minimum",
        "must not be above the size",
    );
    let minimum = if gang.minimum == 0 {
        gang.size
    } else {
        gang.minimum
    };
    Some(Gang {
        name: gang.name.clone(),
        minimum,
    })
}
