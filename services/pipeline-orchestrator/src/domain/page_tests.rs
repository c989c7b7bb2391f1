use proptest::prelude::*;

use super::super::records::{EXPERIMENT_FIELDS, RUN_FIELDS};
use super::*;

const FILTER: &str = r#"{"predicates":[{"operation":1,"key":"name","string_value":"x"}]}"#;

fn asked<'a>(token: &'a str, sort_by: &'a str, filter: &'a str) -> Asked<'a> {
    Asked {
        size: 0,
        token,
        sort_by,
        filter,
        parent: "p",
    }
}

fn first() -> Query {
    Query::parse(&RUN_FIELDS, &asked("", "display_name desc", FILTER)).unwrap()
}

#[test]
fn sizes_have_a_default_and_a_cap() {
    for (size, expected) in [(0, 20), (1, 1), (200, 200), (201, 200), (i32::MAX, 200)] {
        let asked = Asked {
            size,
            ..Asked::default()
        };
        assert_eq!(Query::parse(&RUN_FIELDS, &asked).unwrap().size, expected);
    }
}

#[test]
fn orders_are_a_field_and_a_direction() {
    for (text, name, descending) in [
        ("", "created_at", false),
        ("created_at desc", "created_at", true),
        ("Created_At ASC", "created_at", false),
        (" name  DESC ", "display_name", true),
        ("id", "run_id", false),
    ] {
        let sort = Query::parse(&RUN_FIELDS, &asked("", text, ""))
            .unwrap()
            .sort;
        assert_eq!(
            (sort.field.name, sort.descending),
            (name, descending),
            "{text}"
        );
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let asked = Asked {
        size: -1,
        sort_by: "nope",
        filter: "{",
        ..Asked::default()
    };
    let Err(QueryError::Invalid(violations)) = Query::parse(&RUN_FIELDS, &asked) else {
        panic!("accepted");
    };
    let fields: Vec<&str> = violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["page_size", "sort_by", "filter"]);
    for text in ["name up", "name desc more", "metric:accuracy", "name;drop"] {
        assert!(
            Query::parse(&RUN_FIELDS, &self::asked("", text, "")).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_token_carries_the_query() {
    let token = first().token(SortValue::Text("b".to_owned()), "7".to_owned());
    let start = Some(Start {
        value: SortValue::Text("b".to_owned()),
        id: "7".to_owned(),
    });
    for (sort_by, filter) in [
        ("", ""),
        ("display_name desc", ""),
        ("name DESC", FILTER),
        (
            "",
            r#"{"predicates":[{"operation":"EQUALS","key":"display_name","stringValue":"x"}]}"#,
        ),
    ] {
        let query = Query::parse(&RUN_FIELDS, &asked(&token, sort_by, filter)).unwrap();
        assert_eq!((query.sort, &query.filter), (first().sort, &first().filter));
        assert_eq!(query.start, start);
    }
}

#[test]
fn a_token_of_another_list_is_refused() {
    let token = first().token(SortValue::Text("b".to_owned()), "7".to_owned());
    let other = r#"{"predicates":[{"operation":1,"key":"name","string_value":"y"}]}"#;
    for (sort_by, filter) in [
        ("display_name", ""),
        ("created_at desc", ""),
        ("", other),
        ("", "{}"),
    ] {
        let found = Query::parse(&RUN_FIELDS, &asked(&token, sort_by, filter));
        assert!(
            matches!(found, Err(QueryError::Token(_))),
            "{sort_by} {filter}: {found:?}"
        );
    }
    let parent = Asked {
        parent: "q",
        ..asked(&token, "", "")
    };
    assert_eq!(
        Query::parse(&RUN_FIELDS, &parent),
        Err(QueryError::Token(OTHER))
    );
    assert_eq!(
        Query::parse(&EXPERIMENT_FIELDS, &asked(&token, "", "")),
        Err(QueryError::Token(FOREIGN))
    );
}

#[test]
fn foreign_tokens_are_refused() {
    let forge = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let good = serde_json::json!({
        "v": 1, "resource": "run", "parent": "p", "sort": "display_name", "desc": false, "filter": "",
        "value": "b", "id": "7"
    });
    assert!(Query::parse(&RUN_FIELDS, &asked(&forge(good.clone()), "", "")).is_ok());
    let change = |key: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[key] = value;
        forge(changed)
    };
    for token in [
        "x".to_owned(),
        "AAAA".to_owned(),
        "äöü".to_owned(),
        "eyJTb3J0QnlGaWVsZE5hbWUiOiJDcmVhdGVkQXRJblNlYyJ9".to_owned(),
        change("v", 2.into()),
        change("sort", "nope".into()),
        change("sort", "created_at".into()),
        change("value", 7.into()),
        change("value", "a\0".into()),
        change("id", "a\0".into()),
        change("filter", "{".into()),
        change("more", 1.into()),
        "A".repeat(MAX_TOKEN + 1),
    ] {
        let found = Query::parse(&RUN_FIELDS, &asked(&token, "", ""));
        assert_eq!(found, Err(QueryError::Token(FOREIGN)), "{}", clip(&token));
    }
}

proptest! {
    #[test]
    fn no_token_breaks_the_reader(token in ".{0,100}") {
        let _any_answer = Query::parse(&RUN_FIELDS, &asked(&token, "", ""));
    }

    #[test]
    fn every_place_survives_its_token(text in "[^\0]{0,60}", id in "[^\0]{0,40}", time in any::<i64>()) {
        let token = first().token(SortValue::Text(text.clone()), id.clone());
        let query = Query::parse(&RUN_FIELDS, &asked(&token, "", "")).unwrap();
        prop_assert_eq!(query.start, Some(Start { value: SortValue::Text(text), id: id.clone() }));
        let by_time = Query::parse(&RUN_FIELDS, &asked("", "", "")).unwrap();
        let token = by_time.token(SortValue::Number(time), id.clone());
        let query = Query::parse(&RUN_FIELDS, &asked(&token, "", "")).unwrap();
        prop_assert_eq!(query.start, Some(Start { value: SortValue::Number(time), id }));
    }
}
