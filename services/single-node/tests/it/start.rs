//! Starts, and what keeps one from starting.

use std::fs;

use serde_json::{Value, json};
use testkit::process::Signal;
use testkit::temp_dir;

use crate::fleet::{Fleet, refused};

#[test]
fn a_fleet_says_once_that_it_is_ready_and_answers() {
    let temp = temp_dir();
    let mut fleet = Fleet::start(&temp.path().join("data"));
    let health = fleet.call("GET", "/apis/v2beta1/healthz", None);
    assert!(health.is_object(), "{health}");
    let experiments = fleet.call("GET", "/apis/v2beta1/experiments", None);
    assert_eq!(experiments["experiments"][0]["display_name"], "Default");
    let up: Value = serde_json::from_slice(&fs::read(fleet.dir.join("up.json")).unwrap()).unwrap();
    assert_eq!(up["pid"], fleet.process.pid());
    assert_eq!(up["address"], fleet.address.as_str());
    fleet.end(Signal::TERM);
    assert!(!fleet.dir.join("up.json").exists());
    let output = fleet.process.output();
    assert_eq!(output.matches("ready http://").count(), 1, "{output}");
}

#[test]
fn a_second_fleet_names_the_first() {
    let temp = temp_dir();
    let fleet = Fleet::start(temp.path());
    let (code, text) = refused(&json!({"data_dir": temp.path(), "listen": "127.0.0.1:0"}));
    assert_eq!(code, 1);
    let holder = format!(
        "in use by process {} at http://{}",
        fleet.process.pid(),
        fleet.address
    );
    assert!(text.contains(&holder), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    fleet.call("GET", "/apis/v2beta1/healthz", None);
}

#[test]
fn newer_data_is_refused() {
    let temp = temp_dir();
    Fleet::start(temp.path()).end(Signal::TERM);
    let format = fs::read_to_string(temp.path().join("flumina.json")).unwrap();
    let newer = format.replace("\"format\":1", "\"format\":2");
    assert_ne!(format, newer);
    fs::write(temp.path().join("flumina.json"), newer).unwrap();
    let (code, text) = refused(&json!({"data_dir": temp.path(), "listen": "127.0.0.1:0"}));
    assert_eq!(code, 1);
    assert!(text.contains("has format 2"), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(
        single_node::down(temp.path())
            .unwrap_err()
            .to_string()
            .contains("format 2")
    );
}

#[test]
fn a_wrong_configuration_names_the_key() {
    let temp = temp_dir();
    let config = temp.path().join("flumina.toml");
    fs::write(&config, "[runner]\ncorse = 2\n").unwrap();
    let data = temp.path().join("data");
    let (code, text) = refused(&json!({"data_dir": data, "config": config}));
    assert_eq!(code, 64);
    assert!(text.contains("unknown key `runner.corse`"), "{text}");
    assert!(
        !data.exists(),
        "nothing is made for a configuration that cannot be used"
    );
}

#[test]
fn an_open_address_needs_a_token() {
    let temp = temp_dir();
    let (code, text) = refused(&json!({"data_dir": temp.path(), "listen": "0.0.0.0:0"}));
    assert_eq!(code, 1);
    assert!(text.contains("must not listen on 0.0.0.0:0"), "{text}");
    assert!(text.contains("set a token"), "{text}");
}
