//! The environment of a program.

use serde_json::{Map, Value, json};

use super::Lowering;
use super::container::push;
use super::read::Node;
use super::template::Template;

impl Lowering<'_> {
    /// The variables with known values; those that the runner looks up are settings. The later of two of one name counts,
    /// and one that is named alone counts more than all of a bundle.
    pub(super) fn environment(
        &self,
        template: &Template<'_>,
        node: &Node<'_>,
        platform: &mut Map<String, Value>,
    ) -> Vec<(String, String)> {
        self.bundles(node, platform);
        let mut env = Vec::new();
        for variable in node.nodes("env") {
            variable.only(&["name", "value", "valueFrom"], &[]);
            let name = variable.required("name");
            if !variable.has("valueFrom") {
                let text = variable.text("value").unwrap_or_default();
                env.push((name, self.render(template, &variable.place("value"), &text)));
                continue;
            }
            let from = variable.node("valueFrom");
            from.only(&["configMapKeyRef", "fieldRef", "secretKeyRef"], &[]);
            let secret = from.node("secretKeyRef");
            let config = from.node("configMapKeyRef");
            let field = from.node("fieldRef");
            if from.has("secretKeyRef") {
                let entry = json!({
                    "secretName": secret.required("name"),
                    "keyToEnv": [{"secretKey": secret.required("key"), "envVar": name}],
                    "optional": secret.get("optional") == Some(&Value::Bool(true)),
                });
                push(platform, "secretAsEnv", entry);
            } else if from.has("configMapKeyRef") {
                let entry = json!({
                    "configMapName": config.required("name"),
                    "keyToEnv": [{"configMapKey": config.required("key"), "envVar": name}],
                    "optional": config.get("optional") == Some(&Value::Bool(true)),
                });
                push(platform, "configMapAsEnv", entry);
            } else if from.has("fieldRef") {
                let entry = json!({"name": name, "fieldPath": field.required("fieldPath")});
                push(platform, "fieldPathAsEnv", entry);
            }
        }
        env
    }

    /// All keys of secrets and config maps as variables.
    fn bundles(&self, node: &Node<'_>, platform: &mut Map<String, Value>) {
        for from in node.nodes("envFrom") {
            from.only(&["configMapRef", "prefix", "secretRef"], &[]);
            let prefix = from.text("prefix").unwrap_or_default();
            let mut bundle = |kind: &str, setting: &str, field: &str| {
                let named = from.node(kind);
                named.only(&["name", "optional"], &[]);
                let mut entry = json!({
                    "prefix": prefix,
                    "optional": named.get("optional") == Some(&Value::Bool(true)),
                });
                entry[field] = named.required("name").into();
                push(platform, setting, entry);
            };
            match (from.has("secretRef"), from.has("configMapRef")) {
                (true, false) => bundle("secretRef", "secretAsEnv", "secretName"),
                (false, true) => bundle("configMapRef", "configMapAsEnv", "configMapName"),
                (true, true) | (false, false) => {
                    from.fault("secretRef", "must have one of secretRef and configMapRef");
                }
            }
        }
    }
}
