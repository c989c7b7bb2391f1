//! Components that hold themselves.

use pipeline_spec::plan::Body;

use super::build::{component, dag, plan, task};
use crate::domain::recursion::holds_itself;

#[test]
fn circles_of_components_are_found() {
    let group = |callee: &str| component(Body::Dag(dag(vec![task("a", callee, &[])])));
    let leaf = component(Body::Executor("exec".to_owned()));
    let straight = vec![("x", group("y")), ("y", group("z")), ("z", leaf.clone())];
    assert!(!holds_itself(&plan(group("x"), straight)));
    let circle = vec![("x", group("y")), ("y", group("x")), ("z", leaf)];
    assert!(holds_itself(&plan(group("x"), circle)));
}
