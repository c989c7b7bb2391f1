//! The committed table.

#[test]
fn the_committed_table_of_routes_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/routes.txt");
    let current = flumina_gateway::route_table().unwrap();
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    if committed != current {
        // The next run compares with this; a reviewer sees the difference.
        std::fs::write(path, &current).unwrap();
        panic!("routes.txt was stale and is rewritten; commit it:\n{current}");
    }
}

#[test]
fn only_public_services_have_routes() {
    let table = flumina_gateway::route_table().unwrap();
    assert!(!table.contains("WorkloadService"), "{table}");
    assert!(table.contains("flumina.runner.v1.SecretService"), "{table}");
    assert!(table.contains("handler UploadPipeline"), "{table}");
}
