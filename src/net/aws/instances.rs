//! The instances of RDS and Aurora for PostgreSQL, with their tags and who writes.

use super::query::{RDS, element, elements};
use super::{Aws, Place};
use crate::check::{Problem, Reason};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// More instances than this are a mistake in the tags.
const MOST: usize = 5000;

/// An instance that can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// `DBInstanceIdentifier`
    pub identifier: String,
    /// Host name of its own endpoint.
    pub host: String,
    /// Port of its own endpoint.
    pub port: u16,
    /// Whether it takes writes.
    pub writer: bool,
    /// Its tags and those of its cluster; its own win.
    pub tags: BTreeMap<String, String>,
}

impl Aws {
    /// All instances for PostgreSQL of a region that have an endpoint.
    ///
    /// # Errors
    /// `credentials`, `permission`, `throttled`, `aws`, and what keeps an answer away.
    pub async fn instances(&self, place: &Place, deadline: Instant) -> Result<Vec<Instance>, Problem> {
        let clusters = self.pages(place, "DescribeDBClusters", "DBCluster", deadline).await?;
        let mut writers = BTreeSet::new();
        let mut cluster_tags = BTreeMap::new();
        for cluster in &clusters {
            for member in elements(cluster, "DBClusterMember") {
                if element(member, "IsClusterWriter").as_deref() == Some("true") {
                    writers.extend(element(member, "DBInstanceIdentifier"));
                }
            }
            if let Some(name) = element(cluster, "DBClusterIdentifier") {
                cluster_tags.insert(name, tags(cluster));
            }
        }
        let found = self.pages(place, "DescribeDBInstances", "DBInstance", deadline).await?;
        let mut instances: Vec<Instance> =
            found.iter().filter_map(|xml| read(xml, &writers, &cluster_tags)).collect();
        instances.sort();
        Ok(instances)
    }

    /// What stands inside each element of this name, of all pages.
    async fn pages(
        &self,
        place: &Place,
        operation: &str,
        name: &str,
        deadline: Instant,
    ) -> Result<Vec<String>, Problem> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let fields: Vec<_> = marker.iter().map(|marker| ("Marker", marker.as_str())).collect();
            let xml = self.query(RDS, place, operation, &fields, deadline).await?;
            if !xml.contains(&format!("{operation}Result")) {
                return Err(Problem::new(
                    Reason::Protocol,
                    format!("the answer of {operation} has no result"),
                ));
            }
            all.extend(elements(&xml, name).map(str::to_owned));
            let next = element(&xml, "Marker").filter(|marker| !marker.is_empty());
            if next.is_none() {
                return Ok(all);
            }
            if next == marker {
                return Err(Problem::new(Reason::Protocol, format!("{operation} gave the same page twice")));
            }
            if all.len() > MOST {
                return Err(Problem::new(Reason::RowLimit, format!("{operation} names more than {MOST}")));
            }
            marker = next;
        }
    }
}

fn read(
    xml: &str,
    writers: &BTreeSet<String>,
    cluster_tags: &BTreeMap<String, BTreeMap<String, String>>,
) -> Option<Instance> {
    if !element(xml, "Engine")?.contains("postgres") {
        return None;
    }
    let identifier = element(xml, "DBInstanceIdentifier")?;
    // Without an endpoint it is being made or deleted.
    let endpoint = elements(xml, "Endpoint").next()?;
    let cluster = element(xml, "DBClusterIdentifier");
    let writer = match &cluster {
        Some(_) => writers.contains(&identifier),
        None => element(xml, "ReadReplicaSourceDBInstanceIdentifier").is_none_or(|source| source.is_empty()),
    };
    let mut all = cluster.and_then(|cluster| cluster_tags.get(&cluster).cloned()).unwrap_or_default();
    all.extend(tags(xml));
    let (host, port) = (element(endpoint, "Address")?, element(endpoint, "Port")?.parse().ok()?);
    Some(Instance { identifier, host, port, writer, tags: all })
}

fn tags(xml: &str) -> BTreeMap<String, String> {
    let list = elements(xml, "TagList").next().unwrap_or_default();
    elements(list, "Tag")
        .filter_map(|tag| Some((element(tag, "Key")?, element(tag, "Value").unwrap_or_default())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str = "<DBInstanceIdentifier>o-1</DBInstanceIdentifier><Engine>aurora-postgresql</Engine>\
        <Endpoint><Address>o-1.abc.eu-west-1.rds.amazonaws.com</Address><Port>5432</Port></Endpoint>\
        <DBClusterIdentifier>o</DBClusterIdentifier><TagList><Tag><Key>team</Key><Value>core &amp; co</Value></Tag></TagList>";

    fn of_cluster() -> BTreeMap<String, BTreeMap<String, String>> {
        BTreeMap::from([(
            "o".into(),
            BTreeMap::from([("team".into(), "x".into()), ("env".into(), "production".into())]),
        )])
    }

    #[test]
    fn an_instance_has_the_tags_of_its_cluster_below_its_own_and_its_role() {
        let found = read(INSTANCE, &BTreeSet::from(["o-1".to_owned()]), &of_cluster()).unwrap();
        assert_eq!(
            (found.host.as_str(), found.port, found.writer),
            ("o-1.abc.eu-west-1.rds.amazonaws.com", 5432, true)
        );
        let tags = [("env", "production"), ("team", "core & co")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found.tags, BTreeMap::from(tags));
        assert!(!read(INSTANCE, &BTreeSet::new(), &of_cluster()).unwrap().writer);
    }

    #[test]
    fn other_engines_and_instances_without_an_endpoint_are_left_out() {
        assert_eq!(
            read(&INSTANCE.replace("aurora-postgresql", "mysql"), &BTreeSet::new(), &of_cluster()),
            None
        );
        let start = INSTANCE.find("<Endpoint>").unwrap();
        let end = INSTANCE.find("</Endpoint>").unwrap() + "</Endpoint>".len();
        let without = format!("{}{}", &INSTANCE[..start], &INSTANCE[end..]);
        assert_eq!(read(&without, &BTreeSet::new(), &of_cluster()), None);
    }
}
