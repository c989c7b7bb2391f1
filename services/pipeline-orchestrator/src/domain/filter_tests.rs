use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::records::{PIPELINE_FIELDS, RUN_FIELDS};
use super::*;

fn one(predicate: Value) -> Result<Predicate, String> {
    let text = json!({ "predicates": [predicate] }).to_string();
    parse(&text, &RUN_FIELDS)
        .map(|mut filter| filter.predicates.remove(0))
        .map_err(|error| error.to_string())
}

fn test_of(predicate: Value) -> Test {
    one(predicate).unwrap().test
}

#[test]
fn operations_are_names_or_numbers() {
    let table = [
        ("EQUALS", 1, Compare::Equal),
        ("NOT_EQUALS", 2, Compare::NotEqual),
        ("GREATER_THAN", 3, Compare::Greater),
        ("GREATER_THAN_EQUALS", 5, Compare::GreaterOrEqual),
        ("LESS_THAN", 6, Compare::Less),
        ("LESS_THAN_EQUALS", 7, Compare::LessOrEqual),
    ];
    for (name, number, compare) in table {
        for operation in [json!(name), json!(number)] {
            let predicate =
                json!({"operation": operation, "key": "display_name", "string_value": "x"});
            assert_eq!(
                test_of(predicate),
                Test::Text(compare, "x".to_owned()),
                "{name}"
            );
        }
    }
    for operation in [json!("IN"), json!(8)] {
        let predicate =
            json!({"operation": operation, "key": "name", "stringValues": {"values": ["a", "b"]}});
        assert_eq!(
            test_of(predicate),
            Test::TextIn(vec!["a".to_owned(), "b".to_owned()])
        );
    }
    for operation in [json!("IS_SUBSTRING"), json!(9)] {
        let predicate = json!({"operation": operation, "key": "name", "stringValue": "50%"});
        assert_eq!(test_of(predicate), Test::Contains("50%".to_owned()));
    }
}

#[test]
fn values_have_two_spellings() {
    let time = Test::Time(Compare::Less, 1_700_000_000);
    for (key, value) in [
        ("timestamp_value", json!("2023-11-14T22:13:20Z")),
        ("timestampValue", json!("2023-11-14T22:13:20.999Z")),
        ("timestampValue", json!("2023-11-14T23:13:20+01:00")),
        ("long_value", json!("1700000000")),
        ("longValue", json!(1_700_000_000)),
        ("int_value", json!(1_700_000_000)),
        ("intValue", json!("1700000000")),
    ] {
        let predicate = json!({"operation": "LESS_THAN", "key": "created_at", key: value});
        assert_eq!(test_of(predicate), time, "{key}");
    }
    for key in ["int_values", "intValues", "long_values", "longValues"] {
        let predicate = json!({"operation": "IN", "key": "created_at", key: {"values": [1, "2"]}});
        assert_eq!(test_of(predicate), Test::TimeIn(vec![1, 2]), "{key}");
    }
}

#[test]
fn states_are_read_as_either_contract_writes_them() {
    for (key, text, expected) in [
        ("storage_state", "ARCHIVED", "ARCHIVED"),
        ("storage_state", "STORAGESTATE_ARCHIVED", "ARCHIVED"),
        ("storage_state", "available", "AVAILABLE"),
        ("state", "FAILED", "FAILED"),
        ("status", "Succeeded", "SUCCEEDED"),
    ] {
        let predicate = json!({"operation": "EQUALS", "key": key, "string_value": text});
        assert_eq!(
            test_of(predicate),
            Test::Text(Compare::Equal, expected.to_owned())
        );
    }
}

#[test]
fn a_text_that_was_encoded_twice_is_read() {
    let plain =
        json!({"predicates": [{"operation": 1, "key": "display_name", "stringValue": "a+b %ü"}]});
    let encoded: String = plain
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let expected = parse(&plain.to_string(), &RUN_FIELDS).unwrap();
    assert_eq!(parse(&encoded, &RUN_FIELDS), Ok(expected));
    assert_eq!(parse("", &RUN_FIELDS), Ok(Filter::default()));
    assert_eq!(parse("{}", &RUN_FIELDS), Ok(Filter::default()));
    assert_eq!(parse("%7B%7D", &RUN_FIELDS), Ok(Filter::default()));
}

#[test]
fn tags_are_filtered_only_where_there_are_tags() {
    let text = json!({"predicates": [{"operation": 1, "key": "tags.team", "stringValue": "ml"}]})
        .to_string();
    let filter = parse(&text, &PIPELINE_FIELDS).unwrap();
    assert_eq!(filter.predicates[0].key, Key::Tag("team".to_owned()));
    let error = parse(&text, &RUN_FIELDS).unwrap_err().to_string();
    assert!(
        error.contains("unrecognized field \"tags.team\""),
        "{error}"
    );
}

#[test]
fn faults_are_named() {
    let table = [
        (
            json!({"operation": 1, "key": "nope", "string_value": "x"}),
            "no support for filtering on unrecognized field \"nope\"",
        ),
        (
            json!({"operation": 1, "string_value": "x"}),
            "\"key\" is missing",
        ),
        (
            json!({"operation": 1, "key": 7, "string_value": "x"}),
            "\"key\" must be a string",
        ),
        (
            json!({"key": "name", "string_value": "x"}),
            "\"operation\" is missing",
        ),
        (
            json!({"operation": 0, "key": "name", "string_value": "x"}),
            "\"operation\" is 0",
        ),
        (
            json!({"operation": 4, "key": "name", "string_value": "x"}),
            "\"operation\" is 4",
        ),
        (
            json!({"operation": "LIKE", "key": "name", "string_value": "x"}),
            "\"operation\" is \"LIKE\"",
        ),
        (json!({"operation": 1, "key": "name"}), "a value is missing"),
        (
            json!({"operation": 1, "key": "name", "string_value": "x", "int_value": 1}),
            "more than one value",
        ),
        (
            json!({"operation": 1, "key": "name", "bool_value": true}),
            "unknown key \"bool_value\"",
        ),
        (
            json!({"operation": 1, "key": "name", "string_value": 1}),
            "1 is not a string",
        ),
        (
            json!({"operation": 1, "key": "name", "string_value": "a\0"}),
            "NUL",
        ),
        (
            json!({"operation": 1, "key": "name", "int_value": 1}),
            "holds a text",
        ),
        (
            json!({"operation": 1, "key": "created_at", "string_value": "2023"}),
            "holds a time",
        ),
        (
            json!({"operation": 1, "key": "created_at", "timestamp_value": "yesterday"}),
            "is not a time",
        ),
        (
            json!({"operation": 1, "key": "created_at", "int_value": 3_000_000_000_i64}),
            "does not fit",
        ),
        (
            json!({"operation": 1, "key": "created_at", "long_value": 1.5}),
            "not a whole number",
        ),
        (
            json!({"operation": 8, "key": "name", "string_value": "x"}),
            "IN needs a list",
        ),
        (
            json!({"operation": 1, "key": "name", "string_values": {"values": ["x"]}}),
            "only IN takes a list",
        ),
        (
            json!({"operation": 9, "key": "name", "string_values": {"values": ["x"]}}),
            "only IN takes a list",
        ),
        (
            json!({"operation": 9, "key": "name", "int_value": 1}),
            "IS_SUBSTRING needs",
        ),
        (
            json!({"operation": 9, "key": "created_at", "string_value": "1"}),
            "holds a time",
        ),
        (
            json!({"operation": 8, "key": "name", "string_values": ["x"]}),
            "must be an object",
        ),
        (
            json!({"operation": 8, "key": "name", "string_values": {"values": ["x"], "more": 1}}),
            "one key",
        ),
        (
            json!({"operation": 1, "key": "state", "string_value": "DONE"}),
            "is not one of PENDING",
        ),
        (json!(7), "must be a JSON object"),
    ];
    for (predicate, expected) in table {
        let error = one(predicate.clone()).unwrap_err();
        assert!(error.contains(expected), "{predicate}: {error}");
        assert!(error.starts_with("predicates[0]: "), "{error}");
    }
    for (text, expected) in [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("{\"predicates\": {}}", "must be a list"),
        ("{\"other\": []}", "unknown key \"other\""),
        ("%7B", "not JSON"),
    ] {
        let error = parse(text, &RUN_FIELDS).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn filters_are_limited() {
    let predicate = json!({"operation": 1, "key": "name", "string_value": "x"});
    let filter = |count: usize| json!({"predicates": vec![predicate.clone(); count]}).to_string();
    assert!(parse(&filter(MAX_PREDICATES), &RUN_FIELDS).is_ok());
    let error = parse(&filter(MAX_PREDICATES + 1), &RUN_FIELDS)
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 100 predicates"), "{error}");
    let values = |count: usize| json!({"operation": 8, "key": "name", "string_values": {"values": vec!["x"; count]}});
    assert!(one(values(MAX_VALUES)).is_ok());
    assert!(
        one(values(MAX_VALUES + 1))
            .unwrap_err()
            .contains("more than 1000 values")
    );
    let long = json!({"operation": 9, "key": "name", "string_value": "x".repeat(MAX_VALUE + 1)});
    assert!(one(long).unwrap_err().contains("longer than"));
    let huge = "x".repeat(MAX_TEXT + 1);
    assert!(
        parse(&huge, &RUN_FIELDS)
            .unwrap_err()
            .to_string()
            .contains("longer than")
    );
    let deep = format!(
        "{{\"predicates\":{}{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(parse(&deep, &RUN_FIELDS).is_err());
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in ".{0,200}") {
        let _any_answer = parse(&text, &RUN_FIELDS);
    }

    #[test]
    fn no_document_breaks_the_reader(
        operation in prop_oneof![Just(json!(1)), Just(json!("IN")), Just(json!(9)), any::<i64>().prop_map(|n| json!(n))],
        key in prop_oneof![Just("name".to_owned()), Just("created_at".to_owned()), ".{0,10}"],
        name in prop_oneof![Just("string_value"), Just("longValues"), Just("timestamp_value"), Just("stringValues")],
        value in prop_oneof![".{0,10}".prop_map(|t| json!(t)), any::<i64>().prop_map(|n| json!({"values": [n]}))],
    ) {
        let text = json!({"predicates": [{"operation": operation, "key": key, name: value}]}).to_string();
        let _any_answer = parse(&text, &RUN_FIELDS);
    }

    #[test]
    fn texts_are_taken_literally(text in "[^\0]{0,50}") {
        let predicate = json!({"operation": 1, "key": "name", "string_value": text.clone()});
        prop_assert_eq!(test_of(predicate), Test::Text(Compare::Equal, text));
    }
}
