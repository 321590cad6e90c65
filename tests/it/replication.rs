//! Logical replication on real pairs of clusters.
