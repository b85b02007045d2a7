output "endpoint" {
  description = "The writer; in the second region it answers after a failover."
  value       = aws_rds_cluster.this.endpoint
}

output "reader_endpoint" {
  description = "The readers."
  value       = aws_rds_cluster.this.reader_endpoint
}

output "cluster_id" {
  description = "For alarms."
  value       = aws_rds_cluster.this.cluster_identifier
}

output "arn" {
  description = "For a failover between regions."
  value       = aws_rds_cluster.this.arn
}
