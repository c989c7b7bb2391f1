//! Parameters of a run against the pipeline's inputs.

use flumina_pipeline_spec::check_parameters;
use serde_json::{Map, Value, json};

use crate::{lines, planned};

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

#[test]
fn defaults_are_filled_in_and_values_fitted() {
    let plan = planned("all_types");
    let given = map(json!({"text": 5, "whole": 7.0, "real": 1, "flag": null}));
    let checked = check_parameters(&plan, &given).unwrap();
    let expected = map(json!({
        "text": "5",
        "whole": 7,
        "real": 1.0,
        "flag": true,
        "items": [1, "two", 3.5, false],
        "table": {"a": 1, "b": {"c": [true]}},
        "needed": "12e3x",
    }));
    assert_eq!(checked, expected);
}

#[test]
fn optional_parameters_may_be_absent() {
    let checked = check_parameters(&planned("optional_inputs"), &Map::new()).unwrap();
    assert_eq!(checked, map(json!({"required": ""})));
}

#[test]
fn all_faults_are_reported_at_once() {
    let given = map(json!({
        "text": "t", "whole": "7", "table": [1], "items": {}, "flag": "true", "rael": 1.5,
    }));
    let faults = check_parameters(&planned("required_inputs"), &given).unwrap_err();
    assert_eq!(
        lines(&faults),
        [
            "parameters.rael: there is no such parameter; the pipeline has flag, items, real, table, text, whole",
            "parameters.flag: expected BOOLEAN, got string",
            "parameters.items: expected LIST, got struct",
            "parameters.real: is required (NUMBER_DOUBLE)",
            "parameters.table: expected STRUCT, got list",
            "parameters.whole: expected NUMBER_INTEGER, got string",
        ]
    );
}

#[test]
fn literals_limit_what_is_given() {
    let mut plan = planned("required_inputs");
    let input = plan.root.input_parameters.get_mut("whole").unwrap();
    input.literals = vec![json!(1), json!(2)];
    let mut given = map(json!({
        "text": "t", "whole": 2.0, "table": {}, "items": [], "flag": true, "real": 1,
    }));
    assert_eq!(check_parameters(&plan, &given).unwrap()["whole"], json!(2));
    given.insert("whole".to_owned(), json!(3));
    let faults = check_parameters(&plan, &given).unwrap_err();
    assert_eq!(lines(&faults), ["parameters.whole: 3 is not one of: 1, 2"]);
}
