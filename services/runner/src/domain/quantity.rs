//! Quantities as Kubernetes writes them.

/// Thousandths of a core: `2`, `0.5`, `500m`.
pub fn cpu_milli(text: &str) -> Option<u64> {
    let (number, milli) = match text.strip_suffix('m') {
        Some(number) => (number, true),
        None => (text, false),
    };
    let value = decimal(number)?;
    let milli = if milli { value } else { value * 1000.0 };
    // Kubernetes rounds up, so that asking for something never becomes asking for nothing.
    whole(milli.ceil())
}

/// Bytes: `512Mi`, `1G`, `1e9`, `100`.
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("m", 1e-3),
    ];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (text.strip_suffix(unit)?, *factor),
        None => (text, 1.0),
    };
    whole((decimal(number)? * factor).ceil())
}

/// A count of devices.
pub fn count(text: &str) -> Option<u64> {
    whole(decimal(text)?)
}

fn decimal(text: &str) -> Option<f64> {
    let plain = |byte: u8| byte.is_ascii_digit() || b".+-eE".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

fn whole(value: f64) -> Option<u64> {
    // 2^53: above it a double is no longer exact.
    (value.fract() == 0.0 && value <= 9_007_199_254_740_992.0 * 1024.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_kubernetes_are_read() {
        let cpu = ["1", "0.5", "500m", "0.0001", "1500m", "x", "", "-1", "1Gi"].map(cpu_milli);
        assert_eq!(
            cpu,
            [
                Some(1000),
                Some(500),
                Some(500),
                Some(1),
                Some(1500),
                None,
                None,
                None,
                None
            ]
        );
        let memory = [
            "1Gi",
            "1G",
            "100",
            "1.5Mi",
            "1e3",
            "128974848000m",
            "inf",
            "NaN",
            "1 Gi",
        ]
        .map(bytes);
        assert_eq!(
            memory,
            [
                Some(1 << 30),
                Some(1_000_000_000),
                Some(100),
                Some(3 << 19),
                Some(1000),
                Some(128_974_848),
                None,
                None,
                None
            ]
        );
        assert_eq!((count("2"), count("0.5")), (Some(2), None));
    }
}
