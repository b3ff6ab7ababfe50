//! Reads metrics as Prometheus's text format has them, as far as a daemon's own are written.

use std::collections::BTreeMap;

/// One scrape: each metric's samples, with their labels.
#[derive(Clone, Debug, Default)]
pub struct Scrape(BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>);

impl Scrape {
    /// Reads a scrape; lines that are none are passed over.
    pub fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = sample(line) {
                scrape.0.entry(name).or_default().push((labels, value));
            }
        }
        scrape
    }

    /// The samples of a metric.
    pub fn of(&self, metric: &str) -> &[(BTreeMap<String, String>, f64)] {
        self.0.get(metric).map_or(&[], Vec::as_slice)
    }

    /// The one with a label of a value.
    pub fn one(&self, metric: &str, label: &str, value: &str) -> Option<f64> {
        self.of(metric).iter().find(|(labels, _)| labels.get(label).is_some_and(|v| v == value)).map(|(_, v)| *v)
    }

    /// The sum of all.
    pub fn sum(&self, metric: &str) -> f64 {
        self.of(metric).iter().map(|(_, value)| value).sum()
    }

    /// The bound below which a share of what a histogram counted since `before` lies, one bucket's precise; `None`:
    /// it counted nothing. `label` chooses among histograms of one name.
    pub fn quantile_since(&self, before: &Scrape, metric: &str, label: (&str, &str), share: f64) -> Option<f64> {
        let name = format!("{metric}_bucket");
        let buckets = |scrape: &Scrape| -> Vec<(f64, f64)> {
            let chosen =
                scrape.of(&name).iter().filter(|(labels, _)| labels.get(label.0).is_some_and(|v| v == label.1));
            let mut all: Vec<(f64, f64)> =
                chosen.filter_map(|(labels, count)| Some((number(labels.get("le")?)?, *count))).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            all
        };
        let (now, then) = (buckets(self), buckets(before));
        let counted = |i: usize| now[i].1 - then.get(i).map_or(0.0, |(_, count)| *count);
        let all = counted(now.len().checked_sub(1)?);
        if all <= 0.0 {
            return None;
        }
        (0..now.len()).find(|i| counted(*i) >= share * all).map(|i| now[i].0)
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (mut labels, name_end) = (BTreeMap::new(), line.find(['{', ' '])?);
    let (name, mut rest) = line.split_at(name_end);
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (at, '"') => break at + 1,
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label.to_owned(), value);
            rest = after[end..].strip_prefix(',').unwrap_or(&after[end..]);
        }
        rest = &rest[1..];
    }
    Some((name.to_owned(), labels, number(rest.split_whitespace().next()?)?))
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# HELP a x\n# TYPE a gauge\na 3\nb{v=\"x,}\\\"\\\\\\n\",w=\"\"} 2.5e3\nb{v=\"y\"} NaN\nbroken{\nalso broken\n\
        h_bucket{stage=\"total\",le=\"0.1\"} 10\nh_bucket{stage=\"total\",le=\"0.5\"} 10\nh_bucket{stage=\"total\",le=\"+Inf\"} 10\n";

    #[test]
    fn samples_are_read_with_their_labels() {
        let scrape = Scrape::parse(BEFORE);
        assert_eq!(scrape.sum("a"), 3.0);
        assert_eq!(scrape.one("b", "v", "x,}\"\\\n"), Some(2_500.0));
        assert!(scrape.one("b", "v", "y").is_some_and(f64::is_nan));
        assert_eq!((scrape.of("c").len(), scrape.sum("c")), (0, 0.0));
    }

    #[test]
    fn a_quantile_is_of_what_came_since() {
        let (before, now) =
            (Scrape::parse(BEFORE), BEFORE.replace("0.5\"} 10", "0.5\"} 109").replace("+Inf\"} 10", "+Inf\"} 110"));
        let now = Scrape::parse(&now);
        assert_eq!(now.quantile_since(&before, "h", ("stage", "total"), 0.5), Some(0.5));
        assert_eq!(now.quantile_since(&before, "h", ("stage", "total"), 0.999), Some(f64::INFINITY));
        assert_eq!(now.quantile_since(&now, "h", ("stage", "total"), 0.5), None);
        assert_eq!(now.quantile_since(&before, "h", ("stage", "none"), 0.5), None);
    }
}
