//! Public topics: each is the texts of one cluster, or of one label.

use std::collections::BTreeMap;

use noisegate_guest_sdk::config::Row;
use noisegate_guest_sdk::nearest::{self, Built};
use noisegate_guest_sdk::rng::Rng;

/// Topics and their texts.
pub struct Topics {
    /// In the order of the histogram.
    pub names: Vec<String>,
    texts: Vec<Vec<Row>>,
}

impl Topics {
    /// Groups rows by cluster, those without one by label.
    pub fn new(rows: Vec<Row>) -> Self {
        // Labels first, then clusters, by number.
        let mut groups: BTreeMap<(Option<usize>, String), Vec<Row>> = BTreeMap::new();
        for row in rows {
            let key = match row.cluster {
                Some(cluster) => (Some(cluster), String::new()),
                None => (None, row.label.clone()),
            };
            groups.entry(key).or_default().push(row);
        }
        let (names, texts) = groups
            .into_iter()
            .map(|((cluster, label), rows)| {
                (cluster.map_or(label, |it| format!("cluster {it}")), rows)
            })
            .unzip();
        Topics { names, texts }
    }

    /// One document a topic: all its texts together.
    ///
    /// # Errors
    /// A sentence, if there is too much text.
    pub fn index(&self) -> Result<Built, String> {
        let texts = self
            .texts
            .iter()
            .map(|rows| rows.iter().map(|row| row.text.as_str()).collect());
        nearest::build(&texts.collect::<Vec<Vec<&str>>>())
    }

    /// So many texts of each topic, in a seeded order; where a topic has fewer, again from the start.
    pub fn spread(&self, counts: &[usize], seed: u64) -> Vec<&Row> {
        let mut spread = Vec::new();
        for (topic, (rows, count)) in self.texts.iter().zip(counts).enumerate() {
            let mut rng = Rng::new(seed, topic as u64);
            let mut order: Vec<&Row> = rows.iter().collect();
            for last in (1..order.len()).rev() {
                order.swap(last, rng.below(last + 1));
            }
            spread.extend(order.iter().cycle().take(*count).copied());
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str, label: &str, cluster: Option<usize>) -> Row {
        Row {
            text: text.into(),
            label: label.into(),
            cluster,
        }
    }

    #[test]
    fn clusters_are_topics_and_labels_where_there_are_none() {
        let rows = vec![
            row("a", "x", Some(10)),
            row("b", "y", Some(9)),
            row("c", "x", None),
            row("d", "x", None),
        ];
        let topics = Topics::new(rows);
        assert_eq!(topics.names, ["x", "cluster 9", "cluster 10"]);
        assert_eq!(topics.texts[0].len(), 2);
    }

    #[test]
    fn a_topic_with_few_texts_repeats_them() {
        let topics = Topics::new(vec![
            row("a", "x", None),
            row("b", "x", None),
            row("c", "y", None),
        ]);
        let spread = topics.spread(&[3, 0], 1);
        assert_eq!(spread.len(), 3);
        assert_eq!(spread[0], spread[2]);
        assert_ne!(spread[0].text, spread[1].text);
    }
}
