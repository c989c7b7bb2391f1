use flumina_step::template::{Lightweight, containerised, installs_packages, recognise};
use proptest::prelude::*;
use serde_json::Value;

const FIXTURES: [&str; 5] = [
    include_str!("../fixtures/lightweight-2.0.1.json"),
    include_str!("../fixtures/lightweight-2.4.0.json"),
    include_str!("../fixtures/lightweight-2.9.0.json"),
    include_str!("../fixtures/lightweight-2.14.3.json"),
    include_str!("../fixtures/lightweight-2.17.0.json"),
];

struct Fixture {
    name: String,
    command: Vec<String>,
    args: Vec<String>,
    expected: Value,
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn fixtures() -> Vec<Fixture> {
    FIXTURES
        .into_iter()
        .flat_map(|text| serde_json::from_str::<Vec<Value>>(text).unwrap())
        .map(|row| Fixture {
            name: row["name"].as_str().unwrap().to_owned(),
            command: strings(&row["command"]),
            args: strings(&row["args"]),
            expected: row["expected"].clone(),
        })
        .collect()
}

fn plain() -> Fixture {
    let mut all = fixtures();
    let last = all
        .iter()
        .rposition(|fixture| fixture.name == "two_indexes")
        .unwrap();
    all.swap_remove(last)
}

fn as_expected(found: &Lightweight) -> Value {
    let mut packages = found.packages.clone();
    packages.sort();
    serde_json::json!({
        "function": found.function,
        "packages": packages,
        "kfp": found.kfp,
        "index_urls": found.index_urls,
        "trusted_hosts": found.trusted_hosts,
        "use_venv": found.use_venv,
    })
}

#[test]
fn every_variant_of_every_sdk_is_read() {
    for fixture in fixtures() {
        let found = recognise(&fixture.command, &fixture.args);
        let name = &fixture.name;
        match (found, &fixture.expected) {
            (None, Value::Null) => {}
            (Some(found), expected) => {
                assert_eq!(as_expected(&found), *expected, "{name}");
                assert_eq!(Some(&found.source), fixture.command.last(), "{name}");
            }
            (None, _) => panic!("{name} was not recognised: {:?}", fixture.command),
        }
    }
}

#[test]
fn packages_keep_their_order() {
    for fixture in fixtures()
        .iter()
        .filter(|fixture| fixture.name == "packages")
    {
        let found = recognise(&fixture.command, &fixture.args).unwrap();
        assert_eq!(
            found.packages,
            [
                "pandas==2.2.0",
                "numpy>=1.26,<3",
                "typing-extensions; python_version<\"3.9\""
            ]
        );
    }
}

#[test]
fn other_arguments_run_as_they_stand() {
    let Fixture { command, args, .. } = plain();
    assert!(recognise(&command, &args).is_some());
    let with = |index: usize, text: &str| {
        let mut args = args.clone();
        args[index] = text.to_owned();
        recognise(&command, &args)
    };
    assert_eq!(with(0, "--executor-input"), None);
    assert_eq!(with(1, "{{$.inputs.parameters['x']}}"), None);
    assert_eq!(with(2, "--function"), None);
    assert_eq!(with(3, "a-b"), None);
    assert_eq!(with(3, ""), None);
    assert_eq!(recognise(&command, &args[..2]), None);
    let mut more = args.clone();
    more.push("--verbose".to_owned());
    assert_eq!(recognise(&command, &more), None);
}

#[test]
fn changed_scripts_run_as_they_stand() {
    let Fixture { command, args, .. } = plain();
    for (index, from, to) in [
        (0, "sh", "bash"),
        (1, "-c", "-xc"),
        (2, "python3 -m pip", "python3 -m  pip2"),
        (2, "--quiet", "--quiet --pre"),
        (2, " && \"$0\"", "; \"$0\""),
        (2, "'pandas'", "'pandas'$(id)"),
        (2, "'pandas'", "pandas"),
        (2, "'pandas'", "\"$PANDAS\""),
        (2, "'pandas'", "'pandas' ; id"),
        (2, "'pandas'", "'pandas' && id"),
        (2, "'pandas'", "'pandas' > /dev/null"),
        (
            2,
            "--index-url https://a.example.org/simple",
            "--index-url $INDEX",
        ),
        (4, "-ec", "-c"),
        (5, "executor_main", "executor"),
        (5, "_KFP_RUNTIME=true", "_KFP_RUNTIME=true HOME=/"),
    ] {
        let mut changed = command.clone();
        changed[index] = changed[index].replacen(from, to, 1);
        assert_ne!(changed, command, "{from:?} is not in the template");
        assert_eq!(recognise(&changed, &args), None, "{from:?} became {to:?}");
    }
}

#[test]
fn programs_that_run_pip_are_seen() {
    let installs = |command: &[&str]| {
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        installs_packages(&command, &[])
    };
    assert!(installs(&["sh", "-c", "pip install x && python main.py"]));
    assert!(installs(&["python3", "-m", "pip", "install", "x"]));
    assert!(installs(&[
        "sh",
        "-c",
        "/usr/bin/pip3 install -r requirements.txt"
    ]));
    assert!(installs(&["sh", "-c", "(uv pip install x)"]));
    assert!(!installs(&["sh", "-c", "echo pipeline installed"]));
    assert!(!installs(&["python3", "pip_report.py", "install"]));
}

proptest! {
    /// One changed byte of a script is never taken for the template with other requirements by accident of quoting: what is
    /// still recognised has no character that the shell would have acted on.
    #[test]
    fn inserted_shell_characters_are_noticed(at in 0usize..900, c in prop::sample::select("$`\\;|><(){}*\n".chars().collect::<Vec<_>>())) {
        let Fixture { mut command, args, .. } = plain();
        let whole = recognise(&command, &args).unwrap();
        let at = at.min(command[2].len());
        command[2].insert(at, c);
        if let Some(found) = recognise(&command, &args) {
            // Inside single quotes everything but a control character is literal.
            prop_assert_ne!(found.packages.concat() + &found.kfp.unwrap_or_default(), whole.packages.concat() + &whole.kfp.unwrap_or_default());
            prop_assert!(c != '\n');
        }
    }

    #[test]
    fn any_text_is_survived(script in ".*", bootstrap in ".*", args in prop::collection::vec(".*", 4)) {
        let command = ["sh", "-c", &script, "sh", "-ec", &bootstrap, "source"].map(str::to_owned);
        prop_assert_eq!(recognise(&command, &args), None);
    }
}

#[test]
fn containerised_components_are_known_by_their_command() {
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let command = words("python3 -m kfp.dsl.executor_main");
    let args = words("--executor_input {{$}} --function_to_execute train");
    assert_eq!(containerised(&command, &args), Some("train"));
    for (command, args) in [
        (
            "python3 -m kfp.dsl.executor_main -x",
            "--executor_input {{$}} --function_to_execute train",
        ),
        (
            "python3 -m my.executor_main",
            "--executor_input {{$}} --function_to_execute train",
        ),
        (
            "python3 -m kfp.dsl.executor_main",
            "--executor_input {{$}} --function_to_execute tr;ain",
        ),
        (
            "python3 -m kfp.dsl.executor_main",
            "--component_module_path m.py --function_to_execute train",
        ),
    ] {
        assert_eq!(
            containerised(&words(command), &words(args)),
            None,
            "{command} {args}"
        );
    }
}
