use serde_json::{Map, Value, json};

use super::*;

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => panic!("no object"),
    }
}

fn ask(text: &str, parameters: Value) -> Result<bool, ExpressionError> {
    let parameters = map(parameters);
    let artifacts = map(json!({
        "m": {"artifacts": [{"name": "7", "metadata": {"acc": 0.84, "tags": ["a", "b"]}}]}
    }));
    let scope = Scope {
        parameters: &[&parameters],
        artifacts,
    };
    condition(text, &scope)
}

#[test]
fn conditions_see_parameters_and_artifacts() {
    let parameters = json!({
        "s": "heads", "i": 2, "f": 0.84, "b": true, "l": [1, 2], "o": {"k": "v"}, "n": "7", "big": 9_007_199_254_740_993_i64
    });
    let cases = [
        ("inputs.parameter_values['s'] == 'heads'", true),
        ("inputs.parameter_values['s'] != 'heads'", false),
        ("int(inputs.parameter_values['i']) > 1", true),
        ("int(inputs.parameter_values['i']) == 2", true),
        ("inputs.parameter_values['i'] == 2", true),
        (
            "inputs.parameter_values['i'] >= 2.0 && inputs.parameter_values['i'] <= 2",
            true,
        ),
        ("inputs.parameter_values['f'] > 0.9", false),
        ("inputs.parameter_values['b'] == true", true),
        (
            "!(inputs.parameter_values['s'] == 'a') && inputs.parameter_values['b'] == true",
            true,
        ),
        (
            "inputs.parameter_values['s'] == 'a' || inputs.parameter_values['f'] < 1.0",
            true,
        ),
        ("inputs.parameter_values['i'] + 1.0 == 3.0", true),
        ("2 in inputs.parameter_values['l']", true),
        ("'k' in inputs.parameter_values['o']", true),
        ("inputs.parameter_values['o'].k == 'v'", true),
        ("size(inputs.parameter_values['l']) == 2", true),
        ("inputs.parameter_values['l'].size() == 2", true),
        ("inputs.parameter_values['l'][1] == 2", true),
        ("inputs.parameter_values['s'].startsWith('he')", true),
        (
            "inputs.parameter_values['s'].endsWith('ds') && inputs.parameter_values['s'].contains('ea')",
            true,
        ),
        ("inputs.parameter_values['s'].matches('^h.*s$')", true),
        ("int(inputs.parameter_values['n']) == 7", true),
        ("double(inputs.parameter_values['n']) == 7.0", true),
        ("string(inputs.parameter_values['i']) == '2'", true),
        ("string(inputs.parameter_values['f']) == '0.84'", true),
        ("bool('true')", true),
        ("int(1.9) == 1", true),
        (
            "has(inputs.parameter_values.s) && !has(inputs.parameter_values.absent)",
            true,
        ),
        (
            "inputs.artifacts['m'].artifacts[0].metadata['acc'] > 0.8",
            true,
        ),
        (
            "size(inputs.artifacts['m'].artifacts[0].metadata['tags']) == 2",
            true,
        ),
        (
            "inputs.parameter_values['s'] == 'heads' ? true : false",
            true,
        ),
        ("parseJson('{\"a\": [1, 2]}').a[1] == 2", true),
        ("inputs.parameter_values['big'] == 9007199254740993", true),
        ("inputs.parameter_values['s'] == 1", false),
    ];
    for (text, expected) in cases {
        assert_eq!(ask(text, parameters.clone()), Ok(expected), "{text}");
    }
}

#[test]
fn what_gives_no_answer_says_why() {
    let cases = [
        (
            "inputs.parameter_values['x']",
            "must be true or false, not 1",
        ),
        ("inputs.parameter_values['y'] == 1", "there is no `y`"),
        ("nothing == 1", "there is no name or function `nothing`"),
        ("frobnicate(1)", "`frobnicate`"),
        ("inputs.parameter_values['x'] > 'a'", "a"),
        ("int('ten') == 10", "int"),
        ("inputs.parameter_values['l'][7] == 1", "7"),
        ("parseJson('{') == 1", "parseJson: the text is not JSON"),
        ("1 / 0 == 1", "zero"),
        ("inputs.parameter_values['x'] ==", "cannot be read"),
        ("", "cannot be read"),
        ("a b", "cannot be read"),
        ("[1, 2].exists(x, x > 1)", "not executed"),
    ];
    for (text, expected) in cases {
        let error = ask(text, json!({"x": 1, "l": [1]}))
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn selectors_take_parts_of_values() {
    let cases = [
        (
            "parseJson(string_value)[\"a\"]",
            json!({"a": 1, "b": "x"}),
            json!(1),
        ),
        (
            "parseJson(string_value)[\"b\"]",
            json!("{\"b\": \"x\"}"),
            json!("x"),
        ),
        (
            "parseJson(string_value)[0]",
            json!([[1, {"c": null}], 2]),
            json!([1, {"c": null}]),
        ),
        (
            "struct_value.a",
            json!({"a": {"b": 2.5}}),
            json!({"b": 2.5}),
        ),
        ("list_value[1]", json!([1, 2]), json!(2)),
        ("number_value + 1.0", json!(2), json!(3)),
        ("bool_value", json!(true), json!(true)),
        ("string_value", json!(1.5), json!("1.5")),
        (
            "parseJson(string_value)[\"id\"]",
            json!({"id": 9_007_199_254_740_993_i64}),
            json!(9_007_199_254_740_993_i64),
        ),
    ];
    for (text, value, expected) in cases {
        assert_eq!(select(text, &value), Ok(expected), "{text}");
    }
    let error = select("parseJson(string_value)[\"z\"]", &json!({"a": 1})).unwrap_err();
    assert_eq!(error.to_string(), "there is no `z`");
}

#[test]
fn expressions_are_bounded() {
    let many = |part: &str, between: &str, count| vec![part; count].join(between);
    let hostile = [
        "(".repeat(8_000),
        format!("{}1{}", "(".repeat(200), ")".repeat(200)),
        format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000)),
        many("1", "+", 8_000),
        many("1", "+", 40),
        many("1", "-", 40),
        many("1", "==", 40),
        "a".to_owned() + &"[0]".repeat(38),
        "inputs".to_owned() + &".artifacts".repeat(39),
        "inputs".to_owned() + &".size()".repeat(39),
        many("inputs.parameter_values['x'] == 'y'", " && ", 200),
        many("inputs.parameter_values['x'] == 'z'", " || ", 200),
        many("true", "&&", 3_000),
        many("!", "", 9_000) + "true",
        many("!", "", 38) + "true",
        many("-", "", 9_000) + "1",
        many("a", ".", 8_000),
        "a".repeat(20_000),
        "a".to_owned() + &"[0]".repeat(5_000),
        "x ? ".repeat(3_000),
        "true ? 1 : ".repeat(22) + "1",
        "f(".repeat(23) + "1" + &")".repeat(23),
        "{1: ".repeat(23) + "1" + &"}".repeat(23),
        "\u{0}\u{fffd}'".to_owned(),
        "'\\u{110000}'".to_owned(),
        "b'\\xff' == 9223372036854775808".to_owned(),
    ];
    // The stack of a worker thread, which is what there is when a run is loaded.
    let tried = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            for text in &hostile {
                let _outcome = ask(text, json!({"x": "y"}));
            }
        });
    tried.unwrap().join().unwrap();
    let chain: Vec<String> = (0..60)
        .map(|n| format!("!(inputs.parameter_values['x'] == '{n}')"))
        .collect();
    assert_eq!(ask(&chain.join(" && "), json!({"x": "y"})), Ok(true));
}

#[test]
fn explanations_are_short() {
    let value =
        json!({"pipelinechannel--acc": 0.84, "pipelinechannel--flip-Output": "tails", "n": 3.0});
    let short = |name: &str| {
        let name = name.trim_start_matches("pipelinechannel--");
        name.trim_end_matches("-Output").to_owned()
    };
    let cases = [
        (
            "inputs.parameter_values['pipelinechannel--acc'] > 0.9",
            "`acc > 0.9`, acc = 0.84",
        ),
        ("int(inputs.parameter_values['n']) > 4", "`n > 4`, n = 3"),
        (
            "!(inputs.parameter_values['pipelinechannel--flip-Output'] == 'a') && inputs.parameter_values['pipelinechannel--flip-Output'] == 'b'",
            "`!(flip == 'a') && flip == 'b'`, flip = 'tails'",
        ),
        (
            "inputs.parameter_values['gone'] == 1",
            "`gone == 1`, gone = not given",
        ),
        (
            "size(inputs.parameter_values['n']) == 1",
            "`size(n) == 1`, n = 3",
        ),
        ("false", "`false`"),
    ];
    for (text, expected) in cases {
        assert_eq!(explain(text, short, |name| value.get(name)), expected);
    }
}

#[test]
fn patterns_are_short_constants_and_few() {
    let refused = |text: &str| check_expression(text).unwrap_err().to_string();
    let long = format!("'a'.matches('{}')", "a".repeat(200));
    assert!(refused(&long).contains("a pattern has 200 bytes"));
    let given = "'a'.matches(inputs.parameter_values['p'])";
    assert!(refused(given).contains("not a constant text"));
    let many = vec!["'a'.matches('a')"; 17].join(" || ");
    assert!(refused(&many).contains("it matches 17 patterns"));
}
