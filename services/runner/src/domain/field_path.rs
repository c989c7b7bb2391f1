//! Fields of a pod, for programs that ask for them: what they are for a workload on this machine.

use std::collections::HashMap;

/// What is known of a workload.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    /// The workload's id, which stands for the name of the pod.
    pub name: &'a str,
    /// A UUID that belongs to the id.
    pub uid: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The name of the node.
    pub node: &'a str,
    /// Labels as a pod has them.
    pub labels: &'a HashMap<String, String>,
    /// Annotations as a pod has them.
    pub annotations: &'a HashMap<String, String>,
}

/// Processes share the machine's address; what a program is told must be one that it can reach itself by.
const ADDRESS: &str = "127.0.0.1";

/// The value of a field; a label or annotation that is not there is empty, as Kubernetes has it. None for a field that
/// Kubernetes does not offer to programs.
pub fn value(path: &str, pod: &Pod<'_>) -> Option<String> {
    let text = match path {
        "metadata.name" => pod.name,
        "metadata.namespace" => pod.namespace,
        "metadata.uid" => pod.uid,
        "spec.nodeName" => pod.node,
        "spec.serviceAccountName" => "default",
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => ADDRESS,
        "metadata.labels" => return Some(lines(pod.labels)),
        "metadata.annotations" => return Some(lines(pod.annotations)),
        path => {
            let (map, key) = subscript(path, "metadata.labels")
                .map(|key| (pod.labels, key))
                .or_else(|| {
                    subscript(path, "metadata.annotations").map(|key| (pod.annotations, key))
                })?;
            map.get(key).map_or("", String::as_str)
        }
    };
    Some(text.to_owned())
}

/// Whether there is such a field.
pub fn exists(path: &str) -> bool {
    let none = HashMap::new();
    let pod = Pod {
        name: "",
        uid: "",
        namespace: "",
        node: "",
        labels: &none,
        annotations: &none,
    };
    value(path, &pod).is_some()
}

/// The key of `FIELD['KEY']`.
fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    let key = path.strip_prefix(field)?.strip_prefix('[')?;
    let key = key.strip_suffix(']')?;
    let quoted = |quote: char| key.strip_prefix(quote)?.strip_suffix(quote);
    quoted('\'').or_else(|| quoted('"'))
}

/// All of them as the downward API writes them: `key="value"`, a line each, sorted.
fn lines(map: &HashMap<String, String>) -> String {
    let mut lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_values_of_a_pod() {
        let labels = HashMap::from([
            ("b".to_owned(), "2".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]);
        let annotations = HashMap::new();
        let pod = Pod {
            name: "n",
            uid: "u",
            namespace: "ns",
            node: "host",
            labels: &labels,
            annotations: &annotations,
        };
        for (path, expected) in [
            ("metadata.name", Some("n")),
            ("metadata.uid", Some("u")),
            ("metadata.namespace", Some("ns")),
            ("spec.nodeName", Some("host")),
            ("status.podIP", Some("127.0.0.1")),
            ("metadata.labels['a']", Some("1")),
            ("metadata.labels[\"b\"]", Some("2")),
            ("metadata.labels['c']", Some("")),
            ("metadata.annotations['c']", Some("")),
            ("metadata.labels", Some("a=\"1\"\nb=\"2\"")),
            ("metadata.labels[a]", None),
            ("metadata.labelsx", None),
            ("spec.containers", None),
            ("", None),
        ] {
            assert_eq!(value(path, &pod).as_deref(), expected, "{path}");
        }
    }
}
